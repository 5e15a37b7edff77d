"""Charts: well-formed, escaped, with round numbers on their axes, each with the table that says the same."""

import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cdl.report import axis, chart
from cdl.report.matrix import confusions, matrix
from cdl.report.page import Estimate, Figure

HOSTILE = "<script>alert(1)</script>\"&'</svg>\u202e"
NUMBERS = st.floats(min_value=-1e9, max_value=1e9, allow_nan=False)
POINTS = [(1.0, 0.5), (2.0, 0.75), (3.0, 0.7)]
DRAWN = [
    chart.bars(HOSTILE, {HOSTILE: 3.0, "b": 0.0}),
    chart.bars("many", {f"class {i}": float(i) for i in range(60)}),
    chart.bars("none", {}),
    chart.estimates(
        HOSTILE, {HOSTILE: Estimate(0.5, 0.4, 0.6)}, against={HOSTILE: 0.55}, against_name=HOSTILE, limit=0.5
    ),
    chart.estimates("all right", {"a": Estimate(1.0, 1.0, 1.0)}),
    chart.lines(HOSTILE, {HOSTILE: POINTS, "b": POINTS}, x=HOSTILE, limits={HOSTILE: 0.6}, zero=True),
    chart.lines("many", {f"e{i}": [(a, b + i) for a, b in POINTS] for i in range(30)}, x="epoch", first=["e7", "e3"]),
    chart.lines("flat", {"a": [(1.0, 2.0)]}, x="epoch"),
    chart.lines("none", {"a": []}, x="epoch"),
    chart.histogram(HOSTILE, [1.0, 2.0, 2.0, float("nan")]),
    chart.histogram("one value", [3.0, 3.0]),
    chart.scatter(HOSTILE, [(0.001, 0.5, HOSTILE), (0.1, 0.7, "b")], x=HOSTILE, y=HOSTILE, best=HOSTILE),
    chart.scatter("one", [(1.0, 1.0, "a")], x="x", y="y"),
    matrix(HOSTILE, [HOSTILE, "b"], [[3, 1], [0, 4]]),
    matrix("many", [f"class {i}" for i in range(80)], [[int(i == j) for j in range(80)] for i in range(80)]),
]


@example(0.0, 5e-324)
@example(5e-324, 5e-324)
@example(1e-310, 1e-310)
@given(NUMBERS, st.floats(min_value=0, max_value=1e9))
def test_ticks_are_few_rising_and_cover_the_range(low: float, span: float) -> None:
    found = axis.ticks(low, low + span)
    assert found == sorted(set(found)) and 2 <= len(found) <= 2 * axis.TICKS + 2
    slack = 1e-6 * (found[-1] - found[0])
    assert found[0] <= low + slack and found[-1] >= low + span - slack


@given(st.floats(min_value=1e-9, max_value=1e9), st.floats(min_value=1.0, max_value=1e6))
def test_powers_lie_inside_their_range(low: float, factor: float) -> None:
    found = axis.powers(low, low * factor)
    assert found and all(low * 0.99 <= value <= low * factor * 1.01 for value in found)


def test_ticks_are_round() -> None:
    assert axis.ticks(0, 109) == [0, 20, 40, 60, 80, 100, 120]
    assert axis.ticks(0.861, 0.995)[-1] == 1.0
    assert axis.ticks(5, 5)[0] <= 5 < axis.ticks(5, 5)[-1]


@pytest.mark.parametrize("drawn", DRAWN, ids=range(len(DRAWN)))
def test_figures_are_well_formed_and_say_hostile_names_as_text(drawn: Figure) -> None:
    root = ElementTree.fromstring(drawn.svg)
    known = {"svg", "text", "title", "path", "rect", "circle", "polyline", "g"}
    assert {e.tag.rpartition("}")[2] for e in root.iter()} <= known
    assert "<script" not in drawn.svg and "\u202e" not in drawn.svg
    wide, high = float(root.attrib["width"]), float(root.attrib["height"])
    for mark in root.iter():
        x, y = mark.attrib.get("x") or mark.attrib.get("cx"), mark.attrib.get("y") or mark.attrib.get("cy")
        assert x is None or y is None or (0 <= float(x) <= wide and 0 <= float(y) <= high), mark.attrib
    widths = {len(row) for row in drawn.table.rows}
    assert widths <= {len(drawn.table.columns)}


def test_a_line_stands_where_its_values_are() -> None:
    drawn = chart.lines("a", {"a": POINTS}, x="epoch", limits={"goal": 0.6})
    root = ElementTree.fromstring(drawn.svg)
    circles = [c for c in root.iter() if c.tag.endswith("circle")]
    heights = [float(c.attrib["cy"]) for c in circles]
    assert heights[0] > heights[2] > heights[1]  # pixels count downwards
    assert [t.text for c in circles for t in c] == ["a, epoch 1: 0.5", "a, epoch 2: 0.75", "a, epoch 3: 0.7"]
    limit = [p for p in root.iter() if p.attrib.get("class") == "limit" and p.attrib["d"].startswith(f"M{axis.LEFT} ")]
    assert heights[1] < float(limit[-1].attrib["d"].split(" ")[1].partition("H")[0]) < heights[0]
    assert drawn.table.columns == ("epoch", "a") and drawn.table.rows[0] == (1.0, 0.5)


def test_a_bar_is_as_long_as_its_value_and_estimates_begin_with_the_lowest() -> None:
    root = ElementTree.fromstring(chart.bars("a", {"one": 1.0, "four": 4.0}).svg)
    short, long = (float(r.attrib["width"]) for r in root.iter() if r.tag.endswith("rect"))
    assert long == pytest.approx(4 * short, rel=0.01)
    drawn = chart.estimates("a", {"best": Estimate(0.9, 0.8, 1.0), "worst": Estimate(0.2, 0.1, 0.3)})
    assert [row[0] for row in drawn.table.rows] == ["worst", "best"]


def test_of_very_many_names_the_largest_are_drawn_and_all_are_in_the_table() -> None:
    drawn = chart.bars("many", {f"class {i}": float(i) for i in range(60)})
    assert drawn.svg.count("<rect") == chart.MOST_ROWS and "class 59" in drawn.svg and ">class 3<" not in drawn.svg
    assert len(drawn.table.rows) == 60 and "25 of 60" in drawn.note
    drawn = chart.lines("many", {f"e{i}": [(a, b + i) for a, b in POINTS] for i in range(30)}, x="epoch", first=["e7"])
    assert drawn.table.columns == ("epoch", "e7") and drawn.svg.count("<polyline") == 30


def test_names_keep_their_ends_and_a_matrix_its_shares() -> None:
    assert axis.short("a very long name of class 17", 80) != axis.short("a very long name of class 18", 80)
    assert confusions(["a", "b"], [[3, 1], [6, 4]]) == [("b", "a", 6, "60.0 % of 10"), ("a", "b", 1, "25.0 % of 4")]
    drawn = matrix("m", ["a", "b"], [[30, 10], [0, 4]])
    opacity = {e.attrib["fill"]: [] for e in ElementTree.fromstring(drawn.svg).iter() if "fill-opacity" in e.attrib}  # type: dict[str, list[float]]
    for e in ElementTree.fromstring(drawn.svg).iter():
        if "fill-opacity" in e.attrib:
            opacity[e.attrib["fill"]].append(float(e.attrib["fill-opacity"]))
    right, wrong = opacity[axis.PALETTE[0]], opacity[axis.PALETTE[1]]
    assert right[1] > right[0] > wrong[0] > wrong[1]  # 4 of 4, 30 of 40, 10 of 40, none
    assert drawn.table.rows == (("a", 30, 10), ("b", 0, 4))
