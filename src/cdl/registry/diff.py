"""What differs between two records of a kind, field by field."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from cdl.errors import ConfigError
from cdl.registry.records import AnyRecord

ABSENT = "(none)"


@dataclass(frozen=True)
class Difference:
    """A field with its two values; ABSENT where one side has none."""

    field: str
    first: Any
    second: Any


def diff(first: AnyRecord, second: AnyRecord) -> list[Difference]:
    """The fields that differ, sorted by name. ConfigError for records of two kinds."""
    if type(first) is not type(second):
        kinds = f"{type(first).__name__.lower()} and {type(second).__name__.lower()}"
        raise ConfigError(f"{kinds} are not compared", remedy="give two records of one kind")
    one, two = _flat(msgspec.to_builtins(first)), _flat(msgspec.to_builtins(second))
    names = sorted(set(one) | set(two))
    found = [Difference(n, one.get(n, ABSENT), two.get(n, ABSENT)) for n in names]
    return [d for d in found if d.first != d.second]


def _flat(value: Any, field: str = "") -> dict[str, Any]:
    """Leaves by dotted path."""
    if isinstance(value, Mapping) and value:
        pairs = [(f"{field}.{k}" if field else str(k), v) for k, v in value.items()]
    elif isinstance(value, list) and value:
        pairs = [(f"{field}[{i}]", v) for i, v in enumerate(value)]
    else:
        return {field: value}
    return {k: v for name, inner in pairs for k, v in _flat(inner, name).items()}
