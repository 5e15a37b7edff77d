"""Learning curves: a chart for each measure, training and validation in one."""

from collections import defaultdict
from collections.abc import Mapping

from cdl.model import trials
from cdl.model.trials import Trial
from cdl.report import chart
from cdl.report.page import Figure
from cdl.workflow.workspace import Workspace


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


def kept_points(workspace: Workspace, trial: Trial) -> dict[str, list[tuple[float, float]]]:
    """The curves of a trial; none where they are not in this clone."""
    return trials.points(workspace, trial) if trial.points is None or workspace.store.has(trial.points) else {}
