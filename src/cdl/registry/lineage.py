"""What a record was made of, and what was made of it: the ids that records name.

    m-0c5e...  ->  d-3f2a... (data.dataset), l-77b0... (data.labels), t-91d2... (transformation)

Every field that holds an id is an edge, so a new kind of record needs nothing here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from cdl.registry.records import ID_DIGITS, ID_PATTERN, AnyRecord
from cdl.registry.registry import Registry

WHOLE = ID_DIGITS + 2  # characters of a full id


@dataclass(frozen=True)
class Edge:
    """`source` names `target` in one of its fields."""

    source: str
    field: str
    target: str


def edges(identity: str, record: AnyRecord) -> list[Edge]:
    """What a record names, in the order of its fields."""
    return [Edge(identity, field, target) for field, target in _ids(msgspec.to_builtins(record), "")]


def up(registry: Registry, identity: str) -> list[Edge]:
    """Everything that a record was made of, nearest first."""
    return _walk(identity, lambda i: edges(i, registry.get(i).record), lambda e: e.target)


def down(registry: Registry, identity: str) -> list[Edge]:
    """Everything that was made of a record or that speaks of it, nearest first."""
    naming: dict[str, list[Edge]] = {}
    for stored in registry.everything():
        for edge in edges(stored.id, stored.record):
            naming.setdefault(edge.target, []).append(edge)
    return _walk(identity, lambda i: naming.get(i, []), lambda e: e.source)


def _walk(start: str, step: Any, end: Any) -> list[Edge]:
    found: list[Edge] = []
    seen, todo = {start}, [start]
    while todo:
        for edge in step(todo.pop(0)):
            found.append(edge)
            if end(edge) not in seen:
                seen.add(end(edge))
                todo.append(end(edge))
    return found


def _ids(value: Any, field: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _ids(inner, f"{field}.{key}" if field else key)
    elif isinstance(value, list):
        for inner in value:
            yield from _ids(inner, field)
    elif isinstance(value, str) and len(value) == WHOLE and ID_PATTERN.match(value) and value[0] in "dltmpxr":
        yield field, value
