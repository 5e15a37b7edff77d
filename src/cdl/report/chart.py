"""Charts as SVG text: bars, lines, histograms, a matrix of counts, thumbnails. No script, nothing from outside.

Every text is escaped; colours keep apart for colour-blind eyes and follow the page's light or dark scheme. Values show when
the pointer rests on a mark.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 480, 220  # pixels of a chart
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 26, 38
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#7f7f7f")
TICKS = 5  # about so many on an axis
SMALLEST = 1e-300  # what is nearer to 0 is drawn as 0
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)  # what lies between two ticks, times a power of ten
LONGEST_LABEL = 24  # characters
WIDEST_BAR = 56.0  # pixels

Points = Sequence[tuple[float, float]]


def bars(title: str, values: Mapping[str, float], *, intervals: Mapping[str, tuple[float, float]] | None = None) -> str:
    """One bar a name, with its interval where there is one."""
    if not values:
        return _empty(title)
    spans = intervals or {}
    up = _Up(0.0, max([*values.values(), *(high for _, high in spans.values()), 0.0]))
    step = (WIDTH - LEFT - RIGHT) / len(values)
    width = min(step * 0.7, WIDEST_BAR)
    body = [up.grid()]
    for i, (name, value) in enumerate(values.items()):
        middle = LEFT + (i + 0.5) * step
        body.append(_bar(middle - width / 2, width, up, value, f"{name}: {value:.4g}"))
        if name in spans:
            low, high = spans[name]
            body.append(f'<path d="M{middle:.1f} {up(low):.1f}V{up(high):.1f}" class="whisker"/>')
        body.append(_label(middle, name, step))
    return _figure(title, body)


def lines(
    title: str, series: Mapping[str, Points], *, x: str, limits: Mapping[str, float] | None = None, zero: bool = False
) -> str:
    """One line a name; `limits` are dashed lines across. `zero` begins the vertical axis there."""
    drawn = {name: points for name, points in series.items() if points}
    if not drawn:
        return _empty(title)
    xs = [p[0] for points in drawn.values() for p in points]
    ys = [*(p[1] for points in drawn.values() for p in points), *(limits or {}).values(), *([0.0] if zero else [])]
    up, low, high = _Up(min(ys), max(ys)), min(xs), max(xs)

    def across(value: float) -> float:
        return LEFT + (value - low) / ((high - low) or 1) * (WIDTH - LEFT - RIGHT)

    whole = all(float(v).is_integer() for v in xs)
    at = [t for t in ticks(low, high) if low <= t <= high and (not whole or float(t).is_integer())]
    body = [up.grid(), *(_label(across(t), f"{t:g}", 60) for t in at or [low])]
    for name, value in (limits or {}).items():
        body.append(f'<path d="M{LEFT} {up(value):.1f}H{WIDTH - RIGHT}" class="limit"/>')
        below = 12 if up(value) < TOP + 14 else -4
        body.append(
            f'<text x="{WIDTH - RIGHT}" y="{up(value) + below:.1f}" text-anchor="end">{_short(name, 40)}</text>'
        )
    for i, (name, points) in enumerate(drawn.items()):
        colour = PALETTE[i % len(PALETTE)]
        path = " ".join(f"{across(a):.1f},{up(b):.1f}" for a, b in points)
        body.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        body += [
            f'<circle cx="{across(a):.1f}" cy="{up(b):.1f}" r="2.5" fill="{colour}">'
            f"<title>{escape(name)}, {escape(x)} {a:g}: {b:.4g}</title></circle>"
            for a, b in points
        ]
        if len(drawn) > 1:
            place = f'x="{LEFT + 8 + 100 * (i % 4)}" y="{TOP + 12 + 14 * (i // 4)}"'
            body.append(f'<text {place} style="fill:{colour}">{_short(name, 14)}</text>')
    body.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x)}</text>')
    return _figure(title, body)


def histogram(title: str, values: Sequence[float], *, bins: int = 20) -> str:
    """How often values fall into equal ranges."""
    finite = [v for v in values if math.isfinite(v)]
    if not finite:
        return _empty(title)
    low, high = min(finite), max(finite)
    width = (high - low) / bins or 1.0
    counts = [0] * bins
    for value in finite:
        counts[min(bins - 1, int((value - low) / width))] += 1
    up = _Up(0, max(counts))
    step = (WIDTH - LEFT - RIGHT) / bins
    body = [up.grid(), _label(LEFT + 14, f"{low:g}", 80), _label(WIDTH - RIGHT - 14, f"{high:g}", 80)]
    for i, count in enumerate(counts):
        span = f"{low + i * width:.4g} to {low + (i + 1) * width:.4g}: {count}"
        body.append(_bar(LEFT + i * step, max(step - 1, 1), up, count, span))
    return _figure(title, body)


def matrix(title: str, names: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Counts by true class (rows) and predicted class (columns)."""
    if not names:
        return _empty(title)
    most = max((c for row in counts for c in row), default=0) or 1
    cell, left, top = min(40.0, 420 / len(names)), 96, 58
    body = [f'<text x="{left}" y="34">predicted</text>', f'<text x="4" y="{top + 12}">true</text>']
    for i, row in enumerate(counts):
        y = top + i * cell
        body.append(f'<text x="{left - 6}" y="{y + cell * 0.65:.1f}" text-anchor="end">{_short(names[i], 12)}</text>')
        middle = left + (i + 0.5) * cell
        body.append(f'<text x="{middle:.1f}" y="{top - 6}" text-anchor="middle">{_short(names[i], 7)}</text>')
        for j, count in enumerate(row):
            x = left + j * cell
            colour = PALETTE[0] if i == j else PALETTE[1]
            strength = 0.08 + 0.92 * count / most if count else 0.03
            said = escape(f"{names[i]} taken for {names[j]}: {count}")
            body.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{cell - 1:.1f}" height="{cell - 1:.1f}" fill="{colour}" '
                f'fill-opacity="{strength:.2f}"><title>{said}</title></rect>'
            )
            if count and cell > 14:
                light = ' style="fill:#fff"' if strength > 0.6 else ""
                at = f'x="{x + cell / 2:.1f}" y="{y + cell * 0.65:.1f}"'
                body.append(f'<text {at} text-anchor="middle"{light}>{count}</text>')
    side = cell * len(names)
    return _figure(title, body, width=left + side + 10, height=top + side + 10)


def thumbnails(images: Sequence[tuple[str, bytes]], *, size: int = 56) -> str:
    """PNG images with a caption each, as HTML."""
    cells = [
        f'<figure><img width="{size}" height="{size}" alt="{escape(caption, quote=True)}" '
        f'src="data:image/png;base64,{base64.b64encode(data).decode()}"/><figcaption>{escape(caption)}</figcaption></figure>'
        for caption, data in images
    ]
    return f'<div class="thumbnails">{"".join(cells)}</div>'


def ticks(low: float, high: float) -> list[float]:
    """About TICKS round numbers from at or below `low` to at or above `high`."""
    if high - low <= max(1e-9 * max(abs(low), abs(high)), SMALLEST):  # one value, as far as can be drawn
        high = low + (abs(low) if abs(low) > SMALLEST else 1.0)
    span = high - low
    unit = 10.0 ** math.floor(math.log10(span / TICKS))
    step = next(s * unit for s in STEPS if span / (s * unit) <= TICKS + 0.5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


class _Up:
    """The vertical axis: from values to pixels, between round numbers."""

    def __init__(self, low: float, high: float) -> None:
        self.ticks = ticks(low, high)

    def __call__(self, value: float) -> float:
        low, high = self.ticks[0], self.ticks[-1]
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def grid(self) -> str:
        """Lines with their numbers."""
        parts = []
        for value in self.ticks:
            parts.append(f'<path d="M{LEFT} {self(value):.1f}H{WIDTH - RIGHT}" class="grid"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{self(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
        return "".join(parts)


def _bar(x: float, width: float, up: _Up, value: float, said: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{up(value):.1f}" width="{width:.1f}" height="{up(0) - up(value):.1f}" fill="{PALETTE[0]}">'
        f"<title>{escape(said)}</title></rect>"
    )


def _label(x: float, text: str, room: float) -> str:
    return f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{_short(text, max(3, int(room / 7)))}</text>'


def _short(text: str, most: int = LONGEST_LABEL) -> str:
    return escape(text if len(text) <= most else text[: most - 1] + "…")


def _empty(title: str) -> str:
    return _figure(title, [f'<text x="{WIDTH / 2}" y="{HEIGHT / 2}" text-anchor="middle">no data</text>'])


def _figure(title: str, body: Sequence[str], *, width: float = WIDTH, height: float = HEIGHT) -> str:
    name = escape(title, quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{name}" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}"><text x="4" y="14" class="title">{escape(title)}</text>{"".join(body)}</svg>'
    )
