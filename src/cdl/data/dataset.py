"""Items to work with: the training set for anybody, the test set for holders of the key who evaluate.

    items = training(workspace, dataset_id, labels_id)
    items.contents[3], items.labels[3]            bytes of an item, its class or None

Masked fields are not there; a masked column of a table is not in the content either.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blake3 import blake3

from cdl.data import ledger as ledgers
from cdl.data.labels import decode, resolve
from cdl.data.process import open_values
from cdl.data.ready import released
from cdl.data.split import TEST, TRAIN, validating
from cdl.errors import Corrupt, NotFound
from cdl.jobs.closure import closure
from cdl.jobs.environment import Environment
from cdl.registry.records import Dataset, DatasetHead, Labels
from cdl.store.seal import Vault
from cdl.store.tree import Tree
from cdl.workflow.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Items:
    """Items of one set, sorted by id; `labels` are classes, None where nobody labeled."""

    ids: tuple[str, ...]
    contents: tuple[bytes, ...]
    fields: tuple[Mapping[str, Any], ...]
    labels: tuple[str | None, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, places: Iterable[int]) -> "Items":
        """The items at some places."""
        at = list(places)
        return Items(
            ids=tuple(self.ids[i] for i in at),
            contents=tuple(self.contents[i] for i in at),
            fields=tuple(self.fields[i] for i in at),
            labels=tuple(self.labels[i] for i in at),
            classes=self.classes,
        )

    def labeled(self) -> "Items":
        """Only the items that have a label."""
        return self.take(i for i, label in enumerate(self.labels) if label is not None)


def dataset_record(workspace: Workspace, identity: str) -> Dataset:
    """A dataset version. NotFound."""
    return workspace.registry.record(Dataset, identity)


def labels_record(workspace: Workspace, identity: str) -> Labels:
    """A label snapshot. NotFound."""
    return workspace.registry.record(Labels, identity)


def training(
    workspace: Workspace, dataset_id: str, labels_id: str | None, *, mask: frozenset[str] | None = None
) -> Items:
    """The training set of a version with the labels of a snapshot, without the fields of `mask` (None: as in force).

    Needs no key.
    """
    record = dataset_record(workspace, dataset_id)
    tree = workspace.store.tree(record.train)
    order = sorted(range(len(tree)), key=tree.names.__getitem__)
    values, classes = _values(workspace, labels_id, TRAIN, None)
    mask = mask_in_force(workspace, record.name) if mask is None else mask
    return Items(
        ids=tuple(tree.names[i] for i in order),
        contents=tuple(masked(bytes(data), mask) for data in tree.take(order)),
        fields=tuple({k: v for k, v in tree.meta(i).items() if k not in mask} for i in order),
        labels=tuple(values.get(tree.names[i]) for i in order),
        classes=classes,
    )


def class_counts(workspace: Workspace, dataset_id: str, labels_id: str) -> dict[str, int]:
    """How many training items of a version have each class of a snapshot, in the order of the classes. Needs no key."""
    names = {*workspace.store.tree(dataset_record(workspace, dataset_id).train).names}
    values, classes = _values(workspace, labels_id, TRAIN, None)
    found = Counter(value for item, value in values.items() if item in names)
    return {name: found[name] for name in classes}


def current_items(workspace: Workspace, name: str) -> tuple[str, Items]:
    """The version of this branch and its training items, with labels where they were released. NotFound."""
    try:
        dataset_id, labels_id = released(workspace, name)
        return dataset_id, training(workspace, dataset_id, labels_id)
    except NotFound:
        head = workspace.registry.head(DatasetHead, name)
        if head is None:
            raise
        return head.version, training(workspace, head.version, None)


def sealed_test(workspace: Workspace, dataset_id: str, labels_id: str, vault: Vault) -> Items:
    """The labeled test items of a version, for an evaluation that holds the key."""
    record = dataset_record(workspace, dataset_id)
    tree = vault.tree(record.test)
    values, classes = _values(workspace, labels_id, TEST, vault)
    mask = mask_in_force(workspace, record.name)
    names = sorted(n for n in tree.names if n in values)
    return Items(
        ids=tuple(names),
        contents=tuple(masked(tree.get(n), mask) for n in names),
        fields=tuple({k: v for k, v in tree.meta_of(n).items() if k not in mask} for n in names),
        labels=tuple(values[n] for n in names),
        classes=classes,
    )


def equal_items(workspace: Workspace, trained_on: str, tested_on: str, vault: Vault) -> dict[str, int]:
    """How many training items of one version equal test items of another, before and after cleaning.

    Before cleaning as the split compares (`split.by`, else the bytes), after cleaning by the bytes. Erased items
    have none.
    """
    train, test = dataset_record(workspace, trained_on), dataset_record(workspace, tested_on)
    of_train, of_test = (ledgers.read(vault, d.split.ledger).origins for d in (train, test))
    train_ids = workspace.store.tree(train.steps[0].train).names
    tested = {of_test[i].equal for i in vault.tree(test.steps[0].test).names}
    before = {of_train[i].equal for i in train_ids} & tested
    sealed = vault.tree(test.test)
    cleaned = workspace.store.tree(train.train)
    after = _digests(sealed) & _digests(cleaned)
    return {"before_cleaning": len(before), "after_cleaning": len(after)}


def _digests(tree: Tree) -> set[bytes]:
    """The hash of each content in a tree, of its bytes and not as the tree says."""
    places = [place for place in range(len(tree)) if not tree.erased(place)]
    return {blake3(data).digest() for data in tree.take(places)}


def validation_part(workspace: Workspace, dataset: Dataset, items: Items, share: float, commit: str) -> list[bool]:
    """Which training items validate: equal ones together, by the public key, so anyone gets the same parts.

    `commit` holds the code of `split.by`.
    """
    values: Sequence[bytes] = items.contents
    if dataset.split.by is not None:
        values = _equal(workspace, dataset.split.by, items, commit)
    return validating([blake3(v).hexdigest() for v in values], share)


def masked(content: bytes, mask: frozenset[str]) -> bytes:
    """An item's content without masked columns, where it is a row of a table; unchanged otherwise."""
    if not mask or not content.startswith(b"{"):
        return content
    try:
        row = json.loads(content)
    except ValueError:
        return content
    if not isinstance(row, dict) or not mask & row.keys():
        return content
    return json.dumps({k: v for k, v in row.items() if k not in mask}, sort_keys=True, ensure_ascii=False).encode()


def field_names(content: bytes, fields: Mapping[str, Any]) -> set[str]:
    """What a mask may name of an item: its fields, and its columns where it is a row of a table."""
    if content.startswith(b"{"):
        try:
            row = json.loads(content)
        except ValueError:
            row = None
        if isinstance(row, dict):
            return {*fields, *row}
    return set(fields)


def mask_in_force(workspace: Workspace, name: str) -> frozenset[str]:
    """The fields of a dataset that training and analysis do not see."""
    config = workspace.config.data.get(name)
    return frozenset(config.mask) if config else frozenset()


def _values(
    workspace: Workspace, labels_id: str | None, side: str, vault: Vault | None
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The label of each item of a side, and the classes."""
    if labels_id is None:
        return {}, ()
    record = labels_record(workspace, labels_id)
    name = record.rows[side]
    data = vault.get(name) if vault is not None else workspace.store.get(name)
    values, _ = resolve(decode(data, where=name), record.resolve)
    return values, tuple(record.values["classes"])


def _equal(workspace: Workspace, by: str, items: Items, commit: str) -> list[bytes]:
    """What `split.by` gives for each training item."""
    files = workspace.git.files(commit)
    code = closure(files, workspace.git.cat, [by], declared=(), section=by)
    here = Environment("", "", "")  # the parts must not depend on the machine
    values = open_values(workspace.jobs, by=by, code=code, environment=here, contents=list(items.contents))
    if len(values) != len(items):
        raise Corrupt("split.by gave another number of values", where=by)
    return values
