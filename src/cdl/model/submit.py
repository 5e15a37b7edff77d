"""Submission: the source of a registered model is offered for the integration branch. Code and model cannot differ.

What is offered is the commit checked out; its closure must be the model's. A ref keeps it until it is decided.
"""

from cdl.data.dataset import dataset_record
from cdl.errors import Refused
from cdl.git.snapshot import snapshot
from cdl.model.code import model_code
from cdl.model.current import CHANGED
from cdl.model.results import evaluated, evaluation_waits
from cdl.model.source import describe, model_record
from cdl.registry import offers
from cdl.registry.records import Model, short
from cdl.workflow.policy import verdict_on
from cdl.workflow.step import Gate, Open, Sight
from cdl.workflow.workspace import Workspace, same_person

FEW = 3  # of one's own models that wait to be submitted, as `cdl status` names them
TRAINING_STEPS = (
    "create_experiment",
    "data_analysis",
    "preprocessing",
    "validation_splitting",
    "model_building",
    "hyperparameter_optimization",
    "training",
)


def offer(workspace: Workspace, model_id: str) -> str:
    """Points the ref of an offer at the commit checked out; that commit.

    Refused when its source is not the model's, and says what differs.
    """
    model = model_record(workspace, model_id)
    if model.origin and model.origin["by"] in CHANGED:
        made, gate = describe(model), "revision" if model.origin["by"] == "compression" else "implementation"
        raise Refused(
            f"{short(model_id)} is {made}: it waits at the {gate} gate", remedy="cdl run deployment, cdl approve"
        )
    head = workspace.git.head()
    same_source(workspace, model, head, f"the commit checked out ({head[:8]})")
    offers.offer(workspace.git, model_id, head)
    return head


def same_source(workspace: Workspace, model: Model, commit: str, called: str) -> None:
    """Refused unless the closure of a commit is the one that the model was trained with."""
    script = model.trial.get("script")
    found = model_code(workspace, model.name, commit, script=script).closure
    if found.id == model.code["closure"]:
        return
    own = model_code(workspace, model.name, model.code["commit"], script=script).closure
    paths = {p for p in found.files.keys() | own.files.keys() if found.files.get(p) != own.files.get(p)}
    what = ", ".join(sorted(paths)) or "cdl.yaml: the model's section or the lock file"
    dirty = snapshot(workspace.git).dirty
    remedy = "git commit them, then the command again" if dirty else "register the model that this source trains"
    raise Refused(f"{called} holds not the source of {model.name}: {what}", remedy=remedy)


def offered(workspace: Workspace, model_id: str) -> str | None:
    """The commit that was offered for a model."""
    return offers.offered(workspace.git, model_id)


def awaited(workspace: Workspace) -> list[str]:
    """Models that were offered and neither submitted nor decided on: their evaluation is asked for."""
    open_ = (i for i in offers.every_offer(workspace.git) if verdict_on(workspace, "submission", i) is None)
    known = workspace.registry.some(i for i in open_ if verdict_on(workspace, "model", i) is None)
    models = {i: stored.record for i, stored in known.items() if isinstance(stored.record, Model)}
    return sorted(i for i, m in models.items() if m.origin is None or m.origin["by"] not in CHANGED)


def submitted(workspace: Workspace) -> list[tuple[str, Model]]:
    """Models whose submission stands and which nobody decided on."""
    found = []
    for identity, model in workspace.registry.all(Model):
        if verdict_on(workspace, "submission", identity) != "submit":
            continue
        if verdict_on(workspace, "model", identity) is None:
            found.append((identity, model))
    return sorted(found)


def retrained_branch(model_id: str) -> str:
    """The branch on which a trigger registers a model."""
    return f"cdl/retrain-{model_id[2:10]}"


def unsubmitted(workspace: Workspace) -> list[tuple[str, Model]]:
    """The newest model of each name that a trigger trained, where nobody submitted or withdrew it."""
    newest: dict[str, tuple[str, Model]] = {}
    for identity, model in sorted(workspace.registry.all(Model), key=lambda pair: (pair[1].made.when, pair[0])):
        if model.origin and model.origin["by"] == "retraining":
            newest[model.name] = (identity, model)
    return [pair for pair in newest.values() if verdict_on(workspace, "submission", pair[0]) is None]


def unsubmitted_of(workspace: Workspace, email: str) -> list[tuple[str, Model]]:
    """The last models that somebody registered of trials, and that nobody submitted, withdrew or decided on; newest last."""
    every = [(i, m) for i, m in workspace.registry.all(Model) if m.origin is None and same_person(m.made.who, email)]
    every.sort(key=lambda pair: (pair[1].made.when, pair[0]))
    gates = ("submission", "model")
    return [(i, m) for i, m in every if not any(verdict_on(workspace, gate, i) for gate in gates)][-FEW:]


def look(workspace: Workspace, subject: str) -> Sight:
    """What a submission shows: the commit offered and the evaluation that stands."""
    source = offered(workspace, subject)
    if source is None:
        return Sight(seen={}, missing=f"{short(subject)} was not offered: cdl model submit {short(subject)}")
    found = evaluated(workspace, subject)
    model = model_record(workspace, subject)
    missing = None
    if found is None:
        name = dataset_record(workspace, model.data["dataset"]).name
        missing = f"{short(subject)} is not evaluated yet: {evaluation_waits(workspace, name)}"
    seen = {"source": source, "evaluation": found.object if found else None}
    return Sight(seen=seen, authors=(model.made.who,), missing=missing)


def nothing_waits(workspace: Workspace) -> list[Open]:
    """A submission is somebody's own move: `cdl model submit`."""
    return []


SUBMISSION = Gate(
    name="submission",
    role="data_scientist",
    own=True,
    back_to=(*TRAINING_STEPS, "experiment_evaluation", "registration"),
    waiting=nothing_waits,
    look=look,
)
