"""The review of a model as a page: its measures, the comparison with the current model, requirements, tests, and errors."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cdl.errors import NotFound
from cdl.model import trials
from cdl.model.current import CHANGED
from cdl.model.results import Evaluation, evaluated, last_evaluation
from cdl.model.review import comparisons, look
from cdl.model.source import describe, model_record
from cdl.registry.records import Model, short
from cdl.report import chart
from cdl.report.page import Page
from cdl.workflow.policy import decisions
from cdl.workflow.workspace import Workspace

REPORTS = "reports"  # ignored by git
GATES = ("submission", "model", "implementation", "revision")  # in the order in which a model passes them


def review_page(workspace: Workspace, model_id: str) -> Path:
    """Writes reports/<model>.html; the file. Needs no key: it shows what was declared."""
    model = model_record(workspace, model_id)
    found = last_evaluation(workspace, model_id)
    page = Page(f"{short(model_id)} {describe(model)}")
    page.facts(_facts(model, found))
    made = [d for gate in GATES for _, d in decisions(workspace, gate, model_id)]
    made.sort(key=lambda d: d.made.when)  # stable: within a second, the gate that comes later in the cycle is later
    requirements: Sequence[Mapping[str, Any]] = made[-1].requirements if made else ()
    if all(d.gate == "submission" for d in made) and (model.origin or {}).get("by") not in CHANGED:
        sight = look(workspace, model_id)
        requirements = sight.requirements
        if sight.stale or sight.missing:
            page.text(sight.stale or sight.missing or "")
    if requirements:
        rows = [{"requirement": r["require"], "value": r["value"], "": _held(r)} for r in requirements]
        page.heading("Requirements and tests").table(rows, ["requirement", "value", ""])
    if made:
        said = [
            {"gate": d.gate, "verdict": d.verdict, "who": d.made.who, "when": d.made.when, "because": d.because}
            for d in made
        ]
        page.heading("Decisions").table(said, ["gate", "verdict", "who", "when", "because"])
    config = workspace.config
    if config.feasibility:
        page.heading("Feasibility").text(config.feasibility)
    if config.risks:
        page.heading("Risks").table([{"risk": r} for r in config.risks], ["risk"])
    if found is not None:
        _evaluation(workspace, page, model_id, model, found)
    _curves(workspace, page, model)
    target = workspace.root / REPORTS / f"{short(model_id)}.html"
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(page.html())
    return target


def _facts(model: Model, found: Evaluation | None) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "made by": f"{model.made.who}, {model.made.when}",
        "dataset, labels": f"{short(model.data['dataset'])}, {short(model.data['labels'])}",
        "source": f"closure {model.code['closure'][:8]} in commit {model.code['commit'][:8]}",
        "hyperparameters": ", ".join(f"{k} {v}" for k, v in model.trial["hyperparameters"].items()),
        "epochs, seed, threads": ", ".join(str(model.trial[k]) for k in ("epochs", "seed", "threads")),
        **model.metrics,
    }
    if found is not None:
        facts |= {"evaluation": f"{found.number} of {found.limit} on this test, {found.result['items']} sealed items"}
        facts |= {"walls": ", ".join(found.result["walls"])}
    return facts


def _evaluation(workspace: Workspace, page: Page, model_id: str, model: Model, found: Evaluation) -> None:
    on = found.result["dataset"]
    earlier = "" if evaluated(workspace, model_id) else ", which is not the current one"
    page.heading("Sealed test").text(f"{found.result['items']} sealed items of {short(on)}{earlier}.")
    rows = [
        {"measure": name, "value": m["value"], "95 % interval": _interval(m.get("interval"))}
        for name, m in found.result["measures"].items()
    ]
    page.table(rows, ["measure", "value", "95 % interval"])
    for rival, comparison in comparisons(workspace, model_id, model.name, found).items():
        if comparison is None:
            continue
        low, high = comparison["interval"]
        page.text(
            f"Against {short(rival)}, the current model, on the same items: {comparison['difference']:+.4f} "
            f"[{low:+.4f}, {high:+.4f}], better on {comparison['won']}, worse on {comparison['lost']}, p {comparison['p']}."
        )
    classes = found.result["classes"]
    recall = {name: c["recall"]["value"] for name, c in classes.items()}
    spans = {name: (c["recall"]["interval"][0], c["recall"]["interval"][1]) for name, c in classes.items()}
    page.figures(
        chart.bars("recall of each class, with 95 % intervals", recall, intervals=spans),
        chart.matrix("items by class", list(classes), found.result["confusion"]),
    )


def _held(requirement: Mapping[str, Any]) -> Any:
    """True, False or 'later'; a value that nobody measured yet is no failure."""
    unknown = requirement["value"] is None and requirement["held"] is False
    return "no value yet" if unknown else requirement["held"]


def _curves(workspace: Workspace, page: Page, model: Model) -> None:
    """The trial's curves, where this clone has the trial."""
    try:
        curves = trials.points(workspace, trials.load(workspace, model.trial["id"]))
    except NotFound:
        return
    page.heading("Training")
    page.figures(*(chart.lines(name, {name: points}, x="epoch") for name, points in curves.items()))


def _interval(interval: list[float] | None) -> str | None:
    return None if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
