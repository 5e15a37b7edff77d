"""Looks at every training item of a version once and says what is wrong: kinds, types of columns, encoding, images, duplicates.

    found = findings(workspace, dataset_id)
    found.faults["not UTF-8"]                  Fault(count=3, examples=["0f3a...", ...])
    found.equal, found.alike                   items that an earlier one equals, before and after folding case and spaces

Items are read one block after the other and none is kept. What was found is kept for a tree, a mask and what cdl.yaml declares,
so it is looked for once. Masked fields and columns are not looked at. Whether training items equal test items is counted by who
holds the key, when a version is made (`count_leaks`); only the counts are kept.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

import msgspec
from blake3 import blake3

from cdl import document
from cdl.config.requirement import parse_requirement
from cdl.config.schema import DataConfig, Validate
from cdl.data.dataset import dataset_record, mask_in_force, masked
from cdl.data.items.kinds import Judged, Kind, fits, judge, normalized, type_of
from cdl.errors import NotFound
from cdl.registry.records import Dataset
from cdl.store.seal import Vault
from cdl.store.tree import Tree
from cdl.workflow.workspace import Workspace

FORM = 1  # raised when the same items may give other findings
CLAIMS = "validated"
BEGINNING = 256  # bytes that tell text from others
EXAMPLES = 6  # items, or groups of equal ones, that are named
MOST_FORMS = 40  # shapes, sizes and the like that are counted one by one
DIGEST = 8  # bytes of a hash by which items of one version are compared
OTHER_KIND, OTHER_FORM = "of another kind than most", "of another shape or dtype than most"
MEASURES = ("invalid", "duplicates", "alike", "leaked")  # what `require` may name beside the counts


class Fault(msgspec.Struct, kw_only=True):
    """How many items have it, and the ids of some."""

    count: int = 0
    examples: list[str] = []

    def add(self, identity: str) -> None:
        """One more."""
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(identity)


class Findings(msgspec.Struct, kw_only=True):
    """What was found in the training set.

    `kinds` and `forms` count items, `columns` values by type; `invalid` items have a fault. `groups` name items that are equal,
    or alike: equal once case and spaces are folded.
    """

    items: int = 0
    kinds: dict[str, int] = {}
    forms: dict[str, int] = {}
    columns: dict[str, dict[str, int]] = {}
    faults: dict[str, Fault] = {}
    invalid: int = 0
    equal: int = 0
    alike: int = 0
    groups: list[list[str]] = []


class Leaks(msgspec.Struct, kw_only=True):
    """How many test items equal a training item, and how many are alike one, equal ones included."""

    equal: int
    alike: int


def findings(workspace: Workspace, dataset_id: str) -> Findings:
    """What is to be said of a version's training set; looked for once. NotFound where its items are not in this clone."""
    record = dataset_record(workspace, dataset_id)
    declared, mask = declared_for(workspace, record.name), mask_in_force(workspace, record.name)
    claim = _claim("items", [record.train], declared, mask)
    kept = workspace.store.claimed(claim)
    if kept is None:
        kept = msgspec.json.encode(look_through(workspace.store.tree(record.train), declared, mask))
        workspace.store.claim(claim, kept)
    return msgspec.json.decode(kept, type=Findings)


def declared_for(workspace: Workspace, name: str) -> Validate:
    """What cdl.yaml says of a dataset's items."""
    config = workspace.config.data.get(name)
    return config.validate if config else Validate()


def asked(config: DataConfig) -> bool:
    """Whether cdl.yaml asks for validation when a version is made."""
    named = {parse_requirement(text).measure for text in config.require}
    return bool(named & set(MEASURES)) or config.validate != Validate()


def tell(workspace: Workspace, dataset_id: str, vault: Vault) -> None:
    """Looks at a version that was made, and says what was found. Needs the key."""
    record = dataset_record(workspace, dataset_id)
    found = findings(workspace, dataset_id)
    leaked = _counted(workspace, record) or count_leaks(workspace, record, vault)
    counts = {name: fault.count for name, fault in found.faults.items()}
    counts["equal to another item"] = found.equal
    counts["another item but for case and spaces"] = found.alike
    counts["test items that are a training item but for case and spaces"] = leaked.alike
    said = [f"{count:,}: {what}" for what, count in counts.items() if count]
    for line in said or ["nothing was found"]:
        workspace.tell(f"validate  {line}")


def count_leaks(workspace: Workspace, record: Dataset, vault: Vault) -> Leaks:
    """Counts the test items that a training item equals or is alike, and keeps the counts. Needs the key."""
    mask = mask_in_force(workspace, record.name)
    train, test = (_Digests.of(tree, mask) for tree in (workspace.store.tree(record.train), vault.tree(record.test)))
    found = Leaks(equal=train.holds(test, "exact"), alike=train.holds(test, "folded"))
    workspace.store.claim(_leaks(record, mask), msgspec.json.encode(found))
    return found


def leaks(workspace: Workspace, dataset_id: str) -> Leaks | None:
    """What was counted in this clone; None where it was not. Opens nothing."""
    return _counted(workspace, dataset_record(workspace, dataset_id))


def _counted(workspace: Workspace, record: Dataset) -> Leaks | None:
    kept = workspace.store.claimed(_leaks(record, mask_in_force(workspace, record.name)))
    return None if kept is None else msgspec.json.decode(kept, type=Leaks)


def measures(workspace: Workspace, dataset_id: str, wanted: Iterable[str]) -> dict[str, float]:
    """Those of MEASURES that are wanted and known here."""
    asked, found = set(wanted), dict[str, float]()
    if asked & {"invalid", "duplicates", "alike"}:
        with suppress(NotFound):  # items that are not in this clone
            seen = findings(workspace, dataset_id)
            found |= {"invalid": seen.invalid, "duplicates": seen.equal, "alike": seen.alike}
    if "leaked" in asked and (leaked := leaks(workspace, dataset_id)) is not None:
        found["leaked"] = leaked.alike
    return found


def look_through(tree: Tree, declared: Validate, mask: frozenset[str] = frozenset()) -> Findings:
    """Looks at each item of a tree, a block at a time."""
    seen = _Looking(declared, mask)
    for name, content, fields in _items(tree, mask):
        seen.add(name, content, fields)
    return seen.finish()


class _Looking:
    """The findings so far."""

    def __init__(self, declared: Validate, mask: frozenset[str]) -> None:
        self._declared = declared
        self._columns = {name: kind for name, kind in declared.columns.items() if name not in mask}
        self._found = Findings()
        self._invalid: set[str] = set()
        self._digests = _Digests()
        self._kinds: dict[str, Fault] = {}
        self._forms: dict[str, Fault] = {}

    def add(self, name: str, content: bytes, fields: Mapping[str, Any]) -> None:
        """Looks at an item."""
        seen = judge(content, self._declared.kind)
        self._found.items += 1
        self._kinds.setdefault(seen.kind, Fault()).add(name)
        if seen.form and (seen.form in self._forms or len(self._forms) < MOST_FORMS):
            self._forms.setdefault(seen.form, Fault()).add(name)
        for fault in (*seen.faults, *self._of_columns(seen, fields)):
            self._fault(fault, name)
        self._digests.add(name, content, seen.kind)

    def _of_columns(self, seen: Judged, fields: Mapping[str, Any]) -> Iterator[str]:
        """What is wrong with an item's columns and fields; counts their types."""
        there = {**fields, **(seen.row or {})}
        for column, value in there.items():
            kind = type_of(value)
            counts = self._found.columns.setdefault(column, {})
            counts[kind] = counts.get(kind, 0) + 1
            declared = self._columns.get(column)
            if declared is not None and not fits(kind, value, declared):
                yield f"{column} is {kind}, not {declared}"
        yield from (f"no column {column}" for column in self._columns if column not in there)

    def _fault(self, fault: str, name: str) -> None:
        self._found.faults.setdefault(fault, Fault()).add(name)
        self._invalid.add(name)

    def _others(self, seen: Mapping[str, Fault], fault: str) -> None:
        """Items of a kind or form that is not that of most."""
        if seen:
            most = max(seen, key=lambda name: seen[name].count)
            rest = [s for name, s in seen.items() if name != most]
            if rest:
                examples = [example for one in rest for example in one.examples][:EXAMPLES]
                self._found.faults[fault] = Fault(count=sum(one.count for one in rest), examples=examples)

    def finish(self) -> Findings:
        """What was found."""
        found = self._found
        found.kinds = {name: seen.count for name, seen in self._kinds.items()}
        found.forms = {name: seen.count for name, seen in self._forms.items()}
        self._others(self._kinds, OTHER_KIND)
        if self._kinds.keys() == {"array"}:  # images may have their own sizes each
            self._others(self._forms, OTHER_FORM)
        found.invalid = len(self._invalid)
        found.equal, found.alike, found.groups = self._digests.repeated()
        return found


class _Digests:
    """Hashes of items, exact and folded, in the order of the items."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._exact, self._folded = bytearray(), bytearray()

    @classmethod
    def of(cls, tree: Tree, mask: frozenset[str]) -> "_Digests":
        """Those of a tree's items."""
        found = cls()
        for name, content, _ in _items(tree, mask):
            found.add(name, content, judge_kind(content))
        return found

    def add(self, name: str, content: bytes, kind: Kind) -> None:
        """One more item."""
        exact = blake3(content).digest(length=DIGEST)
        folded = normalized(content, kind)
        self._names.append(name)
        self._exact += exact
        self._folded += exact if folded == content else blake3(folded).digest(length=DIGEST)

    def holds(self, other: "_Digests", how: str) -> int:
        """How many items of another have an equal one here."""
        numpy = import_module("numpy")
        one, two = (numpy.frombuffer(getattr(d, f"_{how}"), "<u8") for d in (self, other))
        return int(numpy.isin(two, one).sum())

    def repeated(self) -> tuple[int, int, list[list[str]]]:
        """How many items an earlier one equals, how many more are alike one, and the first such groups."""
        numpy = import_module("numpy")
        exact, folded = (numpy.frombuffer(d, "<u8") for d in (self._exact, self._folded))
        _, at, counts = numpy.unique(folded, return_inverse=True, return_counts=True)
        order = numpy.argsort(at, kind="stable")
        ends = numpy.cumsum(counts)
        groups = [order[ends[g] - counts[g] : ends[g]][:EXAMPLES] for g in numpy.nonzero(counts > 1)[0][:EXAMPLES]]
        equal = len(exact) - len(numpy.unique(exact))
        named = [[self._names[i] for i in group.tolist()] for group in groups]
        return equal, len(folded) - len(counts) - equal, named


def judge_kind(content: bytes) -> Kind:
    """What bytes seem to be, as far as it matters to folding them."""
    return "text" if b"\0" not in content[:BEGINNING] else "bytes"


def _items(tree: Tree, mask: frozenset[str]) -> Iterator[tuple[str, bytes, Mapping[str, Any]]]:
    """Name, content and fields of each item that was not erased, without what is masked, in the order of the tree."""
    places = [place for place in range(len(tree)) if not tree.erased(place)]
    for place, data in zip(places, tree.each(places), strict=True):
        fields = {k: v for k, v in tree.meta(place).items() if k not in mask}
        yield tree.names[place], masked(bytes(data), mask), fields


def _claim(what: str, trees: list[str], declared: Validate, mask: frozenset[str]) -> str:
    key = [FORM, what, trees, msgspec.to_builtins(declared), sorted(mask)]
    return f"{CLAIMS}/{blake3(document.canonical(key)).hexdigest()}"


def _leaks(record: Dataset, mask: frozenset[str]) -> str:
    return _claim("leaks", [record.train, record.test], Validate(), mask)
