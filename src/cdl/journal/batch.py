"""Batches: columns of equal length as one object. Labels, metrics and scoring rows are kept so, one event a batch.

    {"format": "cdl-batch-1", "rows": 2, "columns": {"item": ["a", "b"], "value": [1.5, null]}}      as msgpack

A value is text, bytes, a whole number, a float, a truth value or null. Reading runs nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from cdl.errors import Corrupt

FORMAT = "cdl-batch-1"
KINDS = (str, bytes, int, float, bool, type(None))


def write(columns: Mapping[str, Sequence[Any]]) -> bytes:
    """The bytes of a batch; equal columns give equal bytes. ValueError for unequal lengths or other values."""
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise ValueError(f"columns of unequal length: {sorted(lengths)}")
    for name, values in columns.items():
        if not all(isinstance(v, KINDS) for v in values):
            raise ValueError(f"column {name} holds a value of another kind")
    content = {
        "format": FORMAT,
        "rows": lengths.pop() if lengths else 0,
        "columns": {name: list(columns[name]) for name in sorted(columns)},
    }
    return msgspec.msgpack.encode(content)


def read(data: bytes, *, where: str) -> dict[str, list[Any]]:
    """The columns of a batch by name; Corrupt when it is none."""
    try:
        found = msgspec.msgpack.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(f"not a batch: {error}", where=where, remedy="cdl store verify") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT or not isinstance(found.get("columns"), dict):
        raise Corrupt("not a batch", where=where, remedy="cdl store verify")
    columns: dict[str, list[Any]] = found["columns"]
    for name, values in columns.items():
        if (
            not isinstance(values, list)
            or len(values) != found.get("rows")
            or not all(isinstance(v, KINDS) for v in values)
        ):
            raise Corrupt(f"column {name} is broken", where=where, remedy="cdl store verify")
    return columns
