"""A model ready to predict, from bytes: weights, the transformation's state, and the project's own code on the path.

The same three forms everywhere, in an evaluation, a revision and a service:

    onnx       an ONNX graph, run by onnxruntime with one thread; no code of the project but the transformation's
    network    'module:function' of the hyperparameters that gives a torch module, with safetensors weights
    function   'module:function' of (weights, inputs) that gives probabilities, with safetensors weights
"""

import io
import json
import os
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cdl.optional import optional

MAX_CLASSES = 100_000
SCALARS = "state.json"  # the file of a transformation's state that holds everything but arrays
Floats = NDArray[np.float32]


class Loaded(msgspec.Struct, frozen=True):
    """`transform` takes item contents to inputs (n, ...); `forward` takes inputs to outputs (n, classes)."""

    transform: Callable[[list[bytes]], Floats]
    forward: Callable[[Floats], Floats]


def load(spec: Mapping[str, Any], weights: bytes, state: Mapping[str, bytes]) -> Loaded:
    """A model from `spec` {kind, call, hyperparameters, transform}, its weights, and the files of its transformation's state.

    Raises what the project's code raises, and KeyError for an unknown kind.
    """
    forward = {"onnx": _onnx, "network": _network, "function": _function}[spec["kind"]](spec, weights)
    return Loaded(transformation(spec["transform"], state), forward)


def named(call: str) -> Any:
    """What 'module:name' names."""
    module, _, name = call.partition(":")
    return getattr(import_module(module), name)


def transformation(call: str | None, state: Mapping[str, bytes]) -> Callable[[list[bytes]], Floats]:
    """The fitted transformation `call` ('module:Class') from its state; without one an item is a npy array."""
    if call is None:
        return lambda items: np.stack([np.load(io.BytesIO(i), allow_pickle=False) for i in items]).astype(np.float32)
    fitted = named(call).from_state(decode_state(state))
    return lambda items: np.ascontiguousarray(fitted(list(items)), dtype=np.float32)


def decode_state(files: Mapping[str, bytes]) -> dict[str, Any]:
    """A transformation's state from its files: state.json, and <name>.npy for each array."""
    found: dict[str, Any] = json.loads(files.get(SCALARS, b"{}"))
    for name, data in files.items():
        if name.endswith(".npy"):
            found[name.removesuffix(".npy")] = np.load(io.BytesIO(data), allow_pickle=False)
    return found


def encode_state(state: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of a state. TypeError for a value that is neither an array nor JSON."""
    files = {}
    scalars = {}
    for name, value in state.items():
        if isinstance(value, np.ndarray):
            buffer = io.BytesIO()
            np.save(buffer, np.ascontiguousarray(value), allow_pickle=False)
            files[f"{name}.npy"] = buffer.getvalue()
        else:
            scalars[name] = value
    files[SCALARS] = json.dumps(scalars, sort_keys=True, ensure_ascii=False).encode()
    return files


def probabilities(outputs: NDArray[Any], kind: str, items: int, classes: int) -> NDArray[np.float64]:
    """Checked outputs as probabilities (items, classes); `kind` is 'logits' or 'probabilities'.

    ValueError for another shape and for numbers that are not finite.
    """
    if outputs.shape != (items, classes) or classes > MAX_CLASSES:
        raise ValueError(f"the model answered shape {outputs.shape}; ({items}, {classes}) was expected")
    values = outputs.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("the model answered numbers that are not finite")
    if kind == "probabilities":
        return values
    shifted = np.exp(values - values.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
    return result


def _network(spec: Mapping[str, Any], weights: bytes) -> Callable[[Floats], Floats]:
    torch = optional("torch")
    torch.set_num_threads(1)
    network = named(spec["call"])(spec["hyperparameters"])
    network.load_state_dict(optional("safetensors.torch").load(weights))
    network.eval()

    def forward(inputs: Floats) -> Floats:
        with torch.inference_mode():
            found: Floats = network(torch.from_numpy(inputs)).numpy()
            return found

    return forward


def _function(spec: Mapping[str, Any], weights: bytes) -> Callable[[Floats], Floats]:
    function = named(spec["call"])
    arrays = optional("safetensors.numpy").load(weights)
    return lambda inputs: np.asarray(function(arrays, inputs), dtype=np.float32)


def _onnx(spec: Mapping[str, Any], weights: bytes) -> Callable[[Floats], Floats]:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    runtime = optional("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = runtime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda inputs: np.asarray(session.run(None, {name: inputs})[0], dtype=np.float32)
