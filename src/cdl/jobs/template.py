"""Templates: processes that have done the slow part of a job's start, and fork a child for each job.

Importing torch and the first step of an optimizer cost seconds, a fork of a process that has done both some milliseconds. A
template is started when the first job asks for what it has done, and ends with whoever opened it, also by kill -9;
its children end with it. What runs in the forks of a killed template fails, the next job gets a new one.

A fork must be invisible: it gets the environment, folder, session, search path and log that a new interpreter would get, and the
same weights come out. Where that cannot be, a job starts as it would without (`Cold`): on systems other than Linux, where a
process that has loaded torch cannot be forked safely; and when a file of the project bears the name of a module that the
template has imported already.
"""

import contextlib
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from cdl.jobs.channel import Channel
from cdl.jobs.forker import KILL, LARGEST_REQUEST, NUMBER_BYTES
from cdl.jobs.log import Log
from cdl.jobs.start import PASSED_ON, Launch, Start, Started, ended, pipes, surroundings

WARM_SECONDS = 120.0  # for a template to get ready
FORK_SECONDS = 30.0  # for it to answer that it has forked
END_SECONDS = 10.0  # for it to end once nobody needs it
FORKS = sys.platform == "linux"


class Cold(Exception):
    """A job that no template can start; why."""


class Templates:
    """Starts warm jobs from one template for each kind, everything else `otherwise`. Threads may share it; a context manager.

    `tell` is told once why a warm job had to start without.
    """

    def __init__(self, otherwise: Start, tell: Callable[[str], None]) -> None:
        self._otherwise = otherwise
        self._tell = tell
        self._told: set[str] = set()
        self._lock = threading.Lock()
        self._templates: dict[tuple[str, ...], Template] = {}

    def __enter__(self) -> "Templates":
        return self

    def __exit__(self, *_: object) -> None:
        for template in self._templates.values():
            template.close()

    def start(self, launch: Launch) -> Started:
        """Starts one; see `Start`."""
        if launch.warm is None or not FORKS:
            return self._otherwise.start(launch)
        around = tuple(os.environ.get(name, "") for name in PASSED_ON)
        with self._lock:
            template = self._templates.setdefault((sys.executable, launch.warm, *around), Template(launch.warm))
        try:
            return template.start(launch)
        except Cold as cold:
            if str(cold) not in self._told:
                self._told.add(str(cold))
                self._tell(f"no warm start: {cold}")
            return self._otherwise.start(launch)


class _Process(msgspec.Struct, frozen=True):
    """A template that is ready."""

    process: "subprocess.Popen[bytes]"
    control: socket.socket
    modules: frozenset[str]


class Template:
    """One kind of template, started when first needed. Any thread may call."""

    def __init__(self, warm: str) -> None:
        self._warm = warm
        self._lock = threading.Lock()
        self._ready: _Process | None = None
        self._cold: Cold | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def start(self, launch: Launch) -> Started:
        """Forks a process for a job. Cold when that cannot be."""
        for _ in range(2):  # a template may be killed just when it is asked
            ready = self._warmed()
            if clash := sorted(launch.names & ready.modules):
                raise Cold(f"the project has a module '{clash[0]}' of its own, beside one that is loaded already")
            if (forked := _forked(ready.control, launch)) is not None:
                return forked
        raise Cold("the template could not fork")

    def close(self) -> None:
        """Ends it, with all that runs in its forks."""
        with self._lock:
            self._cold = Cold("the template was closed")
            self._end()
            if self._folder is not None:
                self._folder.cleanup()

    def _warmed(self) -> _Process:
        with self._lock:
            if self._ready is not None and self._ready.process.poll() is not None:
                self._end()
            if self._cold is not None:
                raise self._cold
            if self._ready is None:
                try:
                    self._ready = self._launch()
                except Cold as cold:
                    self._cold = cold
                    raise
            return self._ready

    def _launch(self) -> _Process:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="cdl-template-")
            Path(self._folder.name, "home").mkdir()
        folder = Path(self._folder.name)
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        output, prints = os.pipe()  # what it prints itself is told only when it does not get ready
        with theirs, open(prints, "wb") as printed:
            process = subprocess.Popen(
                [sys.executable, "-m", "cdl.jobs.forker", self._warm, str(theirs.fileno())],
                cwd=folder,
                env=surroundings(folder, threads=1, devices=()),
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        log = Log(output)
        if (modules := _modules(control)) is None:
            _finish(process, control)
            lines = log.end().decode(errors="replace").splitlines()
            raise Cold(f"{self._warm} did not get ready: {lines[-1] if lines else 'it said nothing'}")
        return _Process(process, control, modules)

    def _end(self) -> None:
        if self._ready is not None:
            _finish(self._ready.process, self._ready.control)
            self._ready = None


class _Forked:
    """A child of a template, at the end of its line."""

    def __init__(self, line: socket.socket, channel: Channel, output: int) -> None:
        self.channel = channel
        self.output = output
        self._line = line
        self._code: int | None = None
        self._over = False
        self._lock = threading.Lock()

    def wait(self, seconds: float | None) -> bool:
        if not self._over:
            poll = select.poll()
            poll.register(self._line, select.POLLIN)
            if not poll.poll(None if seconds is None else seconds * 1000):
                return False
            with self._lock:
                self._code = _number(self._line)
                self._over = True
                self._line.close()
        return True

    def kill(self) -> None:
        with self._lock, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if not self._over:
                self._line.send(KILL)

    def how(self) -> str:
        return "the template that it was forked from ended" if self._code is None else ended(self._code)


def _forked(control: socket.socket, launch: Launch) -> _Forked | None:
    """Asks for a fork; None when the template is gone or could not."""
    request = {
        "loop": launch.loop,
        "folder": str(launch.folder),
        "environment": dict(launch.environment),
        "threads": launch.threads,
    }
    line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with pipes() as made:
            with theirs:
                files = [made.reads, made.writes, made.prints, theirs.fileno()]
                socket.send_fds(control, [msgspec.msgpack.encode(request)], files)
            line.settimeout(FORK_SECONDS)
            if _number(line) is None:
                raise ConnectionResetError
    except OSError:
        line.close()
        return None
    line.settimeout(None)
    return _Forked(line, made.channel, made.output)


def _number(line: socket.socket) -> int | None:
    """A number from a line; None when it closed without one."""
    try:
        said = line.recv(NUMBER_BYTES)
    except ConnectionResetError:
        return None
    return int.from_bytes(said, "big", signed=True) if said else None


def _modules(control: socket.socket) -> frozenset[str] | None:
    """What a template says when it is ready; None when it ended or took too long."""
    control.settimeout(WARM_SECONDS)
    try:
        said = control.recv(LARGEST_REQUEST)
    except (TimeoutError, ConnectionResetError):
        return None
    control.settimeout(None)
    return frozenset(msgspec.msgpack.decode(said)["modules"]) if said else None


def _finish(process: "subprocess.Popen[bytes]", control: socket.socket) -> None:
    """Closes a template's socket, on which it ends, and waits for that."""
    control.close()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
