"""Reads pages back: the texts of an HTML page in order, and a Markdown page as HTML, as a host would show it."""

from html.parser import HTMLParser
from pathlib import Path

from markdown_it import MarkdownIt

VOID = {"meta", "img", "wbr", "br", "hr"}


class Read(HTMLParser):
    """The tags, attributes and texts of a page; `cells` are those of its tables, in order, without charts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.cells: list[str] = []
        self.said: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == [], "every tag is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag in ("td", "th"):
            self.cells.append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        if {"td", "th"} & set(self._open):
            self.cells[-1] += data
        self.said.append(data)


def plain(text: str) -> str:
    """A text without the marks that only a writer needs."""
    return " ".join(text.replace("\u2060", "").split())


def read_html(text: str) -> Read:
    """An HTML page."""
    return Read(text)


def read_markdown(text: str) -> Read:
    """A Markdown page, shown as HTML."""
    return Read(MarkdownIt("commonmark").enable("table").render(text))


def check_alone(text: str) -> Read:
    """An HTML page that needs nothing from outside and runs nothing."""
    page = Read(text)
    assert not {"script", "iframe", "object", "embed", "link", "base", "form", "input", "video", "audio"} & set(
        page.tags
    )
    for name, value in page.attributes:
        assert not name.startswith("on"), name
        if name in ("src", "srcset", "href", "action", "xlink:href", "data", "poster"):
            inside = value.startswith(("data:image/png;base64,", "#")) or (
                Path(value).name == value and ":" not in value
            )
            assert inside, (name, value)
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style and "@import" not in style
    assert "default-src 'none'" in text
    return page
