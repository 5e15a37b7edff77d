"""Trees: names and the objects behind them, themselves an object, in one form only.

    {"format":"cdl-tree-1"}
    {"meta":{},"name":"a.png","object":"3f2a...","size":312}
    {"meta":{"width":8},"name":"b/c.png","object":"91c0...","size":9}

One line an entry, sorted by the UTF-8 bytes of the name, canonical JSON; equal content gives the equal tree.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from cdl import document
from cdl.errors import Corrupt

FORMAT = "cdl-tree-1"


@dataclass(frozen=True)
class Entry:
    """A name in a tree: its object, the object's size in bytes, and what else is known (an item's fields)."""

    name: str
    object: str
    size: int
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Tree:
    """Entries sorted by name."""

    entries: tuple[Entry, ...]

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, name: str) -> Entry:
        return self.by_name[name]

    @cached_property
    def by_name(self) -> dict[str, Entry]:
        """Entries by name."""
        return {e.name: e for e in self.entries}

    @property
    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(e.name for e in self.entries)


def encode(entries: Iterable[Entry]) -> bytes:
    """The bytes of a tree. Corrupt for a name that could leave a folder, or a name given twice."""
    ordered = sorted(entries, key=lambda e: e.name.encode("utf-8", "surrogateescape"))
    names = [e.name for e in ordered]
    if len(set(names)) != len(names):
        twice = next(n for i, n in enumerate(names) if n in names[:i])
        raise Corrupt(f"the name {twice!r} stands twice in a tree")
    lines = [document.canonical({"format": FORMAT})]
    for entry in ordered:
        check_name(entry.name)
        row = {"name": entry.name, "object": entry.object, "size": entry.size, "meta": dict(entry.meta)}
        lines.append(document.canonical(row))
    return b"\n".join(lines) + b"\n"


def decode(data: bytes, where: str) -> Tree:
    """The tree in `data`; Corrupt when it is none."""
    try:
        head, *rows = [json.loads(line) for line in data.splitlines()]
        if head != {"format": FORMAT}:
            raise ValueError("another format")
        entries = tuple(Entry(r["name"], r["object"], r["size"], r["meta"]) for r in rows)
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"not a tree: {error}", where=where, remedy="cdl store verify") from error
    for entry in entries:
        check_name(entry.name)
    return Tree(entries)


def check_name(name: str) -> None:
    """Corrupt unless a name is a normalized relative path."""
    parts = name.split("/")
    if not name or "\0" in name or any(p in ("", ".", "..") for p in parts):
        raise Corrupt(f"the name {name!r} is not a normalized relative path", remedy="rename the file")
