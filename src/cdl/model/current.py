"""Which models count now: the one in production and the promoted one."""

from cdl.errors import Corrupt
from cdl.registry.records import DeploymentHead, Model, ModelHead, Package
from cdl.workflow.workspace import Workspace

PRODUCTION = "production"


def promoted(workspace: Workspace, name: str) -> str | None:
    """The model that the integration branch names."""
    tip = workspace.registry.tip()
    head = workspace.registry.head(ModelHead, name, at=tip) if tip else None
    return head.promoted if head else None


def deployed(workspace: Workspace, name: str) -> str | None:
    """The model in production: the one of the package that the production branch names."""
    branch = workspace.config.branches.production or workspace.config.branches.integration
    tip = workspace.git.resolve(f"refs/heads/{branch}")
    head = workspace.registry.head(DeploymentHead, PRODUCTION, at=tip) if tip else None
    if head is None:
        return None
    package = workspace.registry.get(head.package).record
    if not isinstance(package, Package):
        raise Corrupt("not a package", where=head.package)
    model = workspace.registry.get(package.model).record
    return package.model if isinstance(model, Model) and model.name == name else None


def current(workspace: Workspace, name: str) -> str | None:
    """The model to compare with and to train again."""
    return deployed(workspace, name) or promoted(workspace, name)


def rivals(workspace: Workspace, name: str) -> list[str]:
    """The models that a candidate is compared with: the one in production, and the promoted one where that is another."""
    running, chosen = deployed(workspace, name), promoted(workspace, name)
    if running is not None and chosen == _original(workspace, running):
        chosen = None
    return list(dict.fromkeys(m for m in (running, chosen) if m is not None))


def _original(workspace: Workspace, identity: str) -> str:
    """The model that a compressed form or an implementation was made from; any other itself."""
    record = workspace.registry.get(identity).record
    origin = (record.origin if isinstance(record, Model) else None) or {}
    return _original(workspace, origin["model"]) if origin.get("by") in ("compression", "implementation") else identity
