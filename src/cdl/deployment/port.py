"""The port of a service: listening on it, and who holds it."""

import os
import re
import socket
import time
from pathlib import Path

from cdl.errors import Conflict

HOST = "127.0.0.1"
BACKLOG = 1024  # connections that wait while workers change
AGAIN_SECONDS = 0.05


def listen(port: int, *, patience: float = 0.0) -> socket.socket:
    """A listening socket; port 0 takes a free one. Conflict names who holds the port, after `patience` seconds."""
    end = time.monotonic() + patience
    while True:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
            listener.listen(BACKLOG)
            return listener
        except OSError as error:
            listener.close()
            if time.monotonic() >= end:
                raise Conflict(
                    f"port {port} is taken{owner(port)}", remedy="another port in cdl.yaml, or end that"
                ) from error
        time.sleep(AGAIN_SECONDS)


def owner(port: int) -> str:
    """' by process 4711 (python)' where Linux tells who listens on a port."""
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    lines = [line.split() for t in tables if t.exists() for line in t.read_text().splitlines()[1:]]
    sockets = {f"socket:[{f[9]}]" for f in lines if f[3] == "0A" and int(f[1].rsplit(":", 1)[1], 16) == port}
    for folder in Path("/proc").glob("[0-9]*/fd") if sockets else []:
        if _handles(folder) & sockets:
            name = (folder.parent / "comm").read_text().strip()
            return f" by process {folder.parent.name} ({re.sub(r'[^ -~]', '?', name)})"
    return ""


def _handles(folder: Path) -> set[str]:
    """What the handles of a process lead to, as far as they can be read."""
    found = set()
    try:
        for handle in list(folder.iterdir()):
            try:
                found.add(os.readlink(handle))
            except FileNotFoundError:
                continue  # closed meanwhile
    except (PermissionError, FileNotFoundError):
        return found
    return found
