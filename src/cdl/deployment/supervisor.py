"""Keeps one service: the port is opened once and inherited by workers, so that nothing is lost when they change.

    python -m cdl.deployment.supervisor FOLDER FD TOLD   FOLDER/spec.json  {package, name, port, replicas}

It leaves whoever started it at once, and says on the inherited pipe TOLD its process id and, once it serves, `ready`.
A swap has two halves. `swap` starts new workers and answers when they are loaded and warm; the old ones still serve. `switch`
lets the new ones accept and drains the old; `abandon` ends the new. Between the two the caller commits what is deployed.
Control: one JSON object a line over the unix socket FOLDER/control: status, swap, switch, abandon, stop. A service whose socket
was removed, with its folder or by hand, drains and ends: nobody could ever stop it.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cdl

READY_SECONDS = 60.0
TICK_SECONDS = 0.1
AGAIN_SECONDS = 0.5  # before a worker that died is started again, doubled each time up to LONGEST_SECONDS
LONGEST_SECONDS = 10.0
LARGEST_MESSAGE = 65536
READY = b"ready"
CONTROL = "control"  # the socket, in the service's folder, where its supervisor works
PID_BYTES = 8  # of its process id, on the pipe of who started it
PASSED_ON = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH")


@dataclass
class Worker:
    """A process that serves; `ready` and `go` are pipes until they have been used."""

    process: "subprocess.Popen[bytes]"
    ready: int | None
    go: int | None


@dataclass
class Group:
    """The workers of one package."""

    package: str
    replicas: int
    serving: bool = False
    workers: list[Worker] = field(default_factory=list)
    deaths: int = 0
    again_at: float = 0.0


class Supervisor:
    """One service. Single-threaded: it looks after workers every TICK_SECONDS and answers control messages between."""

    def __init__(self, folder: Path, listener: socket.socket) -> None:
        self.folder = folder
        self.listener = listener
        self.spec: dict[str, Any] = json.loads((folder / "spec.json").read_text())
        self.now = Group(self.spec["package"], self.spec["replicas"], serving=True)
        self.next: Group | None = None
        self.old: list[Worker] = []
        self.ending = False

    def run(self, told: int) -> int:
        """Serves until stopped; the exit code. `told` hears `ready` once requests are answered."""
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "ending", True))
        self._fill(self.now)
        if not self._wait_ready(self.now):
            return 1
        control = self._control()
        os.write(told, READY)
        os.close(told)
        mine = _identity()
        while not self.ending and _identity() == mine:  # without it no command reaches this service any more
            self._tend()
            readable, _, _ = select.select([control], [], [], TICK_SECONDS)
            if readable:
                self._converse(control)
        self._drain([*self.now.workers, *self.old])
        self._kill(self.next)
        for worker in self.old:
            worker.process.wait()
        control.close()
        if _identity() == mine:
            os.unlink(CONTROL)
        return 0

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """What a control message gets."""
        match message.get("op"):
            case "status":
                return self._status()
            case "swap":
                return self._swap(str(message["package"]), int(message["replicas"]))
            case "switch":
                return self._switch()
            case "abandon":
                self._kill(self.next)
                self.next = None
                return self._status()
            case "stop":
                self.ending = True
                return self._status()
        return {"error": "status, swap, switch, abandon or stop is expected"}

    def _status(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "port": self.listener.getsockname()[1],
            "name": self.spec["name"],
            "package": self.now.package,
            "next": self.next.package if self.next else None,
            "workers": [w.process.pid for w in self.now.workers if w.process.poll() is None],
            "replicas": self.now.replicas,
        }

    def _swap(self, package: str, replicas: int) -> dict[str, Any]:
        self._kill(self.next)
        self.next = Group(package, replicas)
        self._fill(self.next)
        if self._wait_ready(self.next):
            return self._status() | {"ready": True}
        self._kill(self.next)
        self.next = None
        return {"error": "the new workers did not become ready; the old ones stay"}

    def _switch(self) -> dict[str, Any]:
        if self.next is None:
            return {"error": "nothing was prepared: swap first"}
        before, self.now, self.next = self.now, self.next, None
        self.now.serving = True
        for worker in self.now.workers:
            _go(worker)
        self.spec |= {"package": self.now.package, "replicas": self.now.replicas}
        _write(self.folder / "spec.json", json.dumps(self.spec))
        self._drain(before.workers)
        return self._status()

    def _drain(self, workers: list[Worker]) -> None:
        for worker in workers:
            if worker.process.poll() is None:
                worker.process.send_signal(signal.SIGTERM)
        self.old = [w for w in [*self.old, *workers] if w.process.poll() is None]

    def _kill(self, group: Group | None) -> None:
        for worker in group.workers if group else []:
            _close(worker)
            if worker.process.poll() is None:
                worker.process.kill()
            worker.process.wait()

    def _tend(self) -> None:
        """Starts workers again that died, with growing pauses."""
        self.old = [w for w in self.old if w.process.poll() is None]
        for group in [g for g in (self.now, self.next) if g]:
            dead = [w for w in group.workers if w.process.poll() is not None]
            if dead:
                for worker in dead:
                    _close(worker)
                group.workers = [w for w in group.workers if w not in dead]
                group.deaths += 1
                pause = min(LONGEST_SECONDS, AGAIN_SECONDS * 2 ** min(group.deaths - 1, 8))
                group.again_at = time.monotonic() + (0.0 if group.deaths == 1 else pause)
            if len(group.workers) < group.replicas and time.monotonic() >= group.again_at:
                self._fill(group)
            self._ready(group)

    def _fill(self, group: Group) -> None:
        while len(group.workers) < group.replicas:
            group.workers.append(self._start(group))

    def _start(self, group: Group) -> Worker:
        ready, writes = os.pipe()
        reads, go = os.pipe()
        around = {k: v for k, v in os.environ.items() if k in PASSED_ON}
        around |= {
            "PYTHONPATH": str(Path(cdl.__file__).parents[1]),
            "OMP_NUM_THREADS": "1",
            "ORT_DISABLE_TELEMETRY": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        handles = {"--fd": self.listener.fileno(), "--ready": writes, "--go": reads}
        arguments = [str(part) for pair in handles.items() for part in pair]
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "cdl.deployment.serve", group.package]
                + ["--out", str(self.folder), "--name", self.spec["name"], *arguments],
                env=around,
                stdin=subprocess.DEVNULL,
                pass_fds=tuple(handles.values()),
            )
        finally:
            os.close(writes)
            os.close(reads)
        return Worker(process, ready, go)

    def _ready(self, group: Group) -> bool:
        """Whether all workers of a group are loaded; those of a serving group may accept at once."""
        for worker in group.workers:
            if worker.ready is None:
                continue
            readable, _, _ = select.select([worker.ready], [], [], 0)
            if readable and os.read(worker.ready, 1) == b"1":
                os.close(worker.ready)
                worker.ready = None
                if group.serving:
                    _go(worker)
        return len(group.workers) == group.replicas and all(w.ready is None for w in group.workers)

    def _wait_ready(self, group: Group) -> bool:
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            if group is not self.now:
                self._tend_now()
            if any(w.process.poll() is not None for w in group.workers):
                return False
            if self._ready(group):
                return True
            time.sleep(TICK_SECONDS / 2)
        return False

    def _tend_now(self) -> None:
        waiting, self.next = self.next, None
        self._tend()
        self.next = waiting

    def _control(self) -> socket.socket:
        Path(CONTROL).unlink(missing_ok=True)
        found = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        try:
            found.bind(CONTROL)  # from inside the folder: a socket's path has at most 108 bytes
        finally:
            os.umask(before)
        found.listen(8)
        return found

    def _converse(self, control: socket.socket) -> None:
        connection, _ = control.accept()
        with connection:
            connection.settimeout(5)
            try:
                asked = json.loads(_line(connection))
                connection.sendall(json.dumps(self.answer(asked)).encode() + b"\n")
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                sys.stderr.write(f"control: {error!r}\n")


def _identity() -> tuple[int, int] | None:
    """Which file the control socket is; None where the folder was removed."""
    try:
        found = os.stat(CONTROL)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _line(connection: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\n") and len(data) < LARGEST_MESSAGE:
        part = connection.recv(4096)
        if not part:
            break
        data += part
    return data


def _go(worker: Worker) -> None:
    if worker.go is not None:
        try:
            os.write(worker.go, b"1")
        except BrokenPipeError:
            pass  # it died; it is started again
        os.close(worker.go)
        worker.go = None


def _close(worker: Worker) -> None:
    for handle in (worker.ready, worker.go):
        if handle is not None:
            os.close(handle)
    worker.ready = worker.go = None


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(path)


def main() -> int:
    """`FOLDER FD TOLD`: serves on an inherited listening socket, as nobody's child."""
    folder, told = Path(sys.argv[1]), int(sys.argv[3])
    if os.fork():
        os._exit(0)
    os.write(told, os.getpid().to_bytes(PID_BYTES, "big"))
    os.set_inheritable(told, False)
    os.chdir(folder)
    with socket.socket(fileno=int(sys.argv[2])) as listener:
        return Supervisor(folder, listener).run(told)


if __name__ == "__main__":
    sys.exit(main())
