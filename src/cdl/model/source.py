"""A registered model and its own source, as the record names them."""

from cdl.errors import CdlError, Corrupt, NotFound
from cdl.model.code import ModelCode, model_code
from cdl.registry.records import Model, Transformation, encode, short
from cdl.registry.registry import MODEL_REFS
from cdl.workflow.workspace import Workspace


def model_record(workspace: Workspace, identity: str) -> Model:
    """A registered model. NotFound."""
    return workspace.registry.record(Model, identity)


def transformation_of(workspace: Workspace, model: Model) -> Transformation | None:
    """The fitted transformation that a model names, if any. NotFound."""
    return None if model.transformation is None else workspace.registry.record(Transformation, model.transformation)


def source(workspace: Workspace, model: Model) -> ModelCode:
    """The model's own source; Corrupt when it is not the closure that the record names, NotFound where git has it not."""
    found = model_code(workspace, model.name, _commit(workspace, model), script=model.trial.get("script"))
    if found.closure.id != model.code["closure"]:
        raise Corrupt("the source is not the closure of the record", where=model.name, remedy="cdl ci check")
    return found


def _commit(workspace: Workspace, model: Model) -> str:
    """A commit with the model's source: its own, else in a shallow clone the one that keeps it, or the one checked out."""
    git, identity = workspace.git, encode(model)[0]
    for revision in (model.code["commit"], MODEL_REFS + identity, "HEAD"):
        found = git.resolve(revision)
        if found is not None and (revision != "HEAD" or _same(workspace, model, found)):
            return found
    fetch = f"git fetch --depth 1 origin '{MODEL_REFS}*:{MODEL_REFS}*'"
    raise NotFound(f"the source of {short(identity)} is not in this clone", remedy=fetch)


def _same(workspace: Workspace, model: Model, commit: str) -> bool:
    try:
        found = model_code(workspace, model.name, commit, script=model.trial.get("script"))
    except CdlError:
        return False
    return bool(found.closure.id == model.code["closure"])


def describe(model: Model) -> str:
    """A model in a few words."""
    return f"{model.name}, {model.origin['by']} of {short(model.origin['model'])}" if model.origin else model.name
