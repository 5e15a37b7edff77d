"""What stands in the place of pages and packs once some contents of a tree are erased: the rest of them stays where it is.

First the pages, whose rows then say `erased` and nothing else of the content, so that zeros never pass for one; then the objects
that held the contents: packs with zeros, nothing for an object that held one content alone.
"""

from collections.abc import Callable, Iterator, Sequence, Set
from importlib import import_module
from typing import Any

from cdl.errors import Refused
from cdl.store.outside import OBJECTS, OUTSIDE, without
from cdl.store.store import SEALED, Store
from cdl.store.table import PACK, Box, Page, Rows, Table, encode
from cdl.store.tree import CHUNKED, Tree

Replaced = tuple[str, str | None]  # an object, bare; what stands there instead, bare


def unlisted(store: Store, box: Box, tree: Tree, lost: Set[str]) -> Iterator[Replaced]:
    """Stores the pages that are to stand for those of a tree. Refused for a tree of an earlier format."""
    for page, rows, places in _touched(tree, lost):
        numpy = import_module("numpy")
        erased = rows.columns.get("erased", numpy.zeros(len(rows), dtype="|u1")).copy()
        hashes = rows.columns["hash"].copy()
        erased[places], hashes[places] = 1, 0
        columns = {**rows.columns, "erased": erased, "hash": hashes}
        if "meta" in columns:
            columns["meta"] = [None if place in places else meta for place, meta in enumerate(columns["meta"])]
        yield _bare(store.standing(page.name)), _bare(box.keep(encode(Rows(columns, rows.needs, rows.tables))))


def blanked(store: Store, box: Box, tree: Tree, lost: Set[str], kept: Callable[[], Set[str]]) -> Iterator[Replaced]:
    """Stores the packs that are to stand for those of a tree; an object of one content alone, and chunks, go.

    `kept` tells the chunks that other contents need, bare.
    """
    slices: dict[str, list[tuple[int, int]]] = {}
    for _, rows, places in _touched(tree, lost):
        found = zip(*(rows.columns[name][places].tolist() for name in (PACK, "at", "size")), strict=True)
        for pack, at, size in found:
            slices.setdefault(rows.needs[pack], []).append((at, size))
    for name, parts in sorted(slices.items()):
        if parts[0][0] == OUTSIDE:
            continue  # the file is not the store's
        if OBJECTS <= parts[0][0] < OUTSIDE:
            yield from _unlisted(store, box, name, [at for at, _ in parts])
            continue
        if parts[0][0] == CHUNKED:
            yield from ((old, instead) for old, instead in _chunks(store, box, name) if old not in kept())
            continue
        old = store.standing(name)
        if not store.has(old):
            continue  # gone already
        own: Box = box if old.startswith(SEALED) else store  # a sealed tree may point to packs in the open
        data = bytearray(own.read(old))
        if not data:
            continue  # no byte of anybody's, and the same for all
        for at, size in parts:
            data[at : at + size] = bytes(size)
        alone = len(parts) == 1 and parts[0] == (0, len(data))
        yield _bare(old), None if alone else _bare(own.keep(bytes(data)))


def _unlisted(store: Store, box: Box, name: str, rows: Sequence[int]) -> Iterator[Replaced]:
    """A list of a bucket's objects, without some: the objects are not the store's, but their names are."""
    old = store.standing(name)
    if store.has(old):
        own: Box = box if old.startswith(SEALED) else store
        yield _bare(old), _bare(own.keep(without(own.read(old), rows, where=old)))


def _touched(tree: Tree, lost: Set[str]) -> Iterator[tuple[Page, Rows, list[int]]]:
    """The pages that hold some names, with the places of these in them."""
    if tree.table is None:
        raise Refused("this version was made in an earlier format", remedy="cdl data run makes a new one; then cdl gc")
    for page, rows in tree.table.parts():
        places = [place for place, name in enumerate(rows.columns["name"]) if name in lost]
        if places:
            yield page, rows, places


def _chunks(store: Store, box: Box, name: str) -> Iterator[Replaced]:
    """Every chunk of a content, the pages that list them, and their table."""
    if store.has(name):
        table = Table(box, name)
        for below in [*table.rows.needs, *(page.name for page in table.pages), name]:
            yield _bare(below), None


def _bare(name: Any) -> str:
    return str(name).removeprefix(SEALED)
