"""The page of a model: what the Model Validator decides from. Needs no key: it shows what was declared and signed.

First what waits and what stands against it; then requirements, the comparison with the models that count, the sealed test,
the training, what changed, the decisions, and the card.
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cdl.deployment.gates import look_at_revision
from cdl.errors import NotFound
from cdl.git.commit import merge_in_memory
from cdl.model import trials
from cdl.model.current import CHANGED, original, stands
from cdl.model.results import Evaluation, evaluated, last_evaluation
from cdl.model.review import look
from cdl.model.source import model_record
from cdl.model.submit import offered
from cdl.pages import deployment
from cdl.pages.card import card
from cdl.pages.changes import changed, files_changed
from cdl.pages.comparison import Rival, comparison, estimate, rivals_of
from cdl.pages.decisions import Waiting, history, made_on, open_decisions, requirements, say_waiting, when
from cdl.pages.written import REPORTS, experiment_name, made_line, model_name
from cdl.registry.records import Decision, Model, short
from cdl.report import chart
from cdl.report.matrix import confusions, matrix
from cdl.report.page import Cell, Code, Estimate, Figure, Link, Page, bad, good, several
from cdl.report.text import count
from cdl.report.write import write
from cdl.workflow.workspace import Workspace

SHOWN_TRIALS = 10  # of the search that a model comes from


def review_page(workspace: Workspace, model_id: str) -> Path:
    """Writes reports/<model>.html; the file."""
    return write(model_page(workspace, model_id), workspace.root / REPORTS)


def model_page(workspace: Workspace, model_id: str) -> Page:
    """The page."""
    model = model_record(workspace, model_id)
    found = last_evaluation(workspace, model_id)
    wait, made = open_decisions(workspace, model_id), made_on(workspace, model_id)
    page = Page(name=model_name(model_id), title=f"Model {model.name} {short(model_id)}")
    origin = f"{model.origin['by']} of {short(model.origin['model'])}, " if model.origin else ""
    page.subtitle = (
        f"{stands(workspace, model_id, model)}; {origin}made by {model.made.who}, {when(model.made.when)} UTC"
    )
    say_waiting(page, wait)
    _say_evaluation(workspace, page, model_id, found)
    _requirements(workspace, page, model_id, model, found, (wait, made))
    decided = next((d for _, d in reversed(made) if d.gate == "model"), None)
    others = rivals_of(workspace, model_id, model.name, decided)
    deployment.revision(workspace, page, model_id)
    if found is not None:
        comparison(workspace, page, model_id, model, found, others)
        _evaluation(page, found, others)
    _training(workspace, page, model)
    _changes(workspace, page, model_id, model, others)
    _merge(workspace, page, model_id, wait)
    history(workspace, page, model_id, made)
    card(workspace, page, model_id, model, found)
    page.made = made_line(workspace)
    return page


def _say_evaluation(workspace: Workspace, page: Page, model_id: str, found: Evaluation | None) -> None:
    if found is None:
        page.notice("Not evaluated on the sealed test yet.", "warn", ["cdl run"])
    elif evaluated(workspace, model_id) is None:
        page.notice("The numbers are of an earlier test version or an earlier policy, not of the current one.", "warn")


def _requirements(
    workspace: Workspace,
    page: Page,
    model_id: str,
    model: Model,
    found: Evaluation | None,
    known: tuple[list[Waiting], list[tuple[str, Decision]]],
) -> None:
    """As the open gate sees them; else as they were when it was last decided; else as the next gate will see them."""
    wait, made = known
    judged: tuple[Mapping[str, Any], ...] = ()
    said = ""
    last = [d for _, d in made if d.requirements]
    if wait:
        judged = wait[0].sight.requirements
    elif last:
        judged, said = tuple(last[-1].requirements), f", when it was {_verdict(last[-1])} on {when(last[-1].made.when)}"
    else:
        derived = (model.origin or {}).get("by") in CHANGED
        judged = tuple((look_at_revision if derived else look)(workspace, model_id).requirements)
    intervals = {}
    if found is not None:
        for name, m in found.result["measures"].items():
            if m.get("interval"):
                intervals[name] = Estimate(m["value"], *m["interval"])
    section = requirements(page, judged, intervals=intervals, when=said)
    config = workspace.config
    section.facts({"why they can be reached": config.feasibility})
    section.table(["risks to weigh"], [[risk] for risk in config.risks])


def _verdict(decision: Decision) -> str:
    verdict = {"approve": "approved", "reject": "rejected", "submit": "submitted", "withdraw": "withdrawn"}
    return f"{verdict.get(decision.verdict, decision.verdict)} at the {decision.gate} gate"


def _evaluation(page: Page, found: Evaluation, others: list[Rival]) -> None:
    result = found.result
    section = page.section("Sealed test")
    section.text(
        f"{result['items']:,} sealed items of {short(result['dataset'])}, which no training saw; evaluation {found.number} of "
        f"{found.limit} on this test version. Intervals are 95 %."
    )
    section.table(["measure", "value"], [[name, estimate(m)] for name, m in result["measures"].items()])
    names, counts = list(result["classes"]), result["confusion"]
    same = [r for r in others if r.found and r.found.result["test"] == result["test"]]
    rival = same[0] if same else None
    theirs = (
        {n: c["recall"]["value"] for n, c in rival.found.result["classes"].items()} if rival and rival.found else {}
    )
    recall = {n: Estimate(c["recall"]["value"], *c["recall"]["interval"]) for n, c in result["classes"].items()}
    section.figures(
        chart.estimates("recall of each class", recall, against=theirs, against_name=rival.name if rival else ""),
        matrix("items by true and predicted class", names, counts),
    )
    rows: list[list[Cell]] = []
    for name, row in zip(names, counts, strict=True):
        p = result["classes"][name]["precision"]
        rows.append(
            [name, sum(row), recall[name], Estimate(p["value"], *p["interval"]), *([theirs.get(name)] if rival else [])]
        )
    section.table(["class", "test items", "recall", "precision", *([f"recall of {rival.name}"] if rival else [])], rows)
    section.table(["true class", "taken for", "items", "share of the class"], confusions(names, counts))
    tests: list[list[Cell]] = [
        [Code(n), good("passed") if o == "pass" else bad("failed")] for n, o in result["tests"].items()
    ]
    section.table(["test case", "result"], tests)


def curves(points: Mapping[str, chart.Points], *, whole: str = "epoch") -> list[Figure]:
    """A chart for each measure, training and validation in one."""
    groups: dict[str, dict[str, Any]] = defaultdict(dict)
    for name, values in points.items():
        part, _, measure = name.rpartition(".")
        groups[measure][part or measure] = values
    found = []
    for measure, series in groups.items():
        single = next(iter(series)) if len(series) == 1 else ""
        title = f"{single} {measure}" if single and single != measure else measure
        found.append(chart.lines(title, series, x=whole))
    return found


def _training(workspace: Workspace, page: Page, model: Model) -> None:
    """The trial's settings and curves, and the search that it comes from, where this clone has the trial."""
    section = page.section("Training")
    try:
        trial = trials.load(workspace, model.trial["id"])
    except NotFound:
        section.text(f"Trial {model.trial['id']} is not in this clone; its settings stand in the card below.")
        return
    section.facts(
        {
            "trial": several(
                [Code(trial.id), *([Link(trial.branch, experiment_name(trial.branch))] if trial.branch else [])]
            ),
            **{name: value for name, value in trial.hyperparameters.items()},
            "epochs": f"{trial.trained} of {trial.epochs}",
            "seed, threads, device": f"{trial.seed}, {trial.threads}, {trial.device}",
            "took": f"{trial.seconds:.1f} s",
        }
    )
    section.figures(*curves(trials.points(workspace, trial)))
    tried = [t for t in trials.trials(workspace) if trial.search and t.search == trial.search]
    if len(tried) > 1:
        section.text(f"Chosen from {count(len(tried), 'trial')} of the search {trial.search}.")


def _changes(workspace: Workspace, page: Page, model_id: str, model: Model, others: list[Rival]) -> None:
    """Since each of the models that count, without their compressed forms; else since the one that it was made from."""
    bases = {original(workspace, r.id): r.called for r in others}
    bases.pop(model_id, None)
    derived = model.origin["model"] if model.origin else None
    if derived and (model.origin or {}).get("by") in CHANGED:
        bases = {derived: f"which it is a {(model.origin or {})['by']} of"}
    elif derived and derived not in bases:
        bases[derived] = "which it was made from"
    for base, called in bases.items():
        changed(workspace, page, base, model_record(workspace, base), called, model)


def _merge(workspace: Workspace, page: Page, model_id: str, wait: list[Waiting]) -> None:
    """What an approval at the model gate would bring to the integration branch."""
    commit, tip = offered(workspace, model_id), workspace.registry.tip()
    if commit is None or tip is None or not any(w.open.gate == "model" for w in wait):
        return
    merge = merge_in_memory(workspace.git, tip, commit)
    section = page.section(f"What approval merges into {workspace.registry.integration}")
    if merge.tree is None:
        section.text(bad(f"The merge conflicts in {', '.join(merge.conflicts)}: it cannot be approved as it is."))
        return
    files_changed(workspace, section, tip, merge.tree)
