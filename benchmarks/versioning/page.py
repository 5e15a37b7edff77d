"""The section "Data" of docs/benchmarks.md, written from what was measured."""

import os
import platform
import re
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from versioning.material import Sizes
from versioning.systems import SYSTEMS, versions

Values = Mapping[tuple[str, str, str], Sequence[float]]
SECTION = re.compile(r"^## Data\n.*?(?=^## |\Z)", re.M | re.S)
SECONDS = ("s cpu", "s wall", "MB peak")


def write(place: Path, rows: Iterable[tuple[str, str, str, Sequence[float]]], sizes: Sizes) -> None:
    """Puts the section in the place of the one that stands there, or at the end."""
    values = {(work, system, unit): found for work, system, unit, found in rows}
    text = place.read_text() if place.exists() else "# Benchmarks\n"
    section = "\n".join(_section(values, sizes)) + "\n"
    if SECTION.search(text):
        text = SECTION.sub(lambda _: section, text)
    else:
        text = text.rstrip("\n") + "\n\n" + section
    place.write_text(text)


def _section(values: Values, sizes: Sizes) -> Iterator[str]:
    names = [system.name for system in SYSTEMS if any(system.name == s for _, s, _ in values)]
    yield "## Data"
    yield f"`scripts/bench data`: {sizes.files:,} files of 300 to 900 bytes, {sizes.more:,} more of them, a file of"
    yield f"{sizes.large / 1e9:.2g} GB, {sizes.rows:,} rows of CSV, {sizes.images:,} images as one IDX file. Seconds of CPU,"
    yield f"seconds of the clock, MB of the largest process; medians of {sizes.runs} for the files, one run for the others, the"
    yield f"systems in turn. {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}, {', '.join(versions())}."
    yield "`cdl data add` is ids, split, sealing of the test set, record and commit."
    yield ""
    yield "| work | " + " | ".join(names) + " |"
    yield "|---" * (len(names) + 1) + "|"
    for work in dict.fromkeys(work for work, _, unit in values if unit in SECONDS and " step: " not in work):
        yield f"| {work} | " + " | ".join(_taken(values, work, name) for name in names) + " |"
    yield ""
    yield "| | | |"
    yield "|---|---|---|"
    for (work, system, unit), found in values.items():
        if unit not in SECONDS:
            yield f"| {work} | {system} | {_number(statistics.median(found))} {unit} |"
    yield ""
    yield f"A step of 5 ms over {sizes.items:,} items; least is what the program takes by itself, divided by the cores."
    yield ""
    yield "| run | s wall | s over start-up | pieces worked | least, s |"
    yield "|---|---|---|---|---|"
    for work in dict.fromkeys(work for work, _, _ in values if " step: " in work):
        cells = [_value(values, work, *of) for of in STEP]
        yield f"| {work} | " + " | ".join(cells) + " |"
    yield ""
    yield "| budget | wanted | measured | |"
    yield "|---|---|---|---|"
    for what, wanted, measured, met in budgets(values, sizes):
        yield f"| {what} | {wanted} | {measured} | {'met' if met else '**missed**'} |"
    yield ""


STEP = (
    ("cdl", "s wall"),
    ("cdl", "s wall over start-up"),
    ("cdl", "pieces worked"),
    ("least", "s wall"),
)


def budgets(values: Values, sizes: Sizes) -> Iterator[tuple[str, str, str, bool]]:
    """What is wanted, beside what was measured, where it was; by CPU."""
    for work, other, factor in RATIOS:
        own, theirs = _median(values, work, "cdl", "s cpu"), _median(values, work, other, "s cpu")
        if own is not None and theirs is not None:
            yield f"{work}, beside {other}", f"at most {factor:g} of it", f"{own / theirs:.2f}", own <= factor * theirs
    for work, unit, limit, most in LIMITS:
        found = _median(values, work.format(many=f"{sizes.many:,}"), "cdl", unit)
        if found is not None:
            bound = "at most" if most else "at least"
            yield (
                f"{work.format(many=f'{sizes.many:,}')}",
                f"{bound} {_number(limit)} {unit}",
                _number(found),
                (found <= limit if most else found >= limit),
            )
    yield from _hashing(values)
    for kind in ("python", "shell", "compiled"):
        found, least = (_median(values, f"{kind} step: first run", s, "s wall") for s in ("cdl", "least"))
        if found is not None and least is not None:
            yield f"{kind} step, first run", "at most 1.2 of the least", f"{found / least:.2f}", found <= 1.2 * least


def _hashing(values: Values) -> Iterator[tuple[str, str, str, bool]]:
    hashed = _median(values, "large file: one thread", "blake3", "GB/s of CPU")
    for work in ("large file: add", "change_byte"):
        own = _median(values, work, "cdl", "GB/s of CPU")
        if own is not None and hashed is not None:
            share = own / hashed
            yield f"{work}, beside blake3 on one thread", "at least 0.45 of it a core", f"{share:.2f}", share >= 0.45


RATIOS = (("add", "dvc", 0.1), ("add", "git", 1), ("add", "cp", 2.5), ("recheck", "dvc", 0.1))
LIMITS = (
    ("append", "s cpu", 1, True),
    ("change_byte", "chunks stored", 2, True),
    ("read_batches", "items/s of CPU", 200_000, False),
    ("{many} files: add", "MB peak", 1000, True),
    ("{many} files: recheck", "MB peak", 1000, True),
    ("python step: nothing changed", "s wall over start-up", 0.3, True),
    ("python step: one changed", "pieces worked", 1, True),
    ("shell step: one changed", "pieces worked", 1, True),
    ("compiled step: one changed", "pieces worked", 1, True),
)


def _median(values: Values, work: str, system: str, unit: str) -> float | None:
    found = values.get((work, system, unit))
    return statistics.median(found) if found else None


def _value(values: Values, work: str, system: str, unit: str) -> str:
    found = _median(values, work, system, unit)
    return "" if found is None else _number(found)


def _taken(values: Values, work: str, system: str) -> str:
    found = [_value(values, work, system, unit) for unit in SECONDS]
    return f"{found[0]} / {found[1]} s, {found[2]} MB" if all(found) else ""


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.2f}"
