"""Trees: names and the contents behind them, as a table (table.py) in a store or sealed in a vault.

| column | holds |
|---|---|
| `name` | text; a normalized relative path, each once |
| `hash`, `size` | of the content: its blake3 (32 bytes), bytes |
| `pack`, `at` | where it lies: place in `needs` of the object, and the first byte in it |
| `meta` | what else is known (an item's fields), a map; not there where no row has any |
| `erased` | 1 where the content was erased; not there where none was |

Small contents lie one after the other in packs, larger ones each in an object of its own. The largest are cut into chunks: the
row then names the table of these, `at` is CHUNKED, and the hash is that of chunk.py. Of a content that is not in the store the
row names an object that says where it is, and `at` is OUTSIDE, or OBJECTS and more (outside.py). A tree that follows another one
keeps its pages and contents and adds only what is new, so how it lies depends on what went before; `content` in its root does
not.

Earlier trees (`cdl-tree-1`, lines of JSON) and sealed trees (`cdl-sealed-1`) can still be read.
"""

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from functools import cached_property
from importlib import import_module
from typing import Any

import msgspec
from blake3 import blake3

from cdl import document
from cdl.errors import Corrupt, NotFound, Unavailable
from cdl.store import chunk, earlier
from cdl.store.outside import OBJECTS, Spot, Wanted, hash_of, spot_at, spots
from cdl.store.table import PACK, Box, Page, Rows, Table, is_root, read_root

CHUNKED = (1 << 64) - 1  # in column `at`
HASH_BYTES = 32
READ_ITEMS, READ_BYTES = 256, 64_000_000  # the most that is read at once where everything is read
UNFIT = re.compile(r"[\0/]\.{0,2}[\0/]")  # in names between zeros: a part that is nothing, . or ..
EMPTY: Mapping[str, Any] = {}
NOWHERE = memoryview(b"")  # stands for a content until it is read


class Entry(msgspec.Struct, frozen=True):
    """A name in a tree: its content's hash (64 hex digits) and size in bytes, and what else is known (an item's fields)."""

    name: str
    hash: str
    size: int
    meta: Mapping[str, Any] = msgspec.field(default_factory=dict)


class Tree:
    """Names and contents, by name; and by place, which is where a row stands."""

    def __init__(self, box: Box, rows: Rows, table: Table | None = None) -> None:
        self.box = box
        self.table = table
        self.rows = rows
        self.names: Sequence[str] = rows.columns.get("name", [])
        self._views: dict[int, memoryview] = {}
        self._spots: dict[int, list[Spot | None]] = {}  # what the objects name that say where contents stay

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.places

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Places by name."""
        return {name: place for place, name in enumerate(self.names)}

    @property
    def entries(self) -> Iterator[Entry]:
        """Every entry, in the order of the rows."""
        return (self.entry(place) for place in range(len(self)))

    def entry(self, place: int) -> Entry:
        """The entry at a place."""
        found = bytes(self.rows.columns["hash"][place]).hex()
        return Entry(self.names[place], found, int(self.rows.columns["size"][place]), self.meta(place))

    def meta(self, place: int) -> Mapping[str, Any]:
        """What else is known of the content at a place."""
        metas = self.rows.columns.get("meta")
        return EMPTY if metas is None else metas[place] or EMPTY

    def erased(self, place: int) -> bool:
        """Whether the content at a place was erased."""
        marked = self.rows.columns.get("erased")
        return marked is not None and bool(marked[place])

    def hash(self, place: int) -> bytes:
        """The hash (32 bytes) of the content at a place."""
        return self._hashes[place]

    def lies_in(self, place: int) -> str:
        """The object that the content at a place lies in."""
        return self.rows.needs[int(self.rows.columns[PACK][place])]

    def unfit(self) -> list[str]:
        """The names whose content has another hash than the tree says. Reads everything."""
        starts, found = self.rows.columns["at"].tolist(), list[str]()
        for block in self.blocks([place for place in range(len(self)) if not self.erased(place)]):
            for place, data in zip(block, self._found(block), strict=True):
                if data is None or self._hash_of(data, starts[place]) != self.hash(place):
                    found.append(self.names[place])
        return found

    def _found(self, places: Sequence[int]) -> list[memoryview | None]:
        """The contents at some places; None for one that stays outside, and went or changed."""
        try:
            return [*self.take(places)]
        except (Corrupt, Unavailable):
            if len(places) > 1:
                return [data for place in places for data in self._found([place])]
            if not self.stays(places[0]):
                raise
            return [None]

    def _hash_of(self, data: memoryview, start: int) -> bytes:
        if start == CHUNKED:
            return chunk.cuts(data).hash
        return hash_of(data) if start >= OBJECTS else blake3(data).digest()

    @cached_property
    def outside(self) -> Set[str]:
        """The names whose content lies outside of the store."""
        columns = self.rows.columns
        there = (columns["at"] >= OBJECTS) & (columns["at"] != CHUNKED)
        return {self.names[place] for place in there.nonzero()[0].tolist()}

    def stays(self, place: int) -> bool:
        """Whether the content at a place stays outside of the store."""
        return OBJECTS <= int(self.rows.columns["at"][place]) < CHUNKED

    def spot(self, place: int) -> Spot:
        """Where a content stays that does."""
        return self._spot(int(self.rows.columns[PACK][place]), int(self.rows.columns["at"][place]))

    def _spot(self, pack: int, at: int) -> Spot:
        need = self.rows.needs[pack]
        if pack not in self._spots:
            self._spots[pack] = spots(self.box.read(need), where=need)
        return spot_at(self._spots[pack], at, where=need)

    def chunks(self, apart_from: Set[str] = frozenset()) -> set[str]:
        """The objects that large contents lie in, but for those under some names, and for those that were erased."""
        columns = self.rows.columns
        large = (columns["at"] == CHUNKED).nonzero()[0].tolist()
        left = [p for p in large if self.names[p] not in apart_from and not self.erased(p)]
        tables = {self.rows.needs[int(columns[PACK][p])] for p in left}
        return tables.union(*(Table(self.box, name).rows.needs for name in tables))

    def find(self, hash_: bytes) -> int | None:
        """A place where a content lies that has a hash (32 bytes)."""
        firsts, order = self._by_hash
        first = import_module("numpy").frombuffer(
            hash_[:8], dtype="<u8"
        )  # of that type: another has all of them converted
        at = int(firsts.searchsorted(first)[0])
        while at < len(firsts) and self._hashes[order[at]][:8] == hash_[:8]:
            if self._hashes[order[at]] == hash_ and not self.erased(order[at]):
                return int(order[at])
            at += 1
        return None

    @cached_property
    def _by_hash(self) -> tuple[Any, Any]:
        """The first 8 bytes of each hash as a number, sorted, and the places that they stand at."""
        firsts = self.rows.columns["hash"][:, :8].copy().view("<u8").reshape(-1)
        order = firsts.argsort(kind="stable")
        return firsts[order], order

    @cached_property
    def _hashes(self) -> "_Hashes":
        return _Hashes(self.rows.columns["hash"])

    def view(self, place: int) -> memoryview:
        """The content at a place, without a copy where it lies in one object. NotFound where it was erased."""
        return self.take([place])[0]

    def take(self, places: Sequence[int]) -> list[memoryview]:
        """The contents at some places. NotFound for one that was erased."""
        columns = self.rows.columns
        marked = columns.get("erased")
        if marked is not None and len(places) and (lost := [p for p in places if marked[p]]):
            raise self._lost(lost[0])
        packs, starts, sizes = (columns[n][places].tolist() for n in (PACK, "at", "size"))
        views, open_ = self._views, self._open
        found = [
            (views.get(p) or open_(p))[a : a + s] if a < OBJECTS else self._chunked(p) if a == CHUNKED else NOWHERE
            for p, a, s in zip(packs, starts, sizes, strict=True)
        ]
        out = [n for n, data in enumerate(found) if data is NOWHERE]
        if out:
            wanted = [Wanted(self._spot(packs[n], starts[n]), self.hash(places[n]), sizes[n]) for n in out]
            for n, data in zip(out, self.box.outside(wanted), strict=True):
                found[n] = data
        if [len(data) for data in found] != sizes:
            raise Corrupt("a tree names more than there is", where=self._named()[:14], remedy="cdl store verify")
        return found

    def each(self, places: Sequence[int]) -> Iterator[memoryview]:
        """The contents at some places, one after the other; so many are read at once. NotFound for one that was erased."""
        for block in self.blocks(places):
            yield from self.take(block)

    def blocks(self, places: Sequence[int]) -> Iterator[list[int]]:
        """Places, as many together as may be in memory at once."""
        sizes, block, filled = self.rows.columns["size"], list[int](), 0
        for place in places:
            if block and (len(block) == READ_ITEMS or filled + int(sizes[place]) > READ_BYTES):
                yield block
                block, filled = [], 0
            block.append(place)
            filled += int(sizes[place])
        if block:
            yield block

    def _chunked(self, pack: int) -> memoryview:
        """A content that lies in chunks."""
        return chunk.read(self.box, self.rows.needs[pack])

    def get(self, name: str) -> bytes:
        """The content of a name. NotFound for one that is not in the tree, or was erased."""
        place = self.places.get(name)
        if place is None:
            raise NotFound(f"no {name} in this tree")
        return bytes(self.view(place))

    def contents(self) -> dict[str, bytes]:
        """Every content by name, but for those that were erased."""
        places = [place for place in range(len(self)) if not self.erased(place)]
        return {self.names[p]: bytes(data) for p, data in zip(places, self.take(places), strict=True)}

    def _open(self, pack: int) -> memoryview:
        view = self._views[pack] = memoryview(self.box.read(self.rows.needs[pack]))
        return view

    def _named(self) -> str:
        return self.table.name if self.table else "an earlier tree"

    def _lost(self, place: int) -> NotFound:
        why = self.table and self.box.erasure(self.table.page_of(place).name)
        remedy = "cdl data run makes a version without it"
        return NotFound(f"item {self.names[place][:12]} was erased", where=why or None, remedy=remedy)


class _Hashes:
    """Hashes by place."""

    def __init__(self, column: Any) -> None:
        self._data = memoryview(column.tobytes())

    def __getitem__(self, place: int) -> bytes:
        return bytes(self._data[place * HASH_BYTES : (place + 1) * HASH_BYTES])


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """Names that only the second of two trees has, only the first, and both with another content or other fields; sorted."""

    added: Sequence[str]
    removed: Sequence[str]
    changed: Sequence[str]


def changes(first: Tree, second: Tree) -> Changes:
    """What differs between two trees. Pages that both have are not looked at."""
    one, two = _apart(first, second), _apart(second, first)
    both = one.keys() & two.keys()
    return Changes(
        added=sorted(two.keys() - both),
        removed=sorted(one.keys() - both),
        changed=sorted(name for name in both if one[name] != two[name]),
    )


def _apart(tree: Tree, other: Tree) -> dict[str, tuple[bytes, Mapping[str, Any]]]:
    """Hash and fields of each name in the pages of a tree that another has not."""
    shared = {page.name for page in other.table.pages} if other.table else set()
    pages = tree.table.pages if tree.table else [Page(len(tree), "")]
    found: dict[str, tuple[bytes, Mapping[str, Any]]] = {}
    start = 0
    for page in pages:
        if page.name not in shared:
            places = range(start, start + page.rows)
            found |= {tree.names[p]: (tree.hash(p), tree.meta(p)) for p in places if not tree.erased(p)}
        start += page.rows
    return found


def content_of(box: Box, name: str) -> str:
    """What a tree holds, however it lies: equal contents under equal names give the equal digest."""
    data = box.read(name)
    if is_root(data):
        return str(read_root(data, where=name)["content"])
    rows = earlier.rows(box, data, where=name)
    names = rows.columns["name"]
    order = import_module("numpy").array(sorted(range(len(names)), key=names.__getitem__), dtype="<i8")
    return box.digest(told(rows.take(order)))


def told(rows: Rows) -> bytearray:
    """What rows in order of their names hold, wherever it lies: names, hashes, sizes and what else is known."""
    metas = rows.columns.get("meta") or []
    said = bytearray()
    for part in (
        lambda: "\0".join(rows.columns["name"]).encode("utf-8", "surrogateescape"),
        rows.columns["hash"].tobytes,
        rows.columns["size"].tobytes,
        lambda: b"\n".join(document.canonical(dict(meta)) if meta else b"" for meta in metas).strip(b"\n"),
    ):  # one at a time: there may be a million names
        data = part()
        said += len(data).to_bytes(8, "little")
        said += data
    return said


def open_tree(box: Box, name: str) -> Tree:
    """A stored tree. Corrupt when it is none."""
    data = box.read(name)
    if is_root(data):
        table = Table(box, name)
        if not len(table):
            return Tree(box, _none(), table)
        _check(table.rows, name)
        return Tree(box, table.rows, table)
    return Tree(box, earlier.rows(box, data, where=name))


def _none() -> Rows:
    """No rows."""
    numpy = import_module("numpy")
    numbers = {column: numpy.zeros(0, dtype=kind) for column, kind in (("size", "<u8"), (PACK, "<u4"), ("at", "<u8"))}
    return Rows({"name": [], "hash": numpy.zeros((0, HASH_BYTES), dtype="|u1"), **numbers})


def _check(rows: Rows, where: str) -> None:
    """Corrupt for rows that are no tree's."""
    columns = rows.columns
    if not {"name", "hash", "size", PACK, "at"} <= columns.keys() or columns["hash"].shape[1:] != (HASH_BYTES,):
        raise Corrupt("not a tree: a column is missing", where=where[:14], remedy="cdl store verify")
    told = "\0" + "\0".join(columns["name"]) + "\0"
    if told.count("\0") != len(rows) + 1 or UNFIT.search(told):
        for name in columns["name"]:
            check_name(name)


def check_name(name: str) -> None:
    """Corrupt unless a name is a normalized relative path."""
    parts = name.split("/")
    if not name or "\0" in name or any(p in ("", ".", "..") for p in parts):
        raise Corrupt(f"the name {name!r} is not a normalized relative path", remedy="rename the file")
