"""What names lead to: whole, each once, an object after what it names."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from cdl import document
from cdl.journal import batch
from cdl.store import reach
from cdl.store.seal import SealedItem, Vault
from cdl.store.store import Store
from cdl.store.tree import Entry

KEY, IDENTITY = bytes(32), bytes([1]) * 32


def test_everything_behind_a_name_is_found_and_stands_after_what_it_names(tmp_path: Path) -> None:
    store = Store(tmp_path)
    vault = Vault(store, KEY, "k-1", identity=IDENTITY)
    loose = store.put(b"nobody names it")
    items = [store.put(b"one"), store.put(b"two")]
    tree = store.put_tree([Entry("a", items[0], 3), Entry("b", items[1], 3)])
    sealed = vault.put_tree([SealedItem("x", b"secret"), SealedItem("y", b"more")])
    points = store.put(b"points")
    rows = store.put(batch.write({"result": [points, None]}))
    result = store.put(document.canonical({"tree": tree, "test": sealed, "rows": rows, "other": "ab" * 32}))
    found = list(reach.reachable(store, [result]))
    assert set(found) == set(store.names()) - {loose} and len(found) == len(set(found))
    assert found[-1] == result and found.index(tree) > max(found.index(i) for i in items)
    assert found.index(rows) > found.index(points)
    assert list(reach.reachable(store, [result], known=[tree, rows, sealed[2:]])) == [result]


def test_content_is_not_looked_into(tmp_path: Path) -> None:
    store = Store(tmp_path)
    other = store.put(b"of somebody else")
    item = store.put(document.canonical({"quotes": other}))
    tree = store.put_tree([Entry("a.json", item, 1)])
    assert set(reach.reachable(store, [tree])) == {tree, item}


def test_objects_that_name_each_other_in_a_chain_do_not_end_the_stack(tmp_path: Path) -> None:
    store = Store(tmp_path)
    name = store.put(b"end")
    for number in range(3000):
        name = store.put(document.canonical({"before": name, "number": number}))
    assert len(list(reach.reachable(store, [name]))) == 3001


def test_what_a_tree_lacks_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    item = store.put(b"one")
    tree = store.put_tree([Entry("a", item, 3)])
    sealed = Vault(store, KEY, "k-1", identity=IDENTITY).put_tree([SealedItem("x", b"secret")])
    assert reach.missing(store, [tree, sealed[2:]]) == {}
    store.path(item).unlink()
    assert reach.missing(store, [tree]) == {item: tree}


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_a_name_is_sixty_four_digits_and_no_more(before: bytes, after: bytes) -> None:
    name = b"0a" * 32
    found = reach.names(before + b" " + name + b"," + after)
    assert name.decode() in found
    assert reach.names(name + b"0") == set() and reach.names(b"f" + name) == set() and reach.names(name[1:]) == set()
