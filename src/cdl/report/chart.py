"""Charts as SVG text: bars, lines, histograms, a matrix of counts, thumbnails. No script, nothing from outside.

Every text is escaped; colours keep apart for colour-blind eyes and follow the page's light or dark scheme.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 640, 260  # pixels of a chart
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 30, 40
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#7f7f7f")
TICKS = 5
LONGEST_LABEL = 24  # characters

Points = Sequence[tuple[float, float]]


def bars(title: str, values: Mapping[str, float], *, intervals: Mapping[str, tuple[float, float]] | None = None) -> str:
    """One bar a name, with its interval where there is one."""
    if not values:
        return _empty(title)
    spans = intervals or {}
    top = max([*values.values(), *(high for _, high in spans.values()), 0.0]) or 1.0
    marks, (up, _) = _axis(0.0, top)
    step = (WIDTH - LEFT - RIGHT) / len(values)
    body = [marks]
    for i, (name, value) in enumerate(values.items()):
        x, y = LEFT + i * step + step * 0.15, up(value)
        body.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{step * 0.7:.1f}" height="{up(0) - y:.1f}" fill="{PALETTE[0]}"/>'
        )
        if name in spans:
            middle, (low, high) = x + step * 0.35, spans[name]
            body.append(f'<path d="M{middle:.1f} {up(low):.1f}V{up(high):.1f}" class="whisker"/>')
        body.append(_label(x + step * 0.35, name, step))
    return _figure(title, body)


def lines(title: str, series: Mapping[str, Points], *, x: str, y: str) -> str:
    """One line a name over a shared axis."""
    drawn = {name: points for name, points in series.items() if points}
    if not drawn:
        return _empty(title)
    xs = [p[0] for points in drawn.values() for p in points]
    ys = [p[1] for points in drawn.values() for p in points]
    marks, (up, _) = _axis(min(ys), max(ys))
    low, high = min(xs), max(xs)

    def across(value: float) -> float:
        return LEFT + (value - low) / ((high - low) or 1) * (WIDTH - LEFT - RIGHT)

    body = [marks, _label(across(low), f"{low:g}", 80), _label(across(high), f"{high:g}", 80)]
    for i, (name, points) in enumerate(drawn.items()):
        colour = PALETTE[i % len(PALETTE)]
        path = " ".join(f"{across(a):.1f},{up(b):.1f}" for a, b in points)
        body.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        body += [f'<circle cx="{across(a):.1f}" cy="{up(b):.1f}" r="2.5" fill="{colour}"/>' for a, b in points]
        body.append(
            f'<text x="{LEFT + 8 + 120 * (i % 4)}" y="{TOP + 2 + 14 * (i // 4)}" fill="{colour}">{_short(name)}</text>'
        )
    body.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x)}</text>')
    body.append(f'<text x="4" y="{TOP - 8}">{escape(y)}</text>')
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
    marks, (up, _) = _axis(0, max(counts))
    step = (WIDTH - LEFT - RIGHT) / bins
    body = [marks, _label(LEFT + 14, f"{low:g}", 80), _label(WIDTH - RIGHT - 18, f"{high:g}", 80)]
    for i, count in enumerate(counts):
        body.append(
            f'<rect x="{LEFT + i * step:.1f}" y="{up(count):.1f}" width="{max(step - 1, 1):.1f}" '
            f'height="{up(0) - up(count):.1f}" fill="{PALETTE[0]}"/>'
        )
    return _figure(title, body)


def matrix(title: str, names: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Counts by true class (rows) and predicted class (columns)."""
    if not names:
        return _empty(title)
    most = max((c for row in counts for c in row), default=0) or 1
    cell = min(44.0, 520 / len(names))
    side = 110 + cell * len(names)
    body = [f'<text x="110" y="{TOP + 2}">predicted</text>', f'<text x="4" y="{TOP + 40}">true</text>']
    for i, row in enumerate(counts):
        y = 46 + i * cell
        body.append(f'<text x="104" y="{y + cell * 0.65:.1f}" text-anchor="end">{_short(names[i])}</text>')
        body.append(f'<text x="{110 + (i + 0.5) * cell:.1f}" y="42" text-anchor="middle">{_short(names[i], 7)}</text>')
        for j, count in enumerate(row):
            x = 110 + j * cell
            colour = PALETTE[0] if i == j else PALETTE[1]
            strength = 0.08 + 0.92 * count / most if count else 0.03
            body.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{cell - 1:.1f}" height="{cell - 1:.1f}" fill="{colour}" '
                f'fill-opacity="{strength:.2f}"/>'
            )
            if count:
                body.append(
                    f'<text x="{x + cell / 2:.1f}" y="{y + cell * 0.65:.1f}" text-anchor="middle" class="cell">{count}</text>'
                )
    return _figure(title, body, width=side + 10, height=side - 40)


def thumbnails(images: Sequence[tuple[str, bytes]], *, size: int = 56) -> str:
    """PNG images with a caption each, as HTML."""
    cells = [
        f'<figure><img width="{size}" height="{size}" alt="{escape(caption, quote=True)}" '
        f'src="data:image/png;base64,{base64.b64encode(data).decode()}"/><figcaption>{escape(caption)}</figcaption></figure>'
        for caption, data in images
    ]
    return f'<div class="thumbnails">{"".join(cells)}</div>'


def _axis(low: float, high: float) -> "tuple[str, tuple[_Scale, float]]":
    """Grid lines with numbers, and the scale from values to pixels."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    scale = _Scale(low, high)
    parts = []
    for i in range(TICKS + 1):
        value = low + (high - low) * i / TICKS
        y = scale(value)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    return "".join(parts), (scale, high)


class _Scale:
    def __init__(self, low: float, high: float) -> None:
        self.low = low
        self.high = high

    def __call__(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self.low) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)


def _label(x: float, text: str, room: float) -> str:
    return f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{_short(text, max(3, int(room / 7)))}</text>'


def _short(text: str, most: int = LONGEST_LABEL) -> str:
    return escape(text if len(text) <= most else text[: most - 1] + "…")


def _empty(title: str) -> str:
    return _figure(title, [f'<text x="{WIDTH / 2}" y="{HEIGHT / 2}" text-anchor="middle">no data</text>'])


def _figure(title: str, body: Sequence[str], *, width: float = WIDTH, height: float = HEIGHT) -> str:
    name = escape(title, quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{name}" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}"><title>{escape(title)}</title>'
        f'<text x="4" y="14" class="title">{escape(title)}</text>{"".join(body)}</svg>'
    )
