"""A version of a dataset in numbers, and one training item of it. Nothing sealed is opened, and no key is needed."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from io import BytesIO
from typing import Any

import msgspec

from cdl.data.dataset import class_counts, mask_in_force, masked, training_labels
from cdl.data.history.changes import last_labels
from cdl.data.sources.fetch import called
from cdl.data.status import taken
from cdl.errors import Conflict, NotFound
from cdl.registry.records import Dataset, short
from cdl.store.store import SEALED, Store
from cdl.store.table import is_root, read_root
from cdl.workflow.workspace import Workspace

FEWEST = 6  # digits of an item's id
PICTURES = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF", b"BM": "BMP"}
ARRAY = b"\x93NUMPY"


class From(msgspec.Struct, frozen=True, kw_only=True):
    """A source of a version: what it is, the set that it was declared for, and how many files came."""

    what: str
    set: str | None
    files: int | None


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """How many items a stage left in each set; None where the store does not have them here."""

    name: str
    train: int | None
    test: int | None
    code: str | None


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A version. `classes` counts its training items with the labels released for it; `bytes` are those of its training items.

    `joined` names the version that each join joined, by step; `stored` is what it takes in the store.
    """

    version: str
    name: str
    parent: str | None
    answers: str | None
    items: Mapping[str, int]
    sources: Sequence[From]
    stages: Sequence[Left]
    skipped: Sequence[str]
    joined: Mapping[str, str]
    classes: Mapping[str, int]
    rejected: Mapping[str, int]
    set_aside: int
    bytes: int | None
    stored: int


class ShownItem(msgspec.Struct, frozen=True, kw_only=True):
    """A training item as its readers see it: without masked fields. `text` is None where it is no text."""

    item: str
    version: str
    label: str | None
    fields: Mapping[str, Any]
    kind: str
    bytes: int
    text: str | None


def shown(workspace: Workspace, identity: str) -> Shown:
    """A version by its id."""
    record, store = workspace.registry.record(Dataset, identity), workspace.store
    labels = last_labels(workspace, identity)
    here = store.has(record.train)
    tree = store.tree(record.train) if here else None
    return Shown(
        version=identity,
        name=record.name,
        parent=record.parent,
        answers=record.answers,
        items=record.items,
        sources=[From(what=called(s), set=s.set, files=_count(store, s.raw)) for s in record.sources],
        stages=[
            Left(name=s.name, train=_count(store, s.train), test=_count(store, s.test), code=s.code)
            for s in record.steps
        ],
        skipped=record.skipped,
        joined={step: lookup.version for step, lookup in record.lookups.items()},
        classes=class_counts(workspace, identity, labels) if labels and here else {},
        rejected=record.rejected["reasons"],
        set_aside=record.split.set_aside["count"],
        bytes=sum(tree.rows.columns["size"].tolist()) if tree is not None else None,
        stored=taken(workspace, [record]),
    )


def shown_item(workspace: Workspace, identity: str, item: str) -> ShownItem:
    """A training item of a version by the beginning of its id. NotFound for any other one, Conflict where several begin so."""
    record = workspace.registry.record(Dataset, identity)
    tree = workspace.store.tree(record.train)
    found = [name for name in tree.names if name.startswith(item)] if len(item) >= FEWEST else []
    if len(found) > 1:
        raise Conflict(f"{item} is short for {len(found)} items", remedy="type more digits")
    if not found:
        what = f"no training item {item[:12]} in {short(identity)}"
        raise NotFound(
            what,
            remedy="test items are sealed and never shown; cdl data export DIR writes the training items, named by id",
        )
    place, mask = tree.places[found[0]], mask_in_force(workspace, record.name)
    content = masked(bytes(tree.view(place)), mask)
    kind, text = kind_of(content)
    return ShownItem(
        item=found[0],
        version=identity,
        label=training_labels(workspace, last_labels(workspace, identity)).get(found[0]),
        fields={k: v for k, v in tree.meta(place).items() if k not in mask},
        kind=kind,
        bytes=len(content),
        text=text,
    )


def kind_of(content: bytes) -> tuple[str, str | None]:
    """What a content is in words; and its text, where it is one."""
    if content.startswith(ARRAY):
        return _array(content), None
    picture = next((name for start, name in PICTURES.items() if content.startswith(start)), None)
    if picture is not None:
        return f"{picture} picture", None
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return "bytes", None
    if "\0" in text:
        return "bytes", None
    return "text", text


def _array(content: bytes) -> str:
    try:
        found = import_module("numpy").load(BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError):
        return "bytes"
    return f"array of {found.dtype}, {' x '.join(map(str, found.shape)) or 'one value'}"


def _count(store: Store, tree: str) -> int | None:
    """How many rows a tree says it has, sealed or not; None where it does not say, or is not here."""
    bare = tree.removeprefix(SEALED)
    if not store.has(bare):
        return None
    data = store.view(bare)
    return int(read_root(data, where=tree)["count"]) if is_root(data) else None
