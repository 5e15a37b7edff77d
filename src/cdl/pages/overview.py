"""The overview of a project: what waits for whom, where everything stands, and links to the pages written with it."""

from pathlib import Path

from cdl.cycle import CYCLE, TRIGGERS
from cdl.data.ready import ready
from cdl.deployment.stages import declared
from cdl.deployment.stages import look as look_at
from cdl.errors import NotFound
from cdl.model import trials
from cdl.model.current import deployed, promoted, stands
from cdl.model.experiment import experiments
from cdl.model.results import last_evaluations
from cdl.model.trials import Trial
from cdl.monitoring.steps import alarm, stages_of
from cdl.pages.comparison import estimate
from cdl.pages.dataset import dataset_page
from cdl.pages.decisions import when
from cdl.pages.deployment import alarm_text, deployment_page
from cdl.pages.experiment import Names, experiment_page, measure_of, ranked
from cdl.pages.model import model_page
from cdl.pages.written import (
    OVERVIEW,
    PREFIX,
    REPORTS,
    dataset_name,
    experiment_name,
    made_line,
    model_name,
    stage_name,
)
from cdl.registry.history import history
from cdl.registry.records import Dataset, DatasetHead, Model, Package, pointed, short
from cdl.report.page import Cell, Code, Link, Page, bad, good, several, soft, warn
from cdl.report.text import count
from cdl.report.write import Form, write
from cdl.workflow.status import Status, status
from cdl.workflow.trigger import waiting as triggers_waiting
from cdl.workflow.workspace import Workspace

SHOWN_MODELS = 12
SHOWN_HISTORY = 20


def write_all(workspace: Workspace, *, form: Form = "html") -> list[Path]:
    """Writes the overview and the pages that it links to; the files, the overview first."""
    folder = workspace.root / REPORTS
    pages = [dataset_page(workspace, head.version) for head in _datasets(workspace).values()]
    pages += [model_page(workspace, i) for i in shown_models(workspace)]
    pages += [experiment_page(workspace, branch) for branch in branches(workspace)]
    pages += [deployment_page(workspace, s) for s in stages_of(workspace) if declared(workspace, s)]
    names = [page.name for page in pages]
    return [write(p, folder, form=form, beside=names) for p in (overview(workspace), *pages)]


def overview(workspace: Workspace) -> Page:
    """The page."""
    found = status(workspace, CYCLE)
    page = Page(name=OVERVIEW, title=f"Project {found.project}")
    who = "one person holds every role" if found.solo else f"integration branch {found.integration}"
    page.subtitle = f"{who}; policy {found.policy[:8]} in force"
    _waiting(workspace, page, found)
    _data(workspace, page)
    _models(workspace, page)
    _experiments(workspace, page)
    _stages(workspace, page)
    _history(workspace, page)
    page.made = made_line(workspace)
    return page


def shown_models(workspace: Workspace) -> list[str]:
    """The newest models, and those that are promoted or in production, newest first."""
    every = sorted(((m.made.when, i) for i, m in workspace.registry.all(Model)), reverse=True)
    ids = [i for _, i in every]
    counting = {f(workspace, name) for name in workspace.config.model for f in (promoted, deployed)}
    return [i for place, i in enumerate(ids) if place < SHOWN_MODELS or i in counting]


def branches(workspace: Workspace) -> list[str]:
    """The experiments: branches that are there, and those that trials remember."""
    remembered = [t.branch for t in trials.readable(workspace)[0] if t.branch and t.branch.startswith(PREFIX)]
    return sorted(dict.fromkeys([*experiments(workspace), *remembered]))


def _datasets(workspace: Workspace) -> dict[str, DatasetHead]:
    tip = workspace.registry.tip()
    found = workspace.registry.heads(DatasetHead, at=tip) if tip else {}
    return found | workspace.registry.heads(DatasetHead)


def _waiting(workspace: Workspace, page: Page, found: Status) -> None:
    section = page.section("What waits")
    rows: list[list[Cell]] = []
    for o in found.waiting:
        subject = short(o.subject)
        do = "cdl request list" if o.gate == "request" else f"cdl report {subject}"
        what = o.gate if o.gate == "request" else f"{o.gate} gate"
        rows.append([what, Code(subject), found.holders[o.subject], o.line, Code(do)])
    for w in triggers_waiting(workspace, TRIGGERS):
        rows.append(["trigger", None, None, w.line + (f": {w.unable}" if w.unable else ""), Code("cdl run")])
    section.table(["what", "of", "waits for", "", "look or do"], rows)
    if not rows:
        section.text("Nothing waits for a decision, and no request is open.")
    for stage in stages_of(workspace):
        raised = alarm(workspace, stage)
        if raised:
            page.notice(alarm_text(raised), "bad", [f"cdl report {stage}"])


def _data(workspace: Workspace, page: Page) -> None:
    rows: list[list[Cell]] = []
    for name, head in _datasets(workspace).items():
        record = workspace.registry.record(Dataset, head.version)
        is_ready = ready(workspace, name)
        state = (
            good("ready")
            if is_ready and is_ready[0] == head.version
            else warn("not ready: no approval or no labels yet")
        )
        target = dataset_name(name, head.version)
        rows.append([name, Link(short(head.version), target), record.items["train"], record.items["test"], state])
    page.section("Data").table(["dataset", "version", "training items", "test items (sealed)", ""], rows)


def _models(workspace: Workspace, page: Page) -> None:
    ids = shown_models(workspace)
    results = last_evaluations(workspace, ids)
    rows: list[list[Cell]] = []
    for identity in ids:
        model, found = workspace.registry.record(Model, identity), results[identity]
        state = stands(workspace, identity, model)
        tone = (
            good(state)
            if state in ("in production", "promoted")
            else bad(state)
            if state == "rejected"
            else soft(state)
        )
        measured = found.result["measures"].get("test.accuracy") if found else None
        rows.append(
            [
                Link(short(identity), model_name(identity)),
                model.name,
                model.origin["by"] if model.origin else "training",
                tone,
                estimate(measured) if measured else soft("not evaluated"),
                model.made.who,
                when(model.made.when),
            ]
        )
    section = page.section("Models")
    section.table(["model", "name", "made by", "stands", "sealed accuracy", "who", "when (UTC)"], rows)
    more = len(workspace.registry.all(Model)) - len(ids)
    if more:
        section.text(f"{count(more, 'older model')}: cdl model list")


def _experiments(workspace: Workspace, page: Page) -> None:
    every, _ = trials.readable(workspace)
    called = trials.labels(t.id for t in every)
    rows: list[list[Cell]] = []
    for branch in branches(workspace):
        found = [t for t in every if t.branch == branch]
        rows.append(
            [Link(branch.removeprefix(PREFIX), experiment_name(branch)), len(found), *_best(workspace, found, called)]
        )
    page.section("Experiments").table(["experiment", "trials", "best trial", "measure"], rows)


def _best(workspace: Workspace, found: list[Trial], called: Names) -> tuple[Cell, Cell]:
    if not found:
        return None, None
    name = found[-1].model
    same = [t for t in found if t.model == name]
    measure, more = measure_of(workspace, name, same)
    best = ranked(same, measure, more)[0]
    return (
        (Code(called[best.id]), f"{measure} {best.metrics[measure]:.4g}") if measure in best.metrics else (None, None)
    )


def _stages(workspace: Workspace, page: Page) -> None:
    rows: list[list[Cell]] = []
    for stage in stages_of(workspace):
        now, head = look_at(workspace, stage), declared(workspace, stage)
        if head is None:
            rows.append([stage, None, None, soft("nothing was deployed")])
            continue
        model = workspace.registry.record(Package, pointed(head)).model
        runs = good("runs here") if now.running == now.declared else warn("does not run on this machine")
        rows.append(
            [
                Link(stage, stage_name(stage)),
                Code(short(head.package)),
                Link(short(model), model_name(model)),
                runs,
            ]
        )
    page.section("Stages").table(["stage", "package", "model", ""], rows)


def _history(workspace: Workspace, page: Page) -> None:
    try:
        found = history(workspace.registry)[:SHOWN_HISTORY]
    except NotFound:
        return
    rows: list[list[Cell]] = [
        [when(e.when), e.kind, several([Code(short(e.id)), *([e.name] if e.name else [])]), e.who, e.line]
        for e in found
    ]
    section = page.section("Lately")
    section.table(["when (UTC)", "what", "of", "who", ""], rows)
