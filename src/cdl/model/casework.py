"""The worker that judges: `metrics:` and `tests:` of the target branch, in a walled process without key or network.

    {op: judge, metrics: {name: call}, tests: module | null, items, truth: npy, probabilities: npy, classes, read, walled}
        -> {predict: [bytes, ...]} * answered {probabilities: npy}        a test that asks the model something new
        -> {metrics: {name: number}, tests: {name: pass | fail}}

A test is a function `test_...(cases)`; it fails by raising. Nothing of what it raises or prints leaves.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cdl.jobs.channel import Channel
from cdl.model.arrays import array
from cdl.model.predictor import confine
from cdl.model.runtime import named


class Cases(msgspec.Struct, frozen=True, kw_only=True):
    """What a test sees: contents of the sealed items, truth and predictions as class names, probabilities (n, classes)."""

    channel: Channel
    items: Sequence[bytes]
    truth: Sequence[str]
    predicted: Sequence[str]
    probabilities: NDArray[np.float64]
    classes: tuple[str, ...]

    def predict(self, items: Sequence[bytes]) -> list[str]:
        """The classes that the model gives to other contents."""
        self.channel.send({"predict": list(items)})
        found = array(self.channel.receive()["probabilities"])
        return [self.classes[i] for i in found.argmax(axis=1)]


def serve(channel: Channel) -> None:
    """Judges once."""
    message = channel.receive()
    confine(message, ("numpy",))
    truth, values = array(message["truth"]), array(message["probabilities"])
    classes = tuple(message["classes"])
    predicted = values.argmax(axis=1)
    cases = Cases(
        channel=channel,
        items=message["items"],
        truth=[classes[i] for i in truth],
        predicted=[classes[i] for i in predicted],
        probabilities=values,
        classes=classes,
    )
    metrics = {name: float(named(call)(truth, predicted, values)) for name, call in message["metrics"].items()}
    channel.send({"metrics": metrics, "tests": _tested(message, cases)})


def _tested(message: Mapping[str, Any], cases: Cases) -> dict[str, str]:
    if message["tests"] is None:
        return {}
    module = import_module(message["tests"])
    return {name: _outcome(getattr(module, name), cases) for name in message["names"]}


def _outcome(test: Any, cases: Cases) -> str:
    try:
        test(cases)
    except Exception:  # noqa: BLE001 a test may raise anything; that it did is all that leaves
        return "fail"
    return "pass"
