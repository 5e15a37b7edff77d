"""Trials side by side: a table with what differs between them, and their curves as a picture."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cdl.errors import NotFound
from cdl.model.trials import Trial, labels, points
from cdl.optional import optional
from cdl.workflow.workspace import Workspace

PICTURE = Path("reports/trials.png")
Curves = Mapping[str, Sequence[tuple[float, float]]]


def rows(trials: Sequence[Trial], *, sort: str | None = None) -> list[dict[str, Any]]:
    """One row a trial: id, status, epochs, measures; branch and hyperparameters where they differ. Best first with `sort`."""
    keys = sorted({name for t in trials for name in t.hyperparameters})
    names, branches = labels(t.id for t in trials), len({t.branch for t in trials})
    differing = [n for n in keys if len({repr(t.hyperparameters.get(n)) for t in trials}) > 1]
    measures = sorted({m for t in trials for m in t.metrics})
    if sort is not None and sort not in measures and trials:
        raise NotFound(f"no trial has a measure '{sort}'", remedy="there are: " + ", ".join(measures))
    found = [
        {
            "trial": names[t.id],
            **({"branch": t.branch} if branches > 1 else {}),
            "model": t.model,
            "status": t.status,
            "epochs": t.trained,
            **{m: t.metrics.get(m) for m in measures},
            **{n: t.hyperparameters.get(n) for n in differing},
            "seconds": round(t.seconds, 1),
        }
        for t in trials
    ]
    if sort is None:
        return found
    return sorted(found, key=lambda row: float("-inf") if row[sort] is None else row[sort], reverse=True)


def compare(
    workspace: Workspace, trials: Sequence[Trial], *, plot: str | None = None, out: Path = PICTURE
) -> list[dict[str, Any]]:
    """One row a trial; with `plot` also draws this measure over epochs into the project's file `out`."""
    if plot is not None:
        names = labels(t.id for t in trials)
        drawn = picture({names[t.id]: points(workspace, t) for t in trials}, plot)
        target = workspace.root / out
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(drawn)
    return rows(trials)


def picture(curves: Mapping[str, Curves], measure: str) -> bytes:
    """A PNG of one measure over epochs, one line a trial. NotFound when no trial has it, Unavailable without matplotlib."""
    drawn = {name: c[measure] for name, c in curves.items() if c.get(measure)}
    if not drawn:
        known = sorted({m for c in curves.values() for m in c})
        raise NotFound(f"no trial reported '{measure}'", remedy="there are: " + ", ".join(known))
    figures = optional("matplotlib.figure")
    optional("matplotlib.backends.backend_agg")
    figure = figures.Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name, curve in drawn.items():
        axes.plot([e for e, _ in curve], [v for _, v in curve], marker="o", markersize=3, label=name)
    axes.set_xlabel("epoch")
    axes.set_ylabel(measure)
    axes.grid(alpha=0.3)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if len(drawn) > 1:
        axes.legend(fontsize="small", ncols=1 + len(drawn) // 12)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
