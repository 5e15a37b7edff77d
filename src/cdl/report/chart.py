"""Charts: bars, estimates with intervals, lines, histograms, points, a matrix. Each is SVG and the table that it stands for.

Every text is escaped; colours keep apart for colour-blind eyes and follow the page's light or dark scheme. Values stand
beside their marks or show when the pointer rests on them. Names run down the side, so that long ones stay readable.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from cdl.report.axis import (
    BOTTOM,
    HEIGHT,
    LEFT,
    LETTER,
    LOG_FROM,
    PALETTE,
    RIGHT,
    TOP,
    WIDTH,
    Place,
    Up,
    across,
    figure,
    hint,
    label,
    nothing,
    powers,
    said,
    short,
    shown,
    thinned,
    ticks,
)
from cdl.report.page import Cell, Estimate, Figure, Table, plain

ROW = 22.0  # units of a name's row
MOST_ROWS = 25  # names in a picture
MOST_LINES = len(PALETTE)  # lines with a colour and a name
TOLD_ROWS = 12  # of a curve, in the table beside it
BINS = 20
WIDEST_NAME = 150.0  # units

Points = Sequence[tuple[float, float]]


def bars(title: str, values: Mapping[str, float], *, what: str = "") -> Figure:
    """One bar a name; of very many the largest."""
    if not values:
        return nothing(title)
    drawn = list(values.items())
    if len(drawn) > MOST_ROWS:
        drawn = sorted(drawn, key=lambda pair: -pair[1])[:MOST_ROWS]
    left = _room(name for name, _ in drawn)
    most = max([v for _, v in drawn] + [0.0]) or 1.0
    room = max(len(shown(v)) for _, v in drawn) * LETTER + 8
    place = across(0.0, most, left=left, right=WIDTH - room)
    body = []
    for i, (name, value) in enumerate(drawn):
        y, width = TOP + i * ROW, max(place(max(value, 0.0)) - left, 0.5)
        body.append(said(left - 8, y + 14, short(name, left - 12), "end"))
        body.append(
            f'<rect x="{left:.1f}" y="{y + 3:.1f}" width="{width:.1f}" height="{ROW - 7:.1f}" fill="{PALETTE[0]}">'
            f"{hint(f'{name}: {shown(value)}')}</rect>"
        )
        body.append(said(left + width + 5, y + 14, shown(value), "start"))
    table = Table(("name", what or "value"), tuple((n, v) for n, v in values.items()))
    return figure(title, body, table, height=TOP + len(drawn) * ROW + 4, note=_left_out(len(values), len(drawn)))


def estimates(
    title: str,
    values: Mapping[str, Estimate],
    *,
    against: Mapping[str, float] | None = None,
    against_name: str = "",
    limit: float | None = None,
) -> Figure:
    """A dot with its 95 % interval for each name; `against` are hollow dots of another. Lowest values first."""
    if not values:
        return nothing(title)
    ranked = sorted(values.items(), key=lambda pair: pair[1].value)
    drawn, other = ranked[:MOST_ROWS], against or {}
    left = _room(name for name, _ in drawn)
    numbers = [n for _, e in drawn for n in (e.low, e.high)] + [other[n] for n, _ in drawn if n in other]
    marks = ticks(min(numbers), max(numbers))
    place = across(marks[0], marks[-1], left=left, right=WIDTH - 58)
    bottom = TOP + len(drawn) * ROW + 4
    body = [
        f'<path d="M{place(t):.1f} {TOP}V{bottom:.1f}" class="grid"/>{said(place(t), bottom + 15, label(t))}'
        for t in marks
    ]
    if limit is not None and marks[0] <= limit <= marks[-1]:
        body.append(f'<path d="M{place(limit):.1f} {TOP}V{bottom:.1f}" class="limit"/>')
    for i, (name, e) in enumerate(drawn):
        y = TOP + i * ROW + 11
        body.append(said(left - 8, y + 4, short(name, left - 12), "end"))
        body.append(f'<path d="M{place(e.low):.1f} {y:.1f}H{place(e.high):.1f}" class="whisker"/>')
        if name in other:
            there = place(other[name])
            body.append(
                f'<circle cx="{there:.1f}" cy="{y:.1f}" r="5" fill="none" stroke="{PALETTE[1]}" stroke-width="2">'
                f"{hint(f'{name}, {against_name}: {shown(other[name])}')}</circle>"
            )
        dot = f'cx="{place(e.value):.1f}" cy="{y:.1f}" r="4"'
        body.append(f'<circle {dot} fill="{PALETTE[0]}">{hint(f"{name}: {plain(e)}")}</circle>')
        body.append(said(WIDTH - 50, y + 4, f"{e.value:.3f}", "start"))
    note = "the lowest first; lines are 95 % intervals" + (f"; hollow: {against_name}" if other else "")
    columns = ("name", "value", *((against_name,) if other else ()))
    rows = tuple((n, e, *((other.get(n),) if other else ())) for n, e in ranked)
    more = _left_out(len(ranked), len(drawn))
    return figure(title, body, Table(columns, rows), height=bottom + 24, note=f"{note}; {more}" if more else note)


def lines(
    title: str,
    series: Mapping[str, Points],
    *,
    x: str,
    limits: Mapping[str, float] | None = None,
    zero: bool = False,
    first: Sequence[str] = (),
) -> Figure:
    """One line a name; `limits` are dashed lines across. `zero` begins the vertical axis there.

    Beyond so many lines as there are colours, those of `first` have one, and the others are grey.
    """
    drawn = {name: points for name, points in series.items() if points}
    if not drawn:
        return nothing(title)
    many = len(drawn) > MOST_LINES
    named = [n for n in first if n in drawn][:MOST_LINES] if many else list(drawn)
    legend = _legend([*named, *(limits or {})], len(named)) if len(drawn) > 1 or limits else []
    top, height = TOP + 18 * len(legend), HEIGHT + 18 * max(0, len(legend) - 1)
    ys = [*(p[1] for points in drawn.values() for p in points), *(limits or {}).values(), *([0.0] if zero else [])]
    xs = [p[0] for points in drawn.values() for p in points]
    up, place = Up(min(ys), max(ys), top=top, height=height), across(min(xs), max(xs))
    body = [*(row for row in legend), up.grid(), *_below(xs, place, x, height=height)]
    body += [f'<path d="M{LEFT} {up(v):.1f}H{WIDTH - RIGHT}" class="limit"/>' for v in (limits or {}).values()]
    for name in [n for n in drawn if n not in named] + named[::-1]:
        path = " ".join(f"{place(a):.1f},{up(b):.1f}" for a, b in drawn[name])
        if name not in named:
            body.append(f'<polyline points="{path}" fill="none" class="back">{hint(name)}</polyline>')
            continue
        colour = PALETTE[named.index(name)]
        body.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        body += [
            f'<circle cx="{place(a):.1f}" cy="{up(b):.1f}" r="2.5" fill="{colour}">{hint(f"{name}, {x} {a:g}: {b:.4g}")}</circle>'
            for a, b in drawn[name]
        ]
    note = f"{len(named)} of {len(drawn)} lines have a name here" if many else ""
    return figure(title, body, _told(drawn, named, x), height=height, note=note)


def histogram(title: str, values: Sequence[float], *, unit: str = "") -> Figure:
    """How often values fall into equal ranges; in words by five numbers."""
    finite = sorted(v for v in values if math.isfinite(v))
    if not finite:
        return nothing(title)
    low, high = finite[0], finite[-1]
    if low == high:
        return bars(title, {f"{low:g} {unit}".strip(): float(len(finite))}, what="how many")
    width = (high - low) / BINS
    counts = [0] * BINS
    for value in finite:
        counts[min(BINS - 1, int((value - low) / width))] += 1
    up, step = Up(0, max(counts)), (WIDTH - LEFT - RIGHT) / BINS
    body = [up.grid()]
    for i, count in enumerate(counts):
        text = f"{low + i * width:.4g} to {low + (i + 1) * width:.4g}: {count}"
        if count:
            body.append(
                f'<rect x="{LEFT + i * step:.1f}" y="{up(count):.1f}" width="{max(step - 1, 1):.1f}" '
                f'height="{up(0) - up(count):.1f}" fill="{PALETTE[0]}">{hint(text)}</rect>'
            )
    last = low + BINS * width
    middle = [low, (low + last) / 2, last]
    body += [said(x, HEIGHT - BOTTOM + 16, label(float(f"{v:.4g}")), a) for v, x, a in zip(middle, *_ENDS, strict=True)]
    body.append(said((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, unit or title, soft=True))
    five = [finite[round(q * (len(finite) - 1))] for q in (0, 0.25, 0.5, 0.75, 1)]
    columns = ("smallest", "a quarter below", "half below", "three quarters below", "largest")
    return figure(title, body, Table(columns, (tuple(float(f"{v:.4g}") for v in five),)))


_ENDS = ((LEFT, (LEFT + WIDTH - RIGHT) / 2, WIDTH - RIGHT), ("start", "middle", "end"))


def scatter(title: str, points: Sequence[tuple[float, float, str]], *, x: str, y: str, best: str = "") -> Figure:
    """A point for each (x, y, name); `best` stands out. Positive values over several magnitudes get a logarithmic axis."""
    if not points:
        return nothing(title)
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    log = min(xs) > 0 and max(xs) / min(xs) >= LOG_FROM
    up, place = Up(min(ys), max(ys)), across(min(xs), max(xs), left=LEFT + 12, right=WIDTH - RIGHT - 12, log=log)
    body = [up.grid(), *_below(xs, place, x + (", logarithmic" if log else ""), log=log)]
    for a, b, name in sorted(points, key=lambda p: p[2] == best):
        colour, radius = (PALETTE[1], 6) if name == best else (PALETTE[0], 4)
        body.append(
            f'<circle cx="{place(a):.1f}" cy="{up(b):.1f}" r="{radius}" fill="{colour}" fill-opacity="0.75">'
            f"{hint(f'{name}: {x} {a:.4g}, {y} {b:.4g}')}</circle>"
        )
    ranked = sorted(points, key=lambda p: -p[1])[:TOLD_ROWS]
    rows: tuple[tuple[Cell, ...], ...] = tuple((name, a, b) for a, b, name in ranked)
    return figure(title, body, Table(("trial", x, y), rows), note=f"{best} stands out" if best else "")


def _room(names: Iterable[str]) -> float:
    """Units that names at the side take."""
    longest = max((len(n) for n in names), default=0)
    return min(WIDEST_NAME, longest * LETTER + 16)


def _left_out(count: int, drawn: int) -> str:
    return f"{drawn} of {count}; all are in the table" if count > drawn else ""


def _below(xs: Sequence[float], place: Place, x: str, *, log: bool = False, height: float = HEIGHT) -> list[str]:
    """Numbers under the horizontal axis, and its name."""
    low, high = min(xs), max(xs)
    whole = all(float(v).is_integer() for v in xs)
    marks = powers(low, high) if log else ticks(low, high)
    inside = [t for t in marks if low <= t <= high and (not whole or float(t).is_integer())] or [low]
    found = [said(place(t), height - BOTTOM + 16, label(t)) for t in inside]
    return [*found, said((LEFT + WIDTH - RIGHT) / 2, height - 6, x, soft=True)]


def _legend(names: Sequence[str], coloured: int) -> list[str]:
    """Rows of coloured names above a chart; the names after `coloured` are dashed limits. None overlaps another."""
    rows: list[list[str]] = [[]]
    x = float(LEFT)
    for i, name in enumerate(names):
        text = short(name, 190)
        width = 20 + len(text) * LETTER + 14
        if x + width > WIDTH and rows[-1]:
            rows.append([])
            x = float(LEFT)
        y = 10 + 18 * (len(rows) - 1)
        mark = f'stroke="{PALETTE[i]}" stroke-width="3"' if i < coloured else 'class="limit"'
        rows[-1].append(f'<path d="M{x:.0f} {y - 3}h14" {mark}/>' + said(x + 19, y + 1, text, "start"))
        x += width
    return ["".join(row) for row in rows]


def _told(drawn: Mapping[str, Points], named: Sequence[str], x: str) -> Table:
    """Lines as a table: a row for an x, thinned; a column for a named line."""
    at = sorted({a for name in named for a, _ in drawn[name]})
    values = {name: dict(drawn[name]) for name in named}
    rows = [(at[i], *(values[n].get(at[i]) for n in named)) for i in thinned(len(at), TOLD_ROWS)]
    return Table((x, *named), tuple(rows))
