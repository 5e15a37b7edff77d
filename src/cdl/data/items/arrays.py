"""Items along the first axis of an array: npy, npz and IDX, gzipped too; never with pickled objects.

    arrays: {data: images.npy, labels: labels.npy}
    arrays: {data: "pack.npz#images", labels: "pack.npz#labels"}       one of the arrays of a npz file
    arrays: {data: "*-images-idx3-ubyte.gz", labels: "*-labels-*.gz"}  the one file of each source that fits

An item's content is its entry as a npy file of its own: dtype and shape are those of the array, without the first axis.
"""

import fnmatch
import gzip
import io
import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any

from cdl.config.schema import Arrays
from cdl.data.items.listed import Listed
from cdl.data.sources.archive import FREE, RATIO
from cdl.errors import ConfigError

IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
LARGEST_UNPACKED = 4_000_000_000  # bytes of one unpacked file
CHUNK = 1 << 20
MAGIC = b"\x93NUMPY"
SHORTEST_HEAD = 12


class Entries(Listed):
    """The entries of an array, named FILE#000000000 and so on. The array is kept, a content is made when it is asked for."""

    def __init__(self, files: Mapping[str, bytes], arrays: Arrays) -> None:
        name, self._data = _found(files, arrays.data)
        names = [f"{name}#{number:09d}" for number in range(len(self._data))]
        self._head = _head(self._data[0]) if names else b""
        super().__init__(names, None if arrays.labels is None else _labels(files, arrays.labels, len(names)))

    def _content(self, at: int) -> bytes:
        content: bytes = self._head + self._data[at].tobytes()
        return content


def _head(entry: Any) -> bytes:
    """What stands before the values in an entry's npy file; all entries of an array have the same."""
    numpy, buffer = import_module("numpy"), io.BytesIO()
    whole = numpy.ascontiguousarray(entry)
    numpy.save(buffer, whole, allow_pickle=False)
    return buffer.getvalue()[: buffer.tell() - whole.nbytes]


def _labels(files: Mapping[str, bytes], declared: str, wanted: int) -> list[str | None]:
    name, labels = _found(files, declared)
    if labels.ndim != 1:
        raise ConfigError(f"labels of {labels.ndim} axes", where=name, remedy="give one label for each item")
    if len(labels) != wanted:
        raise ConfigError(f"{len(labels)} labels for {wanted} items", where=name, remedy="give one for each")
    return [str(label) for label in labels]


def _found(files: Mapping[str, bytes], declared: str) -> tuple[str, Any]:
    """The array that cdl.yaml names (a file, a pattern, or one of these and #ARRAY), and what it is called."""
    there = sorted(files)
    named, _, array = declared.rpartition("#")
    for pattern, inside in ((declared, None), (named, array)):
        fitting = [name for name in there if name == pattern] or fnmatch.filter(there, pattern)
        if len(fitting) > 1:
            raise ConfigError(
                f"{len(fitting)} files fit: {', '.join(fitting[:9])}", where=declared, remedy="name one of them"
            )
        if fitting:
            called = fitting[0] if inside is None else f"{fitting[0]}#{inside}"
            return called, read_array(fitting[0], files[fitting[0]], array=inside)
    raise ConfigError("no such file in the source", where=declared, remedy="there are: " + ", ".join(there[:9]))


def read_array(name: str, data: bytes, *, array: str | None = None) -> Any:
    """The array in a npy, npz or IDX file, gzipped or not; of several in a npz file the one named. ConfigError for none."""
    if data[:2] == b"\x1f\x8b":
        data = _unzipped(name, data)
    if data[:2] == b"PK":
        name, data = _member(name, data, array)
    elif array is not None:
        raise ConfigError("no npz file: its arrays have no names", where=name, remedy=f"name the file alone: {name}")
    found = _npy(name, data) if data[:6] == MAGIC else _idx(name, data)
    if found.ndim == 0:
        raise ConfigError("an array without an axis", where=name, remedy="items lie along the first axis")
    if len(found) and not found.nbytes:  # any number of such entries takes no room in a file
        raise ConfigError(f"{len(found)} entries without a value", where=name, remedy="give each entry at least one")
    return found


def _npy(name: str, data: bytes) -> Any:
    numpy = import_module("numpy")
    try:
        shape, _, dtype = _header(data)
        size = _size(shape, dtype)
        if size > len(data) and not dtype.hasobject:  # before that much memory is asked for
            raise ValueError(f"{size} bytes of values announced in a file of {len(data)}")
        return numpy.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError, TypeError, SyntaxError) as error:
        raise ConfigError(
            f"not an array: {error}", where=name, remedy="write it with numpy.save, without objects"
        ) from error


def _size(shape: Sequence[int], dtype: Any) -> int:
    """How many bytes values take."""
    return math.prod(shape) * int(dtype.itemsize)


def _header(data: bytes) -> tuple[tuple[int, ...], bool, Any]:
    """Shape, order (True: column by column) and dtype as a npy file's header says them."""
    form = import_module("numpy").lib.format
    file = io.BytesIO(data)
    read = form.read_array_header_1_0 if form.read_magic(file) == (1, 0) else form.read_array_header_2_0
    found: tuple[tuple[int, ...], bool, Any] = read(file)
    return found


def arrays_of(name: str, data: bytes) -> list[str]:
    """What the arrays in a npz file are called. ConfigError for another file."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as pack:
            return sorted(info.filename.removesuffix(".npy") for info in pack.infolist())
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise ConfigError(f"not an array: {error}", where=name, remedy="write it with numpy.savez") from error


def _member(name: str, data: bytes, array: str | None) -> tuple[str, bytes]:
    """One array of a npz file, as a npy file; with where it stands."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as pack:
            members = {info.filename.removesuffix(".npy"): info for info in pack.infolist()}
            if array is None and len(members) != 1:
                remedy = f'name one: "{name}#{min(members)}"' if members else "write it with numpy.savez"
                raise ConfigError(f"{len(members)} arrays: {', '.join(sorted(members))}", where=name, remedy=remedy)
            chosen = min(members) if array is None else array
            if chosen not in members:
                raise ConfigError(f"no array '{chosen}'", where=name, remedy="there are: " + ", ".join(sorted(members)))
            info = members[chosen]
            if info.file_size > _most(len(data)):
                raise ConfigError(
                    f"{info.file_size} bytes unpacked from {len(data)}", where=name, remedy="write it with numpy.save"
                )
            return f"{name}#{chosen}", pack.read(info)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise ConfigError(f"not an array: {error}", where=name, remedy="write it with numpy.savez") from error


def _idx(name: str, data: bytes) -> Any:
    """IDX: two zeros, a type, the number of axes, their lengths (big-endian), then the values."""
    numpy = import_module("numpy")
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in IDX_TYPES or not 1 <= data[3] <= 8:
        raise ConfigError("neither npy, npz nor IDX", where=name, remedy="the file begins with another magic number")
    start = 4 + 4 * data[3]
    shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(data[3])]
    kind = numpy.dtype(IDX_TYPES[data[2]])
    size = _size(shape, kind)
    if len(data) - start != size:
        raise ConfigError(
            f"{max(0, len(data) - start)} bytes of values, {size} announced", where=name, remedy="fetch the file again"
        )
    return numpy.frombuffer(data, dtype=kind, offset=start).reshape(shape)


def _unzipped(name: str, data: bytes) -> bytes:
    """A gzip file's content, which is never held beyond its limit."""
    most, parts, size = _most(len(data)), [], 0
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            while part := file.read(CHUNK):
                size += len(part)
                if size > most:
                    raise ConfigError(
                        f"more than {most} bytes unpacked from {len(data)}", where=name, remedy="unpack it yourself"
                    )
                parts.append(part)
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"not gzip: {error}", where=name, remedy="fetch the file again") from error
    return b"".join(parts)


def _most(packed: int) -> int:
    """The most bytes that a packed file may unpack to; the same measure as for archives."""
    return min(LARGEST_UNPACKED, FREE + RATIO * packed)


# items that are arrays


def array_or_bytes(content: memoryview) -> Any:
    """An item as a writable array in the machine's byte order where it is a npy file, else its bytes."""
    if content[:6] != MAGIC:
        return bytes(content)
    return _native(_values(content).copy())


def stacked(contents: Sequence[memoryview]) -> Any:
    """Items that are npy arrays of one shape and dtype as one writable array, in the machine's byte order. ConfigError."""
    numpy = import_module("numpy")
    heads = {_head_of(content) for content in contents}
    if len(heads) != 1:
        raise ConfigError(
            f"{len(heads)} shapes or dtypes" if heads else "no item", remedy="`contents` gives items of any form"
        )
    head = heads.pop()
    shape, dtype, order = _described(head)
    if order:  # values stand column by column
        return _native(numpy.stack([_values(content) for content in contents]))
    size = _size(shape, dtype)
    if any(len(content) != len(head) + size for content in contents):
        raise ConfigError("an item is not whole", remedy="make it again")
    joined = bytearray().join([content[len(head) :] for content in contents])
    return _native(numpy.frombuffer(joined, dtype).reshape(len(contents), *shape))


def _native(values: Any) -> Any:
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _values(content: memoryview) -> Any:
    head = _head_of(content)
    shape, dtype, order = _described(head)
    if len(content) != len(head) + _size(shape, dtype):
        raise ConfigError("an item is not whole", remedy="make it again")
    flat = import_module("numpy").frombuffer(content, dtype, offset=len(head))
    return flat.reshape(shape, order="F" if order else "C")


def _head_of(content: memoryview) -> bytes:
    """What stands before the values of a npy file; equal where shape and dtype are. ConfigError for another file."""
    if content[:6] != MAGIC or len(content) < SHORTEST_HEAD:
        raise ConfigError("an item is no npy array", remedy="`contents` gives items of any form")
    width = 2 if content[6] == 1 else 4
    return bytes(content[: 8 + width + int.from_bytes(content[8 : 8 + width], "little")])


@lru_cache(maxsize=1024)
def _described(head: bytes) -> tuple[tuple[int, ...], Any, bool]:
    """Shape, dtype, and whether values stand column by column. ConfigError for a head that says no such thing."""
    try:
        shape, order, dtype = _header(head)
    except (ValueError, EOFError, SyntaxError, TypeError) as error:
        raise ConfigError(f"not an array: {error}", remedy="write it with numpy.save, without objects") from error
    if dtype.hasobject:
        raise ConfigError("an array of objects", remedy="write it with numpy.save, without objects")
    return shape, dtype, order


def form_of(content: bytes) -> str:
    """Dtype and shape of an item that is a npy file: 'uint8 28 x 28'. ConfigError where it is none, or not whole."""
    head = _head_of(memoryview(content))
    shape, dtype, _ = _described(head)
    size = _size(shape, dtype)
    if len(content) - len(head) != size:
        raise ConfigError(f"{len(content) - len(head)} bytes of values, {size} announced", remedy="make it again")
    return f"{dtype} {' x '.join(map(str, shape)) or 'one value'}"
