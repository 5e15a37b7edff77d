"""Items to work with: the training set for anybody, the test set for holders of the key who evaluate.

    data = cdl.open(".").data["digits"]               or: training(workspace, dataset_id, labels_id)
    len(data), data.set, data.classes                 1437, 'train', ('0', ..., '9')
    data.item(3)                                      Item(id, content, fields, label)
    data.contents[3], data.labels[3]                  bytes of an item, its class or None
    batch = data.take([3, 5])                         a Dataset of these two
    batch.views()                                     their bytes without a copy
    batch.arrays(), batch.targets()                   of npy items: (2, 8, 8) uint8; (2,) int64, -1 without a label
    DataLoader(data, batch_size=256)                  torch; see `__getitem__`

Masked fields are not there; a masked column of a table is not in the content either.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar, overload

import msgspec
from blake3 import blake3

from cdl.data.items import arrays
from cdl.data.labels import decode, resolve
from cdl.data.pipeline import ledger as ledgers
from cdl.data.pipeline.split import TEST, TRAIN, validating
from cdl.data.ready import released
from cdl.data.workers.values import open_values
from cdl.errors import Corrupt, NotFound
from cdl.jobs.closure import closure
from cdl.jobs.environment import Environment
from cdl.registry import records
from cdl.registry.records import DatasetHead, Labels
from cdl.store.seal import Vault
from cdl.store.tree import Tree
from cdl.workflow.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One item: its id, bytes, fields, and class or None."""

    id: str
    content: bytes
    fields: Mapping[str, Any]
    label: str | None


class Dataset:
    """Items of one set, in order of their ids; contents and fields are read from the store when they are asked for.

    `labels` are classes, None where nobody labeled; `classes` stand in the order of a model's outputs.
    """

    def __init__(
        self,
        tree: Tree,
        places: "NDArray[np.int64]",
        *,
        set: str,  # noqa: A002  as everywhere: train or test
        labels: Sequence[str | None],
        classes: Sequence[str] = (),
        mask: frozenset[str] = frozenset(),
        ids: Sequence[str] | None = None,
    ) -> None:
        """The items at some places of a tree, without the fields of `mask`."""
        self.set = set
        self.ids = tuple(tree.names[i] for i in places.tolist()) if ids is None else tuple(ids)
        self.labels = tuple(labels)
        self.classes = tuple(classes)
        self._tree, self._places, self._mask = tree, places, mask

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def contents(self) -> Sequence[bytes]:
        """The bytes of each item, without masked columns where it is a row of a table."""
        return Reading(self._tree, self._places, self._contents)

    @property
    def fields(self) -> Sequence[Mapping[str, Any]]:
        """What else is known of each item, without masked fields."""
        return Reading(self._tree, self._places, self._fields)

    def item(self, place: int) -> Item:
        """One item. IndexError."""
        return Item(
            id=self.ids[place], content=self.contents[place], fields=self.fields[place], label=self.labels[place]
        )

    def take(self, places: Iterable[int]) -> "Dataset":
        """The items at some places, in their order, each as often as it is named: a batch. IndexError."""
        at = [int(place) for place in places]
        return Dataset(
            self._tree,
            self._places[at],
            set=self.set,
            labels=[self.labels[i] for i in at],
            classes=self.classes,
            mask=self._mask,
            ids=[self.ids[i] for i in at],
        )

    def labeled(self) -> "Dataset":
        """Only the items that have a label."""
        return self.take(i for i, label in enumerate(self.labels) if label is not None)

    def views(self) -> list[memoryview]:
        """The bytes of all items, read-only; without a copy unless columns are masked."""
        return [memoryview(masked(bytes(v), self._mask)) for v in self._read()] if self._mask else self._read()

    def arrays(self) -> "NDArray[Any]":
        """Items that are npy arrays of one shape, stacked: (items, ...), with their dtype. ConfigError for others."""
        found: NDArray[Any] = arrays.stacked(self.views())
        return found

    def targets(self) -> "NDArray[np.int64]":
        """The place of each label in `classes`: (items,) int64; -1 where nobody labeled."""
        at: dict[str | None, int] = {name: i for i, name in enumerate(self.classes)}
        numpy = import_module("numpy")
        found: NDArray[np.int64] = numpy.asarray([at.get(label, -1) for label in self.labels], dtype=numpy.int64)
        return found

    def __getitem__(self, place: int) -> "tuple[NDArray[Any] | bytes, int]":
        """Input and target for torch's DataLoader: an item that is a npy array as that array, else its bytes; and `targets`."""
        return self.__getitems__([place])[0]

    def __getitems__(self, places: Sequence[int]) -> "list[tuple[NDArray[Any] | bytes, int]]":
        """The same for a batch, as torch's DataLoader asks for it. IndexError."""
        batch = self.take(places)
        return list(zip(map(arrays.array_or_bytes, batch.views()), batch.targets().tolist(), strict=True))

    def _read(self) -> list[memoryview]:
        return self._tree.take(self._places.tolist())

    def _contents(self, places: "NDArray[np.int64]") -> list[bytes]:
        return [masked(bytes(data), self._mask) for data in self._tree.take(places.tolist())]

    def _fields(self, places: "NDArray[np.int64]") -> list[Mapping[str, Any]]:
        metas = map(self._tree.meta, places.tolist())
        return [{k: v for k, v in meta.items() if k not in self._mask} for meta in metas]


class Reading(Sequence[T]):
    """A sequence that is read from a tree when it is asked for, a block at a time, and not kept."""

    def __init__(self, tree: Tree, places: "NDArray[np.int64]", read: "Callable[[NDArray[np.int64]], list[T]]") -> None:
        self._tree, self._places, self._read = tree, places, read

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[T]:
        start = 0
        for block in self._tree.blocks(self._places.tolist()):
            yield from self._read(self._places[start : start + len(block)])
            start += len(block)

    @overload
    def __getitem__(self, at: int) -> T: ...

    @overload
    def __getitem__(self, at: slice) -> list[T]: ...

    def __getitem__(self, at: int | slice) -> T | list[T]:
        if isinstance(at, slice):
            return self._read(self._places[at])
        return self._read(self._places[[at]])[0]


def dataset_record(workspace: Workspace, identity: str) -> records.Dataset:
    """A dataset version. NotFound."""
    return workspace.registry.record(records.Dataset, identity)


def labels_record(workspace: Workspace, identity: str) -> Labels:
    """A label snapshot. NotFound."""
    return workspace.registry.record(Labels, identity)


def training(
    workspace: Workspace, dataset_id: str, labels_id: str | None, *, mask: frozenset[str] | None = None
) -> Dataset:
    """The training set of a version with the labels of a snapshot, without the fields of `mask` (None: as in force).

    Needs no key.
    """
    record = dataset_record(workspace, dataset_id)
    values, classes = _values(workspace, labels_id, TRAIN, None)
    mask = mask_in_force(workspace, record.name) if mask is None else mask
    tree = workspace.store.tree(record.train)
    return _dataset(tree, sorted(tree.names), TRAIN, values, classes, mask)


def _dataset(
    tree: Tree,
    names: Sequence[str],
    set_: str,
    values: Mapping[str, str],
    classes: tuple[str, ...],
    mask: frozenset[str],
) -> Dataset:
    """Some items of a tree. NotFound where one of them was erased."""
    numpy = import_module("numpy")
    places = numpy.asarray([tree.places[name] for name in names], dtype=numpy.int64)
    marked = tree.rows.columns.get("erased")
    if marked is not None:
        tree.take([int(p) for p in places if marked[p]][:1])
    return Dataset(tree, places, set=set_, labels=[values.get(n) for n in names], classes=classes, mask=mask, ids=names)


def training_labels(workspace: Workspace, labels_id: str | None) -> dict[str, str]:
    """The class of each training item in a snapshot, by id. Needs no key."""
    return _values(workspace, labels_id, TRAIN, None)[0]


def class_counts(workspace: Workspace, dataset_id: str, labels_id: str) -> dict[str, int]:
    """How many training items of a version have each class of a snapshot, in the order of the classes. Needs no key."""
    names = {*workspace.store.tree(dataset_record(workspace, dataset_id).train).names}
    values, classes = _values(workspace, labels_id, TRAIN, None)
    found = Counter(value for item, value in values.items() if item in names)
    return {name: found[name] for name in classes}


def current_items(workspace: Workspace, name: str) -> tuple[str, Dataset]:
    """The version of this branch and its training items, with labels where they were released. NotFound."""
    try:
        dataset_id, labels_id = released(workspace, name)
        return dataset_id, training(workspace, dataset_id, labels_id)
    except NotFound:
        head = workspace.registry.head(DatasetHead, name)
        if head is None:
            raise
        return head.version, training(workspace, head.version, None)


def sealed_test(workspace: Workspace, dataset_id: str, labels_id: str, vault: Vault) -> Dataset:
    """The labeled test items of a version, for an evaluation that holds the key."""
    record = dataset_record(workspace, dataset_id)
    tree = vault.tree(record.test)
    values, classes = _values(workspace, labels_id, TEST, vault)
    names = sorted(n for n in tree.names if n in values)
    return _dataset(tree, names, TEST, values, classes, mask_in_force(workspace, record.name))


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
    return {blake3(data).digest() for data in tree.each(places)}


def validation_part(
    workspace: Workspace, dataset: records.Dataset, items: Dataset, share: float, commit: str
) -> list[bool]:
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


def _equal(workspace: Workspace, by: str, items: Dataset, commit: str) -> list[bytes]:
    """What `split.by` gives for each training item."""
    files = workspace.git.files(commit)
    code = closure(files, workspace.git.cat, [by], declared=(), section=by)
    here = Environment("", "", "")  # the parts must not depend on the machine
    values = open_values(workspace.jobs, by=by, code=code, environment=here, contents=list(items.contents))
    if len(values) != len(items):
        raise Corrupt("split.by gave another number of values", where=by)
    return values
