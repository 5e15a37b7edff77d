"""Foreign text made harmless for where it is shown, and numbers as people read them."""

import re
import unicodedata

MARKED = re.compile(r"([\\`*_\[\]<>#|~$!])")  # what Markdown reads as its own
# how a list, a heading's line, or a command to the host of a merge request begins
BEGINS = re.compile(r"^(?=[-+](?:[ -]|$)|[=/]|\d+[.)](?: |$))(\d*)([-+=/.)])")
MENTION = re.compile(r"(?<!\w)@(?=\w)")
JOINER = "\u2060"  # no width; keeps a host from calling somebody
STEPS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def terminal(text: str) -> str:
    """Text without control characters: a name cannot move the cursor or colour the screen. Line ends stay."""
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)


def visible(text: str) -> str:
    """Text for a page: like `terminal`, with tabs as spaces; what would turn the direction of reading is shown."""
    return terminal(text.expandtabs(4).replace("\r\n", "\n"))


def markdown(text: str) -> str:
    """Text on one line of Markdown that stays text: no emphasis, link, tag, cell, list, mention or command."""
    line = " ".join(visible(text).split()).replace("&", "&amp;")
    line = BEGINS.sub(r"\1\\\2", MARKED.sub(r"\\\1", line))
    return MENTION.sub("@" + JOINER, line)


def code_span(text: str) -> str:
    """Text as a code span of Markdown, also inside a table."""
    line = " ".join(visible(text).split())
    runs = [len(run) for run in re.findall(r"`+", line)]
    fence = "`" * (max(runs, default=0) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") or not line else ""
    return f"{fence}{pad}{line}{pad}{fence}".replace("|", "\\|")


def number(value: float) -> str:
    """A number as people read it: 1,437; 0.9891; 12,400; 3.1e-06."""
    if isinstance(value, int):
        return f"{value:,}"
    if value != value or value in (float("inf"), float("-inf")):
        return str(value)
    if value.is_integer() and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def size(count: float) -> str:
    """Bytes as people read them."""
    for unit, step in STEPS:
        if count >= step:
            return f"{count / step:.3g} {unit}" if count / step < 1000 else f"{count / step:,.0f} {unit}"
    return f"{count:.0f} B"


def seconds(value: float) -> str:
    """A time as people read it."""
    if value >= 90:
        return f"{value / 60:.1f} min"
    return f"{value:.3g} s" if value >= 1 else f"{value * 1e3:.3g} ms"


def file_name(text: str) -> str:
    """A name for a file: what is neither letter, digit nor one of ._- becomes a hyphen; it names no other folder."""
    plain = unicodedata.normalize("NFC", text)
    return re.sub(r"[^\w.-]+", "-", plain).lstrip(".-") or "page"


def count(number_of: int, what: str, many: str | None = None) -> str:
    """`1 item`, `3 items`."""
    return f"{number_of:,} {what if number_of == 1 else many or what + 's'}"
