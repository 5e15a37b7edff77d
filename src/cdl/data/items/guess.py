"""What lies in a folder or a file, as a section of cdl.yaml: what one item is, and where labels come from.

| there is | items | labels |
|---|---|---|
| one .csv, .jsonl or .parquet | its rows, named by a column of unique values | a column called label, class, category or target |
| one array (npy, npz, IDX) | its entries | an array beside it, or in the same npz, with `label` in its name |
| anything else | each file | the folders that they lie in, where there are two or more |

A folder that holds `train` and `test` and nothing else is two sources, each of its set. An archive is taken for what is in it.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import msgspec

from cdl.config.schema import Source
from cdl.data.items.arrays import arrays_of, read_array
from cdl.data.items.tables import parquet_rows
from cdl.data.sources.fetch import fetched
from cdl.errors import ConfigError

Form = Literal["files", "rows", "arrays"]
TABLES = (".csv", ".jsonl", ".parquet")
ARRAYS = (".npy", ".npz", ".idx", "-ubyte", ".npy.gz", ".idx.gz", "-ubyte.gz")
IDS = ("id", "key", "name", "file", "filename", "path", "uuid")
TEXTS = ("text", "content", "body", "sentence")
LABELS = ("label", "class", "category", "target")
SETS = {"train", "test"}
MOST_CLASSES = 1000  # more of them are no classes
Section = Mapping[str, Any]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the person said of it: the form of an item, a pattern of files, columns of a table."""

    form: Form | None = None
    files: str | None = None
    id: str | None = None
    text: str | None = None
    label: str | None = None


class Guess(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset's section of cdl.yaml, and in words what it was made of."""

    section: Section
    said: str


def guess(root: Path, path: str, asked: Asked, *, folder: Path | None = None) -> Guess:
    """What lies at a path below the project's root. ConfigError where nothing fits, with what to say instead.

    `folder` is `.cdl`, where what an archive holds lies meanwhile; None: the temporary folder.
    """
    place = root / path
    if not place.exists():
        raise ConfigError("there is no such file or folder", where=path, remedy="cdl data add PATH")
    if not place.is_dir() and not place.is_file():
        raise ConfigError("neither a file nor a folder", where=path, remedy="give one")
    with fetched(Source(path=path), root, folder=folder) as files:
        return _guess(files, place, path, asked)


def _guess(files: Mapping[str, bytes], place: Path, path: str, asked: Asked) -> Guess:
    names = [*files]
    if not names:
        raise ConfigError("it is empty", where=path, remedy="put files there, then the command again")
    form = asked.form or ("files" if asked.files else "rows" if asked.id else _form(names, alone=names == [place.name]))
    if form is None:
        what = f"{place.name} is no table, array or archive"
        raise ConfigError(what, where=path, remedy="give the folder that it lies in, or --as files|rows|arrays")
    found: Guess = {"files": _files, "rows": _rows, "arrays": _arrays}[form](files, names, asked)
    source = _source(path, names, found) if place.is_dir() else {"path": path}
    return Guess(section={"source": source, **found.section}, said=found.said)


def _form(names: Sequence[str], *, alone: bool) -> Form | None:
    if len(names) == 1 and names[0].lower().endswith(TABLES):
        return "rows"
    data = [name for name in names if name.lower().endswith(ARRAYS)]
    if len(data) == len(names) and len([name for name in names if not _is_labels(name)]) == 1:
        return "arrays"
    if alone:
        return None
    return "files"


def _source(path: str, names: Sequence[str], found: Guess) -> Any:
    if "files" in found.section["items"] and {name.partition("/")[0] for name in names} == SETS:
        return [{"path": f"{path}/{side}", "set": side} for side in sorted(SETS, reverse=True)]
    return {"path": path}


def _files(files: Mapping[str, bytes], names: Sequence[str], asked: Asked) -> Guess:
    ends = {Path(name).suffix for name in names}
    pattern = asked.files or (f"*{ends.pop()}" if len(ends) == 1 else "*")
    said = f"{len(names):,} files: each is an item ({pattern})"
    if {name.partition("/")[0] for name in names} == SETS:
        names = [name.partition("/")[2] for name in names]
        said += "; train and test are the two sets"
    folders = {name.split("/")[-2] for name in names if "/" in name}
    everywhere = all("/" in name for name in names)
    section: dict[str, Any] = {"items": {"files": pattern}}
    if everywhere and 1 < len(folders) <= MOST_CLASSES:
        section["labels"] = {"classes": sorted(folders), "origin": {"folder": True}}
        return Guess(section=section, said=f"{said}; the folder that it lies in is its label ({len(folders)} classes)")
    return Guess(section=section, said=f"{said}; no labels yet")


def _rows(files: Mapping[str, bytes], names: Sequence[str], asked: Asked) -> Guess:
    end = Path(names[0]).suffix.lower().removeprefix(".")
    format_ = end if end in _READERS else "csv"
    counts: dict[str, Counter[str]] = {}
    rows = 0
    for name in names:
        for row in _records(name, files[name], format_):
            rows += 1
            for column, value in row.items():
                counts.setdefault(column, Counter())[value] += 1
    if not counts:
        raise ConfigError("the table has no rows", where=names[0], remedy="give another file")
    for given in (asked.id, asked.text, asked.label):
        if given is not None and given not in counts:
            raise ConfigError(f"no column '{given}'", where=names[0], remedy="there are: " + ", ".join(counts))
    unique = [c for c, values in counts.items() if len(values) == rows and "" not in values]
    identity = asked.id or _first(unique, IDS) or next(iter(unique), None)
    if identity is None:
        remedy = "add one, or name it: --id COLUMN; there are: " + ", ".join(counts)
        raise ConfigError("no column has a value of its own in each row", where=names[0], remedy=remedy)
    others = [column for column in counts if column != identity]
    text, label = asked.text or _first(others, TEXTS), asked.label or _first(others, LABELS)
    table: dict[str, str | None] = {"format": format_, "id": identity, "text": text, "label": label}
    section: dict[str, Any] = {"items": {"rows": {k: v for k, v in table.items() if v}}}
    said = f"{rows:,} rows of {format_}: each is an item, named by {identity}"
    said += f"; its content is {text}" if text else "; its content is the other columns"
    classes = sorted(set(counts[label]) - {""}, key=_by_number) if label else []
    if 1 < len(classes) <= MOST_CLASSES:
        section["labels"] = {"classes": classes, "origin": {"source": True}}
        return Guess(section=section, said=f"{said}; {label} is its label ({len(classes)} classes)")
    return Guess(section=section, said=f"{said}; no labels yet")


def _records(name: str, data: bytes, format_: str) -> Iterator[Mapping[str, str]]:
    """The rows of a table as texts, those that can be read: what cannot is told when it is ingested."""
    try:
        for row in _READERS[format_](name, data):
            yield {k: "" if v is None else str(v) for k, v in row.items() if isinstance(k, str)}
    except (UnicodeDecodeError, ValueError, RecursionError, csv.Error) as error:
        raise ConfigError(f"not {format_}: {error}", where=name, remedy="mend it, or --as files") from error


def _csv(name: str, data: bytes) -> Iterator[Mapping[Any, Any]]:
    return csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""))


def _jsonl(name: str, data: bytes) -> Iterator[Mapping[Any, Any]]:
    rows = (json.loads(line) for line in io.StringIO(data.decode("utf-8-sig")) if not line.isspace())
    return (row for row in rows if isinstance(row, dict))


def _arrays(files: Mapping[str, bytes], names: Sequence[str], asked: Asked) -> Guess:
    there = [array for name in names for array in _within(name, files[name])]
    data = [name for name in there if not _is_labels(name)]
    labels = [name for name in there if _is_labels(name)]
    if len(data) != 1 or len(labels) > 1:
        remedy = "write the section into cdl.yaml: items: {arrays: {data: FILE, labels: FILE}}, then: cdl data run"
        raise ConfigError("which holds the items?", where=", ".join(islice(there, 9)), remedy=remedy)
    section: dict[str, Any] = {"items": {"arrays": {"data": data[0]}}}
    said = f"an array: each entry of {data[0]} is an item"
    if labels:
        section["items"]["arrays"]["labels"] = labels[0]
        name, _, array = labels[0].partition("#")
        values = {str(value) for value in read_array(name, files[name], array=array or None)}
        if 1 < len(values) <= MOST_CLASSES:
            section["labels"] = {"classes": sorted(values, key=_by_number), "origin": {"source": True}}
            return Guess(section=section, said=f"{said}, labelled by {labels[0]} ({len(values)} classes)")
    return Guess(section=section, said=f"{said}; no labels yet")


def _within(name: str, data: bytes) -> list[str]:
    """What a file's arrays are called in cdl.yaml."""
    arrays = arrays_of(name, data) if name.lower().endswith(".npz") else []
    return [f"{name}#{array}" for array in arrays] if len(arrays) > 1 else [name]


def _is_labels(name: str) -> bool:
    return "label" in name.lower() or "target" in name.lower()


def _first(columns: Iterable[str], known: Sequence[str]) -> str | None:
    """The column with the name that stands first among known ones."""
    there = {column.lower(): column for column in columns}
    return next((there[name] for name in known if name in there), None)


def _by_number(text: str) -> tuple[bool, int, str]:
    return (not text.isdecimal(), int(text) if text.isdecimal() else 0, text)


_READERS: Mapping[str, Callable[[str, bytes], Iterator[Mapping[Any, Any]]]] = {
    "csv": _csv,
    "jsonl": _jsonl,
    "parquet": parquet_rows,
}
