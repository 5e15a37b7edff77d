"""Runs jobs on this machine, each in a process and a folder of its own.

The parent drives: it sends items and reads answers through a `Worker`, and says at the end what the outputs are. Outputs are
claimed under `jobs/<id>`; the next equal job finds them there, on any branch. A sealed job (one that is given a vault)
leaves nothing in the open: its log is sealed and of its errors only class and line are told.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import cdl
from cdl.errors import JobFailed
from cdl.git.repository import Git
from cdl.jobs.channel import Channel, Closed
from cdl.jobs.job import Job
from cdl.journal.journal import Journal
from cdl.store.store import Store

LOG_BYTES = 4_000_000  # the most that is kept of one job's output
END_SECONDS = 10.0  # for a worker to end by itself once its channel is closed
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
PASSED_ON = ("PATH", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")


class Sealer(Protocol):
    """What seals a log."""

    def put(self, data: bytes) -> str:
        """Seals bytes; their name."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """Outputs by name, the log's object, seconds taken. `differs`: what an equal job had given before."""

    outputs: Mapping[str, str]
    log: str | None
    seconds: float
    cached: bool
    differs: Mapping[str, str] | None = None


class Worker:
    """The parent's side of a running job."""

    def __init__(self, channel: Channel, *, sealed: bool) -> None:
        self._channel = channel
        self._sealed = sealed

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
            raise JobFailed(f"the worker ended before it answered: {error}") from error
        if isinstance(raised := found.get("error"), dict):
            text = "" if self._sealed else f": {raised.get('text')}"
            raise JobFailed(f"{raised.get('class')}{text}", where=str(raised.get("at")))
        return found


Drive = Callable[[Worker], Mapping[str, str]]


class Jobs:
    """Runs jobs of one project; `who` stands in the journal."""

    def __init__(self, store: Store, journal: Journal, git: Git, *, who: str) -> None:
        self.store = store
        self.journal = journal
        self.git = git
        self.who = who

    def cached(self, job: Job) -> Mapping[str, str] | None:
        """The outputs of an equal job, when there was one."""
        found = self.store.claimed(f"jobs/{job.id}")
        return None if found is None else dict(json.loads(found)["outputs"])

    def run(
        self, job: Job, drive: Drive, *, vault: Sealer | None = None, fresh: bool = False, timeout: float | None = None
    ) -> Result:
        """Runs a job, or gives what an equal one left; `fresh` runs it all the same and compares.

        JobFailed names class, place and log when the code raises, ends, or takes longer than `timeout` seconds.
        """
        before = self.cached(job)
        if before is not None and not fresh:
            return Result(outputs=before, log=None, seconds=0.0, cached=True)
        start = time.monotonic()
        outputs, log = self._execute(job, drive, vault, timeout)
        seconds = round(time.monotonic() - start, 3)
        content = json.dumps({"outputs": outputs, "log": log}, sort_keys=True).encode()
        if not self.store.claim(f"jobs/{job.id}", content):
            before = self.cached(job)
        self.journal.append("job.finished", who=self.who, job=job.id, seconds=seconds)
        differs = before if before is not None and before != outputs else None
        return Result(outputs=outputs, log=log, seconds=seconds, cached=False, differs=differs)

    def _execute(
        self, job: Job, drive: Drive, vault: Sealer | None, timeout: float | None
    ) -> tuple[dict[str, str], str]:
        with tempfile.TemporaryDirectory(prefix="cdl-job-") as name:  # outside the project: `..` leads nowhere
            folder = Path(name)
            self._lay_out(job, folder / "code")
            process, channel = _start(job, folder)
            log = _Log(process)
            clock = threading.Timer(timeout, _kill, [process]) if timeout else None
            if clock:
                clock.start()
            try:
                outputs = dict(drive(Worker(channel, sealed=vault is not None)))
            except JobFailed as error:
                kept = self._keep(log.end(), vault)
                raise JobFailed(error.message, where=error.where, remedy=f"the log is object {kept}") from error
            finally:
                if clock:
                    clock.cancel()
                channel.close()
                _end(process)
            return outputs, self._keep(log.end(), vault)

    def _lay_out(self, job: Job, folder: Path) -> None:
        data = self.git.cat(job.closure.blobs.values())
        folder.mkdir()
        for path, blob in job.closure.blobs.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data[blob])
            target.chmod(0o555 if data[blob].startswith(b"#!") else 0o444)

    def _keep(self, log: bytes, vault: Sealer | None) -> str:
        return vault.put(log) if vault is not None else self.store.put(log)


class _Log:
    """Reads what a worker prints, in memory only, up to LOG_BYTES."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._kept = bytearray()
        assert process.stdout is not None
        self._thread = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
        self._thread.start()

    def end(self) -> bytes:
        """All of it, once the worker has closed its output (a child of its own may hold it open: then what came so far)."""
        self._thread.join(END_SECONDS)
        return bytes(self._kept)

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            while data := os.read(stream.fileno(), 1 << 16):
                self._kept += data[: max(0, LOG_BYTES - len(self._kept))]


def _start(job: Job, folder: Path) -> "tuple[subprocess.Popen[bytes], Channel]":
    home = folder / "home"
    home.mkdir()
    around = {k: v for k, v in os.environ.items() if k in PASSED_ON}
    around |= {name: str(job.threads) for name in THREADS}
    around |= {
        "HOME": str(home),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(Path(cdl.__file__).parents[1]),
        "ORT_DISABLE_TELEMETRY": "1",
    }
    from_worker, worker_writes = os.pipe()
    worker_reads, to_worker = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "cdl.jobs.worker", job.loop, str(worker_reads), str(worker_writes)],
            cwd=folder / "code",
            env=around,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(worker_reads, worker_writes),
            start_new_session=True,
        )
    finally:
        os.close(worker_reads)
        os.close(worker_writes)
    return process, Channel(from_worker, to_worker)


def _end(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        _kill(process)
        process.wait()


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Ends a worker with all that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.poll()
