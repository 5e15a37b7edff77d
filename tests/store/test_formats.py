"""A reader of trees written from docs/formats.md alone, with nothing of the product: what it reads is what was put."""

import json
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from blake3 import blake3

from cdl.store.builder import Builder
from cdl.store.store import Store
from cdl.store.tree import content_of, open_tree


class Reader:
    """Reads trees below `.cdl/store`."""

    def __init__(self, objects: Path) -> None:
        self.objects = objects

    def object(self, name: str) -> bytes:
        data = (self.objects / name[:2] / name[2:]).read_bytes()
        assert blake3(data).hexdigest() == name
        return data

    def table(self, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The root, and each row by column; `pack` is the name that it stands for."""
        line, _, text = self.object(name).partition(b"\n")
        assert line == b"cdl-table-1"
        root, rows = json.loads(text), []
        for count, page in root["pages"]:
            line, _, packed = self.object(page).partition(b"\n")
            assert line == b"cdl-page-1"
            found = msgspec.msgpack.decode(packed)
            assert found["rows"] == count and found["needs"] == sorted(found["needs"])
            columns = {key: self.column(value) for key, value in found["columns"].items()}
            assert {*found["needs"]} <= {*root["needs"]}
            for place in range(count):
                row = {key: values[place] for key, values in columns.items()}
                rows.append({**row, "pack": found["needs"][row["pack"]]})
        assert root["count"] == len(rows)
        return root, rows

    @staticmethod
    def column(value: Any) -> list[Any]:
        if isinstance(value, list):
            return value
        assert isinstance(value, dict)
        size = {"<u8": 8, "<u4": 4, "|u1": 1}[value["type"]] * (value["width"][0] if value["width"] else 1)
        parts = [value["data"][at : at + size] for at in range(0, len(value["data"]), size)]
        return list(parts) if value["width"] else [int.from_bytes(part, "little") for part in parts]

    def tree(self, name: str) -> dict[str, tuple[bytes, dict[str, Any]]]:
        root, rows = self.table(name)
        found = {}
        for row in rows:
            data = self.content(row, root)
            found[str(row["name"])] = (data, row.get("meta") or {})
        told = sorted(rows, key=lambda row: str(row["name"]))
        parts = [
            "\0".join(str(row["name"]) for row in told).encode(),
            b"".join(row["hash"] for row in told),
            b"".join(int(row["size"]).to_bytes(8, "little") for row in told),
            b"\n".join(
                json.dumps(row["meta"], sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
                if row.get("meta")
                else b""
                for row in told
                if "meta" in row
            ).strip(b"\n"),
        ]
        assert root["content"] == blake3(b"".join(len(p).to_bytes(8, "little") + p for p in parts)).hexdigest()
        return found

    def content(self, row: dict[str, Any], root: dict[str, Any]) -> bytes:
        if row["at"] != 2**64 - 1:
            start, size = int(str(row["at"])), int(str(row["size"]))
            data = self.object(str(row["pack"]))[start : start + size]
            assert blake3(data).digest() == row["hash"]
            return data
        assert row["pack"] in root["tables"]
        _, chunks = self.table(str(row["pack"]))
        told = b"".join(c["hash"] + int(c["size"]).to_bytes(8, "little") for c in chunks)
        assert blake3(b"cdl-chunks-1" + told).digest() == row["hash"]
        data = b"".join(self.object(str(c["pack"]))[int(c["at"]) : int(c["at"]) + int(c["size"])] for c in chunks)
        assert len(data) == row["size"]
        return data


def test_another_reader_reads_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cdl.store.chunk.CHUNKED_BYTES", 4_000_000)
    store, numbers = Store(tmp_path), random.Random(5)
    model: dict[str, tuple[bytes, dict[str, Any]]] = {
        f"{n:05d}/é": (numbers.randbytes(n % 700), {"n": n, "è": None} if n % 3 else {}) for n in range(2_500)
    }
    model |= {"whole": (numbers.randbytes(1_500_000), {}), "large": (numbers.randbytes(9_000_000), {"w": 1.5})}
    before = None
    for _ in range(3):
        builder = Builder(store, before=before)
        for name, (data, meta) in sorted(model.items()):
            builder.add(name, data, meta)
        name = builder.finish()
        assert Reader(store.root / "objects").tree(name) == model and content_of(store, name)
        before = open_tree(store, name)
        del model[numbers.choice(sorted(model))]
        model[numbers.choice(sorted(model))] = (b"changed", {})
        model["new"] = (numbers.randbytes(100), {})
