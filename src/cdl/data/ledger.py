"""The ledger of a dataset: which source item is which id, on which side, with which label from the source. Always sealed.

It is a table (store/table.py), so a version writes what it adds. Columns:

| `kind` | what the row is | `id`, `equal` | `side`, `before` | `source`, `name`, `label` |
|---|---|---|---|---|
| 0 | an item there ever was | its id, what it is equal by | as in split.py | where it comes from, if it is in this version |
| 1 | a file that is no item | its id, nothing | nothing | where it comes from |
| 2 | a source there ever was | nothing | nothing | its number, what tells it apart |
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from cdl.data.split import Row, merged
from cdl.errors import Corrupt, Refused
from cdl.store.seal import Vault
from cdl.store.table import Rows, Table, encode, grow, is_root

ITEM, FILE, SOURCE = 0, 1, 2
ID_BYTES, EQUAL_BYTES = 16, 32
NOTHING = ""
Line = tuple[int, str, str, str | None, str | None, int | None, str | None, str | None]  # the columns, in order
COLUMNS = ("kind", "id", "equal", "side", "before", "source", "name", "label")


@dataclass(frozen=True)
class Origin:
    """Where an item came from: the source's number, the item's name there, its label there, and what it is equal by."""

    source: int
    name: str
    label: str | None
    equal: str


@dataclass(frozen=True)
class Ledger:
    """Every item there ever was (`rows`), those of this version by id (`origins`), every source by its number (`sources`)."""

    rows: tuple[Row, ...]
    origins: Mapping[str, Origin]
    sources: tuple[str, ...]
    table: Table | None = None


EMPTY = Ledger((), {}, ())


def read(vault: Vault, name: str | None) -> Ledger:
    """A sealed ledger; an empty one for None. Corrupt for anything else."""
    if name is None:
        return EMPTY
    data = vault.read(name)
    if not is_root(data):
        return _earlier(bytes(data))
    table = Table(vault, name)
    rows, origins, sources = [], {}, dict[int, str]()
    for kind, identity, equal, side, before, source, called, label in _lines(table.rows):
        if kind == SOURCE:
            sources[source or 0] = called or ""
            continue
        if kind == ITEM:
            rows.append(Row(id=identity, equal=equal, side=side or "", before=before))
        if source is not None:
            origins[identity] = Origin(source, called or "", label, equal)
    return Ledger(tuple(rows), origins, tuple(sources[n] for n in sorted(sources)), table)


def write(
    vault: Vault, before: Ledger, rows: Mapping[str, Row], origins: Mapping[str, Origin], sources: Sequence[str]
) -> str:
    """Seals the next ledger, which follows the one before; its name."""
    lines = _told(merged(before.rows, rows), origins, sources)
    table = before.table
    if table is None or table.root["data_key"] != vault.about["data_key"]:
        return grow(vault, None, None, _rows(lines))
    numpy = import_module("numpy")
    wanted, there = set(lines), list(_lines(table.rows))
    keep = numpy.array([line in wanted for line in there], dtype=bool)
    known = set(there)
    return grow(vault, table, keep, _rows([line for line in lines if line not in known]))


def resealed(vault: Vault, name: str) -> str:
    """Seals a ledger with the data key in use; its name."""
    found = read(vault, name)
    return grow(vault, None, None, _rows(told(found)))


def without(vault: Vault, name: str, item: str) -> dict[str, str]:
    """Seals the pages that are to stand for those of a ledger once it says no more how an item is called, nor its label.

    What they stand for -> what stands there, both as the table names them. Refused for a ledger of an earlier format.
    """
    if not is_root(vault.read(name)):
        raise Refused("this version was made in an earlier format", remedy="cdl data run makes a new one; then cdl gc")
    found = {}
    table = Table(vault, name)
    for page, rows in zip(table.pages, table.parts, strict=True):
        lines = list(_lines(rows))
        blank = [(*line[:6], NOTHING, None) if line[1] == item and line[5] is not None else line for line in lines]
        if blank != lines:
            found[page.name] = vault.keep(encode(_rows(blank)))
    return found


def told(found: Ledger) -> list[Line]:
    """What a ledger says, however it lies."""
    return _told(found.rows, found.origins, found.sources)


def _told(rows: Iterable[Row], origins: Mapping[str, Origin], sources: Sequence[str]) -> list[Line]:
    """The lines of a ledger in order."""
    lines: list[Line] = []
    for row in rows:
        origin = origins.get(row.id)
        here = origin if origin is not None and origin.equal == row.equal else None
        where = (here.source, here.name, here.label) if here else (None, None, None)
        lines.append((ITEM, row.id, row.equal, row.side, row.before, *where))
    files = ((i, o) for i, o in origins.items() if not o.equal)
    lines += [(FILE, i, NOTHING, None, None, o.source, o.name, o.label) for i, o in files]
    lines += [(SOURCE, NOTHING, NOTHING, None, None, n, called, None) for n, called in enumerate(sources)]
    return sorted(lines, key=lambda line: line[:3] + (line[5] or 0,))


def _rows(lines: Sequence[Line]) -> Rows:
    numpy = import_module("numpy")
    columns: dict[str, Any] = {name: [line[n] for line in lines] for n, name in enumerate(COLUMNS)}
    for name, size in (("id", ID_BYTES), ("equal", EQUAL_BYTES)):
        data = "".join(value.rjust(2 * size, "0") for value in columns[name])
        columns[name] = numpy.frombuffer(bytes.fromhex(data), dtype="|u1").reshape(-1, size)
    columns["kind"] = numpy.array(columns["kind"], dtype="|u1")
    return Rows(columns)


def _lines(rows: Rows) -> Iterable[Line]:
    """The lines in some rows. Corrupt for rows of something else."""
    columns = dict(rows.columns)
    if not len(rows):
        return []
    try:
        for name, size in (("id", ID_BYTES), ("equal", EQUAL_BYTES)):
            text, width = columns[name].tobytes().hex(), 2 * size
            columns[name] = [text[at : at + width] for at in range(0, len(text), width)]
        columns["kind"] = columns["kind"].tolist()
        nothing = "0" * 2 * EQUAL_BYTES
        columns["equal"] = [NOTHING if equal == nothing else equal for equal in columns["equal"]]
        columns["id"] = [
            NOTHING if kind == SOURCE else i for kind, i in zip(columns["kind"], columns["id"], strict=True)
        ]
        return zip(*(columns[name] for name in COLUMNS), strict=True)
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise Corrupt(f"not a ledger: {error}", remedy="cdl store verify") from error


def _earlier(data: bytes) -> Ledger:
    """A ledger as it was written before tables: one document."""
    try:
        found = json.loads(data)
        rows = tuple(Row(id=i, equal=e, side=s, before=b) for i, e, s, b in found["rows"])
        return Ledger(rows, {i: Origin(*origin) for i, origin in found["origins"].items()}, tuple(found["sources"]))
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"not a ledger: {error}", remedy="cdl store verify") from error


def numbered(declared: Sequence[str], known: Sequence[str]) -> tuple[list[int], list[str]]:
    """The number of each declared source, and every source by its number.

    An item's id holds the number, so a source keeps its own wherever cdl.yaml lists it. A new source takes the place of one that
    stood where it stands and is declared no more (another address for the same data), else the next number.
    """
    every, taken, numbers = list(known), set[int](), []
    for place, name in enumerate(declared):
        free = [n for n, k in enumerate(every) if k == name and n not in taken]
        if not free and place < len(known) and place not in taken and every[place] not in declared:
            every[place] = name
            free = [place]
        if not free:
            every.append(name)
            free = [len(every) - 1]
        taken.add(free[0])
        numbers.append(free[0])
    return numbers, every
