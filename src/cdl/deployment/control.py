"""How commands speak with a service's supervisor: start it, ask it, and know whether it runs."""

import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import cdl
from cdl.deployment.supervisor import PID_BYTES, READY
from cdl.errors import Conflict, JobFailed, NotFound
from cdl.optional import require

START_SECONDS = 90.0
ASK_SECONDS = 120.0
HOST = "127.0.0.1"
LOG = "service.log"
LOG_LINES = 8
SHORT_PATH = 100  # bytes


def start(folder: Path, spec: dict[str, Any]) -> dict[str, Any]:
    """Starts a service in the background and waits until it is ready; its status.

    Unavailable without what serves; Conflict names who holds the port; JobFailed gives the last lines of its log.
    """
    require("uvicorn")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spec.json").write_text(json.dumps(spec))
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, int(spec["port"])))
    except OSError as error:
        listener.close()
        raise Conflict(
            f"port {spec['port']} is taken{owner(int(spec['port']))}", remedy="another port in cdl.yaml, or end that"
        ) from error
    listener.listen(1024)
    around = os.environ | {"PYTHONPATH": str(Path(cdl.__file__).parents[1])}
    hears, told = os.pipe()
    with open(hears, "rb", buffering=0) as heard, listener, (folder / LOG).open("ab") as log:
        handles = (listener.fileno(), told)
        try:
            subprocess.run(
                [sys.executable, "-m", "cdl.deployment.supervisor", str(folder), *map(str, handles)],
                env=around,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=handles,
                start_new_session=True,
                check=False,
            )
        finally:
            os.close(told)
        _wait_ready(folder, heard)
    return ask(folder, op="status")


def _wait_ready(folder: Path, heard: IO[bytes]) -> None:
    """Hears a supervisor until it is ready. JobFailed when it ends before, or takes too long; then it is ended."""
    said, end = b"", time.monotonic() + START_SECONDS
    while select.select([heard], [], [], max(0.0, end - time.monotonic()))[0]:
        part = heard.read(PID_BYTES + len(READY))
        said += part
        if said[PID_BYTES:] == READY:
            return
        if not part:
            raise JobFailed("the service did not start:\n" + tail(folder), remedy=f"see {folder / LOG}")
    with contextlib.suppress(ProcessLookupError):
        if len(said) >= PID_BYTES:
            os.kill(int.from_bytes(said[:PID_BYTES], "big"), signal.SIGKILL)
    raise JobFailed("the service was not ready in time:\n" + tail(folder), remedy=f"see {folder / LOG}")


def ask(folder: Path, **message: Any) -> dict[str, Any]:
    """Sends a control message; the answer. NotFound when nothing runs, JobFailed when it answers an error."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ASK_SECONDS)
        try:
            with _address(folder) as address:
                connection.connect(address)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NotFound("no service runs here", where=folder.name, remedy="cdl deploy apply") from error
        connection.sendall(json.dumps(message).encode() + b"\n")
        data = b""
        try:
            while part := connection.recv(4096):
                data += part
        except ConnectionResetError:
            data = b""
    if not data:
        raise NotFound("the service ended before it answered", where=folder.name, remedy="cdl deploy status")
    found: dict[str, Any] = json.loads(data)
    if "error" in found:
        raise JobFailed(f"{found['error']}:\n{tail(folder)}", where=folder.name, remedy=f"see {folder / LOG}")
    return found


def running(folder: Path) -> dict[str, Any] | None:
    """The status of a service, or None where none runs."""
    try:
        return ask(folder, op="status")
    except NotFound:
        return None


def stop(folder: Path) -> None:
    """Drains and ends a service."""
    ask(folder, op="stop")
    end = time.monotonic() + ASK_SECONDS
    while time.monotonic() < end and (folder / "control").exists():
        time.sleep(0.05)


def tail(folder: Path) -> str:
    """The last lines of a service's log."""
    path = folder / LOG
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return "\n".join(f"  {line}" for line in lines[-LOG_LINES:])


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


@contextmanager
def _address(folder: Path) -> Iterator[str]:
    """The control socket's path, in a form that is short enough for the system (108 bytes)."""
    whole = str(folder / "control")
    if len(os.fsencode(whole)) < SHORT_PATH or not Path("/proc/self/fd").is_dir():
        yield whole
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{handle}/control"
    finally:
        os.close(handle)
