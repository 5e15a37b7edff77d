"""Learning curves: a chart for each measure, training and validation in one."""

from collections import defaultdict
from collections.abc import Mapping

from cdl.report import chart
from cdl.report.page import Figure


def curves(points: Mapping[str, chart.Points]) -> list[Figure]:
    """A chart for each measure, training and validation in one."""
    groups: dict[str, dict[str, chart.Points]] = defaultdict(dict)
    for name, values in points.items():
        part, _, measure = name.rpartition(".")
        groups[measure][part or measure] = values
    found = []
    for measure, series in groups.items():
        single = next(iter(series)) if len(series) == 1 else ""
        title = f"{single} {measure}" if single and single != measure else measure
        found.append(chart.lines(title, series, x="epoch"))
    return found
