"""The gates of the deployment pipeline: the implementation's and the revision's. Both are the Model Validator's."""

from typing import Any

from blake3 import blake3

from cdl import document
from cdl.config.requirement import judged
from cdl.data.dataset import dataset_record
from cdl.deployment.base import approved_lines, candidate
from cdl.errors import Refused
from cdl.git.commit import make_commit, merge_in_memory
from cdl.model.current import deployed, original, promoted
from cdl.model.results import Evaluation, claimed_result, evaluated
from cdl.model.review import author_of
from cdl.model.source import describe, model_record
from cdl.model.submit import same_source
from cdl.registry.chain import Chain
from cdl.registry.offers import offered
from cdl.registry.records import Model, short
from cdl.workflow.policy import in_force, verdict_on
from cdl.workflow.step import Gate, Open, Ruling, Sight
from cdl.workflow.workspace import Workspace

UNREVISED = "not revised on the current test: cdl run deployment"


def waiting_implementations(workspace: Workspace) -> list[Open]:
    """Implementations that nobody decided on."""
    found = []
    for identity, model in workspace.registry.all(Model):
        if model.origin is None or model.origin["by"] != "implementation":
            continue
        if verdict_on(workspace, "implementation", identity) is None:
            found.append(
                Open(gate="implementation", subject=identity, title=describe(model), authors=(model.made.who,))
            )
    return found


def look_at_implementation(workspace: Workspace, subject: str) -> Sight:
    """The source offered; nobody reviews what he wrote."""
    model = model_record(workspace, subject)
    commit = offered(workspace.git, subject)
    missing = None if commit else f"nothing is offered for {short(subject)}: cdl model implement"
    seen: dict[str, Any] = {"source": commit, "original": (model.origin or {}).get("model"), "schema": model.schema}
    return Sight(seen=seen, authors=(model.made.who,), missing=missing)


def merge_source(workspace: Workspace, chain: Chain, subject: str, ruling: Ruling) -> None:
    """Merges the new source into the integration branch. Refused when it conflicts or becomes another."""
    model = model_record(workspace, subject)
    commit = ruling.sight.seen["source"]
    merge = merge_in_memory(workspace.git, chain.start, commit)
    if merge.tree is None:
        raise Refused(
            f"merging {commit[:8]} conflicts in {', '.join(merge.conflicts)}", remedy=f"git merge {chain.branch} first"
        )
    made = make_commit(workspace.git, merge.tree, [chain.start], "merge in memory\n")
    same_source(workspace, model, made, "the merge")
    chain.commit(model, files=chain.added(), command="implement", line=short(subject), merged=commit, tree=merge.tree)


def waiting_revisions(workspace: Workspace) -> list[Open]:
    """Candidates of each deployment that nobody decided on."""
    found = []
    for line in approved_lines(workspace):
        subject = candidate(workspace, line)
        if subject is None or verdict_on(workspace, "revision", subject) is not None:
            continue
        model = model_record(workspace, subject)
        blocked = None if revised(workspace, subject) else UNREVISED
        authors = (author_of(workspace, model),)
        found.append(Open(gate="revision", subject=subject, title=describe(model), authors=authors, blocked=blocked))
    return found


def look_at_revision(workspace: Workspace, subject: str) -> Sight:
    """Evaluation, revision and every requirement but the live ones, which monitoring judges."""
    model = model_record(workspace, subject)
    result, found = revised(workspace, subject), evaluated(workspace, subject)
    values = (found.measures() if found else {}) | (measures(result) if result else {})
    requirements = judged(in_force(workspace).requirements(), values, "test.", "revision.")
    seen = {
        "test": found.result["test"] if found else None,
        "labels": found.result["labels"] if found else None,
        "promoted": promoted(workspace, model.name),
        "deployed": deployed(workspace, model.name),
        "evaluation": found.object if found else None,
        "revision": result["object"] if result else None,
    }
    stale = None if result else UNREVISED
    return Sight(seen=seen, authors=(author_of(workspace, model),), requirements=requirements, stale=stale)


def revised(workspace: Workspace, model_id: str) -> dict[str, Any] | None:
    """The result that stands on the current test, with its object; None when there is none."""
    first, second = (evaluated(workspace, m) for m in (original(workspace, model_id), model_id))
    if first is None or second is None:
        return None
    name = dataset_record(workspace, second.result["dataset"]).name
    return claimed_result(
        workspace, name, revision_key(model_id, first, second), {"kind": "revision", "model": model_id}
    )


def measures(result: dict[str, Any]) -> dict[str, float]:
    """What `revision.` requirements may name: accuracy, difference, size (bytes), latency_p95 (seconds)."""
    return {
        "revision.accuracy": result["accuracy"][1],
        "revision.difference": result["difference"][0],
        "revision.size": result["size"][1],
        "revision.latency_p95": result["latency_p95"][1],
    }


def revision_key(model_id: str, first: Evaluation, second: Evaluation) -> str:
    """The name under which a revision is claimed."""
    content = {"model": model_id, "first": first.object, "second": second.object}
    return "revisions/" + blake3(document.canonical(content)).hexdigest()


IMPLEMENTATION = Gate(
    name="implementation",
    role="model_validator",
    own=False,
    back_to=("model_implementation", "model_building"),
    waiting=waiting_implementations,
    look=look_at_implementation,
    effect=merge_source,
)
REVISION = Gate(
    name="revision",
    role="model_validator",
    own=False,
    back_to=("model_implementation", "compression", "model_building"),
    waiting=waiting_revisions,
    look=look_at_revision,
)
