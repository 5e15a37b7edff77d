"""What something was made of, and what was made of it.

    cdl lineage 9f3c21d0 --down
    9f3c21d0  item
      d-3f2a91c0  dataset points  by train
        l-77b0e4d2  labels points  by dataset
          m-0c5e8b37  model side  by data.labels; data.dataset d-3f2a91c0

It begins at a record, a training item, or a labeler's mail address. Every field of a record that holds an id is an edge, so
a new kind of record needs nothing here. Decisions, requests and a version's successor are named where they speak of
something; what is made of them in turn is another story. Only open trees and batches are read: for a test item, or a
labeler of test items only, there is nothing here.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from cdl.errors import Conflict, NotFound
from cdl.journal import batch
from cdl.registry.names import VERSION, all_things, current, find
from cdl.registry.records import (
    ID_DIGITS,
    ID_PATTERN,
    RECORDS,
    AnyRecord,
    Dataset,
    Decision,
    Labels,
    Request,
    Transformation,
)
from cdl.registry.registry import Registry
from cdl.store.store import Store

WHOLE = ID_DIGITS + 2  # characters of a full id
ITEM = re.compile(r"[0-9a-f]{8,32}")  # an item's id or its first digits
STAGE = "stage:"
ENDS = (Decision, Request)  # they speak of things; nothing is made of them
SUCCESSION = "parent"  # a version's successor is not made of it alone


class Edge(msgspec.Struct, frozen=True):
    """`source` names `target` in one of its fields."""

    source: str
    field: str
    target: str


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Where a lineage begins: a record's id, an item's id or a mail address; `said` as in `names.Found`."""

    id: str
    said: str | None = None


def start(registry: Registry, store: Store, what: str) -> Start:
    """What WHAT means. NotFound, Conflict; the sentence for a test item is that for an item that never was."""
    registry.observe()
    _, at, after = what.partition("@")
    if at and not VERSION.fullmatch(after):
        if not any(what in _labelers(store, record) for _, record in registry.all(Labels)):
            raise NotFound(f"{what} labeled no training item of a released snapshot", remedy="cdl log")
        return Start(id=what)
    if ITEM.fullmatch(what) and what not in {t.name for t in all_things(registry)}:
        return Start(id=_item(registry, store, what))
    found = find(registry, what, prefer_dataset=True)
    return Start(id=found.stored.id, said=found.said)


def lineage(registry: Registry, store: Store, identity: str, *, down: bool) -> list[Edge]:
    """Everything that was made of something, or that it was made of; nearest first. Needs no key."""
    return _down(registry, store, identity) if down else _up(registry, store, identity)


def edges(identity: str, record: AnyRecord) -> list[Edge]:
    """What a record names, in the order of its fields."""
    return [Edge(identity, field, target) for field, target in _ids(msgspec.to_builtins(record), "")]


def describe(registry: Registry, identities: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Kind and name of each end of an edge, for people."""
    wanted = list(identities)
    records = {i: s.record for i, s in registry.some(wanted).items()}
    return {i: _described(i, records.get(i)) for i in wanted}


def _described(identity: str, record: AnyRecord | None) -> tuple[str, str]:
    if identity.startswith(STAGE):
        return "stage", identity.removeprefix(STAGE)
    if record is None:
        kind = "labeler" if "@" in identity else "item"
        return (RECORDS[identity[0]].__name__.lower() if identity[1:2] == "-" else kind), ""
    name = getattr(record, "name", "")
    if isinstance(record, Decision):
        name = f"{record.gate}: {record.verdict}"
    elif isinstance(record, Request):
        name = f"at {record.to['step']}"
    elif isinstance(record, Transformation):
        name = record.call
    return type(record).__name__.lower(), name


def _up(registry: Registry, store: Store, identity: str) -> list[Edge]:
    def named(ids: list[str]) -> Iterator[Edge]:
        for stored in registry.some(ids).values():
            if stored.id != identity and isinstance(stored.record, ENDS):
                continue
            yield from edges(stored.id, stored.record)
            if isinstance(stored.record, Labels):
                yield from (Edge(stored.id, "rows.train", who) for who in sorted(_labelers(store, stored.record)))

    return _walk(identity, named, lambda edge: edge.target)


def _down(registry: Registry, store: Store, identity: str) -> list[Edge]:
    naming: dict[str, list[Edge]] = {}
    every = {s.id: s.record for s in registry.everything()}
    found = [e for i, record in every.items() for e in _speaking(i, record)] + list(_deployed(registry))
    if "@" in identity:
        found += [Edge(i, "rows.train", identity) for i, r in every.items() if identity in _labelers(store, r)]
    if ITEM.fullmatch(identity):
        found = [e for e in found if e.field != SUCCESSION]  # a later version may hold the item no more
        found += [Edge(i, "train", identity) for i, r in every.items() if identity in _items(store, r, identity)]
    for edge in found:
        naming.setdefault(edge.target, []).append(edge)

    def made(ids: list[str]) -> Iterator[Edge]:
        for target in ids:
            if target == identity or not isinstance(every.get(target), ENDS):
                yield from naming.get(target, [])

    return _walk(identity, made, lambda edge: edge.source)


def _speaking(identity: str, record: AnyRecord) -> list[Edge]:
    """What a record is made of, or a decision or request is about."""
    found = edges(identity, record)
    return [e for e in found if e.field == "subject"] if isinstance(record, ENDS) else found


def _deployed(registry: Registry) -> Iterator[Edge]:
    """Stages and the packages that they name (`package`) or named (`before`)."""
    stages = [t for t in all_things(registry) if t.kind == "stage"]
    now = current(registry, stages)
    for stage in stages:
        for package in dict.fromkeys(m.version for m in registry.moves(stage.path)):
            field = "package" if now.get(stage, ("", ""))[0] == package else "before"
            yield Edge(STAGE + stage.name, field, package)


def _walk(origin: str, step: Callable[[list[str]], Iterable[Edge]], end: Callable[[Edge], str]) -> list[Edge]:
    found: list[Edge] = []
    seen, todo = {origin}, [origin]
    while todo:
        made = list(step(todo))
        found += made
        todo = list(dict.fromkeys(end(e) for e in made if e.field != SUCCESSION and end(e) not in seen))
        seen |= set(todo)
    return found


def _item(registry: Registry, store: Store, prefix: str) -> str:
    found = {i for _, record in registry.all(Dataset) for i in _items(store, record, prefix)}
    if len(found) > 1:
        raise Conflict(f"{prefix} is short for {len(found)} items", remedy="type more digits")
    for identity in found:
        return identity
    raise NotFound(
        f"no training item {prefix} in any dataset version whose tree is here",
        remedy="an item's id stands in cdl.open('.').data[NAME].ids",
    )


def _items(store: Store, record: AnyRecord, prefix: str) -> list[str]:
    """The training items of a dataset version whose id begins so."""
    if not isinstance(record, Dataset) or not store.has(record.train):
        return []
    return [name for name in store.tree(record.train).names if name.startswith(prefix)]


def _labelers(store: Store, record: AnyRecord) -> frozenset[str]:
    """Who labeled training items of a snapshot."""
    if not isinstance(record, Labels) or not store.has(record.rows["train"]):
        return frozenset()
    return frozenset(batch.read(store.get(record.rows["train"]), where=record.rows["train"])["who"])


def _ids(value: Any, field: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _ids(inner, f"{field}.{key}" if field else key)
    elif isinstance(value, list):
        for inner in value:
            yield from _ids(inner, field)
    elif isinstance(value, str) and len(value) == WHOLE and ID_PATTERN.match(value) and value[0] in RECORDS:
        yield field, value
