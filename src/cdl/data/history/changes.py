"""What differs between two versions of a dataset, item by item: added, removed, changed, relabelled; with the classes counted.

Without the key the training side, by neutral ids; with it both sides, and what the items are called in their source.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from cdl.data.labels import decode, resolve
from cdl.data.pipeline import ledger as ledgers
from cdl.data.pipeline.split import TEST, TRAIN
from cdl.errors import ConfigError
from cdl.registry.records import Dataset, Labels
from cdl.store.seal import Vault
from cdl.store.tree import changes
from cdl.workflow.workspace import Workspace

ADDED, REMOVED, CHANGED, RELABELLED, MOVED = "added", "removed", "changed", "relabelled", "moved"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """An item that differs. `side` and `label` are those of the second version, or of the first where only that has it.

    `before` is its label in the first version, where that was another; `name` is what it is called in the source, for who has
    the key.
    """

    what: str
    item: str
    side: str
    name: str | None = None
    label: str | None = None
    before: str | None = None


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """Two versions, by id: their differences by kind and item, and how many items of each class the two have (None: no label).

    Labels are compared, and classes counted, where a snapshot of both versions was released (`labelled`).
    """

    first: str
    second: str
    items: Sequence[Change]
    classes: Mapping[str | None, tuple[int, int]]
    labelled: bool
    sealed: bool

    def counts(self) -> dict[str, int]:
        """How many items differ in each way."""
        return dict(sorted(Counter(change.what for change in self.items).items()))


def compare(workspace: Workspace, first: str, second: str) -> Compared:
    """What differs between two dataset versions, by id. ConfigError for versions of two datasets."""
    records = [workspace.registry.record(Dataset, identity) for identity in (first, second)]
    if records[0].name != records[1].name:
        raise ConfigError(
            f"{records[0].name} and {records[1].name} are two datasets", remedy="give two versions of one: cdl log NAME"
        )
    name = records[0].name
    vault = workspace.vault(name, by="data") if workspace.holds_key(name) else None
    snapshots = [last_labels(workspace, identity) for identity in (first, second)]
    labels = [_labels(workspace, s, vault) if all(snapshots) else {} for s in snapshots]
    found, members = _sides(workspace, records, vault)
    called = _names(vault, records)
    items = [
        Change(
            what=what,
            item=item,
            side=side,
            name=called.get(item),
            label=labels[what != REMOVED].get(item),
            before=labels[0].get(item) if labels[0].get(item) != labels[1].get(item) and what != ADDED else None,
        )
        for (item, what), side in sorted(found.items())
    ]
    there = members[0].keys() & members[1].keys() - {change.item for change in items}
    items += [
        Change(
            what=RELABELLED,
            item=item,
            side=members[1][item],
            name=called.get(item),
            label=labels[1].get(item),
            before=labels[0].get(item),
        )
        for item in sorted(there)
        if labels[0].get(item) != labels[1].get(item)
    ]
    counted = [Counter(each.get(item) for item in inside) for each, inside in zip(labels, members, strict=True)]
    if not all(snapshots):
        counted = [Counter(), Counter()]
    classes = {c: (counted[0][c], counted[1][c]) for c in sorted({*counted[0], *counted[1]}, key=str)}
    return Compared(
        first=first, second=second, items=items, classes=classes, labelled=all(snapshots), sealed=vault is None
    )


def last_labels(workspace: Workspace, dataset: str) -> str | None:
    """The label snapshot of a version that was released last; None where none was."""
    every = [identity for identity, record in workspace.registry.all(Labels) if record.dataset == dataset]
    return max(every, key=lambda identity: (workspace.registry.brought(identity).when, identity), default=None)


def _sides(
    workspace: Workspace, records: Sequence[Dataset], vault: Vault | None
) -> tuple[dict[tuple[str, str], str], tuple[dict[str, str], dict[str, str]]]:
    """The side of each item that differs, by item and how; and the side of each item of either version."""
    found: dict[tuple[str, str], str] = {}
    members: tuple[dict[str, str], dict[str, str]] = ({}, {})
    for side in (TRAIN, TEST):
        opened = workspace.store.tree if side == TRAIN else vault.tree if vault else None
        if opened is None:
            continue
        trees = [opened(getattr(record, side)) for record in records]
        for inside, tree in zip(members, trees, strict=True):
            inside |= dict.fromkeys(tree.names, side)
        differ = changes(trees[0], trees[1])
        for what, names in ((ADDED, differ.added), (REMOVED, differ.removed), (CHANGED, differ.changed)):
            found |= {(name, what): side for name in names}
    for item in {item for item, what in found if what == ADDED and (item, REMOVED) in found}:
        found.pop((item, REMOVED))
        found[item, MOVED] = found.pop((item, ADDED))
    return found, members


def _labels(workspace: Workspace, snapshot: str | None, vault: Vault | None) -> dict[str, str]:
    """The labels of a snapshot: of training items, and with a vault of test items; none without one."""
    if snapshot is None:
        return {}
    last = workspace.registry.record(Labels, snapshot)
    found: dict[str, str] = {}
    for side, rows in last.rows.items():
        data = workspace.store.get(rows) if side == TRAIN else vault.get(rows) if vault else None
        if data is not None:
            found |= resolve(decode(data, where=rows), last.resolve)[0]
    return found


def _names(vault: Vault | None, records: Sequence[Dataset]) -> dict[str, str]:
    """What items are called in their source, in either version."""
    if vault is None:
        return {}
    every = [ledgers.read(vault, record.split.ledger).names for record in records]
    return {item: name for each in every for item, name in each.items() if name}
