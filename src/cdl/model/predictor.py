"""The predictor: a walled process that holds a model. It sees inputs, never labels and no key, and answers raw tensors.

    {op: load, spec, weights, state, read, walled}       -> {walls: [...]}, then {loaded: true}
    {op: predict, items: [bytes, ...]}                   -> {outputs: npy (n, classes) float32}
    {op: transform, items: [bytes, ...]}                 -> {inputs: npy (n, ...) float32}
    {op: forward, inputs: npy}                           -> {outputs: npy}
    {op: time, inputs: npy, times}                       -> {seconds: [...]}      one input at a time

Libraries are imported first, then the walls go up, then the first line of project code runs.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cdl.jobs.channel import Channel
from cdl.jobs.walls import raise_walls
from cdl.model.arrays import array, array_bytes
from cdl.model.runtime import Loaded, load
from cdl.optional import optional

MEMORY = 4 << 30  # bytes beyond what is mapped at the start
CPU_SECONDS = 600
SECONDS = 1800.0  # of the clock on the wall: whoever sleeps uses no processor
PROCESSES = 64  # threads count as processes
LIBRARIES = {"network": ("torch", "safetensors.torch"), "onnx": ("onnxruntime",), "function": ("safetensors.numpy",)}


def serve(channel: Channel) -> None:
    """Answers until told to stop."""
    message = channel.receive()
    walls = confine(message, LIBRARIES[message["spec"]["kind"]])
    channel.send({"walls": walls})
    loaded = load(message["spec"], message["weights"], message["state"])
    channel.send({"loaded": True})
    while (message := channel.receive())["op"] != "stop":
        channel.send(_answer(loaded, message))


def confine(message: Mapping[str, Any], libraries: tuple[str, ...]) -> list[str]:
    """Imports libraries and raises the walls; the names of those that stand. None where the message asks for none."""
    for name in libraries:
        optional(name)
    if not message["walled"]:
        return []
    read = [Path(p) for p in message["read"]] + [Path.cwd()]
    return raise_walls(read=read, write=[], memory=MEMORY, cpu_seconds=CPU_SECONDS, processes=PROCESSES)


def _answer(loaded: Loaded, message: Mapping[str, Any]) -> dict[str, Any]:
    if message["op"] == "time":
        return {"seconds": _timed(loaded, array(message["inputs"]), message["times"])}
    if message["op"] == "forward":
        return {"outputs": array_bytes(loaded.forward(array(message["inputs"])))}
    inputs = loaded.transform(message["items"])
    if message["op"] == "transform":
        return {"inputs": array_bytes(inputs)}
    return {"outputs": array_bytes(loaded.forward(inputs))}


def _timed(loaded: Loaded, inputs: Any, times: int) -> list[float]:
    found = []
    for i in range(times):
        one = inputs[i % len(inputs)][None]
        start = time.perf_counter()
        loaded.forward(one)
        found.append(time.perf_counter() - start)
    return found
