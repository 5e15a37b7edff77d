"""What names lead to: whole, each once, an object after what it names."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdl import document
from cdl.journal import batch
from cdl.store import reach
from cdl.store.seal import Vault
from cdl.store.store import Store, digest
from cdl.store.table import Table

KEY, IDENTITY = bytes(32), bytes([1]) * 32


def test_everything_behind_a_name_is_found_and_stands_after_what_it_names(tmp_path: Path) -> None:
    store = Store(tmp_path)
    vault = Vault(store, KEY, "k-1", identity=IDENTITY)
    loose = store.put(b"nobody names it")
    tree = store.put_tree({"a": b"one", "b": b"two", "c": bytes(2_000_000)})
    sealed = vault.put_tree({"x": (b"secret", {}), "y": (b"more", {})})
    points = store.put(b"points")
    rows = store.put(batch.write({"result": [points, None]}))
    result = store.put(document.canonical({"tree": tree, "test": sealed, "rows": rows, "other": "ab" * 32}))
    found = list(reach.reachable(store, [result]))
    assert set(found) == set(store.names()) - {loose} and len(found) == len(set(found))
    needs = Table(store, tree).root["needs"]
    assert len(needs) == 2 and found[-1] == result and found.index(tree) > max(found.index(i) for i in needs)
    assert found.index(rows) > found.index(points)
    assert list(reach.reachable(store, [result], known=[tree, rows, sealed[2:]])) == [result]


def test_content_is_not_looked_into(tmp_path: Path) -> None:
    store = Store(tmp_path)
    other = store.put(b"of somebody else")
    quoting = b"cdl-table-1\n" + document.canonical({"quotes": other}).ljust(1_500_000)
    tree = store.put_tree({"a.json": document.canonical({"quotes": other}), "b": quoting})
    assert other not in set(reach.reachable(store, [tree]))
    assert set(reach.reachable(store, [digest(quoting)])) == {digest(quoting)}


def test_a_content_in_chunks_is_found_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cdl.store.chunk.CHUNKED_BYTES", 3_000_000)
    store = Store(tmp_path)
    loose = store.put(b"nobody names it")
    tree = store.put_tree({"large": random.Random(1).randbytes(9_000_000), "small": b"x"})
    assert set(reach.reachable(store, [tree])) == set(store.names()) - {loose}
    chunk = next(n for n in Table(store, Table(store, tree).root["tables"][0]).root["needs"])
    store.remove(chunk)
    assert list(reach.missing(store, [tree])) == [chunk]


def test_objects_that_name_each_other_in_a_chain_do_not_end_the_stack(tmp_path: Path) -> None:
    store = Store(tmp_path)
    name = store.put(b"end")
    for number in range(3000):
        name = store.put(document.canonical({"before": name, "number": number}))
    assert len(list(reach.reachable(store, [name]))) == 3001


def test_what_a_tree_lacks_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    tree = store.put_tree({"a": b"one"})
    sealed = Vault(store, KEY, "k-1", identity=IDENTITY).put_tree({"x": (b"secret", {})})
    assert reach.missing(store, [tree, sealed[2:]]) == {}
    for name in (tree, sealed[2:]):
        for need in [n[-64:] for n in Table(store, name).root["needs"]]:
            store.path(need).unlink()
            assert reach.missing(store, [name]) == {need: name}


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_a_name_is_sixty_four_digits_and_no_more(before: bytes, after: bytes) -> None:
    name = b"0a" * 32
    found = reach.names(before + b" " + name + b"," + after)
    assert name.decode() in found
    assert reach.names(name + b"0") == set() and reach.names(b"f" + name) == set() and reach.names(name[1:]) == set()


def test_what_trees_share_is_read_and_counted_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = store.put_tree({"a": b"one", "b": b"two"})
    second = store.put_tree({"c": b"one", "d": b"two"})
    found = reach.check(store, [first, second, first])
    assert found.faults == [] and found.objects == len([*store.names()]) == 5
    assert found.bytes == sum(map(store.size, store.names()))
