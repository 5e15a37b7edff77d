"""A stream: the append-only segments that one clone writes. An event is acknowledged once its line stands there.

    .cdl/stream                       the id of this clone's stream, drawn at first use
    .cdl/journal/c-71ab.../000001     one event a line, JSON
    .cdl/journal/c-71ab.../000002     begins with {"segment":2,"stream":"c-71ab...","before":"<blake3 of 000001>"}

The highest segment of one's own stream is open, all others are closed and never change again: closing one begins the next,
which names its hash. Streams of other clones come in whole closed segments. All processes of a clone append under one lock.
A line that a killed process left unfinished is cut off by the next one.
"""

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from blake3 import blake3

from cdl.errors import Corrupt
from cdl.journal.events import Event

STREAM_BYTES = 8
STREAM = re.compile(r"c-[0-9a-f]{16}")
SEGMENT = re.compile(r"[0-9]{6,}")
FIRST = 1
LEFT = "left"  # in the folder of a stream that is being left: from which segment on


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first line of a segment after the first: its place in its stream, and the hash of the one before."""

    segment: int
    stream: str
    before: str


def own_stream(root: Path) -> str:
    """The stream of this clone. `root` is `.cdl`."""
    path = root / "stream"
    if not path.exists():
        root.mkdir(parents=True, exist_ok=True)
        temporary = _drawn(root)
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass  # another process drew it first
        finally:
            temporary.unlink()
    return path.read_text().strip()


def leave(root: Path, segment: int) -> str:
    """Takes a new stream, into which goes again what stands here from a segment on; call it inside `writing`.

    The new one is whole before this clone writes it; what a kill leaves of the old one `tidy` removes.
    """
    old = own_stream(root)
    drawn = _drawn(root)
    new = drawn.read_text().strip()
    events = [
        msgspec.structs.replace(e, stream=new)
        for n in segments(root, old)
        if n >= segment
        for e in read(root, old, n)[0]
    ]
    if events:
        place(root, new, FIRST, b"".join(msgspec.json.encode(e) + b"\n" for e in events))
    (root / "journal" / old / LEFT).write_text(name(segment))
    drawn.replace(root / "stream")
    tidy(root)
    return new


def tidy(root: Path) -> None:
    """Removes the segments of a stream that was left, from where another clone wrote it; call it inside `writing`."""
    for mark in (root / "journal").glob(f"*/{LEFT}"):
        stream = mark.parent.name
        if stream != own_stream(root):
            for number in reversed([n for n in segments(root, stream) if n >= int(mark.read_text())]):
                segment_path(root, stream, number).unlink()
        mark.unlink()


def streams(root: Path) -> list[str]:
    """All streams that are here, sorted. One whose folder a killed process made and did not fill is none yet."""
    folder = root / "journal"
    return sorted(p.name for p in folder.iterdir() if (p / name(FIRST)).is_file()) if folder.is_dir() else []


def segments(root: Path, stream: str) -> list[int]:
    """The segments of a stream that are here, in order."""
    folder = root / "journal" / stream
    return sorted(int(p.name) for p in folder.iterdir() if SEGMENT.fullmatch(p.name)) if folder.is_dir() else []


def closed(root: Path, stream: str) -> list[int]:
    """The segments that never change again."""
    found = segments(root, stream)
    return found[:-1] if stream == own_stream(root) else found


def segment_path(root: Path, stream: str, segment: int) -> Path:
    """The file of a segment."""
    return root / "journal" / stream / name(segment)


def name(segment: int) -> str:
    """The name of a segment's file."""
    return f"{segment:06d}"


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """The lock that appending holds; waits for other processes."""
    (root / "journal").mkdir(parents=True, exist_ok=True)
    with open(root / "journal" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def append(root: Path, stream: str, events: list[Event]) -> None:
    """Appends events to the open segment in one write; call it inside `writing`."""
    path = segment_path(root, stream, (segments(root, stream) or [FIRST])[-1])
    path.parent.mkdir(parents=True, exist_ok=True)
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


def close(root: Path) -> None:
    """Closes the open segment of this clone's stream where it holds an event."""
    with writing(root):
        tidy(root)
        stream = own_stream(root)
        found = segments(root, stream)
        if not found:
            return
        path = segment_path(root, stream, found[-1])
        data = path.read_bytes()
        data = data[: data.rfind(b"\n") + 1]
        if not _lines(data, found[-1]):
            return
        os.truncate(path, len(data))
        header = Header(segment=found[-1] + 1, stream=stream, before=blake3(data).hexdigest())
        place(root, stream, header.segment, msgspec.json.encode(header) + b"\n")


def place(root: Path, stream: str, segment: int, data: bytes) -> None:
    """Writes a whole segment where there is none yet."""
    path = segment_path(root, stream, segment)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
    temporary.write_bytes(data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass  # another process was faster
    finally:
        temporary.unlink()


def check(data: bytes, stream: str, segment: int, before: bytes | None) -> None:
    """Corrupt unless `data` is that segment of that stream, whole, and follows `before`."""
    where = f"{stream}/{name(segment)}"
    if not data.endswith(b"\n"):
        raise Corrupt("a segment ends in the middle of a line", where=where, remedy="cdl doctor")
    if segment > FIRST:
        header = _header(data.partition(b"\n")[0], where)
        follows = before is not None and header.before == blake3(before).hexdigest()
        if (header.segment, header.stream) != (segment, stream) or not follows:
            raise Corrupt("a segment does not follow the one before it", where=where, remedy="cdl doctor")
    if any(event.stream != stream for event in _events(_lines(data, segment), where)):
        raise Corrupt("a segment holds an event of another stream", where=where, remedy="cdl doctor")


def read(root: Path, stream: str, segment: int, start: int = 0) -> tuple[list[Event], int]:
    """Events from a byte position on, and the position after the last whole line. Corrupt names a broken line."""
    path = segment_path(root, stream, segment)
    if not path.exists():
        return [], start
    with path.open("rb") as file:
        file.seek(start)
        data = file.read()
    end = data.rfind(b"\n") + 1
    lines = _lines(data[:end], segment) if start == 0 else data[:end].splitlines()
    return _events(lines, f"{path} after byte {start}"), start + end


def _lines(data: bytes, segment: int) -> list[bytes]:
    """The lines of events of a segment."""
    lines = data.splitlines()
    return lines[1:] if segment > FIRST else lines


def _events(lines: list[bytes], where: str) -> list[Event]:
    events = []
    for number, line in enumerate(lines):
        try:
            events.append(msgspec.json.decode(line, type=Event))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Corrupt(f"line {number + 1} is no event", where=where, remedy="cdl doctor") from error
    return events


def _header(line: bytes, where: str) -> Header:
    try:
        return msgspec.json.decode(line, type=Header)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt("a segment does not begin as one", where=where, remedy="cdl doctor") from error


def _drawn(root: Path) -> Path:
    """A file with the id of a new stream."""
    temporary = root / f".stream-{os.getpid()}-{secrets.token_hex(4)}"
    temporary.write_text(f"c-{secrets.token_hex(STREAM_BYTES)}\n")
    return temporary


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
