"""Items as the rows of tables: CSV, JSONL and Parquet, all in UTF-8.

    rows: {format: parquet, id: name, text: body, label: class}

With `text` that column is an item's content and the others are its fields; without, the content is JSON of all columns but id
and label, its keys sorted. The label column enters neither. A table is kept as it was read; contents are made when asked for.

| format | a value is |
|---|---|
| CSV | text |
| JSONL | what JSON says |
| Parquet | number, text, true or false, null; NaN is null; times and decimals as text; nested ones lists and maps |

A Parquet column of bytes (or a struct with `bytes`, as image datasets have) can be the content, and nothing else.
"""

import csv
import datetime
import decimal
import io
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from cdl.config.schema import Rows
from cdl.data.items.listed import NO_FIELDS, Listed
from cdl.errors import ConfigError
from cdl.optional import optional

MEND = "mend the row"
LONGEST_FIELD = 1 << 30  # characters of a CSV field
LARGEST_UNPACKED = 4_000_000_000  # bytes of a Parquet file's values
BITS = 64  # of the largest whole number


class Table(ABC):
    """Rows of a file: `ids` and `labels` of all of them, and one whole row when it is asked for."""

    ids: Sequence[Any]
    labels: Sequence[Any] | None

    @abstractmethod
    def row(self, at: int) -> dict[str, Any]:
        """All columns of a row."""


class TableRows(Listed):
    """The rows of every file of a source as items."""

    def __init__(self, files: Mapping[str, bytes], rows: Rows) -> None:
        self._rows = rows
        self._tables = [_FORMATS[rows.format](name, files[name], rows) for name in sorted(files)]
        self._at = [(table, at) for table in self._tables for at in range(len(table.ids))]
        labels = [_label(v) for t in self._tables for v in t.labels or ()] if rows.label else None
        super().__init__(
            [name for t, f in zip(self._tables, sorted(files), strict=True) for name in _ids(f, t)], labels
        )

    def _content(self, at: int) -> bytes:
        rest = self._rest(at)
        if self._rows.text is None:
            return json.dumps(rest, sort_keys=True, ensure_ascii=False).encode()
        return _bytes(rest[self._rows.text])

    def _fields(self, at: int) -> Mapping[str, Any]:
        if self._rows.text is None:
            return NO_FIELDS
        return {name: value for name, value in self._rest(at).items() if name != self._rows.text}

    def _rest(self, at: int) -> dict[str, Any]:
        table, place = self._at[at]
        return {k: v for k, v in table.row(place).items() if k not in (self._rows.id, self._rows.label)}


def _ids(file: str, table: Table) -> list[str]:
    for number, value in enumerate(table.ids, start=1):
        if value in (None, ""):
            raise ConfigError("a row without an id", where=f"{file}: row {number}", remedy="give each row its own id")
        if isinstance(value, dict | list):
            raise ConfigError(
                "an id that is a list or a map", where=f"{file}: row {number}", remedy="name it by a text"
            )
    return [str(value) for value in table.ids]


def _label(value: Any) -> str | None:
    return None if value in (None, "") else str(value)


def _bytes(value: Any) -> bytes:
    """A text column's value as content."""
    if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
        value = value["bytes"]
    if isinstance(value, bytes):
        return value
    return b"" if value is None else str(value).encode()


def _check_columns(where: str, there: Sequence[str], rows: Rows) -> None:
    missing = [column for column in (rows.id, rows.text, rows.label) if column and column not in there]
    if missing:
        raise ConfigError(f"no column '{missing[0]}'", where=where, remedy="there are: " + ", ".join(there))


def _text(name: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError("not UTF-8", where=f"{name}: byte {error.start}", remedy="save the table as UTF-8") from error


class Csv(Table):
    """A CSV file; its first line names the columns."""

    def __init__(self, name: str, data: bytes, rows: Rows) -> None:
        text = _text(name, data)
        if "\0" in text:
            line = text.count("\n", 0, text.index("\0")) + 1
            raise ConfigError("a NUL byte", where=f"{name}: line {line}", remedy="save the table as UTF-8 text")
        csv.field_size_limit(LONGEST_FIELD)
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        try:
            self._columns: Sequence[str] = next(reader, [])
            self._check_header(name)
            self._rows: list[tuple[str, ...]] = []
            for row in reader:
                if row and len(row) != len(self._columns):
                    raise ConfigError("another number of columns", where=f"{name}: line {reader.line_num}", remedy=MEND)
                self._rows += [tuple(row)] if row else []
        except csv.Error as error:
            raise ConfigError(f"not CSV: {error}", where=f"{name}: line {reader.line_num}", remedy=MEND) from error
        if self._rows:
            _check_columns(f"{name}: row 1", self._columns, rows)
        self.ids = self._column(rows.id)
        self.labels = self._column(rows.label) if rows.label else None

    def _check_header(self, name: str) -> None:
        twice = next((c for i, c in enumerate(self._columns) if c in self._columns[:i]), None)
        if twice is not None:
            raise ConfigError(f"two columns '{twice}'", where=f"{name}: line 1", remedy="give each its own name")

    def _column(self, name: str) -> list[str]:
        at = self._columns.index(name) if self._rows else 0
        return [row[at] for row in self._rows]

    def row(self, at: int) -> dict[str, Any]:
        """All columns of a row."""
        return dict(zip(self._columns, self._rows[at], strict=True))


class Lines(Table):
    """A file with one JSON object a line. Lines are kept and read again: they take less memory than objects."""

    def __init__(self, name: str, data: bytes, rows: Rows) -> None:
        self._lines: list[str] = []
        self.ids, labels = [], []
        for number, line in enumerate(io.StringIO(_text(name, data)), start=1):  # a line separator of Unicode ends none
            if line.isspace():
                continue
            row = _object(f"{name}: line {number}", line)
            _check_columns(f"{name}: row {number}", list(row), rows)
            self._lines.append(line)
            self.ids.append(row[rows.id])
            labels.append(row[rows.label] if rows.label else None)
        self.labels = labels

    def row(self, at: int) -> dict[str, Any]:
        """All columns of a row."""
        found: dict[str, Any] = json.loads(self._lines[at])
        return found


def _object(where: str, line: str) -> dict[str, Any]:
    """The object in a line. ConfigError for what no other reader of JSON would take."""
    try:
        row = json.loads(
            line, parse_constant=_no_number, parse_int=_whole, parse_float=_finite, object_pairs_hook=_once
        )
        if not isinstance(row, dict):
            raise ValueError("no object")
        if "\\ud" in line.lower():
            json.dumps(row, ensure_ascii=False).encode()  # half a character has no bytes
    except RecursionError as error:
        raise ConfigError("not JSON: nested too deeply", where=where, remedy="one object a line") from error
    except ValueError as error:
        raise ConfigError(f"not JSON: {error}", where=where, remedy="one object a line") from error
    return row


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object. ValueError where a key stands twice: which of the two counts, each reader of JSON decides otherwise."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(n for n in found if names.count(n) > 1)!r} stands twice")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is beyond what a number holds")
    return number


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _whole(text: str) -> int:
    number = int(text) if len(text) < BITS else None
    if number is None or number.bit_length() >= BITS:
        raise ValueError(f"a number beyond {BITS} bits")
    return number


class Parquet(Table):
    """A Parquet file; needs pyarrow."""

    def __init__(self, name: str, data: bytes, rows: Rows) -> None:
        arrow, parquet = optional("pyarrow"), optional("pyarrow.parquet")
        try:
            file = parquet.ParquetFile(arrow.BufferReader(data))
            _check_columns(f"{name}: row 1", file.schema_arrow.names, rows)
            groups = [file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups)]
            if sum(groups) > LARGEST_UNPACKED:
                raise ConfigError(f"{sum(groups)} bytes unpacked", where=name, remedy="split the table")
            table = file.read().combine_chunks()
            columns = {field.name: _column(name, field, table[field.name], rows) for field in table.schema}
        except (arrow.ArrowException, OSError) as error:
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ConfigError(
                f"not a readable Parquet file: {said}", where=name, remedy="fetch the file again, or write it anew"
            ) from error
        self._columns = columns
        self.ids = [_plain(value.as_py()) for value in columns[rows.id]]
        self.labels = [_plain(value.as_py()) for value in columns[rows.label]] if rows.label else None

    def row(self, at: int) -> dict[str, Any]:
        """All columns of a row."""
        return {name: _plain(column[at].as_py()) for name, column in self._columns.items()}


def parquet_rows(name: str, data: bytes) -> Iterator[Mapping[str, Any]]:
    """The rows of a Parquet file, but for columns of bytes and nested ones, which name and label nothing. ConfigError."""
    arrow, parquet = optional("pyarrow"), optional("pyarrow.parquet")
    try:
        file = parquet.ParquetFile(arrow.BufferReader(data))
        names = [f.name for f in file.schema_arrow if not arrow.types.is_nested(f.type) and not _holds_bytes(f.type)]
        for some in file.iter_batches(columns=names):
            yield from ({k: _plain(v) for k, v in row.items()} for row in some.to_pylist())
    except (arrow.ArrowException, OSError) as error:
        raise ConfigError(f"not a readable Parquet file: {error}", where=name, remedy="write it anew") from error


def _column(name: str, field: Any, column: Any, rows: Rows) -> Any:
    """A column, times as text. ConfigError for bytes where only text and numbers can stand."""
    types = optional("pyarrow").types
    if _holds_bytes(field.type) and field.name != rows.text:
        remedy = f"`text: {field.name}` makes it the content; else write the table without it"
        raise ConfigError(f"column '{field.name}' holds bytes ({field.type})", where=name, remedy=remedy)
    if types.is_timestamp(field.type) or types.is_time(field.type):
        column = column.cast(optional("pyarrow").string())
    return column.chunk(0) if column.num_chunks == 1 else column


def _holds_bytes(kind: Any) -> bool:
    types = optional("pyarrow").types
    of_bytes = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
    inner = [kind.value_type] if types.is_dictionary(kind) else [kind.field(i).type for i in range(kind.num_fields)]
    return any(is_so(kind) for is_so in of_bytes) or any(_holds_bytes(child) for child in inner)


def _plain(value: Any) -> Any:
    """A value as JSON has it; bytes stay."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


_FORMATS: Mapping[str, type[Csv] | type[Lines] | type[Parquet]] = {"csv": Csv, "jsonl": Lines, "parquet": Parquet}
