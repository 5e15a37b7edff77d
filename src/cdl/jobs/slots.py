"""Slots: processor cores and accelerators, shared by all trainings of one clone, in whatever process they run.

    .cdl/slots/cpu-0  cpu-1  gpu-0      one file each; who trains holds a lock on its own and has written its process there
    .cdl/slots/turn                     held by the one who is collecting its slots; the others wait for the turn

A training takes what cdl.yaml's `resources` say before it starts and gives it back at its end. The locks are the kernel's
(flock): a killed holder frees its own at once. Only who holds the turn collects, and who holds slots never asks for more, so two
cannot wait for each other; the turn is kept until all is there, so a large request is not passed by small ones for ever.

The workers of a data step take slots as trainings do where its `resources` say what. Other data steps, evaluations and services
take none: the first two are short, and a service is not a job.
"""

import fcntl
import itertools
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from shutil import which
from urllib.parse import quote

import msgspec

from cdl.errors import ConfigError, JobFailed

TURN = "turn"
TELL_SECONDS = 1.0  # after which a person is told what is waited for
SHORTEST_SECONDS, LONGEST_SECONDS = 0.001, 0.05  # between two looks, doubled each time
SMI_SECONDS = 20.0  # for nvidia-smi to answer
NVIDIA = Path("/proc/driver/nvidia/gpus")

Tell = Callable[[str], None]


def silent(line: str) -> None:
    """Nobody is told."""


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What a training or a worker of a data step asks for, and the key of cdl.yaml that says so."""

    cpus: int = 1
    gpus: int = 0
    key: str


class Slots:
    """The slots of a clone, by the folder of their files. Safe for threads and processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def cpus(self) -> list[str]:
        """The cores that this process may use, by number; CDL_CPUS says otherwise how many. ConfigError."""
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
        return _as_many([str(core) for core in cores], "CDL_CPUS", least=1)

    @cached_property
    def gpus(self) -> list[str]:
        """The accelerators as CUDA_VISIBLE_DEVICES names them; CDL_GPUS says otherwise how many. ConfigError."""
        return _as_many(_devices(), "CDL_GPUS", least=0)

    def check(self, need: Need) -> None:
        """ConfigError, with the key, when this machine can never give so much."""
        for kind, asked, there in self._kinds(need):
            if asked < 0:
                raise ConfigError(f"{asked} is less than nothing", where=f"{need.key}.{kind}", remedy=f"{kind}: 0")
            if asked > len(there):
                raise ConfigError(
                    f"asks for {asked}, this machine has {len(there)}",
                    where=f"{need.key}.{kind}",
                    remedy=f"{kind}: {len(there)}, or a larger machine; CDL_{kind.upper()} overrules what was found here",
                )

    def most(self, need: Need) -> int | None:
        """How many such trainings fit at a time; None where they ask for nothing. ConfigError when not even one does."""
        self.check(need)
        return min((len(there) // asked for _, asked, there in self._kinds(need) if asked), default=None)

    @contextmanager
    def taken(
        self, need: Need, *, tell: Tell = silent, stop: threading.Event | None = None
    ) -> Iterator[tuple[str, ...]]:
        """Waits for the slots and holds them; the accelerators among them. JobFailed when `stop` is set meanwhile."""
        self.check(need)
        self.folder.mkdir(parents=True, exist_ok=True)
        waiting = _Waiting(tell, stop or threading.Event())
        with ExitStack() as held:
            with ExitStack() as collecting:
                self._turn(need, collecting, waiting)
                found = {kind: self._some(kind, n, there, held, waiting) for kind, n, there in self._kinds(need)}
            yield tuple(found.get("gpus", ()))

    def _kinds(self, need: Need) -> list[tuple[str, int, list[str]]]:
        """(kind, how many are asked, all there are); accelerators are looked for only when somebody asks for one."""
        return [("cpus", need.cpus, self.cpus), *([("gpus", need.gpus, self.gpus)] if need.gpus else [])]

    def _turn(self, need: Need, held: ExitStack, waiting: "_Waiting") -> None:
        wanted = " and ".join(f"{n} of {len(there)} {kind}" for kind, n, there in self._kinds(need))
        path = self.folder / TURN
        while (lock := _locked(path)) is None:
            waiting.pause(lambda: f"waits for {wanted}; {_holders([path])} comes first")
        held.callback(os.close, lock)

    def _some(self, kind: str, count: int, there: list[str], held: ExitStack, waiting: "_Waiting") -> list[str]:
        got: list[str] = []
        paths = {name: self.folder / f"{kind.removesuffix('s')}-{quote(name, safe='')}" for name in there}

        def told() -> str:
            return f"waits for {count} of {len(there)} {kind}, held by {_holders([paths[n] for n in there if n not in got])}"

        while True:
            for name in there:
                if len(got) == count:
                    return got
                if name not in got and (lock := _locked(paths[name])) is not None:
                    held.callback(os.close, lock)
                    got.append(name)
            if len(got) < count:
                waiting.pause(told)


class _Waiting:
    """One wait: looks again after longer and longer pauses, and tells a person once what it waits for."""

    def __init__(self, tell: Tell, stop: threading.Event) -> None:
        self._tell = tell
        self._stop = stop
        self._since = time.monotonic()
        self._told = False
        self._pause = SHORTEST_SECONDS

    def pause(self, line: Callable[[], str]) -> None:
        if not self._told and time.monotonic() - self._since > TELL_SECONDS:
            self._told = True
            self._tell(line())
        if self._stop.wait(self._pause):
            raise JobFailed("cancelled before it started")
        self._pause = min(2 * self._pause, LONGEST_SECONDS)


def _locked(path: Path) -> int | None:
    """A handle that holds the file's lock, with this process written in it; None while somebody else does."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    os.ftruncate(handle, 0)
    os.pwrite(handle, str(os.getpid()).encode(), 0)
    return handle


def _holders(paths: Sequence[Path]) -> str:
    """'process 4711', as the holders of these files wrote it."""
    found = sorted({int(text) for path in paths if path.exists() and (text := path.read_text()).isdigit()})
    if not found:
        return "another process"
    return ("process " if len(found) == 1 else "processes ") + ", ".join(str(process) for process in found)


def _as_many(found: list[str], variable: str, *, least: int) -> list[str]:
    """The slots found; cut or filled up to what the environment says."""
    said = os.environ.get(variable)
    if said is None:
        return found
    if not said.isdigit() or int(said) < least:
        raise ConfigError(f"'{said}' is no number of at least {least}", where=variable, remedy=f"{variable}={least}")
    more = (str(n) for n in itertools.count() if str(n) not in found)
    return [*found, *itertools.islice(more, max(0, int(said) - len(found)))][: int(said)]


def _devices() -> list[str]:
    """Accelerators: as CUDA_VISIBLE_DEVICES says where it is set, else as many as the driver knows."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        named = [device.strip() for device in visible.split(",")]
        return list(itertools.takewhile(lambda device: device not in ("", "-1"), named))  # as CUDA reads it
    if NVIDIA.is_dir():
        return [str(number) for number, _ in enumerate(NVIDIA.iterdir())]
    if which("nvidia-smi") is None:
        return []
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=SMI_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return []
    lines = [line for line in done.stdout.splitlines() if line.startswith(b"GPU ")]
    return [str(number) for number, _ in enumerate(lines)] if done.returncode == 0 else []
