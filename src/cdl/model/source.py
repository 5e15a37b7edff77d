"""A registered model and its own source, as the record names them."""

from cdl.errors import Corrupt
from cdl.model.code import ModelCode, model_code
from cdl.registry.records import Model, Transformation, short
from cdl.workflow.workspace import Workspace


def model_record(workspace: Workspace, identity: str) -> Model:
    """A registered model. NotFound."""
    return workspace.registry.record(Model, identity)


def transformation_of(workspace: Workspace, model: Model) -> Transformation | None:
    """The fitted transformation that a model names, if any. NotFound."""
    return None if model.transformation is None else workspace.registry.record(Transformation, model.transformation)


def source(workspace: Workspace, model: Model) -> ModelCode:
    """The model's own source; Corrupt when it is not the closure that the record names."""
    found = model_code(workspace, model.name, model.code["commit"], script=model.trial.get("script"))
    if found.closure.id != model.code["closure"]:
        raise Corrupt("the source is not the closure of the record", where=model.name, remedy="cdl ci check")
    return found


def describe(model: Model) -> str:
    """A model in a few words."""
    return f"{model.name}, {model.origin['by']} of {short(model.origin['model'])}" if model.origin else model.name
