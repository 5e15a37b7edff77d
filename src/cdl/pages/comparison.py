"""A model beside those that count: measures side by side, and the paired comparison on the same sealed items."""

from collections.abc import Mapping
from typing import Any

import msgspec

from cdl.errors import NotFound
from cdl.model.current import deployed, original, promoted, rivals
from cdl.model.results import Evaluation, compared, evaluated, kept_result, last_evaluation, read_result
from cdl.model.source import model_record
from cdl.registry.records import Decision, Model, short
from cdl.report.page import Cell, Code, Estimate, Fixed, Mark, Page, Several, bad, good, soft
from cdl.report.text import size
from cdl.workflow.workspace import Workspace

SURE = 0.05  # p below which a difference counts


class Rival(msgspec.Struct, frozen=True, kw_only=True):
    """A model that another is compared with: what it is (`promoted`, `in production`), its result, the paired comparison."""

    id: str
    model: Model
    called: str
    found: Evaluation | None
    paired: Mapping[str, Any] | None

    @property
    def name(self) -> str:
        """At the head of a column."""
        return f"{short(self.id)}, {self.called}"


def rivals_of(workspace: Workspace, model_id: str, name: str, decided: Decision | None) -> list[Rival]:
    """The models that count now, or that counted when it was decided."""
    called = {m: "promoted" for m in [promoted(workspace, name)] if m}
    called |= {m: "in production" for m in [deployed(workspace, name)] if m}
    ids = rivals(workspace, name)
    kept: dict[str, Mapping[str, Any]] = {}
    if decided is not None:
        then = {decided.seen.get("promoted"): "promoted then", decided.seen.get("deployed"): "in production then"}
        called = {m: c for m, c in then.items() if m} | {m: c for m, c in called.items() if m not in then}
        ids = [m for m in dict.fromkeys([decided.seen.get("deployed"), decided.seen.get("promoted")]) if m]
        kept = _kept(workspace, decided)
    mine = evaluated(workspace, model_id)
    found = []
    for rival in ids:
        if rival == model_id or original(workspace, rival) == model_id:
            continue
        theirs = last_evaluation(workspace, rival)
        paired = kept.get(rival) or (compared(workspace, theirs, mine) if theirs and mine else None)
        record = model_record(workspace, rival)
        found.append(Rival(id=rival, model=record, called=called.get(rival, "then"), found=theirs, paired=paired))
    return found


def comparison(
    workspace: Workspace, page: Page, model_id: str, model: Model, found: Evaluation, others: list[Rival]
) -> None:
    """The section."""
    section = page.section("Comparison")
    if not others:
        section.text("No model is promoted or in production that this one could be compared with.")
        return
    pairs = [r for r in others if r.paired]
    rows: list[list[Cell]] = []
    for r in pairs:
        p = r.paired or {}
        low, high = p["interval"]
        difference = Estimate(p["difference"], low, high, signed=True)
        rows.append([Code(short(r.id)), r.called, reading(p), difference, p["won"], p["lost"], Fixed(p["p"])])
    section.table(
        ["against", "", "reading", "difference in accuracy", "better on", "worse on", "p"],
        rows,
    )
    if pairs:
        section.text(
            f"Both models on the same {found.result['items']} sealed items: better and worse count the items that only one of "
            "them gets right. p is how often two equally good models would differ at least so much (exact McNemar test); the "
            "reading follows p, as the interval of the difference is too narrow where few items differ."
        )
    for r in others:
        if not r.paired:
            section.text(f"Not compared item by item with {short(r.id)} ({r.called}) on this test.")
    models = (model, *(r.model for r in others))
    rows = [
        *_side_by_side(found, others),
        ["weights", *(_size(workspace, m) for m in models)],
        ["trained on", *(Code(short(m.data["dataset"])) for m in models)],
        ["seed, epochs", *(_trial(m) for m in models)],
    ]
    section.table(["measure", f"{short(model_id)}, this", *(r.name for r in others)], rows)


def estimate(measure: Mapping[str, Any]) -> Cell:
    """A measure of a result with its interval, where it has one."""
    interval = measure.get("interval")
    return Estimate(measure["value"], *interval) if interval else Fixed(float(measure["value"]), 4)


def _side_by_side(found: Evaluation, others: list[Rival]) -> list[list[Cell]]:
    names = list(
        dict.fromkeys([*found.result["measures"], *(n for r in others if r.found for n in r.found.measures())])
    )
    rows: list[list[Cell]] = []
    for name in names:
        row: list[Cell] = [name]
        for result in (found, *(r.found for r in others)):
            measure = result.result["measures"].get(name) if result else None
            value = estimate(measure) if measure else None
            same = result is None or result.result["test"] == found.result["test"]
            row.append(value if same or value is None else Several((value, soft("on another test"))))
        rows.append(row)
    tests = [_passed(result) for result in (found, *(r.found for r in others))]
    return [*rows, ["test cases", *tests]] if any(tests) else rows


def _passed(found: Evaluation | None) -> Cell:
    if found is None or not found.result["tests"]:
        return None
    outcomes = list(found.result["tests"].values())
    passed = outcomes.count("pass")
    text = f"{passed} of {len(outcomes)} passed"
    return good(text) if passed == len(outcomes) else bad(text)


def reading(paired: Mapping[str, Any]) -> Mark:
    """What a paired comparison says, by its exact p value."""
    if paired["p"] >= SURE:
        return soft("no clear difference")
    return good("better") if paired["difference"] > 0 else bad("worse")


def _size(workspace: Workspace, model: Model) -> Cell:
    return size(len(workspace.store.view(model.weights))) if workspace.store.has(model.weights) else None


def _trial(model: Model) -> str:
    return f"{model.trial['seed']}, {model.trial['epochs']}"


def _kept(workspace: Workspace, decided: Decision) -> dict[str, Mapping[str, Any]]:
    """The comparisons that a decision saw, by the model that was compared with; those that this clone has."""
    found: dict[str, Mapping[str, Any]] = {}
    for name in decided.seen.get("comparisons", []):
        try:
            result = kept_result(workspace, name)
            found[read_result(workspace, result["first"]).result["model"]] = result
        except NotFound:
            continue
    return found
