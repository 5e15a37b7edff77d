"""The page of a model: what the Model Validator decides from. Needs no key: it shows what was declared and signed.

First what waits and what stands against it; then requirements, the comparison with the models that count, the sealed test,
the training, what changed, the decisions, and the card.
"""

from collections.abc import Mapping, Sequence
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
from cdl.pages.comparison import Rival, comparison, estimate, reading, rivals_of
from cdl.pages.curves import curves, kept_points
from cdl.pages.decisions import (
    Waiting,
    history,
    made_on,
    open_decisions,
    requirement_counts,
    requirements,
    say_waiting,
    when,
)
from cdl.pages.written import experiment_name, made_line, model_name
from cdl.registry.records import Decision, Model, short
from cdl.report import chart
from cdl.report.matrix import confusions, matrix
from cdl.report.page import Cell, Code, Estimate, Fixed, Link, Page, bad, several
from cdl.report.text import count
from cdl.workflow.workspace import Workspace


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
    decided = next((d for _, d in reversed(made) if d.gate == "model"), None)
    others = rivals_of(workspace, model_id, model.name, decided)
    judged, said = _judged(workspace, model_id, model, wait, made)
    _glance(workspace, page, model, found, others, judged)
    _requirements(workspace, page, found, judged, said)
    deployment.revision(workspace, page, model_id)
    if found is not None:
        comparison(workspace, page, model_id, model, found, others)
        _evaluation(page, found, others)
    _training(workspace, page, model)
    shown = _changes(workspace, page, model_id, model, others)
    _merge(workspace, page, model_id, wait, shown)
    history(workspace, page, model_id, made)
    card(workspace, page, model_id, model, found)
    page.made = made_line(workspace)
    return page


def _say_evaluation(workspace: Workspace, page: Page, model_id: str, found: Evaluation | None) -> None:
    if found is None:
        page.notice("Not evaluated on the sealed test yet.", "warn", ["cdl run"])
    elif evaluated(workspace, model_id) is None:
        page.notice("The numbers are of an earlier test version or an earlier policy, not of the current one.", "warn")


def _judged(
    workspace: Workspace, model_id: str, model: Model, wait: list[Waiting], made: list[tuple[str, Decision]]
) -> tuple[Sequence[Mapping[str, Any]], str]:
    """Requirements as the open gate sees them; else as they were last decided on; else as the next gate will see them."""
    last = [d for _, d in made if d.requirements]
    if wait:
        return wait[0].sight.requirements, ""
    if last:
        return last[-1].requirements, f", when it was {_verdict(last[-1])} on {when(last[-1].made.when)}"
    derived = (model.origin or {}).get("by") in CHANGED
    return (look_at_revision if derived else look)(workspace, model_id).requirements, ""


def _glance(
    workspace: Workspace,
    page: Page,
    model: Model,
    found: Evaluation | None,
    others: list[Rival],
    judged: Sequence[Mapping[str, Any]],
) -> None:
    """What a decision needs first, each in a line; the sections below say more."""
    declared = workspace.config.model.get(model.name)
    facts: dict[str, Cell] = {"intended use": declared.use if declared else None}
    if found is not None:
        accuracy = found.result["measures"].get("test.accuracy")
        items = f"on {found.result['items']:,} sealed items"
        facts["sealed accuracy"] = several([estimate(accuracy), items]) if accuracy else None
    facts["requirements"] = requirement_counts(judged)
    for r in others:
        if r.paired:
            difference = Fixed(r.paired["difference"], 4, signed=True)
            counts = f"better on {r.paired['won']} items, worse on {r.paired['lost']}, p {r.paired['p']:.3f}"
            facts[f"against {r.name}"] = several([difference, reading(r.paired), counts])
        else:
            facts[f"against {r.name}"] = "not compared on this test"
    if not others:
        facts["against"] = "nothing: no model is promoted or in production"
    facts["learned from"] = several([Code(short(model.data["dataset"])), Code(short(model.data["labels"]))])
    page.section("At a glance").facts(facts)


def _requirements(
    workspace: Workspace, page: Page, found: Evaluation | None, judged: Sequence[Mapping[str, Any]], said: str
) -> None:
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
    if not others:  # else they stand in the comparison
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
            [
                name,
                sum(row),
                recall[name],
                Estimate(p["value"], *p["interval"]),
                *([Fixed(theirs[name])] if rival else []),
            ]
        )
    section.table(["class", "test items", "recall", "precision", *([f"recall of {rival.name}"] if rival else [])], rows)
    section.table(["true class", "taken for", "items", "share of the class"], confusions(names, counts))


def _training(workspace: Workspace, page: Page, model: Model) -> None:
    """The trial's settings and curves, and the search that it comes from, where this clone has the trial."""
    section = page.section("Training")
    try:
        trial = trials.load(workspace, model.trial["id"])
        if trial.hyperparameters != model.trial["hyperparameters"] or trial.seed != model.trial["seed"]:
            raise NotFound("another trial has this id here")
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
    section.figures(*curves(kept_points(workspace, trial)))
    tried = [t for t in trials.readable(workspace)[0] if t.search == trial.search] if trial.search else []
    if len(tried) > 1:
        section.text(f"Chosen from {count(len(tried), 'trial')} of the search {trial.search}.")


def _changes(workspace: Workspace, page: Page, model_id: str, model: Model, others: list[Rival]) -> frozenset[str]:
    """Since each of the models that count, without their compressed forms; else since the one that it was made from."""
    bases = {}
    for r in others:
        whole = original(workspace, r.id)
        bases[whole] = r.called if whole == r.id else f"whose {(r.model.origin or {})['by']} is {r.called}"
    bases.pop(model_id, None)
    derived = model.origin["model"] if model.origin else None
    if derived and (model.origin or {}).get("by") in CHANGED:
        bases = {derived: f"which it is a {(model.origin or {})['by']} of"}
    elif derived and derived not in bases:
        bases[derived] = "which it was made from"
    shown: frozenset[str] = frozenset()
    for base, called in bases.items():
        shown |= changed(workspace, page, base, model_record(workspace, base), called, model)
    return shown


def _merge(workspace: Workspace, page: Page, model_id: str, wait: list[Waiting], above: frozenset[str]) -> None:
    """What an approval at the model gate would bring to the integration branch."""
    commit, tip = offered(workspace, model_id), workspace.registry.tip()
    if commit is None or tip is None or not any(w.open.gate == "model" for w in wait):
        return
    merge = merge_in_memory(workspace.git, tip, commit)
    section = page.section(f"What approval merges into {workspace.registry.integration}")
    if merge.tree is None:
        section.text(bad(f"The merge conflicts in {', '.join(merge.conflicts)}: it cannot be approved as it is."))
        return
    files_changed(workspace, section, tip, merge.tree, above=above)
