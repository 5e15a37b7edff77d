"""What charts share: round numbers on an axis, places on a plane, short labels, the frame of a figure."""

import math
from collections.abc import Callable, Sequence
from html import escape

from cdl.report.page import Figure, Table
from cdl.report.text import number, visible

WIDTH, HEIGHT = 460, 230  # units of a chart; pixels where there is room
LEFT, RIGHT, TOP, BOTTOM = 54, 16, 12, 40
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#7f7f7f")
TICKS = 5  # about so many on an axis
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)  # what lies between two ticks, times a power of ten
LONGEST = 1000  # characters at either end of a text that are looked at
LETTER = 6.6  # units of an average letter
TINIEST = 1e-300  # a range below it cannot be divided any more
LOG_FROM = 30.0  # the largest value over the smallest, from which on an axis may be logarithmic

Place = Callable[[float], float]


def ticks(low: float, high: float) -> list[float]:
    """About TICKS round numbers from at or below `low` to at or above `high`."""
    if high - low <= max(1e-9 * max(abs(low), abs(high)), TINIEST):  # one value, as far as can be drawn
        high = low + (abs(low) if abs(low) > TINIEST else 1.0)
    span = high - low
    unit = 10.0 ** math.floor(math.log10(span / TICKS))
    step = next(s * unit for s in STEPS if span / (s * unit) <= TICKS + 0.5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def powers(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within a range of positive numbers; powers alone where it is wide."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1.0,) if last - first > 2 else (1.0, 2.0, 5.0)
    found = [f * 10.0**e for e in range(first, last + 1) for f in factors]
    inside = [float(f"{v:.3g}") for v in found if low * 0.999 <= v <= high * 1.001]
    return inside or [low, high]


class Up:
    """The vertical axis: from values to units of the picture, between round numbers."""

    def __init__(self, low: float, high: float, *, top: float = TOP, height: float = HEIGHT) -> None:
        self.ticks = ticks(low, high)
        self.top, self.bottom = top, height - BOTTOM

    def __call__(self, value: float) -> float:
        low, high = self.ticks[0], self.ticks[-1]
        return self.bottom - (value - low) / (high - low) * (self.bottom - self.top)

    def grid(self) -> str:
        """Lines with their numbers."""
        return "".join(
            f'<path d="M{LEFT} {self(v):.1f}H{WIDTH - RIGHT}" class="grid"/>{said(LEFT - 6, self(v) + 4, label(v), "end")}'
            for v in self.ticks
        )


def across(low: float, high: float, *, left: float = LEFT, right: float = WIDTH - RIGHT, log: bool = False) -> Place:
    """The horizontal axis: from values to units of the picture. One value alone stands in the middle."""
    if log:
        low, high = math.log10(low), math.log10(high)
    if high == low:
        return lambda value: (left + right) / 2
    return lambda value: left + ((math.log10(value) if log else value) - low) / (high - low) * (right - left)


def said(x: float, y: float, text: str, anchor: str = "middle", *, soft: bool = False, style: str = "") -> str:
    """A text at a place; `text` is foreign and escaped here."""
    more = (' class="soft"' if soft else "") + (f' style="{style}"' if style else "")
    at = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}"{at}{more}>{escape(visible(text))}</text>'


def hint(text: str) -> str:
    """What shows when the pointer rests on a mark."""
    return f"<title>{escape(visible(text))}</title>"


def label(value: float) -> str:
    """A number on an axis."""
    if value and (abs(value) >= 1e6 or abs(value) < 1e-3):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def short(text: str, room: float) -> str:
    """As much of a text as fits into some units; what was cut says so."""
    most = max(3, int(room / LETTER))
    if len(text) > 2 * LONGEST:
        text = text[:LONGEST] + text[-LONGEST:]
    text = " ".join(visible(text).split())
    if len(text) <= most:
        return text
    end = most // 3  # names often differ at their ends
    return text[: most - 1 - end] + "…" + text[len(text) - end :]


def figure(
    title: str,
    body: Sequence[str],
    table: Table,
    *,
    width: float = WIDTH,
    height: float = HEIGHT,
    note: str = "",
) -> Figure:
    """A drawn figure. `table` says the same in words and numbers."""
    name = escape(visible(title), quote=True)
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{name}" {size}>{"".join(body)}</svg>'
    return Figure(title=title, svg=svg, table=table, note=note)


def nothing(title: str) -> Figure:
    """A figure without anything to draw."""
    return figure(title, [said(WIDTH / 2, 30, "no data", soft=True)], Table((), ()), height=50)


def thinned(count: int, most: int) -> list[int]:
    """At most so many places of a sequence, spread evenly, both ends with them."""
    if count <= most:
        return list(range(count))
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})


def shown(value: float) -> str:
    """A value beside its mark."""
    return number(value)
