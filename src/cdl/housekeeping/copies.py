"""Where the fields of an erased item stand as copies: in items of datasets that joined it, and in what steps made of these.

Such an item's content, as it was before the join, is its own and stays; its rows from the join on go, with contents that only
such items have. What it holds again exactly as before the join is no copy.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from cdl.data.pipeline import ledger as ledgers
from cdl.data.pipeline.joining import keys
from cdl.data.pipeline.split import TEST, TRAIN
from cdl.errors import Refused
from cdl.housekeeping.outcomes import NOTHING, Inputs, Outcomes, follow
from cdl.registry.records import Dataset, Lookup
from cdl.store.seal import Vault
from cdl.store.store import SEALED
from cdl.store.tree import Tree, open_tree
from cdl.workflow.workspace import Workspace

Held = dict[str, dict[str, int]]  # by version: items that hold copies, and the stage from which on they do


class Copies(msgspec.Struct, kw_only=True):
    """Names in trees whose rows hold copies, contents that only such rows have, what steps were given; the items by dataset."""

    trees: dict[str, set[str]] = msgspec.field(default_factory=dict)
    contents: dict[bytes, bytes] = msgspec.field(default_factory=dict)
    inputs: Inputs = msgspec.field(default_factory=Inputs)
    items: dict[str, set[str]] = msgspec.field(default_factory=dict)


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """Every version by id, and how the sealed side of a dataset is opened (its name, the data key)."""

    workspace: Workspace
    versions: Mapping[str, Dataset]
    vault: Callable[[str, str], Vault]
    opened: dict[str, Tree] = msgspec.field(default_factory=dict)

    def vault_of(self, record: Dataset) -> Vault:
        """Opens the sealed side of a version."""
        return self.vault(record.name, record.data_key)

    def names(self, record: Dataset) -> Mapping[str, str]:
        """What the items of a version are called in their source, by id."""
        return ledgers.read(self.vault_of(record), record.split.ledger).names

    def trees(self, record: Dataset, stage: int) -> dict[str, tuple[str, Tree]]:
        """What a stage left of both sets: the tree's name and the tree."""
        at = record.steps[stage]
        return {TRAIN: (at.train, self.open(record, at.train)), TEST: (at.test, self.open(record, at.test))}

    def open(self, record: Dataset, name: str) -> Tree:
        """A tree of a version, opened once."""
        if name not in self.opened:
            box = self.vault_of(record) if name.startswith(SEALED) else self.workspace.store
            self.opened[name] = open_tree(box, name)
        return self.opened[name]


def copied(places: Places, dataset: str, item: str, outcomes: list[Outcomes]) -> Copies:
    """Where the fields of an item stand as copies. Refused where a dataset that joined it cannot be opened here."""
    found, held = Copies(), _held(places, dataset, item)
    if not held:
        return found
    for version, items in held.items():
        record = places.versions[version]
        found.items.setdefault(record.name, set()).update(items)
        for identity, first in items.items():
            _add(found, places, record, identity, first)
    follow(outcomes, found.contents, found.inputs)
    for hash_ in {*_elsewhere(places, found)} if found.contents else ():
        found.contents.pop(hash_, None)
    for each in outcomes:
        if names := each.lost({}, found.inputs):
            found.trees.setdefault(each.kept.tree, set()).update(names)
    return found


def _held(places: Places, dataset: str, item: str) -> Held:
    """The items of any version that hold copies: they joined the item, or one that holds copies of it."""
    sources = {version: {item} for version, record in places.versions.items() if record.name == dataset}
    held: Held = {}
    grew = True
    while grew:
        grew = False
        for version, record in places.versions.items():
            for stage, at in enumerate(record.steps):
                joined = at.joined if isinstance(at.joined, Lookup) else None
                if joined is None or joined.version not in sources:
                    continue
                for identity in _joined(places, record, stage, joined, sources[joined.version]):
                    if identity not in held.setdefault(version, {}):
                        held[version][identity] = stage
                        sources.setdefault(version, set()).add(identity)
                        grew = True
    return held


def _joined(places: Places, record: Dataset, stage: int, lookup: Lookup, items: set[str]) -> Iterator[str]:
    """The items of a version that joined some items of another one in a stage."""
    other = places.versions[lookup.version]
    for each in (record.name, other.name):
        if not places.workspace.holds_key(each):
            said = f"{record.name} joined {other.name}, and {places.workspace.lacking(each)}"
            raise Refused(said, remedy="ask a holder of both keys to erase the item")
    theirs = places.trees(other, -1)
    names = places.names(other) if lookup.matches is None else {}
    wanted: dict[str, set[str | None]] = {
        side: {key for place, key in keys(tree, lookup.matches, names, other.name) if tree.names[place] in items}
        for side, (_, tree) in theirs.items()
    }
    wanted[TEST] |= wanted[TRAIN]
    mine = places.names(record) if lookup.key is None else {}
    for side, (_, tree) in places.trees(record, stage - 1).items():
        if wanted[side] - {None}:
            found = keys(tree, lookup.key, mine, record.name)
            yield from (tree.names[place] for place, key in found if key is not None and key in wanted[side])


def _add(found: Copies, places: Places, record: Dataset, identity: str, first: int) -> None:
    """Adds what an item is from a stage on, and what it was when a later step rejected it."""
    before = [each for stage in range(first) for each in _as(places.trees(record, stage).values(), identity)]
    own = {tree.hash(place) for _, tree, place in before}
    was = [(tree.hash(place), tree.meta(place)) for _, tree, place in before[-1:]]
    after = [each for n in range(first, len(record.steps)) for each in _as(places.trees(record, n).values(), identity)]
    rejected = record.rejected.get("tree")
    if rejected:
        after += _as([(rejected, places.open(record, rejected))], identity)
    for name, tree, place in after:
        hash_, meta = tree.hash(place), tree.meta(place)
        if (hash_, meta) in was:
            continue
        found.trees.setdefault(name, set()).add(identity)
        found.inputs.add(hash_, meta)
        if hash_ not in own and hash_ != NOTHING:
            found.contents[hash_] = bytes(tree.view(place))


def _as(trees: Iterable[tuple[str, Tree]], identity: str) -> list[tuple[str, Tree, int]]:
    """Where an item stands in trees."""
    there = [(name, tree, tree.places.get(identity)) for name, tree in trees]
    return [(name, tree, place) for name, tree, place in there if place is not None and not tree.erased(place)]


def _elsewhere(places: Places, found: Copies) -> Iterator[bytes]:
    """Contents that items without copies have too: they tell nothing of the erased one alone."""
    store = places.workspace.store
    for record in places.versions.values():
        key = places.workspace.holds_key(record.name)
        for name in {name for stage in record.steps for name in (stage.train, *([stage.test] if key else []))}:
            if not name.startswith(SEALED) and not store.has(store.standing(name)):
                continue  # not here
            tree, copies = places.open(record, name), found.trees.get(name, set())
            yield from (
                tree.hash(place)
                for place, item in enumerate(tree.names)
                if item not in copies and not tree.erased(place) and tree.hash(place) in found.contents
            )
