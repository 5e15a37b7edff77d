"""Requirements: one line each, checked by the gates themselves.

    test.accuracy >= 0.80        revision.latency_p95 <= 20 ms        revision.size <= 20 MB        live.error_rate <= 1 %

Values are kept in seconds, bytes and shares.
"""

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from cdl.errors import ConfigError

UNITS = {
    "": 1.0,
    "%": 0.01,
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "B": 1.0,
    "KB": 1e3,
    "MB": 1e6,
    "GB": 1e9,
}
COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
}
FORM = re.compile(r"\s*([a-z][a-z0-9_.]*)\s*(>=|<=|==|>|<)\s*(-?[0-9]+(?:\.[0-9]+)?)\s*([A-Za-z%]*)\s*")


class Requirement(msgspec.Struct, frozen=True):
    """A measure, a comparison and a value; `text` as the person wrote it."""

    measure: str
    compare: str
    value: float
    text: str

    def holds(self, found: float) -> bool:
        """Whether a found value satisfies it."""
        return COMPARE[self.compare](found, self.value)


def parse_requirement(text: str, *, where: str = "cdl.yaml") -> Requirement:
    """The requirement in a line. ConfigError says what is wrong with it."""
    match = FORM.fullmatch(text)
    if match is None:
        raise ConfigError(f"'{text}' is not a requirement", where=where, remedy="for example: test.accuracy >= 0.80")
    measure, compare, number, unit = match.groups()
    if unit not in UNITS:
        raise ConfigError(f"unknown unit '{unit}'", where=where, remedy="units: " + " ".join(u for u in UNITS if u))
    return Requirement(measure, compare, round(float(number) * UNITS[unit], 12), text.strip())


def in_unit(text: str, value: float) -> str:
    """A value in the unit of the requirement in `text`: 0.0031 of `revision.latency_p95 <= 20 ms` is '3.1 ms'."""
    match = FORM.fullmatch(text)
    unit = match[4] if match else ""
    found = value / UNITS.get(unit, 1.0)
    return f"{found:,.0f} {unit}".strip() if abs(found) >= 1e4 or found.is_integer() else f"{found:.4g} {unit}".strip()


def judged(asked: Iterable[Requirement], measures: Mapping[str, float], *prefixes: str) -> tuple[dict[str, Any], ...]:
    """Each requirement with its value and whether it held; `later` where its measure begins otherwise and has no value yet."""
    found: list[dict[str, Any]] = []
    for r in asked:
        value = measures.get(r.measure)
        later = value is None and not r.measure.startswith(prefixes)
        held = "later" if later else value is not None and r.holds(value)
        found.append({"require": r.text, "value": value, "held": held})
    return tuple(found)
