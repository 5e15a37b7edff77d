"""Implementation: refactored source for a promoted model, fit for fast prediction, with a request and response schema.

The weights stay; the source of the work tree takes the place of the scientist's. It must predict like the original on
every validation item. The new source is stored with the model, and approval merges it.
"""

from typing import Literal

import msgspec
import numpy as np

from cdl.deployment.validation import validation_probabilities
from cdl.errors import Refused
from cdl.model.code import model_code
from cdl.model.register import keep_source, request_schema
from cdl.model.source import model_record
from cdl.model.transform import Learned, prepare
from cdl.registry.offers import offer
from cdl.registry.records import Model, encode, short
from cdl.workflow.policy import require_role
from cdl.workflow.workspace import Workspace

TOLERANCE = 1e-4  # of a probability
Input = Literal["image", "text", "bytes", "row", "array"]


def implement(workspace: Workspace, model_id: str, *, input: Input, cause: str | None = None) -> str:
    """Makes the commit checked out the source of a model; returns the new model's id, committed on this branch.

    Refused for another role, when the work tree is not committed, or when a validation item is predicted otherwise.
    """
    require_role(workspace, ("software_engineer",), "model implement")
    model = model_record(workspace, model_id)
    head = workspace.git.head()
    code = model_code(workspace, model.name, head)
    if code.closure.id == model.code["closure"]:
        raise Refused(
            "the source is that of the model already", remedy="nothing is left to do, or commit the new source"
        )
    here = prepare(workspace, code, Learned.of(model.data))
    transformation = here.transformation
    record = msgspec.structs.replace(
        model,
        made=workspace.made("software_engineer", cause=cause),
        origin={"model": model_id, "by": "implementation"},
        code={"commit": code.commit, "tree": code.tree, "closure": code.closure.id},
        transformation=encode(transformation)[0] if transformation else None,
        environment=msgspec.to_builtins(code.environment),
        schema=request_schema(input, model.output),
    )
    identity = encode(record)[0]
    if transformation is not None:
        workspace.registry.commit(
            transformation, command="model implement", line=f"transformation of {short(identity)}"
        )
    workspace.tell(f"compare   {short(identity)} with {short(model_id)} on every validation item")
    _alike(workspace, model, record)
    line = f"{record.name} {short(identity)} implements {short(model_id)}"
    keep_source(workspace, record, transformation, line=line)
    offer(workspace.git, identity, head)
    workspace.registry.commit(record, command="model implement", line=line)
    return identity


def _alike(workspace: Workspace, model: Model, record: Model) -> None:
    before, after = validation_probabilities(workspace, model), validation_probabilities(workspace, record)
    if before.shape != after.shape:
        raise Refused("the new source answers in another shape", remedy="mend it, and commit again")
    other = int(np.sum(np.abs(before - after).max(axis=1) > TOLERANCE))
    if other:
        raise Refused(
            f"the new source predicts {other} of {len(before)} validation items otherwise",
            remedy="an implementation changes no prediction; a new model is registered",
        )
