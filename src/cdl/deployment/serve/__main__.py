"""A worker of a service: `python -m cdl.deployment.serve PACKAGE --fd N --ready N --go N --out FOLDER --name NAME`.

It loads its package, says so on `ready`, and waits for a byte on `go` before it accepts anything. SIGTERM drains: no new
connection, answers with `Connection: close` for DRAIN_SECONDS, then the end; a request in work has FINISH_SECONDS.
"""

import argparse
import asyncio
import ctypes
import os
import signal
import socket
import sys
from pathlib import Path

import uvicorn

from cdl.deployment.serve.app import App
from cdl.deployment.serve.package import open_package
from cdl.deployment.serve.scoring import FEEDBACK, SCORING, Log
from cdl.optional import present

DRAIN_SECONDS = 2.0
FINISH_SECONDS = 30
PR_SET_PDEATHSIG = 1  # Linux: the signal that comes when the parent ends


class Server(uvicorn.Server):
    """Stops accepting first, and closes connections only after they had time to hear of it."""

    def __init__(self, config: uvicorn.Config, app: App) -> None:
        super().__init__(config)
        self.app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drains."""
        for server in self.servers:
            server.close()
        self.app.draining = True
        await asyncio.sleep(DRAIN_SECONDS)
        await super().shutdown(sockets)


def main() -> int:
    """Runs until told to end; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m cdl.deployment.serve")
    parser.add_argument("package", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", required=True)
    for name in ("--fd", "--ready", "--go"):
        parser.add_argument(name, type=int, required=True)
    given = parser.parse_args()
    _end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    served = open_package(given.package)
    os.write(given.ready, b"1")
    os.close(given.ready)
    if os.read(given.go, 1) != b"1":
        return 0  # abandoned before it was needed
    kinds = (("scoring", SCORING), ("feedback", FEEDBACK))
    logs = [Log(given.out / name, columns, model=served.model) for name, columns in kinds]
    app = App(served, given.name, *logs)
    config = uvicorn.Config(
        app,
        loop="uvloop" if present("uvloop") else "asyncio",
        http="httptools" if present("httptools") else "h11",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=FINISH_SECONDS,
    )
    with socket.socket(fileno=given.fd) as listener:
        try:
            Server(config, app).run(sockets=[listener])
        finally:
            for log in logs:
                log.close()
    return 0


def _end_with_parent() -> None:
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
