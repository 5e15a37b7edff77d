"""Makes a tree (tree.py) from names and contents: what an earlier or another tree holds is not stored again.

    builder = Builder(box, before=yesterday)
    builder.add("a.png", data)                  stored, unless yesterday has these bytes
    builder.keep("b.png", yesterday, 3)         what yesterday has at place 3
    name = builder.finish()

Contents lie in the order in which they were added: equal trees come of equal contents added in equal order to equal trees.
Nothing counts before `finish`: what a killed builder stored, nothing names.
"""

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from blake3 import blake3

from cdl.errors import Corrupt
from cdl.store import chunk
from cdl.store.table import PACK, Box, Rows, grow
from cdl.store.tree import CHUNKED, EMPTY, HASH_BYTES, Tree, check_name, told

CHUNKED_BYTES = 64_000_000  # one of so many is cut into chunks
UNNAMED = ""  # the open pack, until it is full
Place = tuple[int, int]  # slot of an object, first byte in it


class Builder:
    """A tree in the making. `before` is the one it follows, whose pages it keeps; contents of `known` are not stored again.

    What was sealed with another key than the box seals with now is sealed again. Contents of trees that lie `beside`, in the
    open, are pointed to there. One thread uses it.
    """

    def __init__(
        self, box: Box, *, before: Tree | None = None, known: Iterable[Tree] = (), beside: Iterable[Tree] = ()
    ) -> None:
        self._box = box
        alike = [tree for tree in dict.fromkeys([before, *known]) if tree is not None and _same_key(tree, box)]
        self._before = before if before in alike else None
        self._known = [tree for tree in [*alike, *beside] if len(tree)]
        self._names: list[str] = []
        self._hashes: list[bytes] = []
        self._sizes: list[int] = []
        self._places: list[Place] = []
        self._metas: list[Mapping[str, Any] | None] = []
        self._slots: list[str] = []  # names of objects
        self._slot_of: dict[str, int] = {}
        self._tables: set[str] = set()
        self._stored: dict[bytes, Place] = {}
        self._pack: list[bytes | memoryview] = []
        self._open = self._filled = 0  # its slot, its bytes so far

    def __len__(self) -> int:
        return len(self._names)

    def add(self, name: str, data: bytes | memoryview, meta: Mapping[str, Any] = EMPTY) -> None:
        """Adds a name with its content."""
        cuts = chunk.cut(data) if len(data) >= CHUNKED_BYTES else None
        hash_ = blake3(data).digest() if cuts is None else cuts.hash
        place = self._stored.get(hash_) or self._found(hash_, data) or self._put(hash_, data, cuts)
        self._row(name, hash_, len(data), place, meta)

    def keep(self, name: str, tree: Tree, place: int, meta: Mapping[str, Any] | None = None) -> None:
        """Adds a name with the content that another tree has at a place, where it lies; with its `meta`, or another."""
        if not _same_key(tree, self._box):
            self.add(name, tree.view(place), tree.meta(place) if meta is None else meta)
            return
        columns = tree.rows.columns
        hash_ = bytes(columns["hash"][place])
        at = self._of_tree(tree, place)
        self._row(name, hash_, int(columns["size"][place]), at, tree.meta(place) if meta is None else meta)

    def finish(self) -> str:
        """Stores the tree; its name. Corrupt for a name that could leave a folder, or one given twice."""
        numpy = import_module("numpy")
        self._flush()
        for name in self._names:
            check_name(name)
        order = sorted(range(len(self._names)), key=self._names.__getitem__)
        rows = self._rows().take(numpy.array(order, dtype="<i8"))
        _check_once(rows.columns["name"])
        about = {"content": self._box.digest(told(rows))}
        if self._before is None or self._before.table is None:
            return grow(self._box, None, None, rows, **about)
        keep, new = _compared(self._before, rows)
        return grow(self._box, self._before.table, keep, rows.take(new), **about)

    def _row(self, name: str, hash_: bytes, size: int, place: Place, meta: Mapping[str, Any]) -> None:
        self._names.append(name)
        self._hashes.append(hash_)
        self._sizes.append(size)
        self._places.append(place)
        self._metas.append(meta or None)

    def _rows(self) -> Rows:
        numpy = import_module("numpy")
        needs = {name: place for place, name in enumerate(dict.fromkeys(self._slots))}
        need_of = numpy.array([needs[name] for name in self._slots] or [0], dtype="<u4")
        columns: dict[str, Any] = {
            "name": self._names,
            "hash": numpy.frombuffer(b"".join(self._hashes), dtype="|u1").reshape(-1, HASH_BYTES),
            "size": numpy.array(self._sizes, dtype="<u8"),
            PACK: need_of[numpy.array([slot for slot, _ in self._places], dtype="<i8")],
            "at": numpy.array([at for _, at in self._places], dtype="<u8"),
        }
        if any(self._metas):
            columns["meta"] = self._metas
        return Rows(columns, tuple(needs), tuple(sorted(self._tables)))

    def _slot(self, name: str) -> int:
        """The slot of an object that has a name."""
        slot = self._slot_of.setdefault(name, len(self._slots))
        if slot == len(self._slots):
            self._slots.append(name)
        return slot

    def _of_tree(self, tree: Tree, place: int) -> Place:
        """Where the content lies that a tree has at a place."""
        name = tree.rows.needs[int(tree.rows.columns[PACK][place])]
        at = int(tree.rows.columns["at"][place])
        if at == CHUNKED:
            self._tables.add(name)
        return self._slot(name), at

    def _found(self, hash_: bytes, data: bytes | memoryview) -> Place | None:
        """Where a known tree has a content. Its bytes count, not what it says of them."""
        for tree in self._known:
            place = tree.find(hash_)
            if place is not None and tree.view(place) == data:
                found = self._stored[hash_] = self._of_tree(tree, place)
                return found
        return None

    def _put(self, hash_: bytes, data: bytes | memoryview, cuts: chunk.Cuts | None) -> Place:
        """Stores a content: in chunks, as an object of its own, or next in the open pack."""
        if cuts is not None:
            table = chunk.store(self._box, data, cuts)
            self._tables.add(table)
            place = (self._slot(table), CHUNKED)
        elif len(data) >= self._box.whole_bytes:
            place = (self._slot(self._box.keep(data, hash_)), 0)
        else:
            place = self._packed(data)
        self._stored[hash_] = place
        return place

    def _packed(self, data: bytes | memoryview) -> Place:
        """Where a content will lie: next in the open pack."""
        if self._filled + len(data) > self._box.pack_bytes:
            self._flush()
        if not self._pack:
            self._open = len(self._slots)
            self._slots.append(UNNAMED)
        self._pack.append(data)
        self._filled += len(data)
        return self._open, self._filled - len(data)

    def _flush(self) -> None:
        """Stores the open pack, and gives its slot the name."""
        if self._pack:
            self._slots[self._open] = self._box.keep(b"".join(self._pack))
            self._pack, self._filled = [], 0


def _same_key(tree: Tree, box: Box) -> bool:
    """Whether a tree was sealed as a box seals, or neither is; of an earlier format none is."""
    return tree.table is not None and tree.table.root.get("data_key") == box.about.get("data_key")


def _check_once(names: list[str]) -> None:
    """Corrupt where a name stands twice among sorted ones."""
    for first, second in zip(names, names[1:], strict=False):
        if first == second:
            raise Corrupt(f"the name {first!r} stands twice in a tree")


def _compared(before: Tree, rows: Rows) -> tuple[Any, Any]:
    """Which rows of the tree before stay (truth values), and the places of the rows that are new or changed."""
    numpy = import_module("numpy")
    keep = numpy.zeros(len(before), dtype=bool)
    new = []
    metas = rows.columns.get("meta")
    places = before.places
    at = numpy.array([places.get(name, -1) for name in rows.columns["name"]], dtype="<i8")
    there = at >= 0
    same = numpy.zeros(len(rows), dtype=bool)
    need_of = {name: place for place, name in enumerate(before.rows.needs)}
    needs = numpy.array([need_of.get(name, -1) for name in rows.needs] or [-1], dtype="<i8")
    columns, old_ones = rows.columns, {n: before.rows.columns[n][at[there]] for n in ("hash", "size", "at", PACK)}
    same[there] = (
        (old_ones["hash"] == columns["hash"][there]).all(axis=1)
        & (old_ones["size"] == columns["size"][there])
        & (old_ones["at"] == columns["at"][there])
        & (old_ones[PACK] == needs[columns[PACK][there]])
    )
    for place, (equal, old) in enumerate(zip(same.tolist(), at.tolist(), strict=True)):
        meta = (metas[place] if metas else None) or EMPTY
        if equal and before.meta(old) == meta and not before.erased(old):
            keep[old] = True
        else:
            new.append(place)
    return keep, numpy.array(new, dtype="<i8")
