"""Tables in pages: rows by the thousand in one object, so that a change rewrites only the pages that it touches.

    cdl-table-1\\n{"count":1030,"needs":["91c0..."],"pages":[[1024,"3f2a..."],[6,"77b2..."]],"tables":[]}
    cdl-page-1\\n{"rows": 6, "needs": ["91c0..."], "columns": {"name": ["a.png", ...], "at": {"type": "<u8", "data": ...}}}

The first is a root, a line and canonical JSON; a page is a line and msgpack. A root lists every object that reading all rows
needs: pages, contents, and tables that stand for one large content. Column `pack` holds places in `needs`.

Rows stand in the order in which they came. A page is rewritten when one of its rows changes or goes; one that is left nearly
empty goes too, and its rows and the new ones fill up the last page.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from cdl import document
from cdl.errors import Corrupt

if TYPE_CHECKING:
    from cdl.store.outside import Wanted

ROOT = b"cdl-table-1\n"
PAGE = b"cdl-page-1\n"
PAGE_ROWS = 1024
FEW_ROWS = 256  # a page with fewer left is not kept for them
PAGE_BYTES = 512_000  # beyond it a page is halved
PACK = "pack"  # the column that holds places in `needs`
Column = Any  # a list, an array of numbers, or an array (rows, bytes) of fixed width


class Box(Protocol):
    """Where the objects of a table lie: the store itself, or a vault that seals what it puts there."""

    @property
    def about(self) -> Mapping[str, Any]:
        """What a root says beside its rows: with which key it was sealed."""

    @property
    def pack_bytes(self) -> int:
        """The most content that is put together into one object."""

    @property
    def whole_bytes(self) -> int:
        """A content of so many lies in an object of its own."""

    def keep(self, data: bytes | memoryview, hash_: bytes | None = None) -> str:
        """Stores bytes; the name of the object, which equal bytes share. `hash_` is their blake3 where it is known already."""

    def known(self, hash_: bytes) -> str | None:
        """The name of the object of bytes with that blake3, made young; None where none is, or names tell nothing."""

    def keep_root(self, data: bytes) -> str:
        """Stores a root, which anybody may read; its name."""

    def read(self, name: str) -> memoryview:
        """The bytes of an object that this or another box put."""

    def outside(self, wanted: "Sequence[Wanted]") -> list[memoryview]:
        """Contents that stay outside of the store."""

    def digest(self, data: bytes | bytearray) -> str:
        """What equal bytes are recognised by in what anybody may read."""

    def erasure(self, name: str) -> str | None:
        """Who erased something in an object, when and why; None where nobody did."""


class Rows(msgspec.Struct, frozen=True):
    """Some rows in columns of equal length; `needs` are the objects that column `pack` points into."""

    columns: Mapping[str, Column]
    needs: Sequence[str] = ()
    tables: Sequence[str] = ()  # those of `needs` that are tables

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def take(self, places: Any) -> "Rows":
        """The rows at some places (an array of numbers), in that order."""
        at = places.tolist()
        taken = {n: [c[i] for i in at] if isinstance(c, list) else c[places] for n, c in self.columns.items()}
        return Rows(taken, self.needs, self.tables)

    def cut(self, start: int, end: int) -> "Rows":
        """The rows from a place up to another one."""
        return Rows({n: c[start:end] for n, c in self.columns.items()}, self.needs, self.tables)

    def pruned(self) -> "Rows":
        """The same rows; `needs` are those that they point into, sorted."""
        if PACK not in self.columns:
            return Rows(self.columns)
        numpy = import_module("numpy")
        used = numpy.unique(self.columns[PACK]).tolist()
        ordered = sorted(used, key=lambda place: self.needs[place])
        moved = numpy.zeros(len(self.needs), dtype="<u4")
        moved[ordered] = numpy.arange(len(ordered), dtype="<u4")
        needs = tuple(self.needs[place] for place in ordered)
        columns = {**self.columns, PACK: moved[self.columns[PACK]]}
        return Rows(columns, needs, tuple(sorted({*needs} & {*self.tables})))


class Page(msgspec.Struct, frozen=True):
    """A page: how many rows it has, its name; what these need, and the names of its columns, once it was read."""

    rows: int
    name: str
    needs: Sequence[str] = ()
    tables: Sequence[str] = ()
    columns: Sequence[str] = ()


def joined(parts: Sequence[Rows]) -> Rows:
    """Rows one after the other. A column that some do not have is None, or 0, there."""
    some = [part for part in parts if len(part)]
    if len(some) <= 1:
        return some[0] if some else (parts[0] if parts else Rows({}))
    numpy = import_module("numpy")
    needs: dict[str, int] = {}
    tables: dict[str, None] = {}
    columns: dict[str, list[Column]] = {name: [] for part in some for name in part.columns}
    for part in some:
        places = numpy.array([needs.setdefault(n, len(needs)) for n in part.needs] or [0], dtype="<u4")
        tables |= dict.fromkeys(part.tables)
        for name, found in columns.items():
            column = part.columns.get(name)
            found.append(None if column is None else places[column] if name == PACK else column)
    lengths = [len(part) for part in some]
    whole = {name: _joined(found, lengths) for name, found in columns.items()}
    return Rows(whole, tuple(needs), tuple(tables))


def _joined(parts: Sequence[Column | None], lengths: Sequence[int]) -> Column:
    numpy = import_module("numpy")
    like = next(part for part in parts if part is not None)
    if isinstance(like, list):
        return [v for part, n in zip(parts, lengths, strict=True) for v in ([None] * n if part is None else part)]
    filled = [
        numpy.zeros((n, *like.shape[1:]), dtype=like.dtype) if part is None else part
        for part, n in zip(parts, lengths, strict=True)
    ]
    return numpy.concatenate(filled)


class Table:
    """A table as it lies in a box. `shared` are columns of few values, which are kept once each."""

    def __init__(self, box: Box, name: str, shared: Sequence[str] = ()) -> None:
        self.box, self.name, self.shared = box, name, shared
        self.root: Mapping[str, Any] = read_root(box.read(name), where=name)
        self.pages = [Page(rows, page) for rows, page in self.root["pages"]]
        self._values: dict[Any, Any] = {}

    def __len__(self) -> int:
        return int(self.root["count"])

    @cached_property
    def rows(self) -> Rows:
        """All rows."""
        parts = [self._page(page) for page in self.pages]
        self.pages = [
            Page(page.rows, page.name, part.needs, part.tables, tuple(part.columns))
            for page, part in zip(self.pages, parts, strict=True)
        ]
        return joined(parts)

    def parts(self) -> Iterator[tuple[Page, Rows]]:
        """Each page with its rows."""
        rows, start = self.rows, 0
        for page in self.pages:
            own = Rows({name: rows.columns[name] for name in page.columns}, rows.needs, rows.tables)
            yield page, own.cut(start, start + page.rows)
            start += page.rows

    def _page(self, page: Page) -> Rows:
        rows = decode(self.box.read(page.name), where=page.name)
        if len(rows) != page.rows:
            raise Corrupt("a page has another number of rows", where=page.name[:14], remedy="cdl store verify")
        for name in self.shared:
            if isinstance(column := rows.columns.get(name), list):
                column[:] = [self._values.setdefault(value, value) for value in column]
        return rows

    def page_of(self, place: int) -> Page:
        """The page that a row stands in."""
        for page in self.pages:
            if place < page.rows:
                return page
            place -= page.rows
        raise IndexError(place)


def is_root(data: bytes | memoryview) -> bool:
    """Whether an object is the root of a table."""
    return bytes(data[: len(ROOT)]) == ROOT


def read_root(data: bytes | memoryview, *, where: str) -> Mapping[str, Any]:
    """A root; Corrupt for anything else."""
    try:
        if not is_root(data):
            raise ValueError("another format")
        found: dict[str, Any] = json.loads(bytes(data[len(ROOT) :]))
        rows = [(int(rows), str(name)) for rows, name in found["pages"]]
        if sum(n for n, _ in rows) != found["count"]:
            raise ValueError("another number of rows")
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"not a table: {error}", where=where[:14], remedy="cdl store verify") from error
    return found


def encode(rows: Rows) -> bytes:
    """The bytes of a page; equal rows give equal bytes."""
    slim = rows.pruned()
    columns = {name: _packed(slim.columns[name]) for name in sorted(slim.columns)}
    content = {"rows": len(rows), "needs": list(slim.needs), "tables": list(slim.tables), "columns": columns}
    return PAGE + msgspec.msgpack.encode(content)


def _packed(column: Column) -> Any:
    if isinstance(column, list):
        return column
    return {"type": column.dtype.str, "width": column.shape[1:], "data": column.tobytes()}


def decode(data: bytes | memoryview, *, where: str) -> Rows:
    """The rows of a page; Corrupt when it is none."""
    numpy = import_module("numpy")
    try:
        if bytes(data[: len(PAGE)]) != PAGE:
            raise ValueError("another format")
        found = msgspec.msgpack.decode(data[len(PAGE) :])
        columns: dict[str, Column] = {}
        for name, column in found["columns"].items():
            if isinstance(column, list):
                columns[name] = column
                continue
            if column["type"] not in ("<u8", "<u4", "|u1"):
                raise ValueError("a column of another type")
            columns[name] = numpy.frombuffer(column["data"], dtype=column["type"]).reshape(-1, *column["width"])
        if any(len(column) != found["rows"] for column in columns.values()):
            raise ValueError("columns of unequal length")
        rows = Rows(columns, tuple(found["needs"]), tuple(found["tables"]))
        if PACK in columns and len(rows) and int(columns[PACK].max()) >= len(rows.needs):
            raise ValueError("a row needs what the page does not name")
    except (msgspec.DecodeError, ValueError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise Corrupt(f"not a page: {error}", where=where[:14], remedy="cdl store verify") from error
    return rows


def write(box: Box, parts: Sequence[Page | Rows], **about: Any) -> str:
    """Stores a table of pages that are there and rows for new ones; its name."""
    pages = [page for part in parts for page in ([part] if isinstance(part, Page) else _pages(box, part))]
    root = {
        **box.about,
        **about,
        "count": sum(page.rows for page in pages),
        "pages": [[page.rows, page.name] for page in pages],
        "needs": sorted({name for page in pages for name in page.needs}),
        "tables": sorted({name for page in pages for name in page.tables}),
    }
    return box.keep_root(ROOT + document.canonical(root))


def _pages(box: Box, rows: Rows) -> Iterator[Page]:
    """Rows as one page, or as several where it grows too large."""
    if not len(rows):
        return
    data = encode(rows)
    if len(data) > PAGE_BYTES and len(rows) > 1:
        middle = len(rows) // 2
        yield from _pages(box, rows.cut(0, middle))
        yield from _pages(box, rows.cut(middle, len(rows)))
        return
    slim = rows.pruned()
    yield Page(len(rows), box.keep(data), slim.needs, slim.tables)


def grow(box: Box, before: Table | None, keep: Any, added: Rows, **about: Any) -> str:
    """Stores the rows of a table that `keep` says (an array of truth values), and new ones after them; the name of that table."""
    parts: list[Page | Rows] = []
    loose: list[Rows] = []
    start = 0
    for place, (page, rows) in enumerate(before.parts() if before else ()):
        kept = keep[start : start + page.rows].nonzero()[0]
        start += page.rows
        whole = len(kept) == page.rows
        last = place == len(before.pages) - 1 if before else False
        if whole and not (last and page.rows < PAGE_ROWS and len(added)):
            parts.append(page)
        elif len(kept) >= FEW_ROWS and not last:
            parts.append(rows.take(kept))
        else:
            loose.append(rows if whole else rows.take(kept))
    rest = joined([*loose, added])
    parts += [rest.cut(at, at + PAGE_ROWS) for at in range(0, len(rest), PAGE_ROWS)]
    return write(box, parts, **about)


def bounded(rows: Rows, ends: Callable[[int], bool]) -> Iterator[Rows]:
    """Rows cut after each place that `ends`, so that rows put in or taken out move no boundary but the next one."""
    start = 0
    for place in range(len(rows)):
        if ends(place) or place - start + 1 == PAGE_ROWS:
            yield rows.cut(start, place + 1)
            start = place + 1
    if start < len(rows):
        yield rows.cut(start, len(rows))
