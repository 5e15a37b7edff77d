"""How the process of a job starts: one call, and two that answer it.

    Fresh         a new interpreter; what every job can have
    Templates     a fork of a process that has done the slow imports already (template.py); else what Fresh gives

Either way the process has a session of its own, an emptied environment, the job's folder as its own, a channel of two pipes,
and writes what it prints into a third.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import msgspec

import cdl
from cdl.jobs.channel import Channel

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
PASSED_ON = ("PATH", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """A process to start: it works in `folder`/code with `folder`/home as its home.

    `names` are the project's own top-level modules; `warm` says what a template may have done before (see `Job.warm`).
    """

    loop: str
    folder: Path
    environment: Mapping[str, str]
    threads: int = 1
    names: frozenset[str] = frozenset()
    warm: str | None = None


class Started(Protocol):
    """A running process: its channel, where to read what it prints, and its end. Any thread may call."""

    channel: Channel
    output: int

    def wait(self, seconds: float | None) -> bool:
        """Waits for its end; whether it has ended."""

    def kill(self) -> None:
        """Ends it with all that it started."""

    def how(self) -> str:
        """How it ended: 'exit code 1'."""


class Start(Protocol):
    """What starts processes."""

    def start(self, launch: Launch) -> Started:
        """Starts one."""


def surroundings(
    folder: Path, *, threads: int, devices: Sequence[str] | None = None, device: str = "cpu"
) -> dict[str, str]:
    """The whole environment of a job's process: no secret is in it. With `devices` it sees these accelerators and no other."""
    found = {k: v for k, v in os.environ.items() if k in PASSED_ON}
    found |= {name: str(threads) for name in THREADS}
    found |= {
        "HOME": str(folder / "home"),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(Path(cdl.__file__).parents[1]),
        "ORT_DISABLE_TELEMETRY": "1",
    }
    if devices is not None:
        found["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
    if device != "cpu":
        found["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # without it some sums of an accelerator differ from run to run
    return found


class Pipes(msgspec.Struct, frozen=True):
    """The ends that the process gets, and ours."""

    reads: int
    writes: int
    prints: int
    channel: Channel
    output: int


@contextmanager
def pipes() -> Iterator[Pipes]:
    """Three pipes around a start: afterwards the process's ends are closed here, and after an error ours too."""
    from_worker, writes = os.pipe()
    reads, to_worker = os.pipe()
    output, prints = os.pipe()
    try:
        yield Pipes(reads, writes, prints, Channel(from_worker, to_worker), output)
    except BaseException:
        for handle in (from_worker, to_worker, output):
            os.close(handle)
        raise
    finally:
        for handle in (reads, writes, prints):
            os.close(handle)


class Fresh:
    """Starts a new interpreter for each job."""

    def start(self, launch: Launch) -> Started:
        """Starts one; it ends with this process."""
        with pipes() as made:
            worker = [sys.executable, "-m", "cdl.jobs.worker", launch.loop, str(made.reads), str(made.writes)]
            process = subprocess.Popen(
                [*worker, str(os.getpid())],
                cwd=launch.folder / "code",
                env=dict(launch.environment),
                stdin=subprocess.DEVNULL,
                stdout=made.prints,
                stderr=subprocess.STDOUT,
                pass_fds=(made.reads, made.writes),
                start_new_session=True,
            )
        return _Process(process, made.channel, made.output)


class _Process:
    """A child of this process."""

    def __init__(self, process: "subprocess.Popen[bytes]", channel: Channel, output: int) -> None:
        self.channel = channel
        self.output = output
        self._process = process
        self._over = False

    def wait(self, seconds: float | None) -> bool:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        if not self._over:
            self._over = True
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)  # what it left behind
        return True

    def kill(self) -> None:
        if self._process.poll() is not None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            self._process.kill()  # it has not made its session yet

    def how(self) -> str:
        return ended(self._process.returncode)


def ended(code: int) -> str:
    """An exit status in words; a signal is a negative number."""
    return f"exit code {code}" if code >= 0 else f"killed by signal {-code}"
