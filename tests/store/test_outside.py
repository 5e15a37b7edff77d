"""Contents that stay outside of the store: what a tree keeps of them, and how they go from one tree to another."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from blake3 import blake3

from cdl.errors import Corrupt, Unavailable
from cdl.store import builder as builders
from cdl.store.builder import Builder
from cdl.store.outside import OBJECTS, OUTSIDE, Spot, Wanted, folder, listing, spot_at, spots, without
from cdl.store.seal import Vault
from cdl.store.store import Store
from cdl.store.tree import open_tree

IDENTITY = b"i" * 32
HELD = {f"{n:02d}": b"content %d" % n for n in range(12)}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """One whose reader knows the contents of a bucket and of a folder by their hashes."""
    monkeypatch.setattr(builders, "LISTED", 5)
    made = Store(tmp_path / "store")
    known = {blake3(data).digest(): data for data in HELD.values()}

    def read(wanted: Sequence[Wanted]) -> list[memoryview]:
        return [memoryview(known[each.hash]) for each in wanted]

    made.reader = read
    return made


def spot(name: str) -> Spot:
    return Spot("photos") if name == "03" else Spot("s3://b/p", f"of/{name}", "v" + name if name > "05" else None)


def built(builder: Builder) -> str:
    for name, data in HELD.items():
        builder.add_outside(name, blake3(data).digest(), len(data), spot(name), {"n": name})
    builder.add("own", b"in the store")
    return builder.finish()


def test_a_list_tells_places_and_forgets_what_is_erased() -> None:
    data = listing("s3://b/p", [("a", None), ("b", "v1"), ("c", "v2")])
    assert spots(data, where="x") == [Spot("s3://b/p", "a"), Spot("s3://b/p", "b", "v1"), Spot("s3://b/p", "c", "v2")]
    left = without(data, [OBJECTS + 1], where="x")
    assert b'"b"' not in left and spots(left, where="x")[1] is None
    assert without(left, [OBJECTS + 1], where="x") == left
    assert without(without(left, [OBJECTS], where="x"), [OBJECTS + 2], where="x").count(b"null") == 3
    assert spot_at(spots(folder("photos"), where="x"), OUTSIDE, where="x") == Spot("photos")
    for named, at in ((data, OBJECTS + 3), (data, OUTSIDE), (left, OBJECTS + 1), (folder("a"), OBJECTS)):
        with pytest.raises(Corrupt):
            spot_at(spots(named, where="x"), at, where="x")
    for wrong in (b"", b"cdl-objects-1\n{}", b"cdl-outside-1\n[1]", b'cdl-objects-1\n{"bucket":"b","objects":[[1,2]]}'):
        with pytest.raises(Corrupt):
            spots(wrong, where="x")


def test_rows_go_to_a_tree_of_another_key_without_being_read(store: Store) -> None:
    old, new = (Vault(store, bytes([n]) * 32, f"k-{n}", identity=IDENTITY) for n in (1, 2))
    tree = open_tree(old, built(Builder(old)))
    assert tree.outside == {*HELD} and all(tree.spot(tree.places[name]) == spot(name) for name in HELD)
    reader, store.reader = store.reader, lambda wanted: pytest.fail("nothing is read")
    builder = Builder(new)
    for name, place in tree.places.items():
        builder.take(name, tree, place)
    made = open_tree(new, builder.finish())
    store.reader = reader
    assert made.contents() == tree.contents() == {**HELD, "own": b"in the store"}
    assert [made.meta(made.places[name]) for name in HELD] == [{"n": name} for name in HELD]
    assert [made.spot(made.places[name]) for name in HELD] == [spot(name) for name in HELD]
    with pytest.raises(Unavailable, match="another key"):  # the names are sealed
        open_tree(Vault(store, bytes([1]) * 32, "k-1", identity=IDENTITY), made.table.name if made.table else "").spot(
            0
        )


def test_a_known_place_is_taken_and_nothing_is_stored(store: Store) -> None:
    tree = open_tree(store, built(Builder(store)))
    before = {*store.names()}
    builder = Builder(store, known=[tree], outside=True)
    for name, data in HELD.items():
        builder.add(f"as/{name}", data)
    made = open_tree(store, builder.finish())
    assert {made.lies_in(p) for p in range(len(made))} <= {tree.lies_in(p) for p in range(len(tree))}
    assert made.outside == {f"as/{name}" for name in HELD} and len({*store.names()} - before) == 2  # a page and a root
    stored = open_tree(store, _added(Builder(store, known=[tree])))
    assert not stored.outside


def _added(builder: Builder) -> str:
    for name, data in HELD.items():
        builder.add(name, data)
    return builder.finish()
