"""Writes a page as Markdown for merge requests (GitHub, GitLab): charts as tables, long listings folded."""

import re

from cdl.report.page import (
    Cell,
    Code,
    Figure,
    Figures,
    Link,
    Listing,
    Mark,
    Notice,
    Page,
    Part,
    Pictures,
    Several,
    Table,
    Text,
    plain,
)
from cdl.report.text import code_span, file_name, visible
from cdl.report.text import markdown as escaped

SIGNS = {"good": "", "warn": "⚠ ", "bad": "✗ ", "soft": "", "plain": ""}
SHOWN_LINES = 20  # of a listing that is not folded


def markdown(page: Page, linked: frozenset[str] = frozenset()) -> str:
    """The whole page."""
    blocks = [f"# {escaped(page.title)}"]
    if page.subtitle:
        blocks.append(escaped(page.subtitle))
    blocks += [_notice(notice) for notice in page.notices]
    for section in page.written():
        blocks.append(f"## {escaped(section.title)}")
        blocks += [_part(linked, part) for part in section.parts]
    if page.made:
        blocks += ["---", escaped(page.made)]
    return "\n\n".join(blocks) + "\n"


def _notice(notice: Notice) -> str:
    text = f"> {SIGNS[notice.tone]}**{escaped(notice.text)}**"
    return "\n".join([text, *(f">\n> {code_span(command)}" for command in notice.commands)])


def _part(linked: frozenset[str], part: Part) -> str:
    match part:
        case Text():
            return cell(linked, part.cell)
        case Table():
            return _table(linked, part)
        case Figures():
            return "\n\n".join(_figure(linked, f) for f in part.figures)
        case Pictures():
            return "Pictures are on the HTML page: " + escaped(", ".join(name for name, _ in part.pictures))
        case Listing():
            return _listing(part)


def cell(linked: frozenset[str], value: Cell) -> str:
    """A cell on one line."""
    match value:
        case Link() if file_name(value.page) in linked:
            return f"[{escaped(value.text)}]({file_name(value.page)}.md)"
        case Code() | Link():
            return code_span(value.text)
        case Mark(text, "bad"):
            return f"**{escaped(text)}**"
        case Several():
            return ", ".join(cell(linked, c) for c in value.cells)
    return escaped(plain(value))


def _table(linked: frozenset[str], table: Table) -> str:
    columns = table.columns or ("", "") if table.rows else table.columns
    head = [f"| {' | '.join(escaped(c) for c in columns)} |", f"|{'---|' * len(columns)}"]
    return "\n".join(head + [f"| {' | '.join(cell(linked, c) for c in row)} |" for row in table.rows])


def _figure(linked: frozenset[str], figure: Figure) -> str:
    parts = [f"**{escaped(figure.title)}**"]
    if figure.note:
        parts.append(escaped(figure.note))
    return "\n\n".join([*parts, _table(linked, figure.table)]) if figure.table.rows else "\n\n".join(parts)


def _listing(listing: Listing) -> str:
    text = visible(listing.text).rstrip("\n")
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall(r"`+", text)), 3)
    block = f"{fence}diff\n{text}\n{fence}"
    if len(text.splitlines()) <= SHOWN_LINES:
        return f"{escaped(listing.title)}\n\n{block}"
    return f"<details><summary>{_tag(listing.title)}</summary>\n\n{block}\n\n</details>"


def _tag(text: str) -> str:
    """Text inside a tag that Markdown does not look into."""
    return visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "@\u2060")
