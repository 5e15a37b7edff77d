"""Packaging: a folder with everything a service needs, stored as a tree and named by a record. Equal models, equal packages.

    package.json  weights  state/...  code/...  reference/{inputs,confidence}.npy, categories.json

The reference is what the model saw and said in validation; monitoring compares requests with it.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

import cdl
from cdl.deployment.base import left_out
from cdl.deployment.validation import validation, validation_probabilities
from cdl.errors import Refused
from cdl.model.arrays import array, array_bytes
from cdl.model.loading import spec, state_of
from cdl.model.source import model_record, source
from cdl.registry.records import Model, Package, encode, short
from cdl.workflow.policy import verdict_on
from cdl.workflow.workspace import Workspace

FORMAT = 1
SAMPLE = 500  # validation inputs kept for monitoring
WRAPPER = ("deployment/serve", "model/runtime.py")


def build(workspace: Workspace, name: str, model_id: str) -> str:
    """Packages a model that passed the revision gate; the record is committed on the integration branch. Refused."""
    if verdict_on(workspace, "revision", model_id) != "approve":
        raise Refused(f"{short(model_id)} has not passed the revision gate", remedy=f"cdl approve {short(model_id)}")
    workspace.tell(f"package   {short(model_id)}: model, transformation, code, reference")
    model = model_record(workspace, model_id)
    files = contents(workspace, name, model_id, model)
    tree = workspace.store.put_tree(files)
    record = Package(
        model=model_id,
        transformation=model.transformation,
        tree=tree,
        wrapper=wrapper(),
        environment=dict(model.environment),
        skipped=left_out(workspace, model_id),
    )
    identity = encode(record)[0]
    workspace.registry.commit(
        record, command="package", line=f"{short(identity)} of {short(model_id)}", branch=workspace.registry.integration
    )
    return identity


def contents(workspace: Workspace, name: str, model_id: str, model: Model) -> dict[str, bytes]:
    """The files of a package by path."""
    code = source(workspace, model)
    inputs = array(workspace.store.get(validation(workspace, model).arrays["validation_inputs"]))
    described: dict[str, Any] = {
        "format": FORMAT,
        "name": name,
        "model": model_id,
        **spec(model, code),
        "output": {"kind": model.output["kind"], "classes": list(model.output["classes"])},
        "input": {"shape": list(inputs.shape[1:])},
        "schema": model.schema,
    }
    files = {"package.json": json.dumps(described, indent=1, sort_keys=True).encode()}
    files["weights"] = workspace.store.get(model.weights)
    files |= {f"state/{path}": data for path, data in state_of(workspace, model).items()}
    blobs = workspace.git.cat(code.closure.blobs.values())
    files |= {f"code/{path}": blobs[blob] for path, blob in code.closure.blobs.items()}
    return files | reference(workspace, model, inputs)


def reference(workspace: Workspace, model: Model, inputs: Any) -> dict[str, bytes]:
    """A sample of validation inputs with the model's confidence and categories."""
    values = validation_probabilities(workspace, model)
    places = np.linspace(0, len(inputs) - 1, min(SAMPLE, len(inputs))).astype(int)
    called = values.argmax(axis=1)
    counts = {name: int(np.sum(called == i)) for i, name in enumerate(model.output["classes"])}
    flat = inputs[places].reshape(len(places), -1).astype(np.float32)
    return {
        "reference/inputs.npy": array_bytes(flat),
        "reference/confidence.npy": array_bytes(values.max(axis=1)),
        "reference/categories.json": json.dumps(counts, sort_keys=True).encode(),
    }


def wrapper() -> str:
    """The hash of the code that serves packages."""
    root = Path(cdl.__file__).parent
    paths = [
        p for part in WRAPPER for p in ([root / part] if part.endswith(".py") else sorted((root / part).glob("*.py")))
    ]
    return blake3(b"\0".join(p.read_bytes() for p in paths)).hexdigest()
