"""Keeps one service: the port is opened once and inherited by workers, so that nothing is lost when they change.

    python -m cdl.deployment.supervisor FOLDER FD TOLD   for a command: it serves what FOLDER/starting.json says
    python -m cdl.deployment.supervisor FOLDER           for systemd or launchd: FOLDER/spec.json, in the foreground

The first form leaves whoever started it at once, and says on the inherited pipe TOLD its process id and, once it serves, `ready`.
The second opens the port itself, or takes it over from the service that runs: that one drains and ends.
A swap has two halves. `swap` starts new workers and answers when they are loaded and warm; the old ones still serve. `switch`
lets the new ones accept and drains the old; `abandon` ends the new. Between the two the caller commits what is deployed.
Control: one JSON object a line over the unix socket FOLDER/control: status, swap, switch, abandon, stop, listener (also hands
over the port). A service whose socket was removed or replaced drains and ends: nobody could ever stop it.
Signals: SIGTERM and SIGINT drain and end; SIGHUP swaps to new workers of the same package.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from cdl.deployment.port import listen
from cdl.deployment.protocol import CONTROL, LEFT_SECONDS, PID_BYTES, READY, SPEC, STARTING, write
from cdl.deployment.workers import GONE_SECONDS, READY_SECONDS, Group, Worker
from cdl.errors import Conflict

TICK_SECONDS = 0.1
ASKED_SECONDS = 5.0  # that a caller has for its line
LARGEST_MESSAGE = 65536


class Supervisor:
    """One service. Single-threaded: it looks after workers every TICK_SECONDS, and whenever one ends."""

    def __init__(self, folder: Path, listener: socket.socket, spec: dict[str, Any], *, kept: str) -> None:
        self.folder = folder
        self.listener = listener
        self.kept = kept
        self.spec = spec | {"port": listener.getsockname()[1]}
        self.now = self._group(spec["package"], spec["replicas"])
        self.next: Group | None = None
        self.old: list[tuple[Worker, float]] = []
        self.ending = False
        self.woken = asyncio.Event()
        self.talks: set[asyncio.Task[None]] = set()

    async def run(self, told: int | None) -> int:
        """Serves until stopped; the exit code. `told` hears `ready` once requests are answered."""
        self._hear_signals()
        if await self._loaded(self.now):
            self.now.kill()
            return 0 if self.ending else 1
        self.now.serving = True
        self.now.tend()
        self._keep_spec()
        control = self._control()
        server = await asyncio.start_unix_server(self._converse, sock=control, limit=LARGEST_MESSAGE)
        mine = _identity()
        _tell(told)
        while not self.ending and _identity() == mine:  # without it no command reaches this service any more
            self._tend()
            await self._pause()
        await self._end()
        server.close()
        if _identity() == mine:
            os.unlink(CONTROL)
        return 0

    async def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """What a control message gets."""
        match message.get("op"):
            case "status" | "listener":
                return self._status()
            case "stop":
                (self.folder / SPEC).unlink(missing_ok=True)
                self.ending = True
                self.woken.set()
                return self._status()
            case _ if self.ending:
                return {"error": "the service is ending"}
            case "swap":
                return await self._swap(str(message["package"]), int(message["replicas"]), message.get("spare"))
            case "switch":
                return await self._switch()
            case "abandon":
                self._abandon()
                return self._status()
        return {"error": "status, swap, switch, abandon, stop or listener is expected"}

    def _status(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "port": self.spec["port"],
            "name": self.spec["name"],
            "package": self.now.package,
            "next": self.next.package if self.next else None,
            "workers": [w.process.pid for w in self.now.accepting],
            "spares": [w.process.pid for w in self.now.waiting],
            "replicas": self.now.replicas,
            "spare": self.now.spare,
            "kept": self.kept,
        }

    async def _swap(self, package: str, replicas: int, spare: bool | None = None) -> dict[str, Any]:
        self._abandon()
        self.next = made = self._group(package, replicas, spare=spare)
        failed = await self._loaded(made)
        if not failed:
            return self._status() | {"ready": True}
        if self.next is made:
            self._abandon()
        return {"error": f"the new workers did not become ready, {failed}; the old ones stay"}

    async def _switch(self) -> dict[str, Any]:
        if self.next is None:
            return {"error": "nothing was prepared: swap first"}
        made = self.next
        failed = await self._loaded(made)
        if failed:
            return {"error": f"the new workers did not become ready, {failed}; the old ones stay"}
        before, self.now, self.next = self.now, made, None
        self.now.serving = True
        self.now.tend()
        self._drain(before)
        self.spec |= {"package": made.package, "replicas": made.replicas, "spare": made.spare}
        self._keep_spec()
        return self._status()

    async def _reload(self) -> None:
        found = await self._swap(self.now.package, self.now.replicas)
        found = await self._switch() if "error" not in found else found
        if "error" in found:
            sys.stderr.write(f"SIGHUP: {found['error']}\n")

    def _abandon(self) -> None:
        if self.next is not None:
            self.next.kill()
        self.next = None

    def _drain(self, group: Group) -> None:
        gone_at = time.monotonic() + GONE_SECONDS
        self.old += [(worker, gone_at) for worker in group.drain()]

    async def _end(self) -> None:
        """Ends everything; commands are answered until the last worker has gone."""
        self.ending = True
        self._abandon()
        self._drain(self.now)
        self.listener.close()  # who comes now is refused at once, by workers too
        while self.old:
            self._bury_old()
            await self._pause()
        if self.talks:
            await asyncio.wait(self.talks, timeout=1.0)

    def _tend(self) -> None:
        self._bury_old()
        for group in (self.now, self.next):
            if group is not None:
                group.tend()

    def _bury_old(self) -> None:
        for worker, gone_at in self.old:
            if worker.runs and time.monotonic() > gone_at:
                worker.end(signal.SIGKILL)
                worker.process.wait()
            if not worker.runs:
                worker.close()
        self.old = [(w, gone_at) for w, gone_at in self.old if w.runs]

    async def _loaded(self, group: Group) -> str | None:
        """Waits for a group's workers; why they will not serve, or None."""
        end = time.monotonic() + READY_SECONDS
        while True:
            group.tend()
            if group.ready:
                group.prepared = True
                return None
            if self.ending:
                return "the service is ending"
            if group is not self.now and group is not self.next:
                return "another command took them back"
            if group.deaths and not group.prepared:
                return "one ended"
            if time.monotonic() > end:
                return f"not within {READY_SECONDS:.0f} s"
            await self._pause()

    async def _pause(self) -> None:
        self.woken.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.woken.wait(), TICK_SECONDS)

    def _group(self, package: str, replicas: int, *, spare: bool | None = None) -> Group:
        wished = bool(self.spec.get("spare", True)) if spare is None else spare
        return Group(package, replicas, self.spec["name"], self.folder, self.listener, wished)

    def _keep_spec(self) -> None:
        """Notes what serves, for when this process is killed."""
        try:
            write(self.folder / SPEC, self.spec)
            (self.folder / STARTING).unlink(missing_ok=True)
        except OSError as error:
            sys.stderr.write(f"{SPEC} could not be written: {error}\n")

    def _hear_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self.woken.set)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._keep(loop.create_task(self._reload())))

    def _stop(self) -> None:
        self.ending = True
        self.woken.set()

    def _control(self) -> socket.socket:
        """The control socket, in place of the one of a service that this one takes over from."""
        made = f"{CONTROL}.{os.getpid()}"
        Path(made).unlink(missing_ok=True)
        found = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        try:
            found.bind(made)  # from inside the folder: a socket's path has at most 108 bytes
        finally:
            os.umask(before)
        found.listen(8)
        os.rename(made, CONTROL)
        return found

    def _keep(self, task: "asyncio.Task[None]") -> None:
        self.talks.add(task)
        task.add_done_callback(self.talks.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._keep(task)
        try:
            asked = json.loads(await asyncio.wait_for(reader.readline(), ASKED_SECONDS))
            said = json.dumps(await self.answer(asked)).encode() + b"\n"
            if asked.get("op") == "listener" and not self.ending:
                _hand_over(writer, said, self.listener)
            else:
                writer.write(said)
            await writer.drain()
        except (OSError, ValueError, KeyError, TypeError, AttributeError, TimeoutError) as error:
            sys.stderr.write(f"control: {error!r}\n")
        finally:
            writer.close()


def _hand_over(writer: asyncio.StreamWriter, said: bytes, listener: socket.socket) -> None:
    with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as connection:
        socket.send_fds(connection, [said], [listener.fileno()])


def _taken_over() -> socket.socket | None:
    """The listening socket of the service that runs in this folder; None where none does."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ASKED_SECONDS)
        try:
            connection.connect(CONTROL)
            connection.sendall(b'{"op": "listener"}\n')
            _, handles, _, _ = socket.recv_fds(connection, LARGEST_MESSAGE, 1)
        except OSError:
            return None
    return socket.socket(fileno=handles[0]) if handles else None


def _tell(told: int | None) -> None:
    """Says that requests are answered: on a pipe, or to systemd."""
    if told is not None:
        os.write(told, READY)
        os.close(told)
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection, contextlib.suppress(OSError):
            connection.connect("\0" + address[1:] if address.startswith("@") else address)
            connection.send(b"READY=1")


def _identity() -> tuple[int, int] | None:
    """Which file the control socket is; None where the folder was removed."""
    try:
        found = os.stat(CONTROL)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def in_background(folder: Path, handle: int, told: int) -> int:
    """Serves on an inherited listening socket, as nobody's child; the exit code."""
    if os.fork():
        os._exit(0)
    os.write(told, os.getpid().to_bytes(PID_BYTES, "big"))
    os.set_inheritable(told, False)
    with socket.socket(fileno=handle) as listener:
        spec = json.loads((folder / STARTING).read_text())
        return asyncio.run(Supervisor(folder, listener, spec, kept="command").run(told))


def in_foreground(folder: Path) -> int:
    """Serves what was served last, for an init system; the exit code. Nothing is to be done after `stop`."""
    try:
        spec = json.loads((folder / SPEC).read_text())
    except FileNotFoundError:
        sys.stderr.write("nothing is to be served: cdl deploy apply\n")
        return 0
    try:
        listener = _taken_over() or listen(int(spec["port"]), patience=LEFT_SECONDS)
    except Conflict as error:
        sys.stderr.write(f"{error}\n")
        return 1
    with listener:
        return asyncio.run(Supervisor(folder, listener, spec, kept="init").run(None))


def main() -> int:
    """`FOLDER [FD TOLD]`."""
    folder = Path(sys.argv[1]).resolve()
    os.chdir(folder)
    if len(sys.argv) > 2:
        return in_background(folder, int(sys.argv[2]), int(sys.argv[3]))
    return in_foreground(folder)


if __name__ == "__main__":
    sys.exit(main())
