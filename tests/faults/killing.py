"""Runs a command and ends it with SIGKILL, after some time or after so many changes of its folder.

A change is one event that the kernel tells of a file below the folder (inotify): created, written, moved, removed. Counting
them hits what happens between two writes more often than the clock does: most of a command's time is spent in starting Python.
"""

import ctypes
import os
import select
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.team import CDL, Person

CREATE, MODIFY, MOVED_TO, DELETE, ISDIR = 0x100, 0x2, 0x80, 0x200, 0x40000000
MASK = CREATE | MODIFY | MOVED_TO | DELETE
NONBLOCK = os.O_NONBLOCK
HEADER = struct.Struct("iIII")
LONGEST_SECONDS = 300.0
FEW_MILLISECONDS = 2


@dataclass(frozen=True)
class Stop:
    """When a command is killed: after seconds, or after changes; and whether its parent process alone is."""

    seconds: float | None = None
    changes: int | None = None
    alone: bool = False

    def __str__(self) -> str:
        when = f"{self.seconds:.3f} s" if self.seconds is not None else f"change {self.changes}"
        return f"{when}, {'the process alone' if self.alone else 'with all that it started'}"


@dataclass(frozen=True)
class Ran:
    """How a command ended: its exit code (None when it was killed), what it said, how long it took, how much it changed."""

    code: int | None
    said: str
    seconds: float
    changes: int


class Watch:
    """Counts changes below a folder."""

    def __init__(self, folder: Path) -> None:
        self.changes = 0
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.handle = self._libc.inotify_init1(NONBLOCK)
        assert self.handle >= 0, "no inotify here"
        self._folders: dict[int, Path] = {}
        for root, _, _ in os.walk(folder):
            self._add(Path(root))

    def count(self) -> int:
        """How many there were so far."""
        for watched, mask, name in self._events():
            self.changes += 1
            if mask & ISDIR and mask & CREATE:
                self._add(self._folders[watched] / name)
        return self.changes

    def close(self) -> None:
        """Ends it."""
        os.close(self.handle)

    def _add(self, folder: Path) -> None:
        watched = self._libc.inotify_add_watch(self.handle, os.fsencode(folder), MASK)
        if watched >= 0:
            self._folders[watched] = folder

    def _events(self) -> Iterator[tuple[int, int, str]]:
        try:
            data = os.read(self.handle, 1 << 16)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            watched, mask, _, length = HEADER.unpack_from(data, at)
            at += HEADER.size
            yield watched, mask, os.fsdecode(data[at : at + length].rstrip(b"\0"))
            at += length


def run(person: Person, command: tuple[str, ...], folder: Path, stop: Stop | None = None) -> Ran:
    """Runs `cdl` with arguments; with `stop` it is killed then, unless it ended before. `folder` is watched."""
    watch = Watch(folder)
    begun = time.monotonic()
    with tempfile.TemporaryFile() as out:  # no pipe: what it leaves running would hold it open
        process = subprocess.Popen(
            [str(CDL), *command],
            cwd=person.root,
            env=person.env(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        killed = _wait(process, watch, begun, stop)
        seconds = time.monotonic() - begun
        out.seek(0)
        said = out.read().decode("utf-8", "replace")
    changes = watch.count()
    watch.close()
    return Ran(None if killed else process.returncode, said, seconds, changes)


def _wait(process: "subprocess.Popen[bytes]", watch: Watch, begun: float, stop: Stop | None) -> bool:
    """Waits for the end of a process, or ends it; whether it was ended."""
    poll = select.poll()
    poll.register(watch.handle, select.POLLIN)
    while process.poll() is None:
        poll.poll(FEW_MILLISECONDS)
        past, changes = time.monotonic() - begun, watch.count()
        assert past < LONGEST_SECONDS, "the command does not end"
        if stop is None:
            continue
        if (stop.seconds is not None and past >= stop.seconds) or (
            stop.changes is not None and changes >= stop.changes
        ):
            _kill(process, alone=stop.alone)
            return process.wait() == -signal.SIGKILL
    return False


def _kill(process: "subprocess.Popen[bytes]", *, alone: bool) -> None:
    if alone:
        process.kill()
        return
    others = _below(process.pid)
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    for other in others:
        try:
            os.kill(other, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _below(process: int) -> list[int]:
    """Everything that a process started, and what these started."""
    parents: dict[int, list[int]] = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = place.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(place.parent.name))
    found, left = [], [process]
    while left:
        below = parents.get(left.pop(), [])
        found += below
        left += below
    return found
