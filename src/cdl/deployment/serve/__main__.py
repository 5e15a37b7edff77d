"""A worker of a service: `python -m cdl.deployment.serve PACKAGE --fd N --ready N --go N --out FOLDER --name NAME`.

It loads its package, says so on `ready`, and waits for a byte on `go` before it accepts anything. SIGTERM, and the end of `go`,
drain: no new connection, answers with `Connection: close` for DRAIN_SECONDS or until nobody is connected, then the end; a request
in work, or half here, has FINISH_SECONDS. SIGINT and SIGHUP are for the supervisor.
"""

import argparse
import asyncio
import contextlib
import ctypes
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from cdl.deployment.serve.app import App
from cdl.deployment.serve.connection import Connection
from cdl.deployment.serve.package import open_package
from cdl.deployment.serve.scoring import FEEDBACK, SCORING, Log
from cdl.optional import present

DRAIN_SECONDS = 2.0
FINISH_SECONDS = 30
LAST_SECONDS = 4.0  # more, after which it ends whatever it is at
IDLE_SECONDS = 75  # a connection is kept open; longer than proxies keep theirs
HANDLES = 16384  # connections and files that may be open, where the system allows so many
PR_SET_PDEATHSIG = 1  # Linux: the signal that comes when the parent ends


class Server(uvicorn.Server):
    """Stops accepting first, and closes connections only after they had time to hear of it."""

    def __init__(self, config: uvicorn.Config, app: App) -> None:
        super().__init__(config)
        self.app = app
        self.loop: asyncio.AbstractEventLoop | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM drains. What follows the server's end is done too: uvicorn would end the process by the same signal."""
        signal.signal(signal.SIGTERM, lambda *_: self.drain())
        yield

    def drain(self) -> None:
        """Ends serving; a process that cannot end in time is ended."""
        if not self.should_exit:
            self.should_exit = True
            last = threading.Timer(DRAIN_SECONDS + FINISH_SECONDS + LAST_SECONDS, os._exit, (1,))
            last.daemon = True
            last.start()
            if self.loop is not None:
                self.loop.call_soon_threadsafe(self._stop_accepting)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accepts from now on."""
        await super().startup(sockets)
        self.loop = asyncio.get_running_loop()

    async def on_tick(self, counter: int) -> bool:
        """Whether to end; ten times a second."""
        if counter % 10 == 0:
            now = time.monotonic()
            for connection in self._connections():
                connection.give_up_late(now)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drains."""
        self._stop_accepting()
        end = time.monotonic() + DRAIN_SECONDS
        while self.server_state.connections and time.monotonic() < end:
            await asyncio.sleep(0.05)
        await super().shutdown(sockets)

    def _stop_accepting(self) -> None:
        for server in self.servers:
            server.close()
        self.app.draining = True

    def _connections(self) -> list[Connection]:
        return [c for c in self.server_state.connections if isinstance(c, Connection)]


def main() -> int:
    """Runs until told to end; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m cdl.deployment.serve")
    parser.add_argument("package", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", required=True)
    for name in ("--fd", "--ready", "--go"):
        parser.add_argument(name, type=int, required=True)
    given = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _end_with_parent(signal.SIGKILL)
    served = open_package(given.package)
    os.write(given.ready, b"1")
    os.close(given.ready)
    if os.read(given.go, 1) != b"1":
        return 0  # abandoned before it was needed
    _allow_handles()
    kinds = (("scoring", SCORING), ("feedback", FEEDBACK))
    logs = [Log(given.out / name, columns, model=served.model) for name, columns in kinds]
    server = _server(App(served, given.name, *logs))
    threading.Thread(target=_end_after_parent, args=(given.go, server), daemon=True, name="parent").start()
    _end_with_parent(0)
    with socket.socket(fileno=given.fd) as listener:
        try:
            server.run(sockets=[listener])
        finally:
            for log in logs:
                log.close()
    return 0


def _server(app: App) -> Server:
    config = uvicorn.Config(
        app,
        loop="uvloop" if present("uvloop") else "asyncio",
        http=Connection,
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        ws="none",
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=FINISH_SECONDS,
    )
    return Server(config, app)


def _end_with_parent(number: int) -> None:
    """Linux: the signal that comes when the parent ends. While a package loads nothing else can be done about it."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            os._exit(1)


def _end_after_parent(go: int, server: Server) -> None:
    """Drains once the supervisor has gone, and with it the other end of `go`."""
    while os.read(go, 1):
        pass
    server.drain()


def _allow_handles() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = HANDLES if hard == resource.RLIM_INFINITY else min(HANDLES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    sys.exit(main())
