"""What the deployment steps start from: which model is deployed under which name."""

import msgspec

from cdl.config.schema import DeployConfig
from cdl.errors import ConfigError, NotFound
from cdl.model.current import promoted
from cdl.model.source import model_record
from cdl.registry.records import Model
from cdl.workflow.policy import decisions, verdict_on
from cdl.workflow.standing import standing
from cdl.workflow.workspace import Workspace

OPTIONAL = {"implementation": ("model_implementation", "implementation_review"), "compression": ("compression",)}


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment of cdl.yaml: its name, its section, and the promoted model that it starts from."""

    name: str
    config: DeployConfig
    promoted: str


def lines(workspace: Workspace) -> list[Line]:
    """Every deployment whose model has been promoted."""
    found = []
    for name, config in workspace.config.deploy.items():
        model = promoted(workspace, config.model)
        if model is not None:
            found.append(Line(name=name, config=config, promoted=model))
    return found


def approved_lines(workspace: Workspace) -> list[Line]:
    """Those whose approval stands: a disputed one, or one taken back, sends nothing on."""
    return [line for line in lines(workspace) if approval_stands(workspace, line.promoted)]


def approval_stands(workspace: Workspace, promoted_id: str) -> bool:
    """Whether no decision at the model gate speaks against a promoted model."""
    made = decisions(workspace, "model", promoted_id)
    return not made or standing(made) == "approve"


def line_of_stage(workspace: Workspace, stage: str) -> Line:
    """The deployment that has a stage. ConfigError, NotFound."""
    every = [name for name, config in workspace.config.deploy.items() if stage in config.stages]
    if not every:
        known = sorted({s for c in workspace.config.deploy.values() for s in c.stages})
        raise ConfigError(f"no stage '{stage}'", where="cdl.yaml: deploy", remedy="there are: " + ", ".join(known))
    found = [line for line in lines(workspace) if line.name in every]
    if not found:
        raise NotFound("no model is promoted yet", remedy="cdl model submit, cdl approve")
    return found[0]


def implemented(workspace: Workspace, promoted_id: str) -> str:
    """The approved implementation of a promoted model, else the model itself."""
    made = children(workspace, promoted_id, "implementation")
    approved = [i for i, _ in made if verdict_on(workspace, "implementation", i) == "approve"]
    return approved[-1] if approved else promoted_id


def candidate(workspace: Workspace, line: Line) -> str | None:
    """The model that is to be deployed: the compressed form where cdl.yaml asks for one; None until it is made."""
    start = implemented(workspace, line.promoted)
    if not line.config.compress:
        return start
    wanted = line.config.compress[-1].quantize
    made = [i for i, m in children(workspace, start, "compression") if (m.origin or {}).get("quantize") == wanted]
    open_ones = [i for i in made if verdict_on(workspace, "revision", i) != "reject"]
    return open_ones[-1] if open_ones else None


def children(workspace: Workspace, model_id: str, by: str) -> list[tuple[str, Model]]:
    """Models made from another in one way, oldest first."""
    found = [
        (i, m)
        for i, m in workspace.registry.all(Model)
        if m.origin and m.origin.get("model") == model_id and m.origin["by"] == by
    ]
    return sorted(found, key=lambda pair: (pair[1].made.when, pair[0]))


def left_out(workspace: Workspace, model_id: str) -> list[str]:
    """The optional steps that were not done on the way from the promoted model to this one."""
    done = set()
    model = model_record(workspace, model_id)
    while model.origin and model.origin["by"] in OPTIONAL:
        done.add(model.origin["by"])
        model = model_record(workspace, model.origin["model"])
    return [step for by, steps in OPTIONAL.items() if by not in done for step in steps]
