"""What a training function gets. It runs without `cdl` as well: everything here is a plain call.

    def train(context):
        network = context.network()
        optimizer = torch.optim.Adam(network.parameters(), context.hyperparameters["learning_rate"])
        for epoch in context.loop(model=network, optimizer=optimizer):
            ...one pass over context.training.inputs, context.training.labels...
            context.report(loss=..., accuracy=...)

`loop` restores what a stopped run left, counts epochs from 1, and saves after each; `report`, `save`, `restore` and
`should_stop` are there for those who want their own loop.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cdl.model import checkpoint

Numbers = Mapping[str, float]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """`inputs` (n, ...) float32 as the transformation gives them, `labels` (n,) int64: the place in `classes`."""

    inputs: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


class Context:
    """One trial, seen from the training function."""

    def __init__(
        self,
        *,
        hyperparameters: Mapping[str, Any],
        classes: tuple[str, ...],
        training: Part,
        validation: Part,
        epochs: int,
        until: int,
        seed: int,
        device: str = "cpu",
        pretrained: Mapping[str, NDArray[Any]] | None = None,
        network: Callable[[Mapping[str, Any]], Any] | None = None,
        start: bytes | None = None,
        told: Callable[[Numbers], None] = lambda numbers: None,
        saved: Callable[[int, bytes], bool] = lambda epoch, data: False,
    ) -> None:
        self.hyperparameters = dict(hyperparameters)
        self.classes = classes
        self.training = training
        self.validation = validation
        self.epochs = epochs
        self.seed = seed
        self.device = device
        self.pretrained = pretrained
        self.last: bytes | None = None
        self._until = until
        self._network = network
        self._start = start
        self._told = told
        self._saved = saved
        self._epoch = 0
        self._stop = False

    def network(self) -> Any:
        """The torch module that cdl.yaml's `network` makes of the hyperparameters."""
        if self._network is None:
            raise ValueError("cdl.yaml names no `network` for this model")
        return self._network(self.hyperparameters)

    def report(self, **numbers: float) -> None:
        """Measures of the current epoch: `accuracy` becomes validation.accuracy unless it names a set itself."""
        named = {k if "." in k else f"validation.{k}": float(v) for k, v in numbers.items()}
        self._told({"epoch": self._epoch or 1, **named})

    def restore(self, **parts: Any) -> int:
        """Puts a stopped run's state into parts; epochs done so far, 0 at the very beginning."""
        if self._start is None:
            return 0
        self._epoch = checkpoint.restore(self._start, parts)
        self.last = self._start
        return self._epoch

    def save(self, epoch: int, **parts: Any) -> None:
        """Keeps the state after an epoch. The part `model` becomes the weights."""
        self._epoch = epoch
        self.last = checkpoint.pack(epoch, parts)
        self._stop = self._saved(epoch, self.last)

    def should_stop(self) -> bool:
        """Whether the run ends here: all epochs are done, or the search pauses it."""
        return self._stop or self._epoch >= self._until

    def loop(self, **parts: Any) -> Iterator[int]:
        """Epochs that are still to do, counted from 1; restores first and saves after each."""
        done = self.restore(**parts)
        while done < self.epochs and not self.should_stop():
            done += 1
            self._epoch = done
            yield done
            self.save(done, **parts)
