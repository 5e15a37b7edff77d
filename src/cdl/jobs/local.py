"""Runs jobs on this machine, each in a process and a folder of its own.

The parent drives: it sends items and reads answers through a `Worker`, and says at the end what the outputs are. Outputs are
claimed under `jobs/<id>`; the next equal job finds them there, on any branch, unless they were removed since. A sealed job (one
that is given a vault) leaves nothing in the open: its log is sealed and of its errors only class and line are told (`told.py`).

A job that says what it needs waits for slots (slots.py). How its process starts is told in start.py.
"""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from cdl.errors import JobFailed
from cdl.git.repository import Git
from cdl.jobs import told
from cdl.jobs.channel import Closed
from cdl.jobs.folder import held_folder
from cdl.jobs.job import Job
from cdl.jobs.log import Log
from cdl.jobs.slots import Slots, Tell, silent
from cdl.jobs.start import Fresh, Launch, Start, Started, surroundings
from cdl.jobs.template import Templates
from cdl.journal.journal import Journal
from cdl.store.hold import holding
from cdl.store.reach import freshen, names
from cdl.store.store import Store

LOG = "the log is object "  # what an error's remedy begins with where a log was kept
SEALED_LOG = "cdl data logs "
PROGRAMS = (
    b"#!",
    b"\x7fELF",
    b"\xcf\xfa\xed\xfe",
    b"\xca\xfe\xba\xbe",
)  # what a script, or a compiled one (Linux, macOS), begins with
END_SECONDS = 10.0  # for a worker to end by itself once its channel is closed


class Sealer(Protocol):
    """What seals a log."""

    def put(self, data: bytes) -> str:
        """Seals bytes; their name."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Outputs by name, the log's object, seconds taken. `differs`: what an equal job had given otherwise before."""

    outputs: Mapping[str, str]
    log: str | None
    seconds: float
    cached: bool
    differs: Mapping[str, str] | None = None


class Worker:
    """The parent's side of a running job. `code` is its closure by path; with `sealed` no text of its errors is told."""

    def __init__(self, started: Started, *, sealed: bool, code: Callable[[], Mapping[str, bytes]] = dict) -> None:
        self._started = started
        self._channel = started.channel
        self._code = code
        self.sealed = sealed

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Sends a message and gives the answer. JobFailed when the code raised or the process ended."""
        self.tell(message)
        return self.receive()

    def tell(self, message: Mapping[str, Any]) -> None:
        """Sends a message that is not answered."""
        try:
            self._channel.send(message)
        except Closed:
            self.receive()

    def receive(self) -> dict[str, Any]:
        """The next message."""
        try:
            found = self._channel.receive()
        except Closed as error:
            known = not self.sealed and self._started.wait(END_SECONDS)  # a sealed job's exit code would be told by it
            how = self._started.how() if known else str(error)
            raise JobFailed(f"the worker ended before it answered: {how}") from error
        if isinstance(raised := found.get("error"), dict):
            raise self.failed(raised)
        return found

    def failed(self, raised: Mapping[str, Any]) -> JobFailed:
        """An error that the worker tells of (`worker.raised`), as it may be told here."""
        if self.sealed:
            name, place = told.error(raised, self._code())
            return JobFailed(name, where=place)
        return JobFailed(f"{raised.get('class')}: {raised.get('text')}", where=str(raised.get("at")))

    def kill(self) -> None:
        """Ends the process with all that it started; who waits for its answer gets JobFailed. Any thread may call."""
        self._started.kill()


Drive = Callable[[Worker], Mapping[str, str]]


class _Together(msgspec.Struct, frozen=True):
    """What one Jobs shares with those made from it: what runs now, and that it is to end."""

    running: set[Started] = msgspec.field(default_factory=set)
    stop: threading.Event = msgspec.field(default_factory=threading.Event)


class Jobs:
    """Runs jobs of one project, one thread at a time (`beside` makes another thread its own); `who` stands in the journal.

    `allowed` is asked before anything is executed, and raises Refused where this clone may not.
    """

    def __init__(
        self,
        store: Store,
        journal: Journal,
        git: Git,
        *,
        who: str,
        start: Start | None = None,
        allowed: Callable[[], None] | None = None,
    ) -> None:
        self.store = store
        self.journal = journal
        self.git = git
        self.who = who
        self.slots = Slots(journal.root / "slots")
        self._start = start or Fresh()
        self._allowed = allowed or _always
        self._together = _Together()
        self._ran: dict[str, Result] | None = None  # with an empty cache: what was run since

    @contextlib.contextmanager
    def warmed(self, tell: Tell = silent) -> Iterator["Jobs"]:
        """For several warm jobs: within, they are forked from a template. One job alone costs less without."""
        with Templates(self._start, tell) as templates:
            made = Jobs(self.store, self.journal, self.git, who=self.who, start=templates, allowed=self._allowed)
            made._ran = self._ran
            yield made

    def beside(self, journal: Journal) -> "Jobs":
        """The same for another thread, with a journal of its own."""
        made = Jobs(self.store, journal, self.git, who=self.who, start=self._start, allowed=self._allowed)
        made.slots, made._together, made._ran = self.slots, self._together, self._ran
        return made

    def apart(self) -> "Jobs":
        """The same, but for what runs: `cancel` there ends nothing here."""
        made = self.beside(self.journal)
        made._together = _Together()
        return made

    def with_empty_cache(self) -> "Jobs":
        """The same jobs, asking nothing that ran before; what they run themselves they know, and compare with what stands."""
        if self._ran is not None:
            return self
        made = self.beside(self.journal)
        made._ran = {}
        return made

    def cancel(self) -> None:
        """Ends what runs or waits, here and beside, for good: JobFailed there. Any thread may call."""
        self._together.stop.set()
        for started in list(self._together.running):
            started.kill()

    def cached(self, job: Job) -> Mapping[str, str] | None:
        """The outputs of an equal job, when there was one and they are still here; they stay until somebody names them."""
        found = self._claimed(job)
        if found is None or not freshen(self.store, names(json.dumps(found).encode())):
            return None
        return found

    def _claimed(self, job: Job) -> dict[str, str] | None:
        """The outputs that an equal job claimed, whether or not they are here."""
        found = self.store.claimed(f"jobs/{job.id}")
        return None if found is None else dict(json.loads(found)["outputs"])

    def run(
        self,
        job: Job,
        drive: Drive,
        *,
        vault: Sealer | None = None,
        fresh: bool = False,
        timeout: float | None = None,
        tell: Tell = silent,
    ) -> Result:
        """Runs a job, or gives what an equal one left; `fresh` runs it all the same and compares. `tell` hears what it waits for.

        JobFailed names class, place and log when the code raises, ends, or takes longer than `timeout` seconds.
        """
        known = None if fresh else self._known(job)
        if known is not None:
            return known
        self._allowed()
        with contextlib.ExitStack() as held:
            devices = None
            if job.need is not None:
                devices = held.enter_context(self.slots.taken(job.need, tell=tell, stop=self._together.stop))
                known = None if fresh else self._known(job)  # another process may have done it while this one waited
                if known is not None:
                    return known
            held.enter_context(holding(self.journal.root, job.inputs.values()))
            start = time.monotonic()
            outputs, log = self._execute(job, drive, vault, timeout, devices)
        seconds = round(time.monotonic() - start, 3)
        content = json.dumps({"outputs": outputs, "log": log}, sort_keys=True).encode()
        before = self._claimed(job) or outputs
        if not self.store.claim(f"jobs/{job.id}", content) and self.cached(job) is None:
            self.store.unclaim(f"jobs/{job.id}")  # what it had left was removed
            self.store.claim(f"jobs/{job.id}", content)
        self.journal.append("job.finished", who=self.who, job=job.id, seconds=seconds)
        differs = {name: str(left) for name, left in before.items() if outputs.get(name) != left}
        result = Result(outputs=outputs, log=log, seconds=seconds, cached=False, differs=differs or None)
        if self._ran is not None:
            self._ran[job.id] = result
        return result

    def _known(self, job: Job) -> Result | None:
        """What an equal job left, as far as these jobs ask."""
        if self._ran is not None:
            return self._ran.get(job.id)
        before = self.cached(job)
        return None if before is None else Result(outputs=before, log=None, seconds=0.0, cached=True)

    def _execute(
        self, job: Job, drive: Drive, vault: Sealer | None, timeout: float | None, devices: Sequence[str] | None
    ) -> tuple[dict[str, str], str]:
        with held_folder("job") as folder:
            self._lay_out(job, folder / "code")
            (folder / "home").mkdir()
            started = self._start.start(_launch(job, folder, devices, sealed=vault is not None))
            log = Log(started.output)
            try:
                with self._running(started, timeout) as late:
                    sealed = vault is not None
                    outputs = dict(drive(Worker(started, sealed=sealed, code=lambda: self._code(job))))
            except JobFailed as error:
                kept = self._keep(log.end(), vault)
                remedy = (LOG if vault is None else SEALED_LOG) + kept
                message = f"no end after {timeout:g} s" if late.is_set() else error.message
                raise JobFailed(message, where=error.where, remedy=remedy) from error
            return outputs, self._keep(log.end(), vault)

    @contextlib.contextmanager
    def _running(self, started: Started, timeout: float | None) -> Iterator[threading.Event]:
        """While it runs, `timeout` and `cancel` end it; afterwards it has ended. The event says whether `timeout` did."""
        late = threading.Event()

        def end() -> None:
            late.set()
            started.kill()

        clock = threading.Timer(timeout or 0, end)
        if timeout:
            clock.start()
        self._together.running.add(started)
        try:
            if self._together.stop.is_set():
                started.kill()
            yield late
        finally:
            clock.cancel()
            self._together.running.discard(started)
            started.channel.close()
            if not started.wait(END_SECONDS):
                started.kill()
                started.wait(None)

    def _code(self, job: Job) -> dict[str, bytes]:
        """The files of a job's closure by path."""
        data = self.git.cat(job.closure.blobs.values())
        return {path: data[blob] for path, blob in job.closure.blobs.items()}

    def _lay_out(self, job: Job, folder: Path) -> None:
        folder.mkdir()
        for path, data in self._code(job).items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            target.chmod(0o555 if data.startswith(PROGRAMS) else 0o444)

    def _keep(self, log: bytes, vault: Sealer | None) -> str:
        return vault.put(log) if vault is not None else self.store.put(log)


def _always() -> None:
    """Jobs that nobody forbids."""


def _launch(job: Job, folder: Path, devices: Sequence[str] | None, *, sealed: bool) -> Launch:
    """The process of a job; a sealed one has never anything from before."""
    return Launch(
        loop=job.loop,
        folder=folder,
        environment=surroundings(folder, threads=job.threads, devices=devices, device=job.device),
        threads=job.threads,
        names=frozenset(path.partition("/")[0].partition(".")[0] for path in job.closure.files),
        warm=None if sealed else job.warm,
    )
