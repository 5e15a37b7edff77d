"""A stream: the append-only file that one clone writes. An event is acknowledged once its line stands there.

    .cdl/stream                       the id of this clone's stream, drawn at first use
    .cdl/journal/c-71ab.../000001     one event a line, JSON

All processes of a clone append under one lock. A line that a killed process left unfinished is cut off by the next one.
"""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from cdl.errors import Corrupt
from cdl.journal.events import Event

SEGMENT = "000001"
STREAM_BYTES = 8


def own_stream(root: Path) -> str:
    """The stream of this clone. `root` is `.cdl`."""
    path = root / "stream"
    if not path.exists():
        root.mkdir(parents=True, exist_ok=True)
        temporary = root / f".stream-{os.getpid()}-{secrets.token_hex(4)}"
        temporary.write_text(f"c-{secrets.token_hex(STREAM_BYTES)}\n")
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass  # another process drew it first
        finally:
            temporary.unlink()
    return path.read_text().strip()


def streams(root: Path) -> list[str]:
    """All streams that are here, sorted. One whose folder a killed process made and did not fill is none yet."""
    folder = root / "journal"
    return sorted(p.name for p in folder.iterdir() if (p / SEGMENT).is_file()) if folder.is_dir() else []


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """The lock that appending holds; waits for other processes."""
    (root / "journal").mkdir(parents=True, exist_ok=True)
    with open(root / "journal" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def append(root: Path, stream: str, events: list[Event]) -> None:
    """Appends events in one write; call it inside `writing`."""
    folder = root / "journal" / stream
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / SEGMENT
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        end = _whole_lines(handle)
        os.ftruncate(handle, end)
        data = b"".join(msgspec.json.encode(e) + b"\n" for e in events)
        written = os.pwrite(handle, data, end)
        if written != len(data):
            os.ftruncate(handle, end)
            raise OSError(f"{path}: only {written} of {len(data)} bytes written")
    finally:
        os.close(handle)


def read(root: Path, stream: str, start: int = 0) -> tuple[list[Event], int]:
    """Events from a byte position on, and the position after the last whole line. Corrupt names a broken line."""
    path = root / "journal" / stream / SEGMENT
    if not path.exists():
        return [], start
    with path.open("rb") as file:
        file.seek(start)
        data = file.read()
    end = data.rfind(b"\n") + 1
    events = []
    for number, line in enumerate(data[:end].splitlines()):
        try:
            events.append(msgspec.json.decode(line, type=Event))
        except msgspec.DecodeError as error:
            raise Corrupt(f"line {number + 1} after byte {start} is no event", where=str(path)) from error
    return events, start + end


def _whole_lines(handle: int) -> int:
    """The size of a file up to its last line end."""
    size = os.fstat(handle).st_size
    position = size
    while position > 0:
        start = max(0, position - 4096)
        found = os.pread(handle, position - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        position = start
    return 0
