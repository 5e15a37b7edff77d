"""Batches of items on their way through a step's workers: what is in one, and the queue that the workers take them from.

A batch grows with what its items take, up to BATCH_SECONDS: a slow step spreads evenly, a quick one is not all messages.
"""

import sys
import threading
import time
from collections import deque
from collections.abc import Iterator

import msgspec

from cdl.config.schema import Step
from cdl.data.items.item import Content, Outcome

BATCH_SECONDS = 0.1  # what a batch grows to
BATCH_ITEMS = 512  # the most in one, but of a program with folders
BATCH_BYTES = 8_000_000  # the most content in one, but for an item that is larger
START_SECONDS = 0.2  # what starting a worker takes


class Batch(msgspec.Struct, eq=False):
    """Items in order, and what became of each so far."""

    items: list[tuple[str, Content]] = msgspec.field(default_factory=list)
    outcomes: list[Outcome | None] = msgspec.field(default_factory=list)
    bytes: int = 0
    open: int = 0  # how many have no outcome yet

    def add(self, identity: str, item: Content) -> None:
        """One more item."""
        self.items.append((identity, item))
        self.outcomes.append(None)
        self.bytes += len(item.data)
        self.open += 1

    def settle(self, place: int, outcome: Outcome) -> None:
        """What became of an item."""
        self.outcomes[place] = outcome
        self.open -= 1

    def results(self) -> Iterator[tuple[str, Outcome]]:
        """The outcome of each item, once none is open."""
        for (identity, _), outcome in zip(self.items, self.outcomes, strict=True):
            assert outcome is not None  # none is open
            yield identity, outcome


class Attempt(msgspec.Struct, frozen=True):
    """Some items of a batch to be tried together; `failed` says how often just these failed."""

    batch: Batch
    places: tuple[int, ...]
    failed: int = 0

    @property
    def items(self) -> list[Content]:
        """The items."""
        return [self.batch.items[place][1] for place in self.places]


class Queue:
    """Where batches wait for a worker. Any thread may call; one draws and gives.

    `sizes` are those of the batches where items are worked together; left out, all are.
    """

    def __init__(self, step: Step, sizes: Iterator[int]) -> None:
        self._step = step
        self._whole = step.per != "item"
        self._sizes = sizes
        self._size = step.batch if step.io == "folders" else 1
        self._waiting: deque[Batch] = deque()
        self._change = threading.Condition()
        self._opened = False  # the code, by some worker
        self._since: float | None = None  # since when work waits; None while none does, or no worker is ready
        self.ended = False

    def draw(self, items: Iterator[tuple[str, Content]]) -> Batch:
        """The next batch; without an item where there is none any more."""
        batch, size, most = Batch(), self._size, BATCH_BYTES
        if self._whole:
            size, most = next(self._sizes, sys.maxsize), sys.maxsize
        while len(batch.items) < size and batch.bytes < most and (found := next(items, None)) is not None:
            batch.add(*found)
        return batch

    def give(self, batch: Batch) -> None:
        """A batch to be worked."""
        with self._change:
            self._waiting.append(batch)
            if self._opened and self._since is None:
                self._since = time.monotonic()
            self._change.notify_all()

    def take(self, seconds: float | None = None) -> Batch | None:
        """The next batch, once there is one; None when no more comes, or nothing happened for so long."""
        with self._change:
            while not self._waiting and not self.ended:
                if not self._change.wait(seconds):
                    return None
            if self.ended:
                return None
            batch = self._waiting.popleft()
            self._since = self._since if self._waiting else None
            return batch

    def end(self) -> None:
        """No more comes, and nobody asks for what is on its way."""
        with self._change:
            self.ended = True
            self._change.notify_all()

    def opened(self) -> None:
        """A worker is ready: from now on work that waits does so because there are too few."""
        with self._change:
            self._opened = True
            self._since = time.monotonic() if self._waiting else None

    def took(self, items: int, seconds: float) -> None:
        """So many items took so long: what the next batches are measured by."""
        if self._whole or self._step.io == "folders":
            return
        wanted = min(BATCH_SECONDS, (self._step.timeout or 1) / 4)
        self._size = max(1, min(BATCH_ITEMS, 2 * items, int(wanted * items / max(seconds, 1e-9))))

    def changed(self) -> None:
        """Something has an outcome now, or a worker is gone for good."""
        with self._change:
            self._change.notify_all()

    def wait(self, seconds: float | None) -> None:
        """Until something changed, or so long. Within `watching`."""
        self._change.wait(seconds)

    def watching(self) -> threading.Condition:
        """Within it nothing changes unseen."""
        return self._change

    def late(self) -> int:
        """How many batches have waited, as long as a start takes, for too few workers."""
        with self._change:
            waited = self._since is not None and time.monotonic() - self._since >= START_SECONDS
            return len(self._waiting) if waited else 0
