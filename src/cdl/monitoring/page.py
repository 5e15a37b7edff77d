"""Monitoring of a stage as a page: its measures window by window, and what became an alarm."""

from collections.abc import Sequence
from pathlib import Path

from cdl.errors import NotFound
from cdl.journal.events import Event
from cdl.monitoring.drift import DRIFT, FAILING, LARGE
from cdl.registry.records import short
from cdl.report import chart
from cdl.report.page import Page
from cdl.workflow.policy import in_force
from cdl.workflow.workspace import Workspace

REPORTS = "reports"  # ignored by git


def stage_page(workspace: Workspace, stage: str) -> Path:
    """Writes reports/<stage>.html; the file. NotFound before the first window."""
    windows = [e for e in workspace.journal.events("monitor.window") if e.fields["stage"] == stage]
    if not windows:
        raise NotFound(f"{stage} has no measured window yet", remedy=f"cdl monitor run {stage} --once")
    page = Page(f"{stage}: {len(windows)} windows")
    alarms = [
        e
        for e in workspace.journal.events()
        if e.kind in ("monitor.alarm", "monitor.drift") and e.fields["stage"] == stage
    ]
    rows = [
        {
            "window": e.fields["window"],
            "model": short(e.fields["model"]),
            "alarm": e.fields.get("measure") or ", ".join(e.fields["measures"]),
        }
        for e in alarms
    ]
    page.heading("Alarms")
    page.table(rows, ["window", "model", "alarm"]) if rows else page.text("None.")
    page.heading("Measures")
    names = sorted(
        {n for e in windows for n in e.fields["measures"] if not n.startswith(FAILING) and not n.endswith(".p")}
    )
    page.figures(*(_chart(workspace, name, windows) for name in names))
    target = workspace.root / REPORTS / f"{stage}.html"
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(page.html())
    return target


def _chart(workspace: Workspace, name: str, windows: Sequence[Event]) -> str:
    """One measure over the windows, with what it is held against."""
    numbers = [(float(e.fields["window"]), e.fields["measures"]) for e in windows]
    points = [(number, measures[name]) for number, measures in numbers if name in measures]
    limits = {r.text: r.value for r in in_force(workspace).requirements("live.") if r.measure == name}
    drifted = name.removeprefix(DRIFT)
    if drifted in LARGE:
        limits["large"] = LARGE[drifted]
    title = f"{name}, seconds" if "latency" in name else name
    return chart.lines(title, {name: points}, x="window", limits=limits, zero=name.startswith(DRIFT) or bool(limits))
