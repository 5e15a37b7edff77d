"""The thread in front of a data step's worker: it asks for one batch after another, and starts a new worker where one was lost.

Some failures are an item's own: it raised. Others are a whole batch's: the worker died, it took too long, a command ended with
an error. Then each of its items is tried alone, so that only the guilty one fails. An item that fails is tried again as often as
`retries` says; then it is set aside, or stops the run.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from cdl import document
from cdl.config.schema import Step
from cdl.data.items.item import Content, Outcome, Rejected, key
from cdl.data.workers.batches import Attempt, Queue
from cdl.data.workers.folders import FAULTS
from cdl.data.workers.logs import Line
from cdl.errors import JobFailed
from cdl.jobs.closure import Closure
from cdl.jobs.environment import Environment
from cdl.jobs.job import Job
from cdl.jobs.local import SEALED_LOG, Jobs, Worker
from cdl.jobs.slots import Need, Tell
from cdl.journal.journal import Journal
from cdl.store.seal import Vault

LOOP = "cdl.data.workers.worker:serve"
PART_BYTES = 64_000_000  # of content in one message
MEGABYTE = 1_000_000
IDLE_SECONDS = 2.0  # after which a worker gives its slots back: another one may wait for them, with what comes before
FAILED = "failed: "  # begins the reason of an item that was set aside by an error


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What all workers of a step share. `aside` gets the logs that tell of items set aside by an error, `logged` every log."""

    jobs: Jobs
    vault: Vault
    name: str
    step: Step
    code: Closure
    environment: Environment
    need: Need | None
    tell: Tell
    aside: list[str] = msgspec.field(default_factory=list)
    logged: Callable[[Line], None] = lambda line: None


class Hand:
    """One thread's work."""

    def __init__(self, task: Task, queue: Queue) -> None:
        self._task = task
        self._queue = queue
        self._todo: deque[Attempt] = deque()
        self._out: Attempt | None = None  # what the worker is at
        self._failures = 0  # items that were set aside by an error and stand in no told log yet

    def work(self) -> None:
        """Until nothing is left. JobFailed where an item stops the run or the code cannot be opened."""
        task = self._task
        jobs = task.jobs.beside(Journal(task.jobs.journal.root))
        while (attempt := self._next()) is not None:
            try:
                done = jobs.run(self._job(attempt), self._drive, vault=task.vault, fresh=True, tell=task.tell)
                log = done.log
                self._logged(log, seconds=done.seconds)
            except JobFailed as error:
                log = (error.remedy or "").removeprefix(SEALED_LOG)
                self._logged(log, failed=error.message)
                if (lost := self._out) is None or self._queue.ended:
                    raise
                self._out = None
                self._broken(lost, error)
                self._queue.changed()
            if log and self._failures:
                task.aside.append(log)
                self._failures = 0

    def _logged(self, log: str | None, *, seconds: float | None = None, failed: str | None = None) -> None:
        if log:
            self._task.logged(Line(step=self._task.name, log=log, seconds=seconds, failed=failed))

    def _next(self, seconds: float | None = None) -> Attempt | None:
        """What is to be tried next, when it comes within so long."""
        if self._queue.ended:
            return None
        if not self._todo and (batch := self._queue.take(seconds)) is not None:
            self._todo.append(Attempt(batch, tuple(range(len(batch.items)))))
        return self._todo[0] if self._todo else None

    def _job(self, attempt: Attempt) -> Job:
        """A worker, by what it begins with."""
        task = self._task
        begins = "\n".join(key(task.vault, item) for item in attempt.items)
        return Job(
            loop=LOOP,
            closure=task.code,
            inputs={"items": task.vault.digest(begins.encode())},
            parameters=task.step.parameters,
            environment=task.environment,
            need=task.need,
        )

    def _drive(self, worker: Worker) -> Mapping[str, str]:
        step = self._task.step
        how = {"io": step.io, "per": step.per, "memory": MEGABYTE * (step.resources and step.resources.memory or 0)}
        opened = worker.ask({"op": "open", "run": step.run, "parameters": step.parameters, **how})
        if (broken := opened.get("broken")) is not None:
            error = _error(worker, broken)
            raise JobFailed(error.message, where=error.where or f"step {self._task.name}")
        self._queue.opened()
        idle = IDLE_SECONDS if self._task.need is not None else None
        while (attempt := self._next(idle)) is not None:
            self._todo.popleft()
            self._try(worker, attempt)
            self._queue.changed()
        worker.tell({"op": "stop"})
        return {}

    def _try(self, worker: Worker, attempt: Attempt) -> None:
        start, results = time.monotonic(), list[Any]()
        self._out = attempt
        for message in _messages(attempt.items):
            answer = self._ask(worker, message)
            results += answer.get("results", ())
        while answer.get("more"):
            answer = worker.ask({"op": "rest"})
            results += answer["results"]
        self._out = None
        if (broken := answer.get("broken")) is not None:
            self._broken(attempt, _error(worker, broken))
            return
        self._queue.took(len(attempt.places), time.monotonic() - start)
        for place, item, result in zip(attempt.places, attempt.items, results, strict=True):
            try:
                attempt.batch.settle(place, _outcome(worker, item, result))
            except JobFailed as error:
                self._failed(Attempt(attempt.batch, (place,), attempt.failed), error)

    def _ask(self, worker: Worker, message: Mapping[str, Any]) -> dict[str, Any]:
        """The worker's answer; JobFailed where it takes longer than the step's timeout, and the worker has ended then."""
        seconds = self._task.step.timeout
        if seconds is None:
            return worker.ask(message)
        late = threading.Event()

        def end() -> None:
            late.set()
            worker.kill()

        clock = threading.Timer(seconds, end)
        clock.start()
        lost = None
        try:
            answer = worker.ask(message)
        except JobFailed as error:
            lost = error
        finally:
            clock.cancel()
            clock.join()
        if late.is_set():
            raise JobFailed(f"no end after {seconds:g} s") from lost
        if lost is not None:
            raise lost
        return answer

    def _broken(self, attempt: Attempt, error: JobFailed) -> None:
        """A whole attempt failed: of several items each is tried alone."""
        if len(attempt.places) == 1 or self._task.step.per != "item":
            self._failed(attempt, error)
        else:
            self._todo.extend(Attempt(attempt.batch, (place,)) for place in attempt.places)

    def _failed(self, attempt: Attempt, error: JobFailed) -> None:
        """What nothing else is to blame for failed: again, aside, or the end."""
        step, batch = self._task.step, attempt.batch
        if attempt.failed < step.retries:
            self._todo.append(Attempt(batch, attempt.places, attempt.failed + 1))
        elif step.on_error == "aside":
            self._failures += 1
            for place, item in zip(attempt.places, attempt.items, strict=True):
                batch.settle(place, Rejected(item, FAILED + error.message))
        else:
            raise JobFailed(
                error.message, where=error.where or f"step {self._task.name}", remedy=error.remedy
            ) from error


def _messages(items: Sequence[Content]) -> Iterator[dict[str, Any]]:
    """The items in messages of a size that can be sent."""
    part: list[Any] = []
    size = 0
    for number, item in enumerate(items, 1):
        part.append([item.data, dict(item.fields)])
        size += len(item.data)
        if size > PART_BYTES and number < len(items):
            yield {"op": "items", "items": part, "more": True}
            part, size = [], 0
    yield {"op": "items", "items": part}


def _error(worker: Worker, raised: Mapping[str, Any]) -> JobFailed:
    """What may be told of an error that the worker tells of."""
    fault = FAULTS.get(str(raised.get("fault")))
    return worker.failed(raised) if fault is None else JobFailed(fault)


def _outcome(worker: Worker, item: Content, result: Any) -> Outcome:
    """An outcome from the worker's answer. JobFailed where there is none."""
    if isinstance(result, dict):
        if isinstance(raised := result.get("failed"), dict):
            raise _error(worker, raised)
        return Rejected(item, str(result["reject"]))
    if not (
        isinstance(result, list) and len(result) == 2 and isinstance(result[0], bytes) and isinstance(result[1], dict)
    ):
        raise JobFailed("a step gave neither bytes nor a rejection")
    try:
        document.canonical(result[1])
    except (TypeError, ValueError) as error:  # of NaN, of bytes, of keys that are no text: no tree could hold them
        raise JobFailed("a step gave a field that is no text, number, list or map of JSON") from error
    return Content(result[0], result[1])
