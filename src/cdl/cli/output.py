"""What every command prints with: lines, tables, JSON, and the options that they share."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
from msgspec.structs import asdict

from cdl.report.text import terminal

F = TypeVar("F", bound=Callable[..., Any])


def json_option(command: F) -> F:
    """`--json`: the result as JSON on standard output, nothing else there."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def say(text: str) -> None:
    """A progress line for a person, on standard error."""
    click.echo(terminal(text), err=True)


def show(value: Any, text: Callable[[], Iterable[str]], *, as_json: bool) -> None:
    """Prints `value` as JSON, or the lines of `text`."""
    if as_json:
        click.echo(json.dumps(value, indent=2, sort_keys=True, default=plain))
        return
    for line in text():
        click.echo(terminal(line))


def plain(value: object) -> object:
    """What JSON has no word for: a struct is an object of its fields, anything else its text."""
    return asdict(value) if isinstance(value, msgspec.Struct) else str(value)


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    """Aligned columns with a header; numbers with at most four decimals."""
    cells = [[str(c) for c in columns]] + [[_cell(row.get(c)) for c in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells]


def confirmed(question: str, *, yes: bool) -> bool:
    """Asks on a terminal; without one, or with --yes, goes on."""
    if yes or not sys.stdin.isatty():
        return True
    return click.confirm(question, default=False)


def here() -> Path:
    """The folder that the command was called in."""
    return Path.cwd()


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}".rstrip("0").rstrip(".")
    return str(value)
