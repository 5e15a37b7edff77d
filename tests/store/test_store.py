import multiprocessing
from pathlib import Path

import pytest

from cdl.errors import ConfigError, Corrupt, NotFound
from cdl.store.store import Store, digest


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def object_path(store: Store, name: str) -> Path:
    return store.root / "objects" / name[:2] / name[2:]


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 999])
def test_what_is_put_is_got_under_the_name_of_its_hash(store: Store, data: bytes) -> None:
    name = store.put(data)
    assert name == digest(data)
    assert store.get(name) == data and store.has(name)
    assert store.put(memoryview(data)) == name
    assert list(store.names()) == [name]


def test_a_changed_object_is_found_on_reading_and_by_verify(store: Store) -> None:
    good, bad = store.put(b"good"), store.put(b"bad")
    assert list(store.verify()) == []
    path = object_path(store, bad)
    path.chmod(0o644)
    path.write_bytes(b"bed")
    with pytest.raises(Corrupt):
        Store(store.root).get(bad)
    assert [f.object for f in store.verify()] == [bad]
    assert Store(store.root).get(good) == b"good"


def test_a_missing_object_and_a_name_that_is_none(store: Store) -> None:
    with pytest.raises(NotFound):
        store.get("0" * 64)
    with pytest.raises(ConfigError):
        store.get("../../etc/passwd")


def test_a_tree_comes_out_as_a_folder(store: Store, tmp_path: Path) -> None:
    store.checkout(store.put_tree({"sub/a.bin": b"\0\1"}), tmp_path / "out")
    assert (tmp_path / "out" / "sub" / "a.bin").read_bytes() == b"\0\1"


def test_a_claim_is_taken_once(store: Store) -> None:
    assert store.claim("jobs/a", b"first")
    assert not store.claim("jobs/a", b"second")
    assert store.claimed("jobs/a") == b"first" and store.claimed("jobs/b") is None
    assert store.claims("jobs/") == ["jobs/a"] and store.claims("none/") == []
    with pytest.raises(Corrupt):
        store.claim("../x", b"")


def take(root: Path, number: int) -> bool:
    return Store(root).claim("triggers/one", str(number).encode())


def test_of_many_processes_one_takes_a_claim(store: Store) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        won = pool.starmap(take, [(store.root, i) for i in range(24)])
    assert won.count(True) == 1
    assert store.claimed("triggers/one") == str(won.index(True)).encode()
