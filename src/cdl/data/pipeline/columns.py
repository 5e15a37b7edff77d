"""Columns of digests: arrays of bytes of one width, compared and looked up many at a time."""

from collections.abc import Iterable
from importlib import import_module
from typing import Any

Column = Any  # (rows,) of dtype S<width>


def column(data: bytes | bytearray, width: int) -> Column:
    """The values that lie one after the other in some bytes."""
    return import_module("numpy").frombuffer(bytes(data), dtype=f"S{width}")


def from_hex(values: Iterable[str], width: int) -> Column:
    """The values of some hex digits."""
    return column(bytes.fromhex("".join(values)), width)


def as_bytes(values: Column) -> Any:
    """The same values as numbers, (rows, width) of dtype u1."""
    numpy = import_module("numpy")
    return numpy.ascontiguousarray(values).view("|u1").reshape(len(values), values.dtype.itemsize)


def to_hex(values: Column) -> list[str]:
    """The values as hex digits."""
    text, width = values.tobytes().hex(), 2 * values.dtype.itemsize
    return [text[at : at + width] for at in range(0, len(text), width)]


def places_of(wanted: Column, among: Column) -> Any:
    """Where each of some values stands last in a column, -1 where it does not (an array of numbers)."""
    numpy = import_module("numpy")
    if not len(among) or not len(wanted):
        return numpy.full(len(wanted), -1, dtype="<i8")
    order = among.argsort(kind="stable")
    at = among.searchsorted(wanted, side="right", sorter=order) - 1
    found = order[at.clip(0)]
    return numpy.where((at >= 0) & (among[found] == wanted), found, -1)
