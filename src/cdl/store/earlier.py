"""Trees as they were written before tables: lines of JSON in the open, a manifest with a sealed index in a vault.

{"format":"cdl-tree-1"}
{"meta":{},"name":"a.png","object":"3f2a...","size":312}

{"count":441,"data_key":"k-1","digests":"<object>","format":"cdl-sealed-1","index":"s:...","packs":["s:..."]}
"""

import json
from importlib import import_module
from typing import Any

from blake3 import blake3

from cdl.errors import Corrupt
from cdl.store.table import PACK, Box, Rows

TREE, SEALED = "cdl-tree-1", "cdl-sealed-1"
START = b'{"format":"cdl-tree-'


def rows(box: Box, data: memoryview, *, where: str) -> Rows:
    """The rows of such a tree. Corrupt for anything else."""
    try:
        if bytes(data[: len(START)]) == START:
            return _open(bytes(data))
        found = json.loads(bytes(data))
        if found["format"] != SEALED:
            raise ValueError("another format")
        return _sealed(box, found)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise Corrupt(f"not a tree: {error}", where=where[:14], remedy="cdl store verify") from error


def _open(data: bytes) -> Rows:
    head, *lines = [json.loads(line) for line in data.splitlines()]
    if head != {"format": TREE}:
        raise ValueError("another format")
    needs = {name: place for place, name in enumerate(dict.fromkeys(str(line["object"]) for line in lines))}
    hashes = [bytes.fromhex(line["object"]) for line in lines]
    places = [(needs[line["object"]], 0, int(line["size"])) for line in lines]
    return _rows([str(line["name"]) for line in lines], hashes, places, [line["meta"] for line in lines], tuple(needs))


def _sealed(box: Box, manifest: dict[str, Any]) -> Rows:
    lines = json.loads(bytes(box.read(manifest["index"])))
    packs = [box.read(name) for name in manifest["packs"]]
    places = [(int(line["pack"]), int(line["at"]), int(line["size"])) for line in lines]
    hashes = [blake3(packs[p][at : at + size]).digest() for p, at, size in places]
    found = _rows([line["name"] for line in lines], hashes, places, [line["meta"] for line in lines], manifest["packs"])
    numpy = import_module("numpy")
    erased = numpy.array([bool(line.get("erased")) for line in lines], dtype="|u1")
    return Rows({**found.columns, "erased": erased}, found.needs) if erased.any() else found


def _rows(names: list[str], hashes: list[bytes], places: list[tuple[int, int, int]], metas: Any, needs: Any) -> Rows:
    numpy = import_module("numpy")
    columns: dict[str, Any] = {
        "name": names,
        "hash": numpy.frombuffer(b"".join(hashes), dtype="|u1").reshape(-1, 32),
        "size": numpy.array([size for _, _, size in places], dtype="<u8"),
        PACK: numpy.array([pack for pack, _, _ in places], dtype="<u4"),
        "at": numpy.array([at for _, at, _ in places], dtype="<u8"),
        "meta": [meta or None for meta in metas],
    }
    return Rows(columns, tuple(needs))
