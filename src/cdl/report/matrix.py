"""A matrix of counts by true and predicted class, as a heat map of shares; and the confusions that matter most."""

from collections.abc import Sequence

from cdl.report.axis import LETTER, PALETTE, figure, hint, nothing, said, short
from cdl.report.page import Cell, Figure, Table

SIDE = 420.0  # units of the whole matrix, at the most
WIDEST_CELL, NARROWEST_CELL = 44.0, 16.0  # below, counts and names are left to the table
ROOM = 110.0  # units for names at the side and above
MOST_TOLD = 30  # classes of a matrix in the table beside it


def matrix(title: str, names: Sequence[str], counts: Sequence[Sequence[int]]) -> Figure:
    """Counts by true class (rows) and predicted class (columns); the colour is the share of the row."""
    if not names:
        return nothing(title)
    cell = min(WIDEST_CELL, SIDE / len(names))
    readable = cell >= NARROWEST_CELL
    longest = max(len(n) for n in names)
    left = min(ROOM, longest * LETTER + 34) if readable else 30.0
    steep = longest * LETTER > cell - 4
    top = (min(ROOM, longest * LETTER) * 0.75 + 34 if steep else 42.0) if readable else 26.0
    side = cell * len(names)
    body = [said(left + side / 2, 14, "predicted", soft=True)]
    body.append(f'<g transform="rotate(-90 12 {top + side / 2:.0f})">{said(12, top + side / 2, "true", soft=True)}</g>')
    for i, row in enumerate(counts):
        if readable:
            body += _names(names[i], i, cell, left, top, steep)
        total = sum(row) or 1
        body += [_cell(names, i, j, count, count / total, (left, top, cell), readable) for j, count in enumerate(row)]
    note = "each row adds up to the items of its class; blue is right, orange is wrong"
    return figure(
        title,
        body,
        _table(names, counts),
        width=left + side + (ROOM * 0.75 if readable and steep else 8),
        height=top + side + 8,
        note=note,
    )


def confusions(names: Sequence[str], counts: Sequence[Sequence[int]], most: int = 8) -> list[tuple[Cell, ...]]:
    """The most frequent mistakes: true class, predicted class, items, and their share of the true class in per cent."""
    pairs = [(c, i, j) for i, row in enumerate(counts) for j, c in enumerate(row) if i != j and c]
    pairs.sort(key=lambda p: (-p[0], p[1], p[2]))
    return [
        (names[i], names[j], c, f"{100 * c / sum(counts[i]):.1f} % of {sum(counts[i])}") for c, i, j in pairs[:most]
    ]


def _names(name: str, i: int, cell: float, left: float, top: float, steep: bool) -> list[str]:
    """The name of a class at the side and above, turned where it is wider than its column."""
    middle = left + (i + 0.5) * cell
    above = said(middle, top - 7, short(name, cell + 2), style="")
    if steep:
        above = f'<g transform="rotate(-45 {middle:.1f} {top - 7:.1f})">{said(middle, top - 7, short(name, ROOM), "start")}</g>'
    return [said(left - 6, top + (i + 0.5) * cell + 4, short(name, left - 28), "end"), above]


def _cell(
    names: Sequence[str], i: int, j: int, count: int, share: float, at: tuple[float, float, float], readable: bool
) -> str:
    left, top, cell = at
    x, y = left + j * cell, top + i * cell
    strength = 0.12 + 0.8 * share**0.5 if count else 0.04
    text = hint(f"{names[i]} taken for {names[j]}: {count}, {100 * share:.1f} %")
    found = (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{cell - 1:.1f}" height="{cell - 1:.1f}" '
        f'fill="{PALETTE[0] if i == j else PALETTE[1]}" fill-opacity="{strength:.2f}">{text}</rect>'
    )
    if count and readable:
        found += said(x + cell / 2 - 0.5, y + cell / 2 + 4, f"{count}", style="fill:#fff" if strength > 0.6 else "")
    return found


def _table(names: Sequence[str], counts: Sequence[Sequence[int]]) -> Table:
    if len(names) > MOST_TOLD:
        return Table(("true", "predicted", "items", "share"), tuple(confusions(names, counts, MOST_TOLD)))
    rows: list[tuple[Cell, ...]] = [(names[i], *row) for i, row in enumerate(counts)]
    return Table(("true \\ predicted", *names), tuple(rows))
