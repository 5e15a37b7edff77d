"""What differs between two records of a kind, field by field, and inside the open trees and batches that they name.

    items.train: 112 -> 140
    steps[0].train: 3f2a91c0... -> 91c07e5d...
    training items: 28 added, 0 removed, 3 changed

What is sealed is not opened: of the test set only what the record itself says.
"""

from collections.abc import Hashable, Mapping
from typing import Any

import msgspec

from cdl.errors import ConfigError
from cdl.journal import batch
from cdl.registry.records import AnyRecord, Dataset, Labels, Package, Transformation
from cdl.store.store import Store
from cdl.store.tree import changes

ABSENT = "(none)"


class Difference(msgspec.Struct, frozen=True):
    """A field with its two values; ABSENT where one side has none."""

    field: str
    first: Any
    second: Any


class Inside(msgspec.Struct, frozen=True, kw_only=True):
    """How many of something ('training items') only the second has, only the first, and both with another content."""

    what: str
    added: int
    removed: int
    changed: int


def diff(first: AnyRecord, second: AnyRecord) -> list[Difference]:
    """The fields that differ, sorted by name. ConfigError for records of two kinds."""
    if type(first) is not type(second):
        kinds = f"{type(first).__name__.lower()} and {type(second).__name__.lower()}"
        raise ConfigError(f"{kinds} are not compared", remedy="give two records of one kind")
    one, two = _flat(msgspec.to_builtins(first)), _flat(msgspec.to_builtins(second))
    names = sorted(set(one) | set(two))
    found = [Difference(n, one.get(n, ABSENT), two.get(n, ABSENT)) for n in names]
    return [d for d in found if d.first != d.second]


def inside(store: Store, first: AnyRecord, second: AnyRecord) -> Inside | None:
    """What differs in the training items of datasets, the labels of those, or the files of packages and states.

    None for other kinds, and where the store of this clone has not what the records name.
    """
    what, names = "", ("", "")
    if isinstance(first, Dataset) and isinstance(second, Dataset):
        what, names = "training items", (first.train, second.train)
    elif isinstance(first, Labels) and isinstance(second, Labels):
        what, names = "labels of training items", (first.rows["train"], second.rows["train"])
    elif isinstance(first, Package) and isinstance(second, Package):
        what, names = "files", (first.tree, second.tree)
    elif isinstance(first, Transformation) and isinstance(second, Transformation):
        what, names = "files of the state", (first.state, second.state)
    if not what or not all(store.has(name) for name in names):
        return None
    if not isinstance(first, Labels):
        found = changes(*(store.tree(name) for name in names))
        return Inside(what=what, added=len(found.added), removed=len(found.removed), changed=len(found.changed))
    one, two = [_labels(store, name) for name in names]
    return Inside(
        what=what,
        added=len(two.keys() - one.keys()),
        removed=len(one.keys() - two.keys()),
        changed=sum(one[name] != two[name] for name in one.keys() & two.keys()),
    )


def _labels(store: Store, rows: str) -> dict[str, Hashable]:
    """What each item was labeled, and by whom."""
    columns = batch.read(store.get(rows), where=rows)
    found: dict[str, set[tuple[str, str]]] = {}
    for item, who, value in zip(columns["item"], columns["who"], columns["value"], strict=True):
        found.setdefault(item, set()).add((who, value))
    return {item: frozenset(given) for item, given in found.items()}


def _flat(value: Any, field: str = "") -> dict[str, Any]:
    """Leaves by dotted path."""
    if isinstance(value, Mapping) and value:
        pairs = [(f"{field}.{k}" if field else str(k), v) for k, v in value.items()]
    elif isinstance(value, list) and value:
        pairs = [(f"{field}[{i}]", v) for i, v in enumerate(value)]
    else:
        return {field: value}
    return {k: v for name, inner in pairs for k, v in _flat(inner, name).items()}
