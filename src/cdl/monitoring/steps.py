"""The rows of monitoring and maintenance, and what triggers run."""

from collections.abc import Mapping, Sequence

from cdl.config.schema import TriggerConfig
from cdl.data.ready import fired_here
from cdl.deployment.stages import declared
from cdl.journal.events import Event
from cdl.journal.stream import own_stream
from cdl.model.current import promoted
from cdl.monitoring import scoring, select
from cdl.registry.records import short
from cdl.workflow import request
from cdl.workflow.step import Step, Work, late
from cdl.workflow.trigger import Kind, Outcome, fire, running, waiting
from cdl.workflow.workspace import Workspace


def stages_of(workspace: Workspace) -> list[str]:
    """Every stage that cdl.yaml names."""
    return sorted({stage for config in workspace.config.deploy.values() for stage in config.stages})


def unmonitored(workspace: Workspace) -> list[Work]:
    """Stages that wrote scoring data which nobody looked at yet."""
    return [
        Work(step="monitoring", subject=stage, line=f"{stage}: look at new requests")
        for stage in stages_of(workspace)
        if declared(workspace, stage) is not None and scoring.waiting(workspace, stage)
    ]


def monitor(workspace: Workspace, work: Work) -> None:
    """Measures new windows, and tells of each."""
    for window in late("cdl.monitoring.window:monitor")(workspace, work.subject):
        workspace.tell(line(work.subject, window.number, window.measures, window.alarms))


def line(stage: str, number: int, measures: Mapping[str, float], alarms: Sequence[str]) -> str:
    """A window in one line."""
    shown = [f"{k.removeprefix('live.')} {v:.4g}" for k, v in measures.items() if k.startswith("live.")]
    failing = [k.removeprefix("failing.") for k in measures if k.startswith("failing.")]
    text = f"{stage} window {number}: {', '.join(shown)}"
    text += f"; fails: {', '.join(failing)}" if failing else "; as expected"
    return text + (f"; ALARM {', '.join(alarms)}" if alarms else "")


def due(workspace: Workspace) -> list[Work]:
    """Triggers that wait, that this person can run and nobody is running."""
    return [
        Work(step="trigger", subject=w.event.id, line=w.line)
        for w in waiting(workspace, TRIGGERS)
        if w.unable is None and not running(workspace, w)
    ]


def start(workspace: Workspace, work: Work) -> None:
    """Fires what waits."""
    for said in fire(workspace, TRIGGERS, strict=True):
        workspace.tell(said)


def _retrain(workspace: Workspace, trigger: TriggerConfig, event: Event) -> Outcome:
    actions = [trigger.run] if isinstance(trigger.run, str) else trigger.run
    made = late("cdl.monitoring.retrain:on_ready")(workspace, event, actions, trigger.of)
    return made.records, made.lines


def _collect(workspace: Workspace, trigger: TriggerConfig, event: Event) -> Outcome:
    made = select.ask(workspace, event, trigger.of)
    lines = [f"the {trigger.count} least confident inputs selected; {short(made)} opened at collection"]
    return [made], [*lines, f"bring them back: cdl data collect {short(made)}"]


def _able(workspace: Workspace, trigger: TriggerConfig) -> str | None:
    """Why this person cannot run a trigger."""
    if trigger.of in workspace.config.model and promoted(workspace, trigger.of) is None:
        return f"no model {trigger.of} is promoted"
    dataset = workspace.config.model[trigger.of].data if trigger.of in workspace.config.model else trigger.of
    return None if workspace.holds_key(dataset) else f"you hold no key of {dataset}"


def _ready_events(workspace: Workspace) -> list[Event]:
    """Ready datasets that fire here, since a model was promoted: without one nothing fires, also not later."""
    first = min((e.count for e in workspace.journal.events("model.promoted")), default=None)
    return [] if first is None else [e for e in fired_here(workspace) if e.count > first]


def _drifts(workspace: Workspace) -> list[Event]:
    mine = own_stream(workspace.root / ".cdl")
    return [e for e in workspace.journal.events("monitor.drift") if e.stream == mine]


TRIGGERS: dict[str, Kind] = {
    "dataset.ready": Kind(candidates=_ready_events, able=_able, run=_retrain),
    "monitor.drift": Kind(candidates=_drifts, able=_able, run=_collect),
}
TRIGGER = Step(
    name="trigger",
    pipeline="data",
    roles=("automatic",),
    does="a ready dataset evaluates the current model on it, then trains again",
    reads="dataset.ready",
    writes="results, a model on cdl/retrain-...",
    command="cdl run",
    run=fire,
    pending=due,
    begin=start,
    starts="itself",
    optional=True,
)
STEPS = (
    Step(
        name="monitoring",
        pipeline="deployment",
        roles=("data_scientist", "devops"),
        does="windows of requests: requirements, drift, alarms",
        reads="requests and results",
        writes="Scoring Data, events",
        command="cdl monitor run",
        run=late("cdl.monitoring.window:monitor"),
        pending=unmonitored,
        begin=monitor,
        starts="itself",
    ),
    Step(
        name="maintenance",
        pipeline="deployment",
        roles=("data_engineer", "data_labeler", "data_scientist", "model_validator", "software_engineer", "devops"),
        does="decides where to re-enter, with the evidence attached",
        reads="alarms, evidence",
        writes="a request at any step",
        command="cdl reopen",
        run=request.open_request,
    ),
)
