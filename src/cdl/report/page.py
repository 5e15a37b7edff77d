"""A page as data: sections of texts, facts, tables, charts and differences. One structure, written by two writers.

    page = Page(name="m-0c5e8b37", title="reader m-0c5e8b37")
    page.section("Requirements").table(["requirement", "result"], [["test.accuracy >= 0.95", good("held")]])
    write(page, folder)                     reports/m-0c5e8b37.html        write(page, folder, form="md")   ....md

What stands in a cell says what it is (a number, an id, an estimate with its interval, a verdict); how it looks is the
writers' business. Nothing here knows HTML or Markdown, and what a cell says in words is the same in both.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from cdl.report.text import number

Tone = Literal["good", "bad", "warn", "soft", "plain"]


class Mark(msgspec.Struct, frozen=True):
    """Words with a tone: a verdict. The words alone say all; the colour only helps."""

    text: str
    tone: Tone = "plain"


class Code(msgspec.Struct, frozen=True):
    """An id, a path or a command: what a person may type."""

    text: str


class Link(msgspec.Struct, frozen=True):
    """The name of another page in the same folder; words only where that page is not written."""

    text: str
    page: str


class Estimate(msgspec.Struct, frozen=True):
    """A measured value with its 95 % interval. With `signed` it is a difference, and says its sign."""

    value: float
    low: float
    high: float
    signed: bool = False


class Fixed(msgspec.Struct, frozen=True):
    """A number with so many decimals, so that a column reads well. With `signed` it says its sign."""

    value: float
    digits: int = 3
    signed: bool = False


class Several(msgspec.Struct, frozen=True):
    """Some cells in one, with commas between them."""

    cells: tuple["Cell", ...]


Cell = str | int | float | bool | None | Mark | Code | Link | Estimate | Fixed | Several


class Text(msgspec.Struct, frozen=True):
    """A paragraph."""

    cell: Cell


class Table(msgspec.Struct, frozen=True):
    """Rows under a header; without one, names and values."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


class Figure(msgspec.Struct, frozen=True):
    """A chart as SVG, and what it shows as a table: its text alternative. `note` says what to see, or what was left out."""

    title: str
    svg: str
    table: Table
    note: str = ""


class Figures(msgspec.Struct, frozen=True):
    """Charts, side by side where there is room."""

    figures: tuple[Figure, ...]


class Pictures(msgspec.Struct, frozen=True):
    """Small PNG images with a caption each."""

    pictures: tuple[tuple[str, bytes], ...]


class Listing(msgspec.Struct, frozen=True):
    """Text as it stands: a unified difference, a file. `title` says what it is."""

    title: str
    text: str


class Notice(msgspec.Struct, frozen=True):
    """What a reader must know first, and the commands that follow from it."""

    text: str
    tone: Tone
    commands: tuple[str, ...] = ()


Part = Text | Table | Figures | Pictures | Listing


class Section(msgspec.Struct):
    """A heading and what stands below it. Empty sections are not written."""

    title: str
    parts: list[Part] = msgspec.field(default_factory=list)

    def text(self, cell: Cell) -> "Section":
        """A paragraph."""
        self.parts.append(Text(cell))
        return self

    def facts(self, facts: Mapping[str, Cell]) -> "Section":
        """Names and values, one a line; what has no value is left out."""
        rows = tuple((name, value) for name, value in facts.items() if value is not None and value != "")
        if rows:
            self.parts.append(Table((), rows))
        return self

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> "Section":
        """Rows under a header; nothing without rows, and no column that is empty in all of them."""
        found = [tuple(row) for row in rows]
        said = [i for i in range(len(columns)) if any(row[i] is not None for row in found)]
        if said:
            kept = tuple(tuple(row[i] for i in said) for row in found)
            self.parts.append(Table(tuple(columns[i] for i in said), kept))
        return self

    def figures(self, *figures: Figure | None) -> "Section":
        """Charts; those that are None are left out."""
        drawn = tuple(f for f in figures if f is not None)
        if drawn:
            self.parts.append(Figures(drawn))
        return self

    def pictures(self, pictures: Sequence[tuple[str, bytes]]) -> "Section":
        """Small images."""
        if pictures:
            self.parts.append(Pictures(tuple(pictures)))
        return self

    def listing(self, title: str, text: str) -> "Section":
        """Text as it stands."""
        if text:
            self.parts.append(Listing(title, text))
        return self


class Page(msgspec.Struct):
    """A page in the making. `name` is that of its file; `made` says of what and when, at the end of the page."""

    name: str
    title: str
    subtitle: str = ""
    notices: list[Notice] = msgspec.field(default_factory=list)
    sections: list[Section] = msgspec.field(default_factory=list)
    made: str = ""

    def section(self, title: str) -> Section:
        """A section that begins now."""
        self.sections.append(Section(title))
        return self.sections[-1]

    def notice(self, text: str, tone: Tone = "plain", commands: Sequence[str] = ()) -> "Page":
        """Something that stands before all sections."""
        self.notices.append(Notice(text, tone, tuple(commands)))
        return self

    def written(self) -> list[Section]:
        """The sections that have something to say."""
        return [s for s in self.sections if s.parts]


def good(text: str) -> Mark:
    """It is as it should be."""
    return Mark(text, "good")


def bad(text: str) -> Mark:
    """It is not as it should be."""
    return Mark(text, "bad")


def warn(text: str) -> Mark:
    """Somebody should look."""
    return Mark(text, "warn")


def soft(text: str) -> Mark:
    """An aside."""
    return Mark(text, "soft")


def several(cells: Iterable[Cell]) -> Cell:
    """Some cells in one; None without any."""
    found = tuple(cells)
    return Several(found) if found else None


def plain(cell: Cell) -> str:
    """What a cell says in words; both writers say exactly this."""
    match cell:
        case None:
            return "–"
        case bool():
            return "yes" if cell else "no"
        case int() | float():
            return number(cell)
        case str():
            return cell
        case Mark() | Code() | Link():
            return cell.text
        case Estimate():
            form = f"{'+' if cell.signed else ''}.{_digits(cell)}f"
            return f"{cell.value:{form}} [{cell.low:{form}}, {cell.high:{form}}]"
        case Fixed():
            return f"{cell.value:{'+' if cell.signed and cell.value else ''},.{cell.digits}f}"
        case Several():
            return ", ".join(plain(c) for c in cell.cells)


def _digits(estimate: Estimate) -> int:
    """As many decimals as its interval leaves certain; one more for a difference, whose sign matters."""
    return 4 if estimate.signed or estimate.high - estimate.low < 0.01 else 3
