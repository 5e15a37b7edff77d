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
from functools import cached_property
from importlib import import_module
from typing import Any

import msgspec

from cdl.data.pipeline.columns import as_bytes, column, from_hex, places_of
from cdl.data.pipeline.split import CODES, NAMES, Known
from cdl.errors import Corrupt, Refused
from cdl.store.seal import Vault
from cdl.store.table import Rows, Table, encode, grow, is_root, joined

ITEM, FILE, SOURCE = 0, 1, 2
ID_BYTES, EQUAL_BYTES = 16, 32
NOTHING = ""
Line = tuple[int, str, str, str | None, str | None, int | None, str | None, str | None]  # the columns, in order
COLUMNS = ("kind", "id", "equal", "side", "before", "source", "name", "label")


class Origin(msgspec.Struct, frozen=True):
    """Where an item came from: the source's number, the item's name there, its label there, and what it is equal by."""

    source: int
    name: str
    label: str | None
    equal: str


class Items(msgspec.Struct, frozen=True, kw_only=True):
    """Items in columns: id, what each is equal by, side and side before (codes of split.py), and where it comes from."""

    ids: Any
    equals: Any
    sides: Any
    befores: Any
    sources: Sequence[int]
    names: Sequence[str]
    labels: Sequence[str | None]

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self) -> Rows:
        """The same as rows of a ledger."""
        numpy = import_module("numpy")
        return Rows(
            {
                "kind": numpy.full(len(self), ITEM, dtype="|u1"),
                "id": as_bytes(self.ids),
                "equal": as_bytes(self.equals),
                "side": [NAMES[code] for code in self.sides.tolist()],
                "before": [NAMES[code] for code in self.befores.tolist()],
                "source": list(self.sources),
                "name": list(self.names),
                "label": list(self.labels),
            }
        )


class Ledger:
    """Every item there ever was, those of this version with where they come from, and every source by its number."""

    def __init__(self, rows: Rows, table: Table | None = None) -> None:
        self.rows = _checked(rows) if len(rows) else _rows([])
        self.columns = self.rows.columns
        self.table = table

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Every source there ever was, by its number."""
        places = (self.columns["kind"] == SOURCE).nonzero()[0].tolist()
        numbers, names = self.columns["source"], self.columns["name"]
        return tuple(names[place] for place in sorted(places, key=lambda place: numbers[place]))

    @cached_property
    def origins(self) -> Mapping[str, Origin]:
        """Where the items of this version, and its files that are none, come from, by id."""
        return {
            identity: Origin(source, name or "", label, equal)
            for kind, identity, equal, _, _, source, name, label in self.lines()
            if kind != SOURCE and source is not None
        }

    @cached_property
    def names(self) -> Mapping[str, str]:
        """What the items of this version are called in their source, by id."""
        return {identity: origin.name for identity, origin in self.origins.items()}

    @cached_property
    def items(self) -> Any:
        """The rows that are items (places)."""
        return (self.columns["kind"] == ITEM).nonzero()[0]

    @cached_property
    def known(self) -> Known:
        """What a split has to know of every item there ever was."""
        numpy = import_module("numpy")
        places = self.items
        at = places.tolist()
        sides, befores = (
            numpy.array([CODES[column_[place]] for place in at], dtype="|u1")
            for column_ in (self.columns["side"], self.columns["before"])
        )
        return Known(ids=self._column("id")[places], equals=self._column("equal")[places], sides=sides, befores=befores)

    def _column(self, name: str) -> Any:
        found = self.columns[name]
        return column(found.tobytes(), found.shape[1])

    def let_go(self) -> None:
        """Keeps only the names of the sources."""
        every = self.sources
        self.__dict__.clear()
        self.__dict__["sources"] = every

    def lines(self) -> Iterable[Line]:
        """What it says, a line each, as the rows lie."""
        columns = dict(self.columns)
        kinds = columns["kind"].tolist()
        for name, size in (("id", ID_BYTES), ("equal", EQUAL_BYTES)):
            text, width = columns[name].tobytes().hex(), 2 * size
            columns[name] = [text[at : at + width] for at in range(0, len(text), width)]
        columns["equal"] = [NOTHING if kind != ITEM else e for kind, e in zip(kinds, columns["equal"], strict=True)]
        columns["id"] = [NOTHING if kind == SOURCE else i for kind, i in zip(kinds, columns["id"], strict=True)]
        columns["kind"] = kinds
        return zip(*(columns[name] for name in COLUMNS), strict=True)


def read(vault: Vault, name: str | None) -> Ledger:
    """A sealed ledger; an empty one for None. Corrupt for anything else."""
    if name is None:
        return Ledger(Rows({}))
    data = vault.read(name)
    if not is_root(data):
        return Ledger(_earlier(bytes(data)))
    table = Table(vault, name, shared=("side", "before", "label"))
    return Ledger(table.rows, table)


def write(
    vault: Vault,
    before: Ledger,
    items: Items,
    *,
    gone: Any,
    files: Sequence[tuple[str, int, str]],
    sources: Sequence[str],
) -> str:
    """Seals the next ledger, which follows the one before; its name.

    `items` were looked at; `gone` are the rows before (truth values) that no longer say where an item is: it went, or it
    stands among `items`. Every other item stays as it is. `files` are those that are no items (id, source, name), `sources`
    all by number.
    """
    numpy = import_module("numpy")
    rows = items.rows()
    at = places_of(_keys(rows), _keys(before.rows))
    same = _same(before.rows, at, rows)
    superseded = numpy.zeros(len(before), dtype=bool)
    superseded[at[at >= 0]] = True
    keep = (before.columns["kind"] == ITEM) & ~superseded & ~gone
    keep[at[same]] = True
    rest = (before.columns["kind"] != ITEM).nonzero()[0]
    standing = dict(zip(Ledger(before.rows.take(rest)).lines(), rest.tolist(), strict=True))
    others = _others(files, sources)
    keep[[standing[line] for line in others if line in standing]] = True
    nowhere = _nowhere(before.rows.take((gone & ~superseded).nonzero()[0]))
    new = _rows([line for line in others if line not in standing])
    added = joined([nowhere, rows.take((~same).nonzero()[0]), new])
    if before.table is None or before.table.root["data_key"] != vault.about["data_key"]:
        return grow(vault, None, None, _ordered(joined([before.rows.take(keep.nonzero()[0]), added])))
    return grow(vault, before.table, keep, _ordered(added))


def follow(vault: Vault, before: Ledger, lines: Iterable[Line]) -> str:
    """Seals a ledger that says exactly some lines, following another one; its name."""
    wanted, there = set(lines), list(before.lines())
    keep = import_module("numpy").array([line in wanted for line in there], dtype=bool)
    if before.table is None or before.table.root["data_key"] != vault.about["data_key"]:
        return grow(vault, None, None, _ordered(_rows([*wanted])))
    return grow(vault, before.table, keep, _ordered(_rows([*(wanted - {*there})])))


def resealed(vault: Vault, name: str) -> str:
    """Seals a ledger with the data key in use; its name."""
    return grow(vault, None, None, _ordered(read(vault, name).rows))


def without(vault: Vault, name: str, item: str) -> dict[str, str]:
    """Seals the pages that are to stand for those of a ledger once it says no more how an item is called, nor its label.

    What they stand for -> what stands there, both as the table names them. Refused for a ledger of an earlier format.
    """
    if not is_root(vault.read(name)):
        raise Refused("this version was made in an earlier format", remedy="cdl data run makes a new one; then cdl gc")
    found = {}
    table = Table(vault, name)
    for page, rows in table.parts():
        lines = list(Ledger(rows).lines())
        blank = [(*line[:6], NOTHING, None) if line[1] == item and line[5] is not None else line for line in lines]
        if blank != lines:
            found[page.name] = vault.keep(encode(_rows(blank)))
    return found


def told(found: Ledger) -> list[Line]:
    """What a ledger says, however it lies."""
    return list(Ledger(_ordered(found.rows)).lines())


def _others(files: Sequence[tuple[str, int, str]], sources: Sequence[str]) -> list[Line]:
    """The lines that are no items."""
    lines: list[Line] = [(FILE, i, NOTHING, None, None, source, name, None) for i, source, name in files]
    return lines + [(SOURCE, NOTHING, NOTHING, None, None, n, called, None) for n, called in enumerate(sources)]


def _keys(rows: Rows) -> Any:
    """Id and equal of each row as one value; of rows that are no items another one than any item's."""
    numpy = import_module("numpy")
    columns = rows.columns
    kinds = columns["kind"].reshape(-1, 1)
    both = numpy.concatenate([kinds, columns["id"], columns["equal"]], axis=1)
    return column(both.tobytes(), both.shape[1])


def _same(before: Rows, at: Any, rows: Rows) -> Any:
    """Which rows say what the rows before at some places say (-1: nowhere)."""
    columns = ("side", "before", "source", "name", "label")
    olds, news = ([table.columns[name] for name in columns] for table in (before, rows))
    found = [
        place >= 0 and all(old[place] == new for old, new in zip(olds, row, strict=True))
        for place, row in zip(at.tolist(), zip(*news, strict=True), strict=True)
    ]
    return import_module("numpy").array(found, dtype=bool)


def _nowhere(rows: Rows) -> Rows:
    """Rows that say no more where an item comes from."""
    nothing: list[None] = [None] * len(rows)
    return Rows({**rows.columns, "source": nothing, "name": nothing, "label": nothing})


def _ordered(rows: Rows) -> Rows:
    """Rows by kind, id, equal and source."""
    numpy = import_module("numpy")
    sources = numpy.array([source or 0 for source in rows.columns["source"]], dtype="<i8")
    return rows.take(numpy.lexsort((sources, _keys(rows))))


def _rows(lines: Sequence[Line]) -> Rows:
    numpy = import_module("numpy")
    columns: dict[str, Any] = {name: [line[n] for line in lines] for n, name in enumerate(COLUMNS)}
    for name, size in (("id", ID_BYTES), ("equal", EQUAL_BYTES)):
        columns[name] = as_bytes(from_hex((value.rjust(2 * size, "0") for value in columns[name]), size))
    columns["kind"] = numpy.array(columns["kind"], dtype="|u1")
    return Rows(columns)


def _checked(rows: Rows) -> Rows:
    """Corrupt for rows of something else."""
    columns = rows.columns
    arrays = (("kind", ()), ("id", (ID_BYTES,)), ("equal", (EQUAL_BYTES,)))
    fits = {*COLUMNS} <= columns.keys() and all(
        getattr(columns[name], "shape", (0, 0))[1:] == width for name, width in arrays
    )
    if not fits or not all(isinstance(columns[name], list) for name in COLUMNS[3:]):
        raise Corrupt("not a ledger: a column is missing", remedy="cdl store verify")
    return rows


def _earlier(data: bytes) -> Rows:
    """A ledger as it was written before tables: one document."""
    try:
        found = json.loads(data)
        origins = {i: Origin(*origin) for i, origin in found["origins"].items()}
        lines: list[Line] = []
        for identity, equal, side, before in found["rows"]:
            origin = origins.get(identity)
            here = origin if origin is not None and origin.equal == equal else None
            where = (here.source, here.name, here.label) if here else (None, None, None)
            lines.append((ITEM, identity, equal, side, before, *where))
        files = [(i, o.source, o.name) for i, o in origins.items() if not o.equal]
        return _rows(lines + _others(files, list(found["sources"])))
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
