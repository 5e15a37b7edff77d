"""Registration: a chosen trial becomes a model, a record that is complete in itself.

The record, its transformation and its source live under `refs/cdl/models/<id>`, a child of the snapshot that the trial ran on,
so that squash, rebase and deleted branches lose nothing.
"""

from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from cdl.errors import NotFound, Refused
from cdl.git.commit import make_commit, make_tree
from cdl.model.code import section
from cdl.model.trials import Trial
from cdl.registry.records import Made, Model, Transformation, encode, short
from cdl.registry.registry import MODEL_REFS, message
from cdl.workflow.policy import require_role
from cdl.workflow.workspace import Workspace

COMMAND = "model register"


def register(
    workspace: Workspace,
    trial: Trial,
    *,
    origin: dict[str, Any] | None = None,
    answers: str | None = None,
    branch: Callable[[str], str] | None = None,
    cause: str | None = None,
) -> str:
    """Writes the transformation and the model of a trial, on the branch checked out or on `branch(id)`; the model's id.

    The same once more, after a kill for instance, goes on with the record that stands. Refused for another role, unless an
    event caused it, and for a trial that failed or left no weights; NotFound where these are gone.
    """
    if cause is None:
        require_role(workspace, ("data_scientist",), COMMAND)
    if trial.status not in ("finished", "paused") or not trial.weights:
        raise Refused(f"trial {trial.id} is {trial.status}", remedy="cdl trial list")
    if not workspace.store.freshen(trial.weights):
        raise NotFound(
            f"the weights of trial {trial.id} are not here",
            remedy="cdl sync where another clone has them; where `cdl gc --trials` removed them, train again",
        )
    transformation = trial.transformation_record()
    made = workspace.made("data_scientist", cause=cause)
    input = section(workspace, trial.model, trial.code["commit"]).input
    schema = request_schema(input, trial.output)
    model = _standing(workspace, model_record(trial, made, origin=origin, answers=answers, schema=schema))
    records = [r for r in (transformation, model) if r is not None]
    identity = encode(model)[0]
    line = f"{model.name} {short(identity)} from {trial.id}"
    keep_source(workspace, model, transformation, line=line)
    workspace.registry.commit(*records, command=COMMAND, line=line, branch=branch(identity) if branch else None)
    return identity


def _standing(workspace: Workspace, model: Model) -> Model:
    """The record that the same person, or whoever ran for the same event, made of the trial before.

    A kill may have left it without its commit.
    """
    for _, known in workspace.registry.all(Model, model.name):
        same = known.made.cause == model.made.cause is not None or known.made.who == model.made.who
        if same and replace(known, made=model.made) == model:
            return known
    return model


def request_schema(input: str | None, output: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a service of a model takes and gives, where cdl.yaml says what it takes."""
    if input is None:
        return None
    return {"input": input, "output": {"category": "text", "probabilities": list(output["classes"])}}


def model_record(
    trial: Trial, made: Made, *, origin: dict[str, Any] | None, answers: str | None, schema: dict[str, Any] | None
) -> Model:
    """The model record of a trial."""
    return Model(
        name=trial.model,
        made=made,
        origin=origin,
        answers=answers,
        code=dict(trial.code),
        data=dict(trial.data),
        transformation=trial.transformation_id(),
        environment=dict(trial.environment),
        trial={
            "id": trial.id,
            "search": trial.search,
            "seed": trial.seed,
            "threads": trial.threads,
            "epochs": trial.trained,
            "planned": trial.epochs,
            "hyperparameters": dict(trial.hyperparameters),
            **({"script": trial.script} if trial.script else {}),
        },
        weights=trial.weights or "",
        metrics=dict(trial.metrics),
        output=dict(trial.output),
        schema=schema,
    )


def keep_source(workspace: Workspace, model: Model, transformation: Transformation | None, *, line: str) -> str:
    """Points the ref that holds a model's source, record and transformation for good; its commit.

    Two clones that made the same record, within one second, make the same commit.
    """
    kept = [encode(record) for record in (model, transformation) if record is not None]
    identity = kept[0][0]
    git, source = workspace.git, model.code["commit"]
    tree = make_tree(git, source, {path: data for _, path, data in kept})
    known = git.resolve(MODEL_REFS + identity)
    if known is not None and git.text("rev-parse", f"{known}^{{tree}}") == tree:
        return known
    commit = make_commit(git, tree, [source], message(COMMAND, line, [identity]), when=model.made.when)
    git.set_ref(MODEL_REFS + identity, commit)
    return commit
