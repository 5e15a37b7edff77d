"""Validation items, the only ones that compression, packaging and timing may look at."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdl.model.arrays import array
from cdl.model.loading import Predictor, with_predictor
from cdl.model.source import source
from cdl.model.transform import Learned, Prepared, prepare
from cdl.registry.records import Model
from cdl.workflow.workspace import Workspace


def validation(workspace: Workspace, model: Model) -> Prepared:
    """The validation items of a model as inputs and labels."""
    code = source(workspace, model)
    return prepare(workspace, code, Learned.of(model.data))


def validation_probabilities(workspace: Workspace, model: Model) -> NDArray[np.float64]:
    """What a model says of its validation inputs (n, classes), as it would in service."""
    inputs = array(workspace.store.get(validation(workspace, model).arrays["validation_inputs"]))
    found: dict[str, Any] = {}

    def use(predictor: Predictor) -> None:
        found["values"] = predictor.of_inputs(inputs)

    with_predictor(workspace, model, use)
    values: NDArray[np.float64] = found["values"]
    return values
