"""Content-defined chunks of a large content: where it is cut depends on what stands there, so a change moves few cuts.

A chunked content is a table (table.py) of its chunks in order, with the columns `hash`, `size`, `pack` and `at`. Its own hash is
that of the hashes and sizes of its chunks: `blake3("cdl-chunks-1" | (hash | size, 8 bytes, little end first)...)`. Cuts are those
of FastCDC with normalized chunking (Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage
Systems", 2020).
"""

from importlib import import_module
from typing import Any

from blake3 import blake3

from cdl.store.table import PACK, Box, Rows, Table, bounded, write

CONTEXT = b"cdl-chunks-1"
SMALLEST, AVERAGE, LARGEST = 256 * 1024, 512 * 1024, 2 * 1024 * 1024  # bytes of a chunk
NORMALIZED = 3  # how far cut points are pulled towards the average
ENDS = 0  # a page of chunks ends with one whose hash begins with this byte


def store(box: Box, data: memoryview) -> tuple[bytes, str]:
    """Stores a content in chunks; its hash (32 bytes) and the name of the table of these."""
    numpy = import_module("numpy")
    cutter = import_module("pyfastcdc").FastCDC(
        avg_size=AVERAGE, min_size=SMALLEST, max_size=LARGEST, normalized_chunking=NORMALIZED
    )
    hashes, sizes, packs, needs = [], [], [], dict[str, int]()
    for cut in cutter.cut_buf(data):
        part = data[cut.offset : cut.offset + cut.length]
        name, hash_ = box.keep(part)
        hashes.append(hash_)
        sizes.append(cut.length)
        packs.append(needs.setdefault(name, len(needs)))
    columns: dict[str, Any] = {
        "hash": numpy.frombuffer(b"".join(hashes), dtype="|u1").reshape(-1, 32),
        "size": numpy.array(sizes, dtype="<u8"),
        PACK: numpy.array(packs, dtype="<u4"),
        "at": numpy.zeros(len(sizes), dtype="<u8"),
    }
    table = write(box, list(bounded(Rows(columns, tuple(needs)), lambda place: hashes[place][0] == ENDS)))
    return content_hash(columns["hash"], columns["size"]), table


def read(box: Box, table: str) -> memoryview:
    """A content from its chunks."""
    rows = Table(box, table).rows
    columns = (rows.columns[name].tolist() for name in (PACK, "at", "size"))
    return memoryview(b"".join(box.read(rows.needs[p])[at : at + size] for p, at, size in zip(*columns, strict=True)))


def content_hash(hashes: Any, sizes: Any) -> bytes:
    """The hash of a content from those of its chunks: arrays (chunks, 32) of bytes, and (chunks,) of sizes in bytes."""
    numpy = import_module("numpy")
    of_sizes = numpy.ascontiguousarray(sizes, dtype="<u8").view("|u1").reshape(-1, 8)
    return blake3(CONTEXT + numpy.concatenate([hashes, of_sizes], axis=1).tobytes()).digest()
