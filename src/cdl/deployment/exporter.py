"""The worker that turns a trained torch network into ONNX, and ONNX into eight-bit ONNX.

    {op: export, spec, weights, inputs: path of validation inputs, quantize: int8 | null}
        -> {onnx: bytes, outputs: npy of the validation outputs}

The batch stays free. Quantization is static: ranges of activations are taken from validation inputs, weights per channel
(onnxruntime's quantize_static, QDQ form).
"""

import io
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cdl.jobs.channel import Channel
from cdl.model.arrays import array_bytes
from cdl.model.runtime import load, named
from cdl.optional import optional

BATCH = 64  # inputs calibrated at a time
INPUT = "input"


def serve(channel: Channel) -> None:
    """Does the one thing that it is asked."""
    message = channel.receive()
    inputs = np.load(Path(message["inputs"]), mmap_mode="r", allow_pickle=False)
    graph = _exported(message, inputs)
    if message["quantize"] == "int8":
        graph = _quantized(graph, inputs)
    spec: dict[str, Any] = {"kind": "onnx", "call": None, "hyperparameters": {}, "transform": None}
    forward = load(spec, graph, {}).forward
    outputs = [forward(np.ascontiguousarray(inputs[i : i + BATCH])) for i in range(0, len(inputs), BATCH)]
    channel.send({"onnx": graph, "outputs": array_bytes(np.concatenate(outputs))})


def _exported(message: Mapping[str, Any], inputs: Any) -> bytes:
    torch = optional("torch")
    torch.set_num_threads(1)
    spec = message["spec"]
    network = named(spec["call"])(spec["hyperparameters"])
    network.load_state_dict(optional("safetensors.torch").load(message["weights"]))
    network.eval()
    example = torch.from_numpy(np.ascontiguousarray(inputs[:2]))
    program = torch.onnx.export(
        network,
        (example,),
        dynamo=True,
        input_names=[INPUT],
        output_names=["output"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    graph = program.model_proto
    graph.producer_version = ""
    buffer = io.BytesIO()
    buffer.write(graph.SerializeToString(deterministic=True))
    return buffer.getvalue()


def _quantized(graph: bytes, inputs: Any) -> bytes:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    tools = optional("onnxruntime.quantization")
    shapes = optional("onnxruntime.quantization.shape_inference")

    class Reader(tools.CalibrationDataReader):  # type: ignore[misc, name-defined]
        """Validation inputs, batch by batch."""

        def __init__(self) -> None:
            self.at = 0

        def get_next(self) -> dict[str, Any] | None:
            """The next batch, None at the end."""
            batch = inputs[self.at : self.at + BATCH]
            self.at += BATCH
            return {INPUT: np.ascontiguousarray(batch)} if len(batch) else None

    with tempfile.TemporaryDirectory(prefix="cdl-int8-") as name:
        plain, ready, small = (Path(name, n) for n in ("plain.onnx", "ready.onnx", "small.onnx"))
        plain.write_bytes(graph)
        shapes.quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
        tools.quantize_static(str(ready), str(small), Reader(), per_channel=True)
        return small.read_bytes()
