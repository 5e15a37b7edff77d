import base64
import json
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from cdl.errors import Corrupt, Unavailable
from cdl.store.seal import Vault, _pad, _unpad
from cdl.store.store import Store
from cdl.store.table import Table

KEY, IDENTITY = bytes(range(32)), bytes(reversed(range(32)))
CANARY = b"CANARY-7d1f-never-to-be-seen"


def vault(root: Path, key: bytes = KEY) -> Vault:
    return Vault(Store(root), key, "k-1", identity=IDENTITY)


def test_equal_content_gives_equal_names_in_any_order_and_store(tmp_path: Path) -> None:
    items = {"b": (b"two", {"n": 1}), "a": (b"one", {})}
    assert vault(tmp_path / "1").put_tree(items) == vault(tmp_path / "2").put_tree(dict(reversed(items.items())))
    assert vault(tmp_path / "3", bytes(32)).put_tree(items) != vault(tmp_path / "1").put_tree(items)


def test_a_tree_opens_again_and_says_so(tmp_path: Path) -> None:
    opened: list[tuple[str, int]] = []
    box = Vault(Store(tmp_path), KEY, "k-1", identity=IDENTITY, on_open=lambda t, n: opened.append((t, n)))
    name = box.put_tree({"x": (b"", {}), "y": (b"bytes", {"label": 3})})
    tree = box.tree(name)
    assert (tree.names, tree.get("x"), tree.get("y"), tree.meta(tree.places["y"])) == (
        ["x", "y"],
        b"",
        b"bytes",
        {"label": 3},
    )
    assert opened == [(name, 2)]


def test_another_key_opens_nothing(tmp_path: Path) -> None:
    name = vault(tmp_path).put(b"secret")
    with pytest.raises(Unavailable):
        vault(tmp_path, bytes(32)).get(name)
    with pytest.raises(Corrupt):
        vault(tmp_path).get(Store(tmp_path).put(b"open"))


def test_nothing_of_an_item_is_seen_in_the_store(tmp_path: Path) -> None:
    name = vault(tmp_path).put_tree({"CANARY-NAME": (CANARY, {"label": "CANARY-LABEL"})})
    found = b"".join(p.read_bytes() + str(p).encode() for p in tmp_path.rglob("*") if p.is_file())
    hashes = [blake3(CANARY).hexdigest().encode(), blake3(CANARY).digest()]
    for trace in [CANARY, b"CANARY-NAME", b"CANARY-LABEL", base64.b64encode(CANARY)[:-2], *hashes]:
        assert trace not in found
    root = Table(vault(tmp_path), name).root
    assert set(root) == {"data_key", "count", "pages", "needs", "tables", "content"}
    assert all(name.startswith("s:") for name in [*root["needs"], *(page for _, page in root["pages"])])


def test_verify_needs_no_key_and_finds_a_flipped_bit(tmp_path: Path) -> None:
    store = Store(tmp_path)
    name = vault(tmp_path).put_tree({"a": (b"x" * 1000, {})})
    assert list(store.verify()) == []
    pack = Table(vault(tmp_path), name).root["needs"][0][2:]
    path = tmp_path / "objects" / pack[:2] / pack[2:]
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    assert [f.object for f in store.verify()] == [pack]


@given(st.binary(max_size=3000))
def test_padding_hides_sizes_and_comes_off(data: bytes) -> None:
    assert _unpad(_pad(data)) == data
    assert len(_pad(data)) % 256 == 0


def test_a_tree_of_another_form_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for data in (json.dumps({"format": "x"}).encode(), b"cdl-table-1\n{}", b"cdl-table-1\n[", b"", b"\0" * 99):
        with pytest.raises(Corrupt):
            vault(tmp_path).tree("s:" + store.put(data))
