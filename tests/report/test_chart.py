"""Charts and pages: well-formed, escaped, with round numbers on their axes, and nothing that runs or loads."""

import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cdl.report import chart
from cdl.report.page import Page

HOSTILE = "<script>alert(1)</script>\"&'</svg>"
NUMBERS = st.floats(min_value=-1e9, max_value=1e9, allow_nan=False)
POINTS = [(1.0, 0.5), (2.0, 0.75), (3.0, 0.7)]


@example(0.0, 5e-324)
@example(5e-324, 5e-324)
@example(1e-310, 1e-310)
@given(NUMBERS, st.floats(min_value=0, max_value=1e9))
def test_ticks_are_few_rising_and_cover_the_range(low: float, span: float) -> None:
    found = chart.ticks(low, low + span)
    assert found == sorted(set(found)) and 2 <= len(found) <= 2 * chart.TICKS + 2
    slack = 1e-6 * (found[-1] - found[0])
    assert found[0] <= low + slack and found[-1] >= low + span - slack


def test_ticks_are_round() -> None:
    assert chart.ticks(0, 109) == [0, 20, 40, 60, 80, 100, 120]
    assert chart.ticks(0.861, 0.995)[-1] == 1.0
    assert chart.ticks(5, 5)[0] <= 5 < chart.ticks(5, 5)[-1]


@pytest.mark.parametrize(
    "drawn",
    [
        chart.bars(HOSTILE, {HOSTILE: 3.0, "b": 0.0}, intervals={HOSTILE: (2.0, 4.0)}),
        chart.bars("none", {}),
        chart.lines(HOSTILE, {HOSTILE: POINTS, "b": POINTS}, x=HOSTILE, limits={HOSTILE: 0.6}, zero=True),
        chart.lines("flat", {"a": [(1.0, 2.0)]}, x="epoch"),
        chart.lines("none", {"a": []}, x="epoch"),
        chart.histogram(HOSTILE, [1.0, 2.0, 2.0, float("nan")]),
        chart.histogram("one value", [3.0, 3.0]),
        chart.matrix(HOSTILE, [HOSTILE, "b"], [[3, 1], [0, 4]]),
    ],
)
def test_figures_are_well_formed_and_say_hostile_names_as_text(drawn: str) -> None:
    root = ElementTree.fromstring(drawn)
    assert {e.tag.rpartition("}")[2] for e in root.iter()} <= {
        "svg",
        "text",
        "title",
        "path",
        "rect",
        "circle",
        "polyline",
    }
    assert "<script" not in drawn


def test_a_line_stands_where_its_values_are() -> None:
    root = ElementTree.fromstring(chart.lines("a", {"a": POINTS}, x="epoch", limits={"goal": 0.6}))
    circles = [c for c in root.iter() if c.tag.endswith("circle")]
    heights = [float(c.attrib["cy"]) for c in circles]
    assert heights[0] > heights[2] > heights[1]  # pixels count downwards
    assert [t.text for c in circles for t in c] == ["a, epoch 1: 0.5", "a, epoch 2: 0.75", "a, epoch 3: 0.7"]
    limit = next(p for p in root.iter() if p.attrib.get("class") == "limit")
    assert heights[1] < float(limit.attrib["d"].split(" ")[1].partition("H")[0]) < heights[0]


def test_a_page_escapes_and_forbids_scripts_and_loading() -> None:
    page = Page(HOSTILE)
    page.heading(HOSTILE).text(HOSTILE).facts({HOSTILE: HOSTILE}).table([{HOSTILE: True, "b": None}], [HOSTILE, "b"])
    page.figures(chart.bars(HOSTILE, {HOSTILE: 1.0})).thumbnails(chart.thumbnails([(HOSTILE, b"\x89PNG")]))
    html = page.html().decode()
    assert "<script" not in html and html.count("&lt;script&gt;") >= 8
    assert "default-src 'none'" in html and "http://" not in html.replace("http://www.w3.org/2000/svg", "")
