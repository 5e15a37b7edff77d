"""The page of an experiment: its trials side by side, curves, hyperparameters against the measure that decides, its code.

Trials belong to the branch whose work tree they trained.
"""

from collections.abc import Mapping

from cdl.data.dataset import dataset_record
from cdl.errors import NotFound
from cdl.model import trials
from cdl.model.experiment import experiments
from cdl.model.trials import Trial
from cdl.pages.changes import files_changed
from cdl.pages.curves import curves, kept_points
from cdl.pages.written import PREFIX, experiment_name, made_line, model_name
from cdl.registry.records import Model, short
from cdl.report import chart
from cdl.report.page import Cell, Code, Figure, Link, Page, bad, good, several, soft
from cdl.report.text import count, seconds
from cdl.workflow.workspace import Workspace

FALLBACK = "validation.accuracy"
MOST_TRIALS = 60  # rows of the table
MOST_COMMITS = 20
ERROR_LETTERS = 300
Names = Mapping[str, str]  # trials by id: as people type them


def experiment_page(workspace: Workspace, branch: str) -> Page:
    """The page of a branch. NotFound when there is no such experiment and no trial of it."""
    commit = experiments(workspace).get(branch)
    every, lost = trials.readable(workspace)
    found = [t for t in every if t.branch == branch]
    called = trials.labels(t.id for t in every)
    if commit is None and not found:
        raise NotFound(f"no experiment '{branch.removeprefix(PREFIX)}'", remedy="cdl experiment list")
    page = Page(name=experiment_name(branch), title=f"Experiment {branch.removeprefix(PREFIX)}")
    page.subtitle = f"{count(len(found), 'trial')} on {branch}"
    if lost:
        some = count(len(lost), "trial")
        page.notice(
            f"The results of {some} are not in this clone, perhaps some of this experiment.",
            "warn",
            ["cdl sync --whole"],
        )
    if not found:
        page.notice("No trial was made on this branch yet.", "plain", ["cdl train", "cdl search"])
    for name in dict.fromkeys(t.model for t in found):
        _of_model(
            workspace,
            page,
            name,
            [t for t in found if t.model == name],
            alone=len({t.model for t in found}) == 1,
            called=called,
        )
    _failed(page, found, called)
    _code(workspace, page, branch, commit)
    page.made = made_line(workspace)
    return page


def measure_of(workspace: Workspace, name: str, found: list[Trial]) -> tuple[str, bool]:
    """The measure that decides, and whether more is better: what the search says, else accuracy, else the first there is."""
    config = workspace.config.model.get(name)
    known = sorted({m for t in found for m in t.metrics})
    if config and config.search and config.search.metric in known:
        return config.search.metric, config.search.mode == "max"
    chosen = FALLBACK if FALLBACK in known else next(iter(known), FALLBACK)
    return chosen, "loss" not in chosen and "error" not in chosen


def ranked(found: list[Trial], measure: str, more: bool) -> list[Trial]:
    """Best first; those without the measure last."""
    have = [t for t in found if measure in t.metrics]
    return sorted(have, key=lambda t: t.metrics[measure], reverse=more) + [t for t in found if measure not in t.metrics]


def _of_model(workspace: Workspace, page: Page, name: str, found: list[Trial], *, alone: bool, called: Names) -> None:
    measure, more = measure_of(workspace, name, found)
    order = ranked(found, measure, more)
    registered = {
        m.trial["id"]: i for i, m in workspace.registry.all(Model) if m.origin is None or m.origin["by"] == "retraining"
    }
    suffix = "" if alone else f" of {name}"
    best = order[0] if measure in order[0].metrics else None
    if best is not None:
        _best(workspace, page, best, measure, suffix, registered.get(best.id), called)
    _table(page, order, measure, suffix, registered, called)
    curves = {called[t.id]: kept_points(workspace, t).get(measure, []) for t in order}
    names = [called[t.id] for t in order]
    page.section("Learning curves" + suffix).figures(
        chart.lines(f"{measure} by epoch", curves, x="epoch", first=names) if any(curves.values()) else None
    )
    page.section("Hyperparameters" + suffix).figures(*_spread(order, measure, called[best.id] if best else "", called))


def _best(
    workspace: Workspace, page: Page, best: Trial, measure: str, suffix: str, model: str | None, called: Names
) -> None:
    section = page.section("Best trial" + suffix)
    dataset = dataset_record(workspace, best.data["dataset"])
    section.facts(
        {
            "trial": Code(best.id),
            measure: best.metrics[measure],
            **{k: v for k, v in best.metrics.items() if k != measure},
            "hyperparameters": ", ".join(f"{k} {v}" for k, v in best.hyperparameters.items()),
            "epochs": f"{best.trained} of {best.epochs}",
            "data": several([dataset.name, Code(short(best.data["dataset"])), Code(short(best.data["labels"]))]),
            "code": Code(best.code["commit"][:12]),
            "seed, threads, device": f"{best.seed}, {best.threads}, {best.device}",
            "model": Link(short(model), model_name(model)) if model else None,
        }
    )
    if model is None:
        page.notice(
            f"The best trial is not registered as a model yet: {measure} {best.metrics[measure]:.4g}.",
            "plain",
            [f"cdl model register {called[best.id]}"],
        )
    section.text(
        "Measured on the validation part, by which it was chosen among the others: expect a little less on the sealed test."
    )
    section.figures(*curves(kept_points(workspace, best)))


def _table(
    page: Page, order: list[Trial], measure: str, suffix: str, registered: dict[str, str], called: Names
) -> None:
    """Trials, best first; hyperparameters that are the same in all are said once."""
    section = page.section("Trials" + suffix)
    names = sorted({n for t in order for n in t.hyperparameters})
    differ = [n for n in names if len({repr(t.hyperparameters.get(n)) for t in order}) > 1]
    same = [f"{n} {order[0].hyperparameters.get(n)}" for n in names if n not in differ]
    measures = [measure, *sorted({m for t in order for m in t.metrics} - {measure})]
    seeds = ["seed"] if len({t.seed for t in order}) > 1 else []
    rows: list[list[Cell]] = []
    for t in order[:MOST_TRIALS]:
        model = registered.get(t.id)
        rows.append(
            [
                Code(called[t.id]),
                _status(t),
                *(t.metrics.get(m) for m in measures),
                *(_value(t.hyperparameters.get(n)) for n in differ),
                *([t.seed] if seeds else []),
                t.trained,
                seconds(t.seconds),
                Link(short(model), model_name(model)) if model else None,
            ]
        )
    section.table(["trial", "", *measures, *differ, *seeds, "epochs", "took", "model"], rows)
    if len(order) > MOST_TRIALS:
        section.text(f"The best {MOST_TRIALS} of {len(order)}; all of them: cdl trial list")
    if same and len(order) > 1:
        section.text(f"The same in all: {', '.join(same)}.")


def _status(trial: Trial) -> Cell:
    if trial.status == "failed":
        return bad("failed")
    return (
        good("finished")
        if trial.status == "finished"
        else soft("stopped early" if trial.status == "paused" else trial.status)
    )


def _value(value: object) -> Cell:
    return value if isinstance(value, int | float | str | bool) or value is None else str(value)


def _spread(order: list[Trial], measure: str, best: str, called: Names) -> list[Figure]:
    """Each hyperparameter that differs against the measure: numbers as points, words as the mean of each."""
    found = []
    have = [t for t in order if measure in t.metrics]
    for name in sorted({n for t in have for n in t.hyperparameters}):
        values = [(t.hyperparameters.get(name), t.metrics[measure], called[t.id]) for t in have]
        if len({repr(v) for v, _, _ in values}) < 2:
            continue
        numbers = [(float(v), m, n) for v, m, n in values if isinstance(v, int | float) and not isinstance(v, bool)]
        if len(numbers) == len(values):
            found.append(chart.scatter(f"{name} and {measure}", numbers, x=name, y=measure, best=best))
        else:
            groups: dict[str, list[float]] = {}
            for v, m, _ in values:
                groups.setdefault(str(v), []).append(m)
            means = {v: sum(ms) / len(ms) for v, ms in groups.items()}
            found.append(chart.bars(f"mean {measure} by {name}", means, what=measure))
    return found


def _failed(page: Page, found: list[Trial], called: Names) -> None:
    rows: list[list[Cell]] = [
        [Code(called[t.id]), t.trained, (t.error or "")[:ERROR_LETTERS], Code(f"cdl trial logs {called[t.id]}")]
        for t in found
        if t.status == "failed"
    ]
    page.section("Failed trials").table(["trial", "epochs", "error", ""], rows)


def _code(workspace: Workspace, page: Page, branch: str, commit: str | None) -> None:
    """The commits of the branch, and what they change."""
    section = page.section("Code")
    if commit is None:
        section.text(f"The branch {branch} is gone; the commits of its trials are kept.")
        return
    made = [e for e in workspace.journal.events("experiment.created") if e.fields["name"] == branch]
    tip = workspace.registry.tip()
    start = (
        made[-1].fields["commit"] if made else workspace.git.text("merge-base", commit, tip, check=False) if tip else ""
    )
    if not start or workspace.git.resolve(start) is None:
        section.facts({"commit": Code(commit[:12])})
        return
    section.facts(
        {"commit": Code(commit[:12]), "began at": Code(start[:12]), "begun by": made[-1].who if made else None}
    )
    told = workspace.git.text(
        "log", f"--max-count={MOST_COMMITS}", "--format=%h%x00%ae%x00%s", "--end-of-options", f"{start}..{commit}"
    )
    rows: list[list[Cell]] = []
    for line in told.splitlines():
        short_id, who, subject = line.split("\0", 2)
        rows.append([Code(short_id), who, subject])
    section.table(["commit", "by", ""], rows)
    files_changed(workspace, section, start, commit)
