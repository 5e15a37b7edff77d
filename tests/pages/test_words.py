"""What a page says of numbers: verdicts, intervals that reach beyond a limit, differences that may be luck."""

from cdl.config.requirement import in_unit
from cdl.pages.comparison import reading
from cdl.pages.decisions import requirement_counts, requirements
from cdl.report.page import Estimate, Page, Table, plain


def table(judged: list[dict[str, object]], intervals: dict[str, Estimate] | None = None) -> list[list[str]]:
    """The rows of the section, and its sentence first."""
    section = requirements(Page(name="p", title="p"), judged, intervals=intervals)
    (found,) = [part for part in section.parts if isinstance(part, Table)]
    return [[plain(cell) for cell in row] for row in found.rows]


def test_what_failed_stands_first_and_what_is_open_last() -> None:
    judged: list[dict[str, object]] = [
        {"require": "live.error_rate <= 1 %", "value": None, "held": "later"},
        {"require": "test.accuracy >= 0.9", "value": 0.95, "held": True},
        {"require": "test.loss <= 0.1", "value": None, "held": False},
        {"require": "test_empty_text", "value": "fail", "held": False},
        {"require": "revision.size <= 1 MB", "value": 2_500_000.0, "held": False},
        {"require": "test_long_text", "value": "pass", "held": True},
    ]
    assert [row[0] for row in table(judged)] == ["NOT held", "failed", "no value yet", "held", "passed", "later"]
    assert table(judged)[0][1:3] == ["revision.size <= 1 MB", "2.5 MB"]
    assert (
        plain(requirement_counts(judged))
        == "2 of 6 held, 2 judged later; NOT held: test_empty_text, revision.size <= 1 MB"
    )


def test_an_interval_that_reaches_beyond_the_limit_is_said() -> None:
    judged: list[dict[str, object]] = [{"require": "test.accuracy >= 0.90", "value": 0.92, "held": True}]
    sure, unsure, other = Estimate(0.92, 0.905, 0.94), Estimate(0.92, 0.87, 0.95), Estimate(0.93, 0.87, 0.95)
    assert table(judged, {"test.accuracy": sure})[0][3] == "also at both ends of its 95 % interval"
    assert table(judged, {"test.accuracy": unsure})[0][3] == "its 95 % interval reaches 0.87"
    assert len(table(judged, {"test.accuracy": other})[0]) == 3, (
        "the interval of another evaluation says nothing of this value"
    )
    failed: list[dict[str, object]] = [{"require": "test.accuracy >= 0.90", "value": 0.89, "held": False}]
    assert table(failed, {"test.accuracy": Estimate(0.89, 0.86, 0.92)})[0][3] == "its 95 % interval reaches 0.92"
    assert table(failed, {"test.accuracy": Estimate(0.89, 0.88, 0.895)})[0][3] == "at no end of its 95 % interval"


def test_a_difference_counts_by_its_exact_p_value() -> None:
    few = {
        "difference": 0.0114,
        "interval": [0.0003, 0.0225],
        "p": 0.125,
    }  # 4 items against none: the interval is too narrow
    assert reading(few).text == "no clear difference"
    assert (
        reading({"difference": 0.03, "p": 0.001}).text == "better"
        and reading({"difference": -0.03, "p": 0.001}).text == "worse"
    )


def test_values_stand_in_the_unit_of_their_requirement() -> None:
    assert in_unit("revision.latency_p95 <= 20 ms", 0.0031) == "3.1 ms"
    assert in_unit("live.error_rate <= 1 %", 0.004) == "0.4 %"
    assert in_unit("items >= 10000", 12345.0) == "12,345" and in_unit("test.accuracy >= 0.8", 0.98912) == "0.9891"
