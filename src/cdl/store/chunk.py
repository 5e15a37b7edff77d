"""Content-defined chunks of a large content: where it is cut depends on what stands there, so a change moves few cuts.

A chunked content is a table (table.py) of its chunks in order, with the columns `hash`, `size`, `pack` and `at`. Its own hash is
that of the hashes and sizes of its chunks: `blake3("cdl-chunks-1" | (hash | size, 8 bytes, little end first)...)`. Cuts are those
of FastCDC with normalized chunking (Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage
Systems", 2020).
"""

import os
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import import_module
from typing import Any

import msgspec
from blake3 import blake3

from cdl.errors import Corrupt
from cdl.store.table import PACK, Box, Rows, Table, bounded, write

CONTEXT = b"cdl-chunks-1"
SMALLEST, AVERAGE, LARGEST = 256 * 1024, 512 * 1024, 2 * 1024 * 1024  # bytes of a chunk
NORMALIZED = 3  # how far cut points are pulled towards the average
ENDS = 0  # a page of chunks ends with one whose hash begins with this byte
HASH_BYTES = 32
THREADS = 4  # that seal and write chunks, at most
AHEAD = 16  # chunks under way, at most
CHUNKED_BYTES = 64_000_000  # a content of so many is cut into chunks
WINDOW_BYTES = 8_000_000  # of a content that is read piece by piece
Fill = Callable[[memoryview], int]  # puts what comes next of a content into some room; how many bytes, 0 at its end
Read = Callable[[int, int], bytes | memoryview]  # so many bytes of a content, from a place on


class Cuts(msgspec.Struct, frozen=True):
    """Where a content is cut: the hashes (32 bytes each) and sizes (bytes) of its chunks, in order."""

    hashes: bytes | bytearray
    sizes: Sequence[int]

    @property
    def hash(self) -> bytes:
        """The content's own hash."""
        total = blake3(CONTEXT)
        for place, size in enumerate(self.sizes):
            total.update(self.hashes[place * HASH_BYTES : (place + 1) * HASH_BYTES] + size.to_bytes(8, "little"))
        return total.digest()


def cuts(content: bytes | memoryview | Fill) -> Cuts:
    """Where a content is cut. Stores nothing."""
    hashes, sizes = bytearray(), array("Q")
    for part in cut(content):
        hashes += blake3(part).digest()
        sizes.append(len(part))
    return Cuts(hashes, sizes)


def cut(content: bytes | memoryview | Fill) -> Iterator[memoryview]:
    """The chunks of a content, in order; of one that is read piece by piece each is gone once the next one came.

    In which pieces it comes makes no difference.
    """
    cutter = import_module("pyfastcdc").FastCDC(
        avg_size=AVERAGE, min_size=SMALLEST, max_size=LARGEST, normalized_chunking=NORMALIZED
    )
    if not callable(content):
        view = memoryview(content)
        yield from (view[found.offset : found.offset + found.length] for found in cutter.cut_buf(view))
        return
    room = memoryview(bytearray(WINDOW_BYTES + LARGEST))
    filled, more = 0, True
    while more or filled:
        while more and filled < len(room):
            count = content(room[filled:])
            more, filled = count > 0, filled + count
        at = 0
        for found in cutter.cut_buf(room[:filled]) if filled else ():
            if more and found.offset + LARGEST > filled:
                break  # what comes next may belong to it
            yield room[found.offset : found.offset + found.length]
            at = found.offset + found.length
        room[: filled - at] = bytes(room[at:filled])
        filled -= at


def store(box: Box, found: Cuts, read_: Read) -> str:
    """Stores a content in chunks, of which those that are there are not read; the name of the table of these.

    Corrupt where it is not what was cut.
    """
    numpy = import_module("numpy")
    needs, packs = dict[str, int](), array("Q")
    for name in _named(box, found, read_):
        packs.append(needs.setdefault(name, len(needs)))
    columns: dict[str, Any] = {
        "hash": numpy.frombuffer(bytes(found.hashes), dtype="|u1").reshape(-1, HASH_BYTES),
        "size": numpy.array(found.sizes, dtype="<u8"),
        PACK: numpy.array(packs, dtype="<u4"),
        "at": numpy.zeros(len(packs), dtype="<u8"),
    }
    pages = bounded(Rows(columns, tuple(needs)), lambda place: found.hashes[place * HASH_BYTES] == ENDS)
    return write(box, list(pages))


def _named(box: Box, found: Cuts, read_: Read) -> Iterator[str]:
    """The object of each chunk, in order; sealing and writing them take what processors there are."""

    def put(at: int, size: int, hash_: bytes) -> str:
        return box.known(hash_) or box.keep(_checked(read_(at, size), hash_), hash_)

    under_way, at = deque[Future[str]](), 0
    with ThreadPoolExecutor(max_workers=min(THREADS, os.cpu_count() or 1)) as pool:
        for place, size in enumerate(found.sizes):
            hash_ = bytes(found.hashes[place * HASH_BYTES : (place + 1) * HASH_BYTES])
            under_way.append(pool.submit(put, at, size, hash_))
            at += size
            if len(under_way) == AHEAD:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def _checked(data: bytes | memoryview, hash_: bytes) -> bytes | memoryview:
    if blake3(data).digest() != hash_:
        raise Corrupt("a content changed while it was stored", remedy="the command again")
    return data


def read(box: Box, table: str) -> memoryview:
    """A content from its chunks."""
    rows = Table(box, table).rows
    columns = (rows.columns[name].tolist() for name in (PACK, "at", "size"))
    return memoryview(b"".join(box.read(rows.needs[p])[at : at + size] for p, at, size in zip(*columns, strict=True)))
