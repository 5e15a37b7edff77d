"""Compression: a smaller model as a new record `from:` the original. Choices use validation data only.

Every network leaves for deployment as ONNX; `quantize: int8` makes its weights and activations eight-bit.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from cdl.config.schema import Compression
from cdl.deployment.base import left_out
from cdl.deployment.validation import validation, validation_probabilities
from cdl.errors import Refused
from cdl.jobs.job import Job
from cdl.jobs.local import Result, Worker
from cdl.model.arrays import array
from cdl.model.loading import spec
from cdl.model.register import keep_source
from cdl.model.runtime import probabilities
from cdl.model.source import model_record, source, transformation_of
from cdl.optional import require
from cdl.registry.records import Model, encode, short
from cdl.workflow.workspace import Workspace

LOOP = "cdl.deployment.exporter:serve"


class Compressed(msgspec.Struct, frozen=True, kw_only=True):
    """The new model, sizes in bytes, and on how many validation items it predicts like the original."""

    id: str
    before: int
    after: int
    alike: int
    items: int


def compress(
    workspace: Workspace,
    model_id: str,
    how: Sequence[Compression],
    *,
    cause: str | None = None,
) -> Compressed:
    """Exports a network and makes it smaller; commits the new model on the integration branch.

    Refused for a model without a torch network; JobFailed when the export fails.
    """
    model = model_record(workspace, model_id)
    quantize = how[-1].quantize if how else None
    prepared = validation(workspace, model)
    store = workspace.store
    workspace.tell(f"compress  {quantize or 'ONNX'} of {short(model_id)}, calibrated on validation items")
    made = export(workspace, model_id, model, quantize).outputs
    truth = array(store.get(prepared.arrays["validation_labels"]))
    found = array(store.get(made["outputs"]))
    classes = len(model.output["classes"])
    called = probabilities(found, model.output["kind"], len(truth), classes).argmax(axis=1)
    original = validation_probabilities(workspace, model).argmax(axis=1)
    record = Model(
        name=model.name,
        made=workspace.made("software_engineer", cause=cause),
        origin={
            "model": model_id,
            "by": "compression",
            "quantize": quantize,
            "calibrated_on": "validation",
        },
        code=dict(model.code),
        data=dict(model.data),
        transformation=model.transformation,
        environment=dict(model.environment),
        trial=dict(model.trial),
        weights=made["onnx"],
        metrics={"validation.accuracy": round(float(np.mean(called == truth)), 4)},
        output={**model.output, "format": "onnx"},
        schema=model.schema,
        skipped=[step for step in left_out(workspace, model_id) if step != "compression"],
    )
    identity = encode(record)[0]
    line = f"{short(identity)} {quantize or 'onnx'} of {short(model_id)}"
    keep_source(workspace, record, transformation_of(workspace, record), line=line)
    workspace.registry.commit(record, command="compress", line=line, branch=workspace.registry.integration)
    return Compressed(
        id=identity,
        before=len(store.view(model.weights)),
        after=len(store.view(made["onnx"])),
        alike=int(np.sum(called == original)),
        items=len(truth),
    )


def export(workspace: Workspace, model_id: str, model: Model, quantize: str | None) -> Result:
    """The job that exports and quantizes: outputs `onnx` and `outputs` (of the validation inputs). Refused, JobFailed."""
    code = source(workspace, model)
    if code.config.network is None or model.output["format"] == "onnx":
        raise Refused(f"{short(model_id)} is no torch network", remedy="deploy it as it is: leave `compress` out")
    require("torch", "safetensors", "onnx", "onnxscript", "onnxruntime")
    prepared, store = validation(workspace, model), workspace.store
    job = Job(
        loop=LOOP,
        closure=code.closure,
        inputs={"weights": model.weights, "validation": prepared.arrays["validation_inputs"]},
        parameters={"quantize": quantize, "hyperparameters": model.trial["hyperparameters"]},
        environment=code.environment,
    )

    def drive(worker: Worker) -> dict[str, str]:
        answer = worker.ask(
            {
                "op": "export",
                "spec": spec(model, code),
                "weights": store.get(model.weights),
                "inputs": str(store.path(prepared.arrays["validation_inputs"])),
                "quantize": quantize,
            }
        )
        return {"onnx": store.put(answer["onnx"]), "outputs": store.put(answer["outputs"])}

    return workspace.jobs.run(job, drive)
