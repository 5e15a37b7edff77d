"""What one item is: files, rows of a table, or entries of an array.

Each gives `Raw(name, content, fields, label)`. A name says where an item came from and is never shown in the open; a label
column never enters the content. Arrays are read without pickle; an entry's content is its own npy file.
"""

import csv
import fnmatch
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from cdl.config.schema import Arrays, Items, Rows
from cdl.errors import ConfigError

IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
LARGEST_UNPACKED = 4_000_000_000  # bytes of one unpacked file


@dataclass(frozen=True, kw_only=True)
class Raw:
    """An item as it came."""

    name: str
    content: bytes
    fields: Mapping[str, Any] = field(default_factory=dict)
    label: str | None = None


class Listed:
    """The items of a source in order of their names, with labels where they came with them; contents are given when asked for."""

    def __init__(
        self,
        names: Sequence[str],
        labels: Sequence[str | None],
        content: Callable[[int], bytes],
        fields: Callable[[int], Mapping[str, Any]] = lambda _: {},
    ) -> None:
        self.names = names
        self.labels = labels
        self.content = content
        self.fields = fields

    def __len__(self) -> int:
        return len(self.names)


def read_items(files: Mapping[str, bytes], items: Items, *, folder_is_label: bool = False) -> Listed:
    """The items in a source's files by name. ConfigError names the file and what is wrong with it."""
    if items.files is not None:
        names = sorted(name for name in files if fnmatch.fnmatchcase(name, items.files))
        labels = [name.split("/")[-2] if folder_is_label and "/" in name else None for name in names]
        return Listed(names, labels, lambda place: files[names[place]])
    if items.rows is not None:
        found = [raw for name in sorted(files) for raw in _rows(name, files[name], items.rows)]
    else:
        found = list(_arrays(files, items.arrays or Arrays(data="")))
    found.sort(key=lambda raw: raw.name)
    for first, second in itertools.pairwise(found):
        if first.name == second.name:
            raise ConfigError("an item stands twice", where=first.name, remedy="give each its own name or id")
    return Listed(
        [raw.name for raw in found],
        [raw.label for raw in found],
        lambda place: found[place].content,
        lambda place: found[place].fields,
    )


def unfit(files: Mapping[str, bytes], items: Items) -> dict[str, str]:
    """The files that are to be rejected, with the reason; none where others are ignored."""
    if items.files is None or items.others == "ignored":
        return {}
    return {name: f"not {items.files}" for name in sorted(files) if not fnmatch.fnmatchcase(name, items.files)}


def _rows(name: str, data: bytes, rows: Rows) -> Iterator[Raw]:
    for number, row in enumerate(_records(name, data, rows), start=1):
        where = f"{name}: row {number}"
        missing = [c for c in (rows.id, rows.text, rows.label) if c and c not in row]
        if missing:
            raise ConfigError(f"no column '{missing[0]}'", where=where, remedy="there are: " + ", ".join(map(str, row)))
        label = None if rows.label is None or row[rows.label] in (None, "") else str(row[rows.label])
        rest = {k: v for k, v in row.items() if k not in (rows.id, rows.label)}
        if rows.text is None:
            content = json.dumps(rest, sort_keys=True, ensure_ascii=False).encode()
            yield Raw(name=str(row[rows.id]), content=content, label=label)
        else:
            text = rest.pop(rows.text)
            yield Raw(name=str(row[rows.id]), content=str(text).encode(), fields=rest, label=label)


def _records(name: str, data: bytes, rows: Rows) -> Iterator[dict[str, Any]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError("not UTF-8", where=f"{name}: byte {error.start}", remedy="save the table as UTF-8") from error
    if rows.format == "csv":
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        try:
            for row in reader:
                if None in row or None in row.values():
                    raise ConfigError(
                        "another number of columns", where=f"{name}: line {reader.line_num}", remedy="mend the row"
                    )
                yield row
        except csv.Error as error:
            raise ConfigError(
                f"not CSV: {error}", where=f"{name}: line {reader.reader.line_num}", remedy="mend the row"
            ) from error
        return
    for number, line in enumerate(io.StringIO(text), start=1):  # a line separator of Unicode ends no line
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("no object")
        except ValueError as error:
            raise ConfigError(
                f"not JSON: {error}", where=f"{name}: line {number}", remedy="one object a line"
            ) from error
        yield row


def _arrays(files: Mapping[str, bytes], arrays: Arrays) -> Iterator[Raw]:
    numpy = import_module("numpy")
    data = read_array(arrays.data, _named(files, arrays.data))
    labels = None
    if arrays.labels is not None:
        labels = read_array(arrays.labels, _named(files, arrays.labels))
        if len(labels) != len(data):
            raise ConfigError(
                f"{len(labels)} labels for {len(data)} items", where=arrays.labels, remedy="give one for each"
            )
    for number, entry in enumerate(data):
        buffer = io.BytesIO()
        numpy.save(buffer, numpy.ascontiguousarray(entry), allow_pickle=False)
        label = None if labels is None else str(labels[number])
        yield Raw(name=f"{arrays.data}#{number:09d}", content=buffer.getvalue(), label=label)


def read_array(name: str, data: bytes) -> Any:
    """The array in a npy, npz (its only array) or IDX file, gzipped or not. ConfigError when it is none."""
    numpy = import_module("numpy")
    if data[:2] == b"\x1f\x8b":
        data = _unzipped(name, data)
    try:
        if data[:6] == b"\x93NUMPY":
            found = numpy.load(io.BytesIO(data), allow_pickle=False)
        elif data[:2] == b"PK":
            with numpy.load(io.BytesIO(data), allow_pickle=False) as pack:
                if len(pack.files) != 1:
                    raise ValueError(f"{len(pack.files)} arrays; one is wanted")
                found = pack[pack.files[0]]
        else:
            return _idx(name, data)
    except (ValueError, EOFError, OSError) as error:
        raise ConfigError(
            f"not an array: {error}", where=name, remedy="write it with numpy.save, without objects"
        ) from error
    if found.ndim == 0:
        raise ConfigError("an array without an axis", where=name, remedy="items lie along the first axis")
    return found


def _idx(name: str, data: bytes) -> Any:
    """IDX: two zeros, a type, the number of axes, their lengths (big-endian), then the values."""
    numpy = import_module("numpy")
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in IDX_TYPES or not 1 <= data[3] <= 8:
        raise ConfigError("neither npy, npz nor IDX", where=name, remedy="the file begins with another magic number")
    start = 4 + 4 * data[3]
    shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(data[3])]
    kind = numpy.dtype(IDX_TYPES[data[2]])
    size = kind.itemsize
    for length in shape:
        size *= length
    if len(data) - start != size:
        raise ConfigError(
            f"{len(data) - start} bytes of values, {size} announced", where=name, remedy="fetch the file again"
        )
    return numpy.frombuffer(data, dtype=kind, offset=start).reshape(shape)


def _unzipped(name: str, data: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            found = file.read(LARGEST_UNPACKED + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"not gzip: {error}", where=name, remedy="fetch the file again") from error
    if len(found) > LARGEST_UNPACKED:
        raise ConfigError(f"more than {LARGEST_UNPACKED} bytes unpacked", where=name, remedy="split the file")
    return found


def _named(files: Mapping[str, bytes], name: str) -> bytes:
    if name not in files:
        raise ConfigError("no such file in the source", where=name, remedy="there are: " + ", ".join(sorted(files)[:9]))
    return files[name]
