"""Content-defined chunks of a large content: where it is cut depends on what stands there, so a change moves few cuts.

A chunked content is a table (table.py) of its chunks in order, with the columns `hash`, `size`, `pack` and `at`. Its own hash is
that of the hashes and sizes of its chunks: `blake3("cdl-chunks-1" | (hash | size, 8 bytes, little end first)...)`. Cuts are those
of FastCDC with normalized chunking (Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage
Systems", 2020).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from blake3 import blake3

from cdl.store.table import PACK, Box, Rows, Table, bounded, write

CONTEXT = b"cdl-chunks-1"
SMALLEST, AVERAGE, LARGEST = 256 * 1024, 512 * 1024, 2 * 1024 * 1024  # bytes of a chunk
NORMALIZED = 3  # how far cut points are pulled towards the average
ENDS = 0  # a page of chunks ends with one whose hash begins with this byte


@dataclass(frozen=True)
class Cuts:
    """Where a content is cut: the hash (32 bytes) and the size (bytes) of each chunk, in order."""

    hashes: Sequence[bytes]
    sizes: Sequence[int]

    @property
    def hash(self) -> bytes:
        """The content's own hash."""
        told = b"".join(h + size.to_bytes(8, "little") for h, size in zip(self.hashes, self.sizes, strict=True))
        return blake3(CONTEXT + told).digest()


def cut(data: bytes | memoryview) -> Cuts:
    """Cuts a content, and stores nothing."""
    view = memoryview(data)
    cutter = import_module("pyfastcdc").FastCDC(
        avg_size=AVERAGE, min_size=SMALLEST, max_size=LARGEST, normalized_chunking=NORMALIZED
    )
    parts = [(found.offset, found.length) for found in cutter.cut_buf(view)]
    return Cuts([blake3(view[at : at + size]).digest() for at, size in parts], [size for _, size in parts])


def store(box: Box, data: bytes | memoryview, cuts: Cuts) -> str:
    """Stores a content in chunks; the name of the table of these."""
    numpy = import_module("numpy")
    view, at, needs, packs = memoryview(data), 0, dict[str, int](), []
    for hash_, size in zip(cuts.hashes, cuts.sizes, strict=True):
        name = box.keep(view[at : at + size], hash_)
        packs.append(needs.setdefault(name, len(needs)))
        at += size
    columns: dict[str, Any] = {
        "hash": numpy.frombuffer(b"".join(cuts.hashes), dtype="|u1").reshape(-1, 32),
        "size": numpy.array(cuts.sizes, dtype="<u8"),
        PACK: numpy.array(packs, dtype="<u4"),
        "at": numpy.zeros(len(packs), dtype="<u8"),
    }
    return write(box, list(bounded(Rows(columns, tuple(needs)), lambda place: cuts.hashes[place][0] == ENDS)))


def read(box: Box, table: str) -> memoryview:
    """A content from its chunks."""
    rows = Table(box, table).rows
    columns = (rows.columns[name].tolist() for name in (PACK, "at", "size"))
    return memoryview(b"".join(box.read(rows.needs[p])[at : at + size] for p, at, size in zip(*columns, strict=True)))
