"""A pretrained model to begin with: a registered one by its id, or a safetensors file in the repository."""

from cdl.errors import ConfigError, Refused
from cdl.model.code import ModelCode
from cdl.model.source import model_record
from cdl.registry.records import ID_PATTERN
from cdl.workflow.workspace import Workspace


def pretrained(workspace: Workspace, code: ModelCode) -> str | None:
    """The object of the weights that cdl.yaml's `pretrained` names; None where it names none.

    ConfigError when there is no such file; Refused for a model whose weights are no safetensors.
    """
    name = code.config.pretrained
    if name is None:
        return None
    if ID_PATTERN.match(name):
        model = model_record(workspace, name)
        if model.output["format"] != "safetensors":
            raise Refused(f"{name} holds no safetensors weights", where="cdl.yaml: pretrained", remedy="its original")
        return model.weights
    data = workspace.git.read(code.commit, name)
    if data is None:
        raise ConfigError(f"no file '{name}'", where="cdl.yaml: pretrained", remedy="git add it, or name a model's id")
    return workspace.store.put(data)
