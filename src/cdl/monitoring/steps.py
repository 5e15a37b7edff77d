"""The rows of monitoring and maintenance, and what triggers run."""

from collections.abc import Mapping, Sequence

from cdl.config.schema import TriggerConfig
from cdl.data.ready import fired_here
from cdl.deployment.stages import declared
from cdl.deployment.steps import compress, revise, uncompressed, unrevised
from cdl.errors import NotFound
from cdl.journal.events import Event
from cdl.journal.stream import own_stream
from cdl.model.current import promoted
from cdl.monitoring import scoring, select
from cdl.registry.records import Package, short
from cdl.workflow.step import Step, Work, late
from cdl.workflow.trigger import Kind, Outcome, fire, running, waiting
from cdl.workflow.workspace import Workspace


def stages_of(workspace: Workspace) -> list[str]:
    """Every stage that cdl.yaml names."""
    return sorted({stage for config in workspace.config.deploy.values() for stage in config.stages})


def unmonitored(workspace: Workspace) -> list[Work]:
    """Stages that wrote scoring data which nobody looked at yet, where the key is here."""
    deployed = [
        c for c in workspace.config.deploy.values() if workspace.holds_key(workspace.config.model[c.model].data)
    ]
    return [
        Work(step="monitoring", subject=stage, line=f"{stage}: look at new requests")
        for stage in sorted({stage for config in deployed for stage in config.stages})
        if declared(workspace, stage) is not None and scoring.waiting(workspace, stage)
    ]


def monitor(workspace: Workspace, work: Work) -> None:
    """Measures new windows, and tells of each."""
    for window in late("cdl.monitoring.window:monitor")(workspace, work.subject):
        workspace.tell(line(work.subject, window.number, window.measures, window.alarms))


def alarm(workspace: Workspace, stage: str) -> str | None:
    """The last alarm of a stage, while no other model was deployed there since; None where there is none."""
    head = declared(workspace, stage)
    kinds = ("monitor.alarm", "monitor.drift")
    raised = [e for kind in kinds for e in workspace.journal.events(kind) if e.fields["stage"] == stage]
    if head is None or not raised:
        return None
    last = max(raised, key=lambda e: e.count)
    if last.fields["model"] != workspace.registry.record(Package, head.package).model:
        return None
    what = last.fields.get("measure") or ", ".join(last.fields["measures"])
    return f"{stage}: ALARM {what} in window {last.fields['window']}: cdl report {stage}"


def filling(workspace: Workspace, stage: str) -> str | None:
    """How far the next window of a stage is filled; None where nothing is deployed. NotFound for a stage of no deployment."""
    if stage not in stages_of(workspace):
        raise NotFound(
            f"no stage '{stage}'", where="cdl.yaml: deploy", remedy="there are: " + ", ".join(stages_of(workspace))
        )
    if declared(workspace, stage) is None:
        return None
    there, size = late("cdl.monitoring.window:waiting_rows")(workspace, stage)
    return f"{stage}: {there} of {size} requests of the next window are there; a service writes them every two seconds"


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
    made = late("cdl.monitoring.retrain:on_ready")(workspace, event, trigger.actions, trigger.of)
    return made.records, made.lines


def _collect(workspace: Workspace, trigger: TriggerConfig, event: Event) -> Outcome:
    made = select.ask(workspace, event)
    lines = [f"the {trigger.count} least confident inputs selected; {short(made)} opened at collection"]
    return [made], [*lines, f"bring them back: cdl data collect {short(made)}"]


def _deployment(workspace: Workspace, trigger: TriggerConfig, event: Event) -> Outcome:
    """Compresses and revises the model that was promoted; the revision gate is next."""
    done = []
    for waiting_for, begin in ((uncompressed, compress), (unrevised, revise)):
        for work in waiting_for(workspace):
            if workspace.config.deploy[str(work.options["line"])].model == trigger.of:
                begin(workspace, work)
                done.append(work)
    lines = [f"{w.step} done: {w.line}" for w in done] or ["nothing was left to do"]
    return [w.subject for w in done], lines


def _able(workspace: Workspace, trigger: TriggerConfig) -> str | None:
    """Why this person cannot run a trigger."""
    if trigger.when != "monitor.drift" and promoted(workspace, trigger.of) is None:
        return f"no model {trigger.of} is promoted"
    dataset = dataset_named(workspace, trigger)
    return None if workspace.holds_key(dataset) else workspace.lacking(dataset)


def dataset_named(workspace: Workspace, trigger: TriggerConfig) -> str:
    """The dataset that a trigger is about: that of its model, or the one of which it collects."""
    model = workspace.config.model.get(trigger.of)
    return model.data if model is not None and trigger.when != "monitor.drift" else trigger.of


def _ready_events(workspace: Workspace, trigger: TriggerConfig) -> list[Event]:
    """The model's dataset became ready here, after the model was first promoted: without one nothing fires, also not later."""
    promotions = [e.count for e in workspace.journal.events("model.promoted") if e.fields["name"] == trigger.of]
    data = dataset_named(workspace, trigger)
    return [e for e in fired_here(workspace) if promotions and e.count > min(promotions) and e.fields["name"] == data]


def _promotions(workspace: Workspace, trigger: TriggerConfig) -> list[Event]:
    """Promotions of the model by a commit made in this clone, on the integration branch's first-parent line."""
    registry = workspace.registry
    every = [e for e in workspace.journal.events("model.promoted") if e.fields["name"] == trigger.of]
    found = [(e, registry.line_commit(e.id)) for e in every]
    return [e for e, commit in found if commit and workspace.git.made_here(commit, registry.integration)]


def _drifts(workspace: Workspace, trigger: TriggerConfig) -> list[Event]:
    """Drifts seen by this clone of a model that learned from the dataset."""
    mine = own_stream(workspace.folder)
    seen = [e for e in workspace.journal.events("monitor.drift") if e.stream == mine]
    return [e for e in seen if scoring.dataset_of(workspace, e.fields["model"]) == trigger.of]


TRIGGERS: dict[str, Kind] = {
    "dataset.ready": Kind(candidates=_ready_events, able=_able, run=_retrain),
    "monitor.drift": Kind(candidates=_drifts, able=_able, run=_collect),
    "model.promoted": Kind(candidates=_promotions, able=_able, run=_deployment),
}
TRIGGER = Step(
    name="trigger",
    pipeline="data",
    roles=("automatic",),
    does="a ready dataset evaluates the current model on it, then trains again",
    reads="dataset.ready",
    writes="results, a model on cdl/retrain-...",
    command="cdl run",
    function="cdl.workflow.trigger:fire",
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
        function="cdl.monitoring.window:monitor",
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
        function="cdl.workflow.request:open_request",
    ),
)
