"""One page, two writers: the same words in both, foreign text as text, nothing that runs, loads, links away or calls anybody."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdl.report import chart
from cdl.report.page import (
    Code,
    Estimate,
    Fixed,
    Link,
    Page,
    bad,
    good,
    plain,
    several,
    soft,
)
from cdl.report.text import code_span, file_name, markdown, number, seconds, size, visible
from cdl.report.write import text_of, write
from tests.report import pages

HOSTILE = [
    "<script>alert(1)</script>",
    "a | b | c",
    "`x` ``y``",
    "*bold* _soft_ ~~gone~~ [link](javascript:alert(1)) ![i](http://example.org/x.png)",
    "@all see @review, not a@b.org",
    "/approve",
    "# no heading",
    "- no list",
    "1. none either",
    "two\nlines\r\nand\ttabs",
    "turned \u202e around \x1b[31m",
    "</td></table><img src=x onerror=alert(1)>",
    "&lt;b&gt; &amp;",
    "$x$ \\ back",
    "```",
    "",
    " ",
]


def hostile_page() -> Page:
    """A page of hostile texts, in every place there is."""
    page = Page(name="../../etc/<x>", title=HOSTILE[0], subtitle=HOSTILE[3], made=HOSTILE[4])
    for text in HOSTILE:
        page.notice(text, "bad", [text])
        section = page.section(text or "empty")
        section.text(text).text(bad(text)).facts({text: text, "code": Code(text), "some": several([text, Code(text)])})
        section.table([text, "b"], [[text, Code(text)], [good(text), Link(text, text)], [1.5, None]])
        section.figures(chart.bars(text, {text: 1.0}), chart.lines(text, {text: [(1, 1)]}, x=text))
        section.pictures([(text, b"\x89PNG")])
        section.listing(text, f"--- a\n+++ b\n+{text}\n-```` {text}\n ```\n````\n<b>")
    return page


def test_hostile_text_is_text_in_html() -> None:
    html = text_of(hostile_page(), there=["a"])
    page = pages.check_alone(html)
    assert "\u202e" not in html and "\x1b" not in html
    shown = "".join(page.said)
    for text in ("<script>alert(1)</script>", "</td></table><img src=x onerror=alert(1)>", "turned \\x202e around"):
        assert text in shown
    assert page.tags.count("img") == len(HOSTILE), "the pictures that were given, and none that a text asks for"


def test_hostile_text_is_text_in_markdown() -> None:
    text = text_of(hostile_page(), "md")
    page = pages.read_markdown(text)
    allowed = {
        "h1",
        "h2",
        "p",
        "blockquote",
        "strong",
        "code",
        "pre",
        "hr",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
    }
    assert set(page.tags) <= allowed
    assert "\u202e" not in text and "\x1b" not in text
    shown = "".join(page.said)
    assert "<script>alert(1)</script>" in shown and "*bold* _soft_ ~~gone~~ [link](javascript:alert(1))" in shown
    assert all(not line.startswith("/") for line in text.splitlines()), "a host would take it for a command"
    assert "@all" not in shown.replace("`", "") or "@\u2060all" in shown


def test_both_say_the_same_words_in_the_same_order() -> None:
    page = hostile_page()
    first, second = pages.read_html(text_of(page)), pages.read_markdown(text_of(page, "md"))
    one, two = ([pages.plain(c) for c in read.cells] for read in (first, second))
    # a table of names and values has an empty header in Markdown
    assert [c for c in one if c] == [c for c in two if c]
    titles = [pages.plain(s.title) for s in page.written()]
    for read in (first, second):
        shown = pages.plain(" ".join(read.said))
        assert [
            t for t in titles if pages.plain(t.replace("\u202e", "\\x202e").replace("\x1b", "\\x1b")) not in shown
        ] == []


@given(st.text())
def test_any_text_comes_back_from_markdown_as_it_was(text: str) -> None:
    shown = pages.plain(visible(text))
    read = pages.read_markdown(
        f"| {markdown(text)} | {code_span(text)} |\n|---|---|\n| {markdown(text)} | {code_span(text)} |"
    )
    assert [pages.plain(c) for c in read.cells] == [shown] * 4
    paragraph = pages.read_markdown(markdown(text))
    assert pages.plain("".join(paragraph.said)) == shown and set(paragraph.tags) <= {"p"}


def test_numbers_as_people_read_them() -> None:
    assert [number(v) for v in (3, 1437, 0.98912345, 12400.5, 3.1e-7, 2.0)] == [
        "3",
        "1,437",
        "0.9891",
        "12,400",
        "3.1e-07",
        "2",
    ]
    assert [size(v) for v in (468, 82620, 1.2e9)] == ["468 B", "82.6 kB", "1.2 GB"]
    assert [seconds(v) for v in (0.0000255, 0.31, 2.5, 600)] == ["0.0255 ms", "310 ms", "2.5 s", "10.0 min"]
    assert plain(Estimate(0.9858, 0.9671, 0.9939)) == "0.986 [0.967, 0.994]"
    assert plain(Estimate(0.0114, 0.0003, 0.0225, signed=True)) == "+0.0114 [+0.0003, +0.0225]"
    assert plain(Fixed(1200, 0, signed=True)) == "+1,200" and plain(None) == "–" and plain(True) == "yes"


def test_what_is_empty_is_not_written() -> None:
    page = Page(name="a", title="a")
    page.section("nothing").facts({"a": None, "b": ""}).table(["x"], []).figures(None).listing("t", "")
    page.section("something").table(["kept", "empty"], [[1, None], [2, None]])
    for form in ("html", "md"):
        text = text_of(page, form)
        assert "nothing" not in text and "something" in text and "kept" in text and "empty" not in text


def test_a_page_links_only_to_pages_that_are_there(tmp_path: Path) -> None:
    page = Page(name="one", title="one")
    page.section("s").table(["a"], [[Link("two", "two")], [Link("three", "../three/x")]])
    assert "<a href" not in write(page, tmp_path).read_text().partition("<section>")[2]
    (tmp_path / "two.html").write_text("")
    text = write(page, tmp_path, beside=["../three/x"]).read_text()
    assert 'href="two.html"' in text and 'href="three-x.html"' in text
    assert "[two](two.md)" in write(page, tmp_path, form="md", beside=["two"]).read_text()


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "..", "", ".hidden", "a b/c\0d", "Käse", "-rf"])
def test_a_page_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    found = write(Page(name=name, title="t"), tmp_path / "reports")
    assert found.parent == tmp_path / "reports" and not found.name.startswith((".", "-"))
    assert file_name(name) == file_name(file_name(name))


def test_a_tone_is_never_only_a_colour() -> None:
    page = Page(name="a", title="a")
    page.section("s").table(["r"], [[good("held")], [bad("NOT held")], [soft("later")]])
    read = pages.read_html(text_of(page))
    assert read.cells == ["r", "held", "NOT held", "later"]
