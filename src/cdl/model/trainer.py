"""The worker's side of training and of fitting a transformation.

    {op: fit, call, parameters, training: [bytes], validation: [bytes]}
        -> {state: {file: bytes}, training: npy, validation: npy}
    {op: train, call, network, hyperparameters, classes, epochs, until, seed, device, start, paths}
        -> {report: {epoch, ...}} *   {save: bytes, epoch} -> answered {stop} *   {done: weights}

Arrays of a training are given by the paths of their npy files and mapped, not copied.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cdl.jobs.channel import Channel
from cdl.model import checkpoint
from cdl.model.arrays import array_bytes
from cdl.model.context import Context, Part
from cdl.model.runtime import encode_state, named
from cdl.optional import optional


def serve(channel: Channel) -> None:
    """Does the one thing that it is asked."""
    message = channel.receive()
    if message["op"] == "fit":
        channel.send(_fit(message))
    else:
        _train(channel, message)


def _fit(message: Mapping[str, Any]) -> dict[str, Any]:
    call = named(message["call"])
    fitted = call.fit(list(message["training"]), **message["parameters"])
    state = encode_state(fitted.state())
    again = call.from_state(fitted.state())  # what is stored is what is used
    applied = {part: _inputs(again, message[part]) for part in ("training", "validation")}
    return {"state": state, **applied}


def _inputs(fitted: Any, items: list[bytes]) -> bytes:
    found = np.ascontiguousarray(fitted(list(items)), dtype=np.float32)
    if len(found) != len(items):
        raise ValueError(f"the transformation gave {len(found)} inputs for {len(items)} items")
    return array_bytes(found)


def _train(channel: Channel, message: Mapping[str, Any]) -> None:
    if message["network"]:
        optional("torch").set_num_threads(message["threads"])
    checkpoint.seed(message["seed"])
    context = Context(
        hyperparameters=message["hyperparameters"],
        classes=tuple(message["classes"]),
        training=_part(message["paths"], "training"),
        validation=_part(message["paths"], "validation"),
        epochs=message["epochs"],
        until=message["until"],
        seed=message["seed"],
        device=message["device"],
        pretrained=_weights(message["paths"].get("pretrained")),
        network=named(message["network"]) if message["network"] else None,
        start=message["start"],
        told=lambda numbers: channel.send({"report": dict(numbers)}),
        saved=lambda epoch, data: _saved(channel, epoch, data),
    )
    named(message["call"])(context)
    if context.last is None:
        raise ValueError("the training saved nothing: use context.loop(model=...) or context.save(epoch, model=...)")
    channel.send({"done": checkpoint.weights(context.last)})


def _saved(channel: Channel, epoch: int, data: bytes) -> bool:
    channel.send({"save": data, "epoch": epoch})
    return bool(channel.receive()["stop"])


def _part(paths: Mapping[str, str], name: str) -> Part:
    inputs = np.load(Path(paths[f"{name}_inputs"]), mmap_mode="r", allow_pickle=False)
    labels = np.load(Path(paths[f"{name}_labels"]), allow_pickle=False)
    return Part(inputs=inputs, labels=labels)


def _weights(path: str | None) -> Any:
    """The arrays of a safetensors file."""
    return None if path is None else optional("safetensors.numpy").load_file(path)
