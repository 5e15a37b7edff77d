"""The processes that serve one package: started, loaded, let accept, and replaced when they die.

A worker says on `ready` that it is loaded and accepts once it reads a byte on `go`. That pipe stays open: its end tells
the worker that its supervisor has ended. A serving group keeps, where wished, one spare: a worker that is loaded and waits, so
that a killed one is replaced at once, however long its model takes to load.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec

import cdl

READY_SECONDS = 60.0  # that a worker may take to load
STEADY_SECONDS = 5.0  # a worker that served so long is replaced at once when it dies
AGAIN_SECONDS = 0.5  # pause after one that died sooner, doubled each time up to LONGEST_SECONDS
LONGEST_SECONDS = 10.0
GONE_SECONDS = 40.0  # that a worker may take to drain: 2 s, 30 s for requests in work, and some to end
PASSED_ON = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
MODULE = "cdl.deployment.serve"


def around() -> dict[str, str]:
    """The environment of what serves: nothing of the caller's but where things are."""
    kept = {k: v for k, v in os.environ.items() if k in PASSED_ON}
    return kept | {"PYTHONPATH": str(Path(cdl.__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}


class Worker(msgspec.Struct, eq=False):
    """A process that serves. `ready` is its pipe until it is loaded; `went` is when it was let accept."""

    process: "subprocess.Popen[bytes]"
    ready: int | None
    go: int | None
    began: float
    went: float | None = None

    @classmethod
    def start(cls, package: str, name: str, folder: Path, listener: socket.socket) -> "Worker":
        """Starts one; it loads its package and waits."""
        ready, writes = os.pipe()
        reads, go = os.pipe()
        handles = {"--fd": listener.fileno(), "--ready": writes, "--go": reads}
        arguments = [str(part) for pair in handles.items() for part in pair]
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", MODULE, package, "--out", str(folder), "--name", name, *arguments],
                env=around() | {"OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"},
                stdin=subprocess.DEVNULL,
                pass_fds=tuple(handles.values()),
            )
        finally:
            os.close(writes)
            os.close(reads)
        return cls(process, ready, go, time.monotonic())

    @property
    def runs(self) -> bool:
        """Whether it is alive."""
        return self.process.poll() is None

    @property
    def loaded(self) -> bool:
        """Whether it said that it is ready."""
        if self.ready is not None and select.select([self.ready], [], [], 0)[0] and os.read(self.ready, 1) == b"1":
            os.close(self.ready)
            self.ready = None
        return self.ready is None

    def accept(self) -> None:
        """Lets it accept connections."""
        if self.go is not None and self.went is None:
            self.went = time.monotonic()
            with contextlib.suppress(BrokenPipeError):  # it died; it is replaced
                os.write(self.go, b"1")

    def close(self) -> None:
        """Closes its pipes."""
        for handle in (self.ready, self.go):
            if handle is not None:
                os.close(handle)
        self.ready = self.go = None

    def end(self, number: int) -> None:
        """Sends a signal, where there is still somebody to hear it."""
        if self.runs:
            self.process.send_signal(number)


class Group(msgspec.Struct, eq=False):
    """The workers of one package; those of a group that is not `serving` wait."""

    package: str
    replicas: int
    name: str
    folder: Path
    listener: socket.socket
    spare: bool = True
    serving: bool = False
    prepared: bool = False  # it was ready once: whoever dies from then on is replaced
    ended: bool = False  # drained or killed: nobody is started any more
    workers: list[Worker] = msgspec.field(default_factory=list)
    deaths: int = 0  # of workers that did not serve for long, one after the other
    again_at: float = 0.0

    @property
    def accepting(self) -> list[Worker]:
        """Those that answer requests."""
        return [w for w in self.workers if w.went is not None and w.runs]

    @property
    def waiting(self) -> list[Worker]:
        """Those that are loaded and not needed yet."""
        return [w for w in self.workers if w.loaded and w.went is None and w.runs]

    @property
    def ready(self) -> bool:
        """Whether enough are loaded."""
        return len(self.accepting) + len(self.waiting) >= self.replicas

    def tend(self) -> None:
        """Lets loaded workers accept where some are missing, and starts new ones for those that died."""
        self._bury()
        for worker in self.waiting[: max(0, self.replicas - len(self.accepting))] if self.serving else []:
            worker.accept()
        spares = int(self.spare and self.serving and self.ready)
        may = not self.ended and (self.prepared or not self.deaths)
        while may and len(self.workers) < self.replicas + spares and time.monotonic() >= self.again_at:
            self.workers.append(Worker.start(self.package, self.name, self.folder, self.listener))

    def drain(self) -> list[Worker]:
        """Ends it: who accepts answers what was begun, the others end at once. Those that still run."""
        self.ended = True
        draining = self.accepting
        for worker in draining:
            worker.end(signal.SIGTERM)
        self.kill([w for w in self.workers if w not in draining])
        self.workers = []
        return draining

    def kill(self, workers: list[Worker] | None = None) -> None:
        """Ends workers at once; all of the group unless told which."""
        self.ended = self.ended or workers is None
        for worker in list(self.workers if workers is None else workers):
            worker.end(signal.SIGKILL)
            worker.process.wait()
            self._forget(worker)

    def _bury(self) -> None:
        now = time.monotonic()
        for worker in list(self.workers):
            if not worker.loaded and now - worker.began > READY_SECONDS:
                worker.end(signal.SIGKILL)
                worker.process.wait()
            if worker.runs:
                continue
            self._forget(worker)
            if worker.went is not None and now - worker.went >= STEADY_SECONDS:
                self.deaths = 0
                continue
            self.deaths += 1
            pause = min(LONGEST_SECONDS, AGAIN_SECONDS * 2 ** min(self.deaths - 1, 8))
            self.again_at = now + (0.0 if self.deaths == 1 else pause)

    def _forget(self, worker: Worker) -> None:
        """Closes what it left open, and removes what it was writing when it was killed."""
        worker.close()
        if worker in self.workers:
            self.workers.remove(worker)
        for half in self.folder.glob(f"*/*-{worker.process.pid}-*.tmp"):
            half.unlink(missing_ok=True)
