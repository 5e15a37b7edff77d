"""The model gate: the Model Validator sees the evaluation, the requirements and the comparison with the model that counts now.

Approval and merge are two commits and one move of the integration branch: the merge is made in memory first, and refused
when its source is not the model's.
"""

from typing import Any

from cdl.config.requirement import judged
from cdl.data.dataset import dataset_record
from cdl.errors import Refused
from cdl.git.commit import make_commit, merge_in_memory
from cdl.model.current import deployed, promoted, rivals
from cdl.model.results import Evaluation, compared, evaluated, evaluation_waits
from cdl.model.source import describe, model_record, source, transformation_of
from cdl.model.submit import offered, same_source, submitted
from cdl.registry.chain import Chain
from cdl.registry.names import Thing, numbers
from cdl.registry.records import Model, ModelHead, short
from cdl.workflow.policy import in_force
from cdl.workflow.step import Gate, Open, Ruling, Sight
from cdl.workflow.workspace import Workspace

BACK_TO = (
    "model_building",
    "preprocessing",
    "validation_splitting",
    "hyperparameter_optimization",
    "training",
    "data_analysis",
    "create_experiment",
    "collection",
    "labeling",
)


def waiting(workspace: Workspace) -> list[Open]:
    """Submitted models that nobody decided on."""
    found = []
    for identity, model in submitted(workspace):
        sight = look(workspace, identity)
        blocked = f"review STALE, {sight.stale or sight.missing}" if sight.stale or sight.missing else None
        opened = Open(gate="model", subject=identity, title=describe(model), authors=sight.authors, blocked=blocked)
        found.append(opened)
    return found


def look(workspace: Workspace, subject: str) -> Sight:
    """Everything that the decision will name.

    Stale when test items, their labels, what judges, or the model in production or promoted changed since it was evaluated.
    """
    model = model_record(workspace, subject)
    commit = offered(workspace, subject)
    found = evaluated(workspace, subject)
    against = comparisons(workspace, subject, model.name, found)
    seen = {
        "test": found.result["test"] if found else None,
        "labels": found.result["labels"] if found else None,
        "promoted": promoted(workspace, model.name),
        "deployed": deployed(workspace, model.name),
        "evaluation": found.object if found else None,
        "comparisons": [made["object"] for made in against.values() if made],
        "source": commit,
    }
    missing = [rival for rival, made in against.items() if made is None]
    stale = None
    if found is None:
        name = dataset_record(workspace, model.data["dataset"]).name
        lifted = "`cdl run` evaluates it" if workspace.may_sign(name) else evaluation_waits(workspace, name)
        stale = f"not evaluated on the current test: {lifted}"
    elif missing:
        stale = f"not compared with {short(missing[0])}, the current model: `cdl run` does"
    requirements = judged(in_force(workspace).requirements(), found.measures() if found else {}, "test.")
    return Sight(
        seen=seen,
        authors=(author_of(workspace, model),),
        requirements=(*requirements, *_tests(found)),
        stale=stale,
        missing=None if commit else f"nothing is offered: cdl model submit {short(subject)}",
    )


def comparisons(
    workspace: Workspace, subject: str, name: str, found: Evaluation | None
) -> dict[str, dict[str, Any] | None]:
    """The paired comparison with each model that counts now, where it was made on the current test."""
    made: dict[str, dict[str, Any] | None] = {}
    for rival in rivals(workspace, name):
        against = evaluated(workspace, rival) if rival != subject else None
        if rival != subject:
            made[rival] = compared(workspace, against, found) if against and found else None
    return made


def author_of(workspace: Workspace, model: Model) -> str:
    """Who must not decide: the maker; of a triggered training the last author of the source."""
    if model.origin is None or model.origin.get("by") != "retraining":
        return model.made.who
    commit = model.code["commit"]
    paths = list(source(workspace, model).closure.files)
    found = workspace.git.text("log", "-1", "--format=%ae", "--end-of-options", commit, "--", *paths)
    return found or model.made.who


def promote(workspace: Workspace, chain: Chain, subject: str, ruling: Ruling) -> None:
    """Merges the offered source and moves the head, on top of the approval. Conflict, Refused."""
    model = model_record(workspace, subject)
    commit = ruling.sight.seen["source"]
    merge = merge_in_memory(workspace.git, chain.start, commit)
    if merge.tree is None:
        raise Refused(
            f"merging {commit[:8]} into {chain.branch} conflicts in {', '.join(merge.conflicts)}",
            remedy=f"git merge {chain.branch} on the experiment's branch, register and submit again",
        )
    made = make_commit(
        workspace.git, merge.tree, [chain.start], "merge in memory\n"
    )  # to be looked at; nothing names it
    same_source(workspace, model, made, "the merge")
    # the merge of the tip before the approval; the approval's own files are added to it
    transformation = transformation_of(workspace, model)
    before = promoted(workspace, model.name)
    heads = [] if before == subject else [(model.name, ModelHead(promoted=subject, before=before))]
    chain.commit(
        *([model, transformation] if transformation else [model]),
        heads=heads,
        files=chain.added(),
        command="promote",
        line=f"{model.name} {short(subject)}",
        merged=commit,
        tree=merge.tree,
    )


def _tests(found: Evaluation | None) -> list[dict[str, Any]]:
    """Test cases stand beside the requirements: a failed one blocks as well."""
    tests = found.result["tests"] if found else {}
    return [{"require": name, "value": outcome, "held": outcome == "pass"} for name, outcome in tests.items()]


def say_promoted(workspace: Workspace, subject: str) -> None:
    """Tells the person what the approval did."""
    model = model_record(workspace, subject)
    number = numbers(workspace.registry, Thing(kind="model", name=model.name))[subject]
    branch = workspace.registry.integration
    workspace.tell(f"merged into {branch}; merged source equals the model's; {model.name} v{number} is promoted")


MODEL = Gate(
    name="model",
    role="model_validator",
    own=False,
    back_to=BACK_TO,
    waiting=waiting,
    look=look,
    effect=promote,
    after=say_promoted,
)
