"""Monitoring of a stage as a page: its measures window by window, and what became an alarm."""

from pathlib import Path

from cdl.errors import NotFound
from cdl.registry.records import short
from cdl.report import chart
from cdl.report.page import Page
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
        {n for e in windows for n in e.fields["measures"] if not n.startswith("failing.") and not n.endswith(".p")}
    )
    for name in names:
        points = [
            (float(e.fields["window"]), e.fields["measures"][name]) for e in windows if name in e.fields["measures"]
        ]
        page.figure(chart.lines(name, {name: points}, x="window", y=name))
    target = workspace.root / REPORTS / f"{stage}.html"
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(page.html())
    return target
