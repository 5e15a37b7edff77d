"""How commands speak with a service's supervisor: start it, ask it, and know whether it runs."""

import contextlib
import json
import os
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

from cdl.deployment.port import listen
from cdl.deployment.protocol import CONTROL, LEFT_SECONDS, LOG, PID_BYTES, READY, SPEC, STARTING, write
from cdl.deployment.workers import around
from cdl.errors import Conflict, JobFailed, NotFound
from cdl.optional import require

START_SECONDS = 90.0
ASK_SECONDS = 120.0
LOG_LINES = 8
SHORT_PATH = 100  # bytes
GONE_SECONDS = 5.0  # that a process takes after it removed its socket
SUPERVISOR = (sys.executable, "-P", "-m", "cdl.deployment.supervisor")


def start(folder: Path, spec: dict[str, Any]) -> dict[str, Any]:
    """Starts a service in the background and waits until it is ready; its status.

    Unavailable without what serves; Conflict names who holds the port; JobFailed gives the last lines of its log.
    """
    require("uvicorn")
    folder.mkdir(parents=True, exist_ok=True)
    listener = _listen(folder, int(spec["port"]))
    write(folder / STARTING, spec)
    hears, told = os.pipe()
    with open(hears, "rb", buffering=0) as heard, listener, (folder / LOG).open("ab") as log:
        handles = (listener.fileno(), told)
        try:
            subprocess.run(
                [*SUPERVISOR, str(folder), *map(str, handles)],
                env=around(),
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
    """Drains and ends a service, and forgets what it served. JobFailed when it does not end."""
    process = ask(folder, op="stop")["pid"]
    end = time.monotonic() + ASK_SECONDS
    while time.monotonic() < end:
        if not (folder / CONTROL).exists():
            _wait_gone(process)
            return
        time.sleep(0.05)
    raise JobFailed(
        f"the service did not end; its process is {process}", where=folder.name, remedy=f"kill -9 {process}"
    )


def forget(folder: Path) -> bool:
    """Sees to it that an init system does not bring back what was killed; whether it would have."""
    try:
        (folder / SPEC).unlink()
    except FileNotFoundError:
        return False
    return True


def _wait_gone(process: int) -> None:
    """Waits for a process whose last act was seen."""
    end = time.monotonic() + GONE_SECONDS
    with contextlib.suppress(ProcessLookupError, PermissionError):
        while time.monotonic() < end and not _ended(process):
            os.kill(process, 0)
            time.sleep(0.02)


def _ended(process: int) -> bool:
    """Whether Linux says that a process has ended and only waits to be looked at by its parent."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


def _listen(folder: Path, port: int) -> socket.socket:
    """On a port; where any will do on the last one. Workers of a killed supervisor are given time to let go of it."""
    patience = LEFT_SECONDS if (folder / CONTROL).exists() else 0.0
    if port == 0:
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError, Conflict):
            return listen(int(json.loads((folder / SPEC).read_text())["port"]), patience=patience)
    return listen(port, patience=patience)


def tail(folder: Path) -> str:
    """The last lines of a service's log."""
    path = folder / LOG
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return "\n".join(f"  {line}" for line in lines[-LOG_LINES:])


@contextmanager
def _address(folder: Path) -> Iterator[str]:
    """The control socket's path, in a form that is short enough for the system (108 bytes)."""
    whole = str(folder / CONTROL)
    if len(os.fsencode(whole)) < SHORT_PATH or not Path("/proc/self/fd").is_dir():
        yield whole
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{handle}/{CONTROL}"
    finally:
        os.close(handle)
