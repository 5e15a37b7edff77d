"""Windows: so many requests at a time are measured, held against `live.` requirements, and compared with the reference.

What fails in two windows in a row is an alarm, raised once; a drift names the measures and the inputs that were selected.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cdl.config.schema import DeployConfig
from cdl.deployment.stages import declared
from cdl.journal.events import Event, record_event_id
from cdl.model.loading import Predictor, with_predictor
from cdl.model.source import model_record
from cdl.monitoring import drift, scoring, select
from cdl.monitoring.drift import DRIFT, FAILING
from cdl.monitoring.scoring import Row
from cdl.registry.records import Package
from cdl.workflow.policy import in_force, require_role
from cdl.workflow.workspace import Workspace

ROLES = ("data_scientist", "devops")
REFUSED = "BadRequest"  # a client's error, not the service's


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """A measured window: its number at the stage, its measures, and what became an alarm in it."""

    number: int
    measures: Mapping[str, float]
    alarms: tuple[str, ...]
    event: Event | None = None


def monitor(workspace: Workspace, stage: str) -> list[Window]:
    """Collects what a stage wrote, and measures every window that is full and was not measured.

    Refused for another role; Unavailable without the key.
    """
    require_role(workspace, ROLES, "monitor run")
    head = declared(workspace, stage)
    if head is None:
        return []
    scoring.collect(workspace, stage)
    package = workspace.registry.record(Package, head.package)
    size = _size(workspace, package.model)
    known = measured(workspace, stage, package.model)
    if scoring.count(workspace, stage, package.model) < (len(known) + 1) * size:
        return []  # not even with those that were refused
    rows = [r for r in scoring.rows(workspace, stage, package.model) if r.error != REFUSED]
    ends = range((len(known) + 1) * size, len(rows) + 1, size)
    reference = _reference(workspace, package)
    every = workspace.journal.events("monitor.window")
    last = max((e.fields["window"] for e in every if e.fields["stage"] == stage), default=0)
    history = [failing(e.fields["measures"]) for e in known]
    found = []
    windows = _measured(workspace, package.model, [rows[end - size : end] for end in ends], reference)
    for number, (end, measures) in enumerate(zip(ends, windows, strict=True), start=last + 1):
        history.append(failing(measures))
        latest = rows[max(0, end - 2 * size) : end]  # what an alarm of two windows is about
        found.append(_tell(workspace, stage, package.model, number, measures, history, latest))
    return found


def waiting_rows(workspace: Workspace, stage: str) -> tuple[int, int]:
    """How many collected requests of a stage's model no window has measured yet, and how many make one. Needs the key."""
    head = declared(workspace, stage)
    if head is None:
        return 0, 0
    model = workspace.registry.record(Package, head.package).model
    rows = [r for r in scoring.rows(workspace, stage, model) if r.error != REFUSED]
    size = _size(workspace, model)
    return len(rows) - size * len(measured(workspace, stage, model)), size


def measured(workspace: Workspace, stage: str, model: str) -> list[Event]:
    """The windows of a model at a stage so far."""
    found = workspace.journal.events("monitor.window")
    return [e for e in found if e.fields["stage"] == stage and e.fields["model"] == model]


def failing(measures: Mapping[str, float]) -> frozenset[str]:
    """What failed in a window."""
    return frozenset(name.removeprefix(FAILING) for name in measures if name.startswith(FAILING))


def raised(history: Sequence[frozenset[str]]) -> tuple[str, ...]:
    """What becomes an alarm in the last window: what failed in it and in the one before, for the second time exactly."""
    if len(history) < 2:
        return ()
    earlier = history[-3] if len(history) > 2 else frozenset()
    return tuple(sorted((history[-1] & history[-2]) - earlier))


def live(rows: Sequence[Row]) -> dict[str, float]:
    """What `live.` requirements may name: error_rate (share), latency_p95 (s), confidence (mean), accuracy where truth came."""
    good = [r for r in rows if r.error is None]
    found = {"live.error_rate": 1 - len(good) / len(rows) if rows else 0.0}
    if good:
        taken = sorted(r.seconds for r in good)
        found["live.latency_p95"] = taken[math.ceil(0.95 * len(taken)) - 1]
        found["live.confidence"] = sum(r.confidence for r in good) / len(good)
    truths = [r for r in good if r.truth is not None]
    if truths:
        found["live.accuracy"] = sum(r.truth == r.category for r in truths) / len(truths)
    return {name: round(value, 6) for name, value in found.items()}


def _measured(
    workspace: Workspace, model_id: str, windows: Sequence[Sequence[Row]], reference: drift.Reference
) -> list[dict[str, float]]:
    """The measures of each window, and what failed in it. One process transforms the inputs of all of them."""
    asked = in_force(workspace).requirements("live.")
    found = [live(rows) for rows in windows]
    for measures in found:
        failed = [r.measure for r in asked if r.measure in measures and not r.holds(measures[r.measure])]
        measures |= dict.fromkeys([FAILING + measure for measure in failed], 1.0)
    good = [[r for r in rows if r.error is None and r.input] for rows in windows]

    def use(predictor: Predictor) -> None:
        for measures, rows in zip(found, good, strict=True):
            if rows:
                measures |= _drift(reference, predictor.inputs([r.input for r in rows]), rows)

    if any(good):
        vault = workspace.vault(scoring.dataset_of(workspace, model_id), by="monitoring")
        with_predictor(workspace, model_record(workspace, model_id), use, vault=vault)
    return found


def _drift(reference: drift.Reference, inputs: NDArray[np.float32], rows: Sequence[Row]) -> dict[str, float]:
    """How far a window is from the reference, and what drifted."""
    found: dict[str, float] = {}
    for m in drift.measure(reference, inputs, [r.confidence for r in rows], [r.category for r in rows]):
        found[DRIFT + m.name] = m.effect
        found[f"{DRIFT}{m.name}.p"] = round(m.p_value, 6)
        if m.drifted:
            found[FAILING + DRIFT + m.name] = 1.0
    return found


def _reference(workspace: Workspace, package: Package) -> drift.Reference:
    """What a package's model saw and said in validation."""
    tree = workspace.store.tree(package.tree)
    return drift.load({name: tree.get(name) for name in tree.names if name.startswith("reference/")})


def _tell(
    workspace: Workspace,
    stage: str,
    model: str,
    number: int,
    measures: dict[str, float],
    history: Sequence[frozenset[str]],
    latest: Sequence[Row],
) -> Window:
    about = {"stage": stage, "model": model, "window": number}

    def say(kind: str, cause: str | None, once: str = "", **fields: Any) -> Event:
        identity = record_event_id(kind, f"{stage} {model} {number} {once}")  # two that look at once tell one thing
        who = workspace.person.email
        return workspace.journal.append(kind, who=who, cause=cause, event_id=identity, **about, **fields)

    window = say("monitor.window", None, measures=measures)
    alarms = raised(history)
    for measure in alarms:
        if not measure.startswith(DRIFT):
            say("monitor.alarm", window.id, measure, measure=measure)
    drifted = {a: measures[a] for a in alarms if a.startswith(DRIFT)}
    event = None
    if drifted:
        asked = [t for t in workspace.config.triggers if t.when == "monitor.drift"]
        data = scoring.dataset_of(workspace, model)
        count = max((t.count for t in asked if t.of == data), default=0)
        chosen = select.least_confident(workspace, model, latest, count) if count else None
        event = say("monitor.drift", window.id, measures=drifted, selected=chosen)
    return Window(number=number, measures=measures, alarms=alarms, event=event)


def _size(workspace: Workspace, model_id: str) -> int:
    name = model_record(workspace, model_id).name
    return next(
        (d.window for d in workspace.config.deploy.values() if d.model == name), DeployConfig(model=name).window
    )
