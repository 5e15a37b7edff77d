"""Which models count now: the one in production and the promoted one."""

from cdl.registry.records import DeploymentHead, Model, ModelHead, Package
from cdl.registry.registry import PRODUCTION
from cdl.workflow.policy import verdict_on
from cdl.workflow.workspace import Workspace

DECIDED = {"approve": "approved", "reject": "rejected", "submit": "submitted", "withdraw": "withdrawn"}
CHANGED = ("compression", "implementation")  # ways to make a model of another that stay compared with it


def promoted(workspace: Workspace, name: str) -> str | None:
    """The model that the integration branch names."""
    tip = workspace.registry.tip()
    head = workspace.registry.head(ModelHead, name, at=tip) if tip else None
    return head.promoted if head else None


def deployed(workspace: Workspace, name: str) -> str | None:
    """The model in production: the one of the package that the production branch names."""
    tip = workspace.git.resolve(f"refs/heads/{workspace.registry.branch_of(PRODUCTION)}")
    head = workspace.registry.head(DeploymentHead, PRODUCTION, at=tip) if tip else None
    if head is None:
        return None
    model = workspace.registry.record(Package, head.package).model
    return model if workspace.registry.record(Model, model).name == name else None


def current(workspace: Workspace, name: str) -> str | None:
    """The model to compare with and to train again."""
    return deployed(workspace, name) or promoted(workspace, name)


def rivals(workspace: Workspace, name: str) -> list[str]:
    """The models that a candidate is compared with: the one in production, and the promoted one where that is another."""
    running, chosen = deployed(workspace, name), promoted(workspace, name)
    if running is not None and chosen == original(workspace, running):
        chosen = None
    return list(dict.fromkeys(m for m in (running, chosen) if m is not None))


def original(workspace: Workspace, identity: str) -> str:
    """The model that a compressed form or an implementation was made from, at last; any other itself."""
    origin = workspace.registry.record(Model, identity).origin
    return original(workspace, origin["model"]) if origin and origin["by"] in CHANGED else identity


def stands(workspace: Workspace, identity: str, record: Model) -> str:
    """How a model stands: in production, promoted, or as the last gate said that decided on it."""
    if identity == deployed(workspace, record.name):
        return "in production"
    if identity == promoted(workspace, record.name):
        return "promoted"
    for gate in ("revision", "implementation", "model", "submission"):
        verdict = verdict_on(workspace, gate, identity)
        if verdict is not None:
            return DECIDED[verdict]
    return "registered"
