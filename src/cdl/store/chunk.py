"""Content-defined chunks of a large content: where it is cut depends on what stands there, so a change moves few cuts.

A chunked content is a table (table.py) of its chunks in order, with the columns `hash`, `size`, `pack` and `at`. Its own hash is
that of the hashes and sizes of its chunks: `blake3("cdl-chunks-1" | (hash | size, 8 bytes, little end first)...)`. Cuts are those
of FastCDC with normalized chunking (Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage
Systems", 2020).
"""

from array import array
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

from blake3 import blake3

from cdl.store.table import PACK, Box, Rows, Table, bounded, write

CONTEXT = b"cdl-chunks-1"
SMALLEST, AVERAGE, LARGEST = 256 * 1024, 512 * 1024, 2 * 1024 * 1024  # bytes of a chunk
NORMALIZED = 3  # how far cut points are pulled towards the average
ENDS = 0  # a page of chunks ends with one whose hash begins with this byte
HASH_BYTES = 32
Windows = Iterable[memoryview]  # a content in pieces, each of which may be gone once the next one came


def hashed(windows: Windows) -> bytes:
    """The hash (32 bytes) of a content as a chunked one; stores nothing."""
    total = blake3(CONTEXT)
    for part in cut(windows):
        total.update(blake3(part).digest() + len(part).to_bytes(8, "little"))
    return total.digest()


def cut(windows: Windows) -> Iterator[memoryview]:
    """The chunks of a content, in order; each may be gone once the next one came. Where windows end makes no difference."""
    cutter = import_module("pyfastcdc").FastCDC(
        avg_size=AVERAGE, min_size=SMALLEST, max_size=LARGEST, normalized_chunking=NORMALIZED
    )
    left = b""
    for window in windows:
        whole = memoryview(b"".join((left, window))) if left else window
        at = 0
        for found in cutter.cut_buf(whole):
            if found.offset + LARGEST > len(whole):
                break  # what comes next may belong to it
            yield whole[found.offset : found.offset + found.length]
            at = found.offset + found.length
        left = bytes(whole[at:])
    if left:
        for found in cutter.cut_buf(left):
            yield memoryview(left)[found.offset : found.offset + found.length]


def store(box: Box, windows: Windows) -> tuple[str, bytes, int]:
    """Stores a content in chunks: the name of the table of these, its hash and its size."""
    numpy = import_module("numpy")
    total, hashes, sizes, needs, packs = blake3(CONTEXT), bytearray(), array("Q"), dict[str, int](), array("Q")
    for part in cut(windows):
        hash_ = blake3(part).digest()
        packs.append(needs.setdefault(box.keep(part, hash_), len(needs)))
        total.update(hash_ + len(part).to_bytes(8, "little"))
        hashes += hash_
        sizes.append(len(part))
    columns: dict[str, Any] = {
        "hash": numpy.frombuffer(bytes(hashes), dtype="|u1").reshape(-1, HASH_BYTES),
        "size": numpy.array(sizes, dtype="<u8"),
        PACK: numpy.array(packs, dtype="<u4"),
        "at": numpy.zeros(len(packs), dtype="<u8"),
    }
    pages = bounded(Rows(columns, tuple(needs)), lambda place: hashes[place * HASH_BYTES] == ENDS)
    return write(box, list(pages)), total.digest(), sum(sizes)


def read(box: Box, table: str) -> memoryview:
    """A content from its chunks."""
    rows = Table(box, table).rows
    columns = (rows.columns[name].tolist() for name in (PACK, "at", "size"))
    return memoryview(b"".join(box.read(rows.needs[p])[at : at + size] for p, at, size in zip(*columns, strict=True)))
