"""What the doctor looks at in the journal: every segment follows the one before it, and the index says what the streams say."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cdl.errors import Corrupt
from cdl.housekeeping.finding import Finding, Look
from cdl.journal import stream
from cdl.journal.index import Index
from cdl.journal.journal import Journal
from cdl.registry.registry import Registry
from cdl.store.remote import Remote

AREA = "journal"
AGAIN = "cdl doctor --mend takes it from the shared store; else copy .cdl/journal from a backup or another clone"


def check(look: Look) -> Iterator[Finding]:
    """Segments, chained and compared with the shared ones; then the index and the cache of git."""
    broken = False
    remote = look.workspace.shared.remote
    for name in stream.streams(look.clone.folder):
        for finding in _stream(look, remote, name):
            broken = broken or not finding.mended
            yield finding
    if not broken:  # else the index cannot be made anew
        yield from _index(look)
        yield from _cache(look)


def _stream(look: Look, remote: Remote | None, name: str) -> Iterator[Finding]:
    """A stream's segments. The hashes hold the chain; only the last closed one has to be compared with the shared one."""
    folder, before = look.clone.folder, None
    closed = stream.closed(folder, name)
    for number in stream.segments(folder, name):
        path = stream.segment_path(folder, name, number)
        data = path.read_bytes()
        if number not in closed:
            data = data[: data.rfind(b"\n") + 1]  # a killed process may have left half a line
        try:
            stream.check(data, name, number, before)
            same = number != (closed or [0])[-1] or remote is None or _same(remote, name, number, data)
            what = "" if same else "it is not what the shared store holds under this name"
        except Corrupt as error:
            what = error.message
        if what:
            own = name == stream.own_stream(folder)
            mended = look.mend and not own and _taken(look, remote, name, before)
            yield Finding(area=AREA, where=_place(name, number), what=what, remedy=_remedy(own, what), mended=mended)
            return
        before = data
    if name == stream.own_stream(folder) and remote is not None and closed:
        if remote.get(f"journal/{name}/{stream.name(closed[-1] + 1)}") is not None:
            yield Finding(
                area=AREA,
                where=_place(name, closed[-1] + 1),
                what="another clone writes this clone's stream too (a copied folder, a restored backup)",
                remedy="cdl sync: this one takes a stream of its own, and loses nothing",
            )


def _same(remote: Remote, name: str, number: int, data: bytes) -> bool:
    """Whether the shared store holds the same; what was not sent yet is no matter."""
    there = remote.get(f"journal/{name}/{stream.name(number)}")
    return there is None or there == data


def _remedy(own: bool, what: str) -> str:
    if own and "shared store" in what:
        return "a twin of this clone (a copied folder, a restored backup) sent another one: cdl sync takes a new stream"
    return AGAIN


def _taken(look: Look, remote: Remote | None, name: str, before: bytes | None) -> bool:
    """Whether everything from the first segment that is wrong could be taken from the shared store anew."""
    folder = look.clone.folder
    found = stream.segments(folder, name)
    good: dict[int, bytes] = {}
    try:
        for number in found:
            data = (remote.get(f"journal/{name}/{stream.name(number)}") if remote else None) or b""
            stream.check(data, name, number, good.get(number - 1))
            good[number] = data
    except Corrupt:
        return False
    with stream.writing(folder):
        for number, data in good.items():
            path = stream.segment_path(folder, name, number)
            temporary = path.with_name(f".{path.name}.tmp")
            temporary.write_bytes(data)
            temporary.replace(path)
        look.clone.journal.index.forget()
    return True


def _index(look: Look) -> Iterator[Finding]:
    """Compares the index with one that is made anew. What comes in meanwhile is in neither or in both."""
    journal = look.clone.journal
    for _ in range(2):
        fresh = {row[0]: row for row in _rebuilt(look.clone.folder)}
        now = {row[0]: row for row in journal.index.rows()}
        wrong = sorted(i for i in fresh.keys() | now.keys() if fresh.get(i) != now.get(i))
        if not wrong:
            return
    if look.mend:
        journal.index.forget()
        journal.index.refresh()
    yield Finding(
        area=AREA,
        where=str(journal.index.path),
        what=f"the index says otherwise than the streams of {len(wrong)} events, {wrong[0]} among them",
        remedy=f"rm {journal.index.path}*: the next command makes it anew",
        mended=look.mend,
    )


def _rebuilt(folder: Path) -> list[tuple[Any, ...]]:
    with tempfile.TemporaryDirectory(prefix="cdl-doctor-") as name:
        (Path(name) / "journal").symlink_to(folder / "journal")
        index = Index(Path(name))
        try:
            return index.rows()
        finally:
            index.close()


def _cache(look: Look) -> Iterator[Finding]:
    """Compares what was noted of git with a new scan."""
    registry, folder = look.clone.registry, look.clone.folder
    with tempfile.TemporaryDirectory(prefix="cdl-doctor-") as name:
        fresh = Registry(registry.git, Journal(folder), Path(name), integration=registry.integration)
        lost = {s.id for s in fresh.everything()} - {s.id for s in registry.everything()}
        fresh.journal.index.close()
    if lost:
        place = folder / "observed.json"
        if look.mend:
            place.unlink(missing_ok=True)
        yield Finding(
            area=AREA,
            where=str(place),
            what=f"{len(lost)} records that git holds are not noted, {min(lost)[:10]} among them",
            remedy=f"rm {place}: the next command makes it anew",
            mended=look.mend,
        )


def _place(name: str, number: int) -> str:
    return f"stream {name}, segment {stream.name(number)}"
