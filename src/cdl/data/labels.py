"""Labels: every one is a row at once, by somebody, at some time, of a dataset version; nothing is overwritten.

Rows lie in batches, those of test items sealed; an event names each batch, how many rows it has and whether they came with the
source, never a value. A release is a snapshot of all rows so far and the rule that resolves them; training reads only snapshots.
"""

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from cdl.config.schema import LabelConfig
from cdl.data import label_studio
from cdl.data.pipeline import ledger as ledgers
from cdl.data.pipeline.split import TEST, TRAIN
from cdl.errors import ConfigError, NotFound
from cdl.journal import batch
from cdl.registry.records import Dataset, DatasetHead, Labels, LabelsHead, encode, short
from cdl.store.erased import ITEMS
from cdl.store.store import SEALED
from cdl.workflow.policy import require_role
from cdl.workflow.workspace import Workspace

COLUMNS = ("item", "value", "who", "when", "dataset")
ROLES = ("data_labeler", "data_engineer")
PERSON, SOURCE = "person", "source"  # what recorded a batch
Side = str


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One label."""

    item: str
    value: str
    who: str
    when: str
    dataset: str


class Released(msgspec.Struct, frozen=True):
    """A snapshot, its coverage, and the items whose labelers disagree."""

    id: str
    record: Labels
    conflicts: tuple[str, ...]


def current(workspace: Workspace, name: str) -> tuple[str, Dataset]:
    """The current version of a dataset. NotFound when there is none."""
    head = workspace.registry.head(DatasetHead, name)
    if head is None:
        raise NotFound(f"{name} has no version", remedy="cdl data run")
    return head.version, workspace.registry.record(Dataset, head.version)


def labeling(workspace: Workspace, name: str) -> LabelConfig:
    """What cdl.yaml says of a dataset's labels. ConfigError where it says nothing."""
    found = workspace.config.data[name].labels
    if found is None:
        remedy = "labels: {classes: [...]} there; commit it, then: cdl approve policy"
        raise ConfigError(f"{name} has no labels yet", where=f"cdl.yaml: data.{name}", remedy=remedy)
    return found


def sides(workspace: Workspace, record: Dataset) -> dict[str, Side]:
    """The side of each item of a version. Needs the key."""
    train = dict.fromkeys(workspace.store.tree(record.train).names, TRAIN)
    sealed = workspace.vault(record.name, by="labeling").tree(record.test)
    return train | dict.fromkeys(sealed.names, TEST)


class Session:
    """Somebody labels the current version of a dataset. It is opened once, however many labels follow.

    Refused for another role than a labeler's or data engineer's; Unavailable without the key.
    """

    def __init__(self, workspace: Workspace, name: str) -> None:
        require_role(workspace, ROLES, "labeling")
        self.workspace = workspace
        self.name = name
        self.dataset_id, self.dataset = current(workspace, name)
        self.known = sides(workspace, self.dataset)

    def record(self, values: Mapping[str, str], *, by: str = PERSON) -> int:
        """Keeps labels by item id, acknowledged on return; how many. `by`: PERSON, or SOURCE for those that came with it.

        ConfigError for an unknown item or class; nothing is kept then.
        """
        made = self.workspace.made()
        rows = [
            Row(item=i, value=v, who=made.who, when=made.when, dataset=self.dataset_id)
            for i, v in sorted(values.items())
        ]
        self.keep(rows, by=by)
        return len(values)

    def keep(self, rows: Sequence[Row], *, by: str = PERSON) -> None:
        """Keeps rows, acknowledged on return. ConfigError for an unknown item or class; nothing is kept then."""
        classes = labeling(self.workspace, self.name).classes
        for row in rows:
            if row.item not in self.known:
                wrong = f"no item {row.item[:12]} in {short(self.dataset_id)}"
                raise ConfigError(wrong, where="labels", remedy="cdl data list")
            check_value(row.value, classes, where=f"label of {row.item[:12]}")
        sides = {side: [row for row in rows if self.known[row.item] == side] for side in (TRAIN, TEST)}
        _keep(self.workspace, self.name, sides, by)


def record(workspace: Workspace, name: str, values: Mapping[str, str], *, by: str = PERSON) -> int:
    """Keeps labels by item id of the current version; how many. ConfigError as in a session."""
    return Session(workspace, name).record(values, by=by)


def unlabeled(workspace: Workspace, name: str, *, every: bool = False) -> list[tuple[str, bytes]]:
    """Items of the current version without a label, or `every` one, with their content, by id. Needs the key."""
    _, dataset = current(workspace, name)
    vault = workspace.vault(name, by="labeling")
    sealed = vault.tree(dataset.test)
    known = set() if every else {row.item for side in (TRAIN, TEST) for row in rows(workspace, name, side)}
    return sorted(
        (name, bytes(tree.view(place)))
        for tree in (workspace.store.tree(dataset.train), sealed)
        for place, name in enumerate(tree.names)
        if name not in known and not tree.erased(place)
    )


def check_value(value: str, classes: Sequence[str], *, where: str) -> None:
    """ConfigError for a class that cdl.yaml does not name."""
    if value not in classes:
        raise ConfigError(f"no class '{value}'", where=where, remedy="classes: " + ", ".join(classes))


def rows(workspace: Workspace, name: str, side: Side, *, before: int | None = None, by: str | None = None) -> list[Row]:
    """Every row of a side in the order of the journal; only those before an event's count, or recorded by one of the two.

    The test side needs the key.
    """
    found: list[Row] = []
    vault = workspace.vault(name, by="labeling") if side == TEST else None
    for event in workspace.journal.events("labels.recorded"):
        identity = event.fields["batch"]
        if before is not None and event.count >= before:
            break
        if by not in (None, event.fields["by"]):
            continue
        if event.fields["dataset"] != name or identity.startswith(SEALED) != (side == TEST):
            continue
        data = vault.get(identity) if vault else workspace.store.get(identity)
        found += decode(data, where=identity)
    return found


def decode(data: bytes, *, where: str) -> list[Row]:
    """The rows of a batch."""
    columns = batch.read(data, where=where)
    return [Row(**dict(zip(COLUMNS, line, strict=True))) for line in zip(*(columns[c] for c in COLUMNS), strict=True)]


def encode_rows(found: Iterable[Row]) -> bytes:
    """The batch of rows."""
    lines = list(found)
    return batch.write({c: [getattr(row, c) for row in lines] for c in COLUMNS})


def resolve(found: Iterable[Row], rule: str) -> tuple[dict[str, str], list[str]]:
    """One value an item, and the items whose labelers disagree.

    latest: the last row. majority: the most frequent of each labeler's last, ties to the later. adjudicated: where two
    disagree, nothing counts until, seeing that, a third person labels or one of them again.
    """
    by_item: dict[str, dict[str, str]] = defaultdict(dict)
    last: dict[str, str] = {}
    disputed: set[str] = set()  # items about which the labelers disagreed before the last row
    for row in found:
        votes = by_item[row.item]
        (disputed.add if len(set(votes.values())) > 1 else disputed.discard)(row.item)
        votes.pop(row.who, None)
        votes[row.who] = row.value
        last[row.item] = row.value
    conflicts = sorted(item for item, votes in by_item.items() if len(set(votes.values())) > 1)
    if rule == "majority":
        return {item: _most(list(votes.values())) for item, votes in by_item.items()}, conflicts
    if rule == "adjudicated":
        open_ones = set(conflicts) - disputed
        return {i: v for i, v in last.items() if i not in open_ones}, conflicts
    return last, conflicts


def from_source(workspace: Workspace, name: str) -> dict[str, str]:
    """Labels that came with the source, by item id of the current version. ConfigError for an unknown class or item."""
    _, dataset = current(workspace, name)
    config = labeling(workspace, name)
    origins = ledgers.read(workspace.vault(name, by="labeling"), dataset.split.ledger).origins
    known = sides(workspace, dataset)
    by_name = {origin.name: identity for identity, origin in origins.items()}
    if config.origin is None:
        return {}
    if config.origin.folder or config.origin.source:
        found = {i: o.label for i, o in origins.items() if o.label is not None}
    else:
        named, lines = _table(workspace, config)
        unknown = [n for n in named if n not in by_name]
        if unknown:
            raise _unknown(workspace, name, unknown, lines)
        found = {by_name[n]: value for n, value in named.items()}
    for identity, value in found.items():
        check_value(value, config.classes, where=f"label of {identity[:12]}")
    return {i: v for i, v in found.items() if i in known}


def not_said_before(workspace: Workspace, name: str, found: Mapping[str, str]) -> dict[str, str]:
    """Of labels that came with the source, those it did not give last time; what a person corrected since stays corrected."""
    said = {row.item: row.value for side in (TRAIN, TEST) for row in rows(workspace, name, side, by=SOURCE)}
    return {item: value for item, value in found.items() if said.get(item) != value}


def release(workspace: Workspace, name: str, *, command: str = "label release") -> Released:
    """Commits a snapshot of all labels of the current version, and moves its head.

    Refused for another role; ConfigError for labels of a class that is none any more. Needs the key.
    """
    require_role(workspace, ROLES, command)
    dataset_id, _ = current(workspace, name)
    config = labeling(workspace, name)
    found = {side: rows(workspace, name, side) for side in (TRAIN, TEST)}
    values = {"kind": config.kind, "classes": list(config.classes)}
    record_, conflicts = snapshot(workspace, dataset_id, found, resolve_by=config.resolve, values=values)
    identity = encode(record_)[0]
    head = workspace.registry.head(LabelsHead, name)
    if head is None or head.version != identity:
        new = LabelsHead(version=identity, before=head.version if head else None)
        line = f"{short(identity)} for {short(dataset_id)}"
        workspace.registry.commit(record_, heads=[(name, new)], command=command, line=line)
    return Released(identity, record_, tuple(conflicts))


def snapshot(
    workspace: Workspace,
    dataset_id: str,
    found: Mapping[Side, Sequence[Row]],
    *,
    resolve_by: str,
    values: Mapping[str, Any],
    data_key: str | None = None,
) -> tuple[Labels, list[str]]:
    """The record of a version's rows, given in the journal's order, and the items whose labelers disagree. Needs the key.

    Rows of test items are sealed with the data key in use, or with `data_key`.
    """
    dataset = workspace.registry.record(Dataset, dataset_id)
    known = sides(workspace, dataset)
    vault = workspace.vault(dataset.name, by="labeling", data_key=data_key)
    kept, coverage, conflicts = {}, {}, []
    for side in (TRAIN, TEST):
        of_side = [r for r in found[side] if known.get(r.item) == side]
        resolved, disputed = resolve(of_side, resolve_by)
        for value in sorted(set(resolved.values())):  # somebody took a class out of cdl.yaml, and its labels are there
            check_value(value, values["classes"], where=f"labels of {dataset.name}")
        items = [i for i, s in known.items() if s == side]
        coverage[side] = round(len(resolved) / len(items), 4) if items else 1.0
        conflicts += disputed
        data = encode_rows(sorted(of_side, key=lambda r: r.item))  # the rows of one item stay in the journal's order
        kept[side] = vault.put(data) if side == TEST else workspace.store.put(data)
    record_ = Labels(
        name=dataset.name,
        dataset=dataset_id,
        resolve=resolve_by,
        coverage=coverage,
        values=dict(values),
        rows=kept,
    )
    return record_, conflicts


def _keep(workspace: Workspace, name: str, sides: Mapping[Side, list[Row]], by: str) -> None:
    """Keeps a batch of each side; the journal is told of both in one write, so that a kill leaves all or nothing."""
    kept: list[tuple[str, str | None, Mapping[str, Any]]] = []
    for side, found in sides.items():
        if found:
            data = encode_rows(found)
            identity = workspace.vault(name, by="labeling").put(data) if side == TEST else workspace.store.put(data)
            kept.append(("labels.recorded", None, {"dataset": name, "batch": identity, "count": len(found), "by": by}))
    workspace.journal.append_many(kept, who=workspace.person.email)


def _most(values: list[str]) -> str:
    counts = Counter(values)
    most = max(counts.values())
    return next(v for v in reversed(values) if counts[v] == most)


def _unknown(workspace: Workspace, name: str, items: Sequence[str], lines: Mapping[str, str]) -> ConfigError:
    """That a label file names items which the current version's source does not hold."""
    more = f", and {len(items) - 1} more that are not there" if len(items) > 1 else ""
    remedy = "cdl data run, or correct the name"
    if erased := len(workspace.store.claims(f"{ITEMS}{name}/")):
        remedy += f", or take the line out: {name} has had items erased ({erased}), and their names with them"
    return ConfigError(f"no item '{items[0]}' in the source{more}", where=lines[items[0]], remedy=remedy)


def _table(workspace: Workspace, config: LabelConfig) -> tuple[dict[str, str], dict[str, str]]:
    """Labels by source name from the CSV file or Label Studio's export that cdl.yaml names, and where each stands."""
    origin = config.origin
    path = (origin.table() if origin else None) or ""
    try:
        text = (workspace.root / path).read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ConfigError("there is no such file", where=path, remedy="correct `labels.origin` in cdl.yaml") from error
    except UnicodeDecodeError as error:
        raise ConfigError("not UTF-8", where=path, remedy="save it as UTF-8") from error
    if origin is not None and origin.csv is not None:
        return _csv(text, path, origin.csv.item, origin.csv.label)
    found = {choice.item: choice.value for choice in label_studio.choices(text, where=path)}
    return found, dict.fromkeys(found, path)


def _csv(text: str, path: str, item: str, label: str) -> tuple[dict[str, str], dict[str, str]]:
    """The labels of a table, and the line of each; an empty cell is no label."""
    found: dict[str, str] = {}
    lines: dict[str, str] = {}
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = reader.fieldnames or []
        missing = [c for c in (item, label) if c not in columns]
        if missing:
            raise ConfigError(f"no column '{missing[0]}'", where=path, remedy="there are: " + ", ".join(columns))
        for row in reader:
            if row[label]:
                found[row[item]] = row[label]
                lines[row[item]] = f"{path}: line {reader.line_num}"
    except csv.Error as error:
        where = f"{path}: line {reader.reader.line_num}"
        raise ConfigError(f"not CSV: {error}", where=where, remedy="mend the row") from error
    return found, lines
