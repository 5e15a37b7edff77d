"""Registered models that wait for an evaluation, and who lifts it: a holder of the key, or continuous integration."""

from cdl.data.dataset import dataset_record
from cdl.model.current import rivals
from cdl.model.results import evaluated, evaluation_waits, outdated
from cdl.model.source import model_record
from cdl.model.submit import awaited, submitted
from cdl.registry.records import Model, short
from cdl.workflow.policy import verdict_on
from cdl.workflow.workspace import Workspace


def unjudged(workspace: Workspace) -> list[str]:
    """Models without an evaluation that counts: those under review, what they are compared with, and new ones from any ref."""
    reviewed = [i for i, _ in submitted(workspace)]
    told = {e.fields["model"]: e.fields["result"] for e in workspace.journal.events("model.evaluated")}
    known = {model for model, result in told.items() if not outdated(workspace, result)}
    fresh = [i for i, m in workspace.registry.all(Model) if i not in known and _never_judged(workspace, i, m)]
    wanted = dict.fromkeys([*reviewed, *awaited(workspace), *fresh])
    for identity in reviewed:
        wanted |= dict.fromkeys(rivals(workspace, model_record(workspace, identity).name))
    return [i for i in wanted if evaluated(workspace, i) is None]


def unjudged_in(workspace: Workspace, commit: str) -> list[str]:
    """The models registered in a commit that nobody decided on and that have no result that counts on the current test."""
    every = workspace.registry.all(Model, at=commit)
    fresh = sorted(every, key=lambda pair: (pair[1].made.when, pair[0]))
    return [i for i, m in fresh if _never_judged(workspace, i, m) and evaluated(workspace, i) is None]


def waiting(workspace: Workspace) -> list[tuple[str, str]]:
    """Each model that waits, and a line that says for whom."""
    return [(i, f"{short(i)}: {evaluation_waits(workspace, _dataset(workspace, i))}") for i in unjudged(workspace)]


def _dataset(workspace: Workspace, identity: str) -> str:
    return dataset_record(workspace, model_record(workspace, identity).data["dataset"]).name


def _never_judged(workspace: Workspace, identity: str, model: Model) -> bool:
    """A model of a trial that nobody decided on: where it was never evaluated, who registered it had no key."""
    trained = model.origin is None or model.origin["by"] == "retraining"
    return trained and verdict_on(workspace, "model", identity) is None
