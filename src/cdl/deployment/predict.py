"""Batch prediction: `cdl predict MODEL --data NAME|FILE...`. Its output is a versioned object, and an event."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from cdl.data.dataset import training
from cdl.data.ready import released
from cdl.errors import NotFound
from cdl.journal import batch
from cdl.model.loading import Predictor, with_predictor
from cdl.model.source import model_record
from cdl.workflow.workspace import Workspace


class Predicted(msgspec.Struct, frozen=True, kw_only=True):
    """The batch object with the columns item, category, confidence; and its rows."""

    object: str
    rows: list[dict[str, Any]]


def predict(
    workspace: Workspace, model_id: str, *, dataset: str | None = None, files: Sequence[Path] = ()
) -> Predicted:
    """Predicts the training items of a dataset, or files. NotFound names a file that is not there."""
    model = model_record(workspace, model_id)
    if dataset is not None:
        items = training(workspace, *released(workspace, dataset))
        names, contents = list(items.ids), list(items.contents)
    else:
        missing = [f for f in files if not f.is_file()]
        if missing or not files:
            raise NotFound(
                "no such file" if missing else "nothing to predict", where=str(missing[0]) if missing else None
            )
        names, contents = [f.name for f in files], [f.read_bytes() for f in files]
    found: dict[str, Any] = {}

    def use(predictor: Predictor) -> None:
        found["values"] = predictor.probabilities(contents)

    with_predictor(workspace, model, use)
    values = found["values"]
    called = [model.output["classes"][i] for i in np.argmax(values, axis=1)]
    confidence = [round(float(v), 6) for v in values.max(axis=1)]
    data = batch.write({"item": names, "category": called, "confidence": confidence})
    name = workspace.store.put(data)
    workspace.journal.append(
        "prediction.made", who=workspace.person.email, model=model_id, rows=len(names), result=name
    )
    rows = [{"item": n, "category": c, "confidence": p} for n, c, p in zip(names, called, confidence, strict=True)]
    return Predicted(object=name, rows=rows)
