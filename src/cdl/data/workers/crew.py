"""The workers of one data step, side by side: items in, outcomes out in the same order, a bounded number of batches ahead.

    items -> batches -> worker | worker | ... -> outcomes

A worker is a job of its own with the step's closure, started once and asked for one batch after another by a thread in front of
it (hand.py). The first is started with the first batch, the others when work has waited for as long as a start takes: few
quick items are one worker's.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator

from cdl.config.schema import Step, WorkerResources
from cdl.data.items.item import Content, Outcome
from cdl.data.workers.batches import START_SECONDS, Batch, Queue
from cdl.data.workers.hand import Hand, Task
from cdl.data.workers.logs import Line
from cdl.jobs.closure import Closure
from cdl.jobs.environment import Environment
from cdl.jobs.local import SEALED_LOG, Jobs
from cdl.jobs.slots import Need, Tell, silent
from cdl.store.seal import Vault

AHEAD = 4  # batches for each worker that are drawn and not given back yet
AHEAD_BYTES = 128_000_000  # the most content in all of these, beside a batch a worker


class Crew:
    """The workers of one step for one run of it. They see test items, so their logs are sealed.

    Of a step that works items together `sizes` says how many each time; left out, all.
    """

    def __init__(
        self,
        jobs: Jobs,
        vault: Vault,
        *,
        name: str,
        step: Step,
        code: Closure,
        environment: Environment,
        sizes: Iterable[int] = (),
        tell: Tell = silent,
        logged: Callable[[Line], None] = lambda line: None,
    ) -> None:
        need = None if step.resources is None else _need(name, step.resources)
        self._most = 1 if step.per == "all" else jobs.slots.most(need or _need(name, WorkerResources())) or 1
        self._queue = Queue(step, iter(sizes))
        self._task = Task(
            jobs=jobs.apart(),
            vault=vault,
            name=name,
            step=step,
            code=code,
            environment=environment,
            need=need,
            tell=tell,
            logged=logged,
        )
        self._hands: list[_Thread] = []

    def outcomes(self, items: Iterable[tuple[str, Content]]) -> Generator[tuple[str, Outcome]]:
        """The outcome of each item, in the order given. No item: no worker. Closing it ends the workers.

        Items are drawn in the caller's thread, a bounded number of batches ahead. JobFailed when the code fails.
        """
        drawn, ahead, task = iter(items), deque[Batch](), self._task
        try:
            while self._fill(ahead, drawn):
                self._wait(ahead[0])
                yield from ahead.popleft().results()
            self._queue.end()
        except BaseException:
            self._queue.end()
            task.jobs.cancel()
            raise
        finally:
            for hand in self._hands:
                hand.join()
        self._raise()
        if task.aside:
            logs = "; ".join(SEALED_LOG + log for log in sorted(set(task.aside)))
            task.tell(f"{task.name}: items failed and were set aside; what they said: {logs}")

    def _fill(self, ahead: deque[Batch], drawn: Iterator[tuple[str, Content]]) -> bool:
        """Draws batches as far as is allowed; whether any is under way."""
        while len(ahead) < self._most or (
            len(ahead) < AHEAD * self._most and sum(batch.bytes for batch in ahead) < AHEAD_BYTES
        ):
            batch = self._queue.draw(drawn)
            if not batch.items:
                break
            ahead.append(batch)
            self._queue.give(batch)
            if not self._hands:
                self._start()
        return bool(ahead)

    def _wait(self, first: Batch) -> None:
        """Until the first batch has its outcomes. Raises what ended a hand."""
        with self._queue.watching():
            while True:
                self._raise()
                if not first.open:
                    return
                for _ in range(min(self._queue.late(), self._most - len(self._hands))):
                    self._start()
                self._queue.wait(START_SECONDS / 4 if len(self._hands) < self._most else None)

    def _start(self) -> None:
        hand = _Thread(Hand(self._task, self._queue).work, self._queue.changed)
        self._hands.append(hand)
        hand.start()

    def _raise(self) -> None:
        """What ended a hand, if anything did."""
        for hand in self._hands:
            if hand.error is not None:
                raise hand.error


class _Thread(threading.Thread):
    """A hand at work. A daemon: whoever leaves the outcomes without closing them still comes to an end."""

    def __init__(self, work: Callable[[], None], over: Callable[[], None]) -> None:
        super().__init__(name="step", daemon=True)
        self.error: BaseException | None = None
        self._work = work
        self._over = over

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 the crew's thread raises it
            self.error = error
        self._over()


def _need(name: str, resources: WorkerResources) -> Need:
    return Need(cpus=resources.cpus, gpus=resources.gpus, key=f"cdl.yaml: steps: {name}.resources")
