"""The template's own process: it does the slow part once, then forks a child for each request.

    python -m cdl.jobs.forker MODULE:WARM CONTROL           CONTROL is an inherited unix socket of whole messages

    -> {modules: [...]}                                      when it is warm: top-level names of what it has imported
    <- {loop, folder, environment, threads}                  with four files: channel's two ends, output, and the child's line
    line -> pid, later its exit code                         4 bytes each; a line that closes without one: nobody knows
    line <- k                                                kill the child; so does closing the line

WARM is called once and gives what each child calls first, with its number of threads: threads do not survive a fork, and a
library that had more than one before it may wait for them for ever. So a template that holds a second thread does not
get ready. The template is single-threaded, holds no lock, file or socket but these, and ends with its owner, children first.
"""

import atexit
import contextlib
import fcntl
import gc
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from cdl.jobs import worker

LARGEST_REQUEST = 1 << 17  # bytes
REQUEST_FILES = 4
NUMBER_BYTES = 4  # of a pid or an exit code on a line
KILL = b"k"

Settle = Callable[[int], object]


class Child(msgspec.Struct, frozen=True):
    """What a fork is to do, told in the fork."""

    request: dict[str, Any]
    read: int
    write: int
    prints: int
    parent: int

    def run(self, settle: Settle) -> int:
        """Becomes what a new interpreter would be, and works; the exit code."""
        os.setsid()
        for standard in (1, 2):
            os.dup2(self.prints, standard)
        os.close(self.prints)
        os.chdir(Path(self.request["folder"], "code"))
        os.environ.clear()
        os.environ.update(self.request["environment"])
        loop = self.request["loop"]
        sys.argv[:] = [str(worker.__file__), loop, str(self.read), str(self.write), str(self.parent)]
        sys.path.insert(0, os.getcwd())
        settle(self.request["threads"])
        return worker.main(loop, self.read, self.write, self.parent)


class Forker:
    """The loop of a warm template."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.lines: dict[int, tuple[int, socket.socket]] = {}  # by handle: the child's process and its line
        self.wake, self._woken = os.pipe()
        os.set_blocking(self._woken, False)
        self.poll = select.poll()
        self.poll.register(control, select.POLLIN)
        self.poll.register(self.wake, select.POLLIN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._woken)

    def serve(self) -> Child | None:
        """Forks on request until the owner is gone. Comes back in each fork with what it is to do; None in the template."""
        control = self.control.fileno()
        while True:
            ready = {handle for handle, _ in self.poll.poll()}
            for handle in ready - {self.wake, control}:
                self._hear(handle)
            if self.wake in ready:  # after the lines: it closes some, and their numbers are given to others
                os.read(self.wake, 1 << 12)
                self._reap()
            if control in ready:
                if (request := self._request()) is None:
                    self._end()
                    return None
                if (child := self._fork(*request)) is not None:
                    return child

    def _request(self) -> tuple[dict[str, Any], list[int]] | None:
        try:
            data, files, _, _ = socket.recv_fds(self.control, LARGEST_REQUEST, REQUEST_FILES)
        except ConnectionResetError:
            return None
        return (msgspec.msgpack.decode(data), files) if data else None

    def _fork(self, request: dict[str, Any], files: list[int]) -> Child | None:
        read, write, prints, handle = files
        line = socket.socket(fileno=handle)
        parent = os.getpid()
        sys.stdout.flush()
        try:
            process = os.fork()
        except OSError as error:  # no memory or too many processes: the closed line says that nothing was started
            sys.stderr.write(f"no fork: {error}\n")
            sys.stderr.flush()
            process = -1
        if process == 0:
            self._forget()
            line.close()
            return Child(request, read, write, prints, parent)
        for mine in (read, write, prints):
            os.close(mine)
        if process < 0:
            line.close()
            return None
        self.lines[line.fileno()] = (process, line)
        self.poll.register(line, select.POLLIN)
        self._say(line, process)
        return None

    def _forget(self) -> None:
        """In a fork: what belongs to the template only."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for handle in (self.wake, self._woken):
            os.close(handle)
        self.control.close()
        for _, line in self.lines.values():
            line.close()

    def _hear(self, handle: int) -> None:
        """Something came on a line, or its other end is gone: either way the child is to end."""
        process, line = self.lines[handle]
        with contextlib.suppress(ConnectionResetError):
            line.recv(NUMBER_BYTES)
        self.poll.unregister(handle)
        _kill(process)

    def _reap(self) -> None:
        for handle, (process, line) in list(self.lines.items()):
            found, status = os.waitpid(process, os.WNOHANG)
            if found:
                self._say(line, os.waitstatus_to_exitcode(status))
                with contextlib.suppress(KeyError):  # a line that was heard is not polled any more
                    self.poll.unregister(handle)
                line.close()
                del self.lines[handle]

    def _end(self) -> None:
        for process, _ in self.lines.values():
            _kill(process)
        for process, _ in self.lines.values():
            os.waitpid(process, 0)

    def _say(self, line: socket.socket, number: int) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            line.send(number.to_bytes(NUMBER_BYTES, "big", signed=True))


def main(warm: str, handle: int) -> int:
    """Gets warm and serves; in a fork, what the fork's work gives."""
    control = socket.socket(fileno=handle)
    sys.path.remove(os.getcwd())
    with _ending_with(control):
        settle = _warmed(warm)
    if (threads := _threads()) != 1:
        sys.stderr.write(f"{warm} left {threads} threads; a template can hold one only\n")
        return 1
    gc.collect()
    gc.freeze()  # what stands now is shared with all children
    forker = Forker(control)
    control.send(msgspec.msgpack.encode({"modules": sorted({name.partition(".")[0] for name in sys.modules})}))
    child = forker.serve()
    return 0 if child is None else _leave(child.run(settle))


def _leave(code: int) -> int:
    """Ends a fork as an interpreter ends, but for taking down its modules, which takes longer than all of its start."""
    threading._shutdown()  # type: ignore[attr-defined]  # waits for the job's own threads, as multiprocessing does
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def _warmed(warm: str) -> Settle:
    module, _, name = warm.partition(":")
    settle = getattr(import_module(module), name)()
    return settle if callable(settle) else lambda threads: None


@contextlib.contextmanager
def _ending_with(control: socket.socket) -> Iterator[None]:
    """Meanwhile the kernel ends this process (SIGIO) when the other end of the socket closes."""
    flags = fcntl.fcntl(control, fcntl.F_GETFL)
    fcntl.fcntl(control, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(control, fcntl.F_SETFL, flags | os.O_ASYNC)
    if select.select([control], [], [], 0)[0]:
        os._exit(1)  # it had closed before
    yield
    fcntl.fcntl(control, fcntl.F_SETFL, flags)


def _threads() -> int:
    """How many threads this process has (Linux)."""
    return len(os.listdir("/proc/self/task"))


def _kill(process: int) -> None:
    """A child with all that it started. It is not reaped yet, so its number is still its own."""
    try:
        os.killpg(process, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(process, signal.SIGKILL)  # it has made no session yet


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
