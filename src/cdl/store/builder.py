"""Makes a tree (tree.py) from names and contents: what an earlier or another tree holds is not stored again.

    builder = Builder(box, before=yesterday)
    builder.stay(places)                        rows of yesterday's that are as they were
    builder.add("a.png", data)                  stored, unless yesterday has these bytes
    name = builder.finish()

Contents lie in the order in which they were added: equal trees come of equal contents added in equal order to equal trees.
Whether an unchanged row stays or is added again makes no difference. Nothing counts before `finish`: what a killed builder
stored, nothing names.
"""

from array import array
from collections.abc import Iterable, Mapping
from importlib import import_module
from itertools import pairwise
from typing import Any

import msgspec
from blake3 import blake3

from cdl.errors import Corrupt
from cdl.store import chunk
from cdl.store.outside import OBJECTS, OUTSIDE, Spot, folder, listing
from cdl.store.table import PACK, Box, Rows, grow, joined
from cdl.store.tree import CHUNKED, EMPTY, HASH_BYTES, Tree, check_name, told

UNNAMED = ""  # the open pack, until it is full
LISTED = 4096  # objects of a bucket that one object in the store lists
Place = tuple[int, int]  # slot of an object, first byte in it


class Lies(msgspec.Struct, frozen=True):
    """A content: its hash (32 bytes) and size, the object that it lies in, and its first byte there, or CHUNKED."""

    hash: bytes
    size: int
    object: str
    at: int


class Builder:
    """A tree in the making. `before` is the one it follows, whose pages it keeps; contents of `known` are not stored again.

    What was sealed with another key than the box seals with now is sealed again. Contents of trees that lie `beside`, in the
    open, are pointed to there. With `outside` what a known tree has outside of the store is too. One thread uses it.
    """

    def __init__(
        self,
        box: Box,
        *,
        before: Tree | None = None,
        known: Iterable[Tree] = (),
        beside: Iterable[Tree] = (),
        outside: bool = False,
    ) -> None:
        self._outside = outside
        self._folders: dict[str, str] = {}  # objects that name folders
        self._listing: dict[
            str, tuple[int, list[tuple[str, str | None]]]
        ] = {}  # of a bucket: slot, and what it has so far
        self._box = box
        alike = [tree for tree in dict.fromkeys([before, *known]) if tree is not None and _same_key(tree, box)]
        self._before = before if before in alike else None
        self._known = [tree for tree in [*alike, *beside] if len(tree)]
        self._staying: Any = None  # truth values, one for each row of the tree before
        self._names: list[str] = []
        self._ordered = True
        self._hashes = bytearray()
        self._sizes = array("Q")
        self._slot_of_row = array("Q")
        self._starts = array("Q")
        self._metas: dict[int, Mapping[str, Any]] = {}  # by row
        self._slots: list[str] = []  # names of objects
        self._slot_of: dict[str, int] = {}
        self._tables: set[str] = set()
        self._stored: dict[bytes, int] = {}  # a row with that hash
        self._pack: list[bytes | memoryview] = []
        self._open = self._filled = 0  # its slot, its bytes so far
        self._spare: list[
            tuple[int, str]
        ] = []  # objects that hold what the open pack has so far, with their first bytes
        self._spared = 0  # where in the open pack the last of them ends

    @property
    def follows(self) -> bool:
        """Whether rows of the tree before may stay: not where another key sealed it."""
        return self._before is not None

    def stay(self, places: Any) -> None:
        """Keeps the rows of the tree before at some places (an array of numbers or of truth values), but for erased ones."""
        numpy = import_module("numpy")
        assert self._before is not None
        if self._staying is None:
            self._staying = numpy.zeros(len(self._before), dtype=bool)
        self._staying[places] = True
        erased = self._before.rows.columns.get("erased")
        if erased is not None:
            self._staying &= erased == 0

    def add(self, name: str, data: bytes | memoryview, meta: Mapping[str, Any] = EMPTY, *, once: bool = False) -> None:
        """Adds a name with its content. `once`: no other name has it, so there is no need to remember it."""
        if len(data) >= chunk.CHUNKED_BYTES:
            view = memoryview(data)
            cuts = chunk.cuts(view)
            stays = self._stays(cuts.hash) if self._outside else None
            if stays is not None:
                self._row(name, cuts.hash, len(data), stays, meta)
            else:
                self.add_large(name, cuts, lambda at, size: view[at : at + size], meta)
            return
        found = blake3(data).digest()
        row = self._stored.get(found)
        if row is not None:
            place: Place = self._slot_of_row[row], self._starts[row]
        else:
            if not once:
                self._stored[found] = len(self._names)
            place = self._found(found, data) or self._put(found, data)
        self._row(name, found, len(data), place, meta)

    def add_large(self, name: str, cuts: chunk.Cuts, read: chunk.Read, meta: Mapping[str, Any] = EMPTY) -> None:
        """Adds a name with a content that was cut into chunks; `read` gives those of them that are not there yet."""
        table = chunk.store(self._box, cuts, read)
        self._tables.add(table)
        self._row(name, cuts.hash, sum(cuts.sizes), (self._slot(table), CHUNKED), meta)

    def add_outside(self, name: str, hash_: bytes, size: int, spot: Spot, meta: Mapping[str, Any] = EMPTY) -> None:
        """Adds a name with a content that stays in a folder of the project, or in a bucket."""
        if spot.name is not None:
            self._row(name, hash_, size, self._listed(spot.place, (spot.name, spot.version)), meta)
            return
        if spot.place not in self._folders:
            self._folders[spot.place] = self._box.keep_root(folder(spot.place))
        self._row(name, hash_, size, (self._slot(self._folders[spot.place]), OUTSIDE), meta)

    def take(self, name: str, tree: Tree, place: int) -> None:
        """Adds a name with what any tree has at a place. A content outside of the store is not read, and stays there."""
        meta = tree.meta(place)
        if not tree.stays(place):
            self.add(name, tree.view(place), meta)
            return
        hash_, size = tree.hash(place), int(tree.rows.columns["size"][place])
        stays = self._stays(hash_)
        if stays is not None:
            self._row(name, hash_, size, stays, meta)
        else:
            self.add_outside(name, hash_, size, tree.spot(place), meta)

    def keep(self, name: str, tree: Tree, place: int, meta: Mapping[str, Any] = EMPTY) -> None:
        """Adds a name with the content that a tree has at a place, where it lies. The tree is `known`, and its maker trusted."""
        columns = tree.rows.columns
        if meta:
            self._metas[len(self._names)] = meta
        self._row(name, bytes(columns["hash"][place]), int(columns["size"][place]), self._of_tree(tree, place))

    @property
    def count(self) -> int:
        """How many rows were added."""
        return len(self._names)

    def meta(self, row: int) -> Mapping[str, Any]:
        """What was said of a row that was added."""
        return self._metas.get(row, EMPTY)

    def lies(self, row: int) -> Lies:
        """Where a content that was added lies. One that waits in the open pack is stored aside, until the pack is."""
        slot, at, size = self._slot_of_row[row], self._starts[row], self._sizes[row]
        name = self._slots[slot]
        if name == UNNAMED and at >= OBJECTS:
            self._list()
            name = self._slots[slot]
        elif name == UNNAMED:
            if not self._spare or at + size > self._spared:
                self._spare.append((self._spared, self._box.keep(b"".join(self._pack)[self._spared :])))
                self._spared = self._filled
            start, name = next(found for found in reversed(self._spare) if found[0] <= at)
            at -= start
        return Lies(bytes(self._hashes[row * HASH_BYTES : (row + 1) * HASH_BYTES]), size, name, at)

    def lay(self, name: str, content: Lies, meta: Mapping[str, Any] = EMPTY) -> None:
        """Adds a name with a content that lies in this box already."""
        if content.at == CHUNKED:
            self._tables.add(content.object)
        self._row(name, content.hash, content.size, (self._slot(content.object), content.at), meta)

    def finish(self) -> str:
        """Stores the tree; its name. Corrupt for a name that could leave a folder, or one given twice."""
        numpy = import_module("numpy")
        self._flush()
        self._list()
        for name in self._names:
            check_name(name)
        rows = self._rows()
        if not self._ordered:
            order = sorted(range(len(self._names)), key=self._names.__getitem__)
            rows = rows.take(numpy.array(order, dtype="<i8"))
        _check_once(rows.columns["name"])
        if self._before is None or self._before.table is None:
            return grow(self._box, None, None, rows, content=self._box.digest(told(rows)))
        return self._grown(self._before, rows)

    def _row(self, name: str, hash_: bytes, size: int, place: Place, meta: Mapping[str, Any] = EMPTY) -> None:
        if meta:
            self._metas[len(self._names)] = meta
        self._ordered = self._ordered and (not self._names or self._names[-1] <= name)
        self._names.append(name)
        self._hashes += hash_
        self._sizes.append(size)
        self._slot_of_row.append(place[0])
        self._starts.append(place[1])

    def _grown(self, before: Tree, rows: Rows) -> str:
        """The tree before with the rows that stay, and the new ones of some rows in order."""
        numpy = import_module("numpy")
        assert before.table is not None
        keep, new = _compared(before, rows) if len(rows) else (numpy.zeros(len(before), dtype=bool), slice(0))
        added = rows.take(new) if len(rows) else rows
        if self._staying is not None:
            if bool((keep & self._staying).any()):
                raise Corrupt(
                    "a name stands twice in a tree", where=str(before.names[int((keep & self._staying).argmax())])
                )
            keep |= self._staying
        if not len(added) and bool(keep.all()):
            return before.table.name
        content = _told(before.rows, keep, added)
        return grow(self._box, before.table, keep, added, content=self._box.digest(content))

    def _rows(self) -> Rows:
        numpy = import_module("numpy")
        needs = {name: place for place, name in enumerate(dict.fromkeys(self._slots))}
        need_of = numpy.array([needs[name] for name in self._slots] or [0], dtype="<u4")
        columns: dict[str, Any] = {
            "name": self._names,
            "hash": numpy.frombuffer(bytes(self._hashes), dtype="|u1").reshape(-1, HASH_BYTES),
            "size": numpy.array(self._sizes, dtype="<u8"),
            PACK: need_of[numpy.array(self._slot_of_row, dtype="<i8")],
            "at": numpy.array(self._starts, dtype="<u8"),
        }
        if self._metas:
            columns["meta"] = [self._metas.get(row) for row in range(len(self._names))]
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
        """Where a known tree has a content. Its bytes count, not what it says of them, where they lie in the store."""
        for tree in self._known:
            row = tree.find(hash_)
            if row is not None and not tree.stays(row) and tree.view(row) == data:
                return self._of_tree(tree, row)
        return self._stays(hash_) if self._outside else None

    def _stays(self, hash_: bytes) -> Place | None:
        """Where a known tree has a content outside of the store. It need not be read: whoever reads holds it against its hash."""
        for tree in self._known:
            row = tree.find(hash_)
            if row is not None and tree.stays(row):
                return self._of_tree(tree, row)
        return None

    def _listed(self, bucket: str, named: tuple[str, str | None]) -> Place:
        """Where an object of a bucket will be listed."""
        if bucket in self._listing and len(self._listing[bucket][1]) == LISTED:
            self._list()
        if bucket not in self._listing:
            self._listing[bucket] = len(self._slots), []
            self._slots.append(UNNAMED)
        slot, names = self._listing[bucket]
        names.append(named)
        return slot, OBJECTS + len(names) - 1

    def _list(self) -> None:
        """Stores the lists of objects that are open, and gives their slots the names."""
        for bucket, (slot, names) in self._listing.items():
            self._slots[slot] = self._box.keep(listing(bucket, names))
        self._listing = {}

    def _put(self, hash_: bytes, data: bytes | memoryview) -> Place:
        """Stores a content: as an object of its own, or next in the open pack."""
        if len(data) >= self._box.whole_bytes:
            return self._slot(self._box.keep(data, hash_)), 0
        return self._packed(data)

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
            self._spare, self._spared = [], 0


def _same_key(tree: Tree, box: Box) -> bool:
    """Whether a tree was sealed as a box seals, or neither is; of an earlier format none is."""
    return tree.table is not None and tree.table.root.get("data_key") == box.about.get("data_key")


def _check_once(names: list[str]) -> None:
    """Corrupt where a name stands twice among sorted ones."""
    for first, second in zip(names, names[1:], strict=False):
        if first == second:
            raise Corrupt(f"the name {first!r} stands twice in a tree")


def _told(before: Rows, keep: Any, added: Rows) -> bytearray:
    """What those rows of a tree that stay, and new ones, hold together (`told`)."""
    numpy = import_module("numpy")
    told_of = ("name", "hash", "size", "meta")
    one, two = (Rows({n: c for n, c in rows.columns.items() if n in told_of}) for rows in (before, added))
    whole = joined([one if keep.all() else one.take(keep.nonzero()[0]), two])
    names = whole.columns.get("name", [])
    if any(first > second for first, second in pairwise(names)):
        whole = whole.take(numpy.array(sorted(range(len(names)), key=names.__getitem__), dtype="<i8"))
    _check_once(whole.columns.get("name", []))
    return told(whole)


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
