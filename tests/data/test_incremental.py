"""What did not change is neither read nor worked again, and the version is the one that reading everything makes."""

import os
import random
import shutil
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import pytest

from cdl.data import versions
from cdl.data.items.item import Content, Outcome
from cdl.data.pipeline.code import source_snapshot
from cdl.data.pipeline.collect import collect
from cdl.data.pipeline.draft import begin
from cdl.data.sources import archive as archives
from cdl.data.sources.archive import Unpacked
from cdl.data.sources.files import Folder
from cdl.data.workers.crew import Crew
from cdl.errors import ConfigError
from cdl.registry.records import Dataset, DatasetHead
from cdl.store import table
from cdl.workflow.workspace import Workspace
from tests.projects import DATA, ROLES, Toy, make_toy

YAML = """\
cdl: 1
project: toy
data:
  points:
    source: {SOURCE}
    items: {ITEMS}
    split: {test: 0.3}
    steps:
    - upper: {run: "data.steps:upper"}
    - short: {run: "data.steps:short"}
    labels: {classes: [a, b], origin: {folder: true}}
"""
CODE = """
from cdl.data.reject import Reject

def upper(content):
    if content.startswith(b"no"):
        raise Reject("begins with no")
    return content.upper(), {"length": len(content)}

def short(content, fields):
    if fields["length"] > 12:
        raise Reject("longer than 12")
    return content[:6], fields
"""
Worked = list[tuple[str, bytes]]
FILES = '{files: "*.txt"}'


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """A dataset of small files, whose trees have many pages."""
    monkeypatch.setattr(table, "PAGE_ROWS", 8)
    monkeypatch.setattr(table, "FEW_ROWS", 2)
    monkeypatch.setattr("cdl.data.sources.looked.TICK", 0)
    made = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring")
    made.write("data/steps.py", CODE)
    return made


def declare(toy: Toy, *, source: str = "{path: incoming}", items: str = FILES) -> None:
    toy.write("cdl.yaml", YAML.replace("{SOURCE}", source).replace("{ITEMS}", items) + ROLES)


def fill(toy: Toy, files: dict[str, bytes]) -> None:
    """Makes the source folder hold exactly these files; what is as it was is not touched."""
    folder = toy.root / "incoming"
    for path in [p for p in folder.rglob("*") if p.is_file() and p.relative_to(folder).as_posix() not in files]:
        path.unlink()
    for name, data in files.items():
        if not (folder / name).exists() or (folder / name).read_bytes() != data:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)


def drafted(workspace: Workspace) -> Dataset:
    """The record that the pipeline makes now, committed nowhere."""
    head = workspace.registry.head(DatasetHead, "points")
    parent = head.version if head else None
    commit = source_snapshot(workspace).commit
    with ExitStack() as held:
        draft = begin(workspace, "points", workspace.config, commit, parent)
        collect(draft, held)
        versions.pipeline(draft)
        return versions.finish(draft, parent, None)


def without_looking_back(toy: Toy) -> Dataset:
    """The same in a clone that saw nothing before."""
    looked = toy.root / ".cdl" / "looked"
    if looked.exists():
        looked.rename(looked.with_name("put-away"))
    try:
        return drafted(toy.become(DATA))
    finally:
        if looked.with_name("put-away").exists():
            looked.with_name("put-away").rename(looked)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are read."""
    found: list[str] = []
    real = Folder._read

    def read(folder: Folder, name: str, place: int) -> bytes:
        found.append(name)
        return real(folder, name, place)

    monkeypatch.setattr(Folder, "_read", read)

    def unpacked(where: str, archive: IO[bytes], beside: Path) -> Unpacked:
        found.append(where)
        return archives.unpacked(where, archive, beside)

    monkeypatch.setattr("cdl.data.sources.fetch.unpacked", unpacked)
    return found


@pytest.fixture
def worked(monkeypatch: pytest.MonkeyPatch) -> Worked:
    """The items that are worked: step and content."""
    found: Worked = []

    class Noted(Crew):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self._name = str(named["name"])

        def outcomes(self, items: Iterable[tuple[str, Content]]) -> Generator[tuple[str, Outcome]]:
            def given() -> Iterator[tuple[str, Content]]:
                for identity, item in items:
                    found.append((self._name, item.data))
                    yield identity, item

            return super().outcomes(given())

    monkeypatch.setattr("cdl.data.pipeline.work.Crew", Noted)
    return found


def content(drawn: random.Random) -> bytes:
    return drawn.choice([b"no", b"x", b"yes ", b""]) + str(drawn.randrange(40)).encode() * drawn.randrange(1, 6)


def edited(files: dict[str, bytes], drawn: random.Random) -> dict[str, bytes]:
    """Some files removed, changed, renamed, copied, added."""
    now = dict(files)
    for name in drawn.sample(sorted(now), min(len(now), drawn.randrange(4))):
        what = drawn.choice(["remove", "change", "rename", "copy"])
        data = now[name] if what == "copy" else now.pop(name)
        if what == "change":
            now[name] = content(drawn)
        elif what in ("rename", "copy"):
            now[f"{drawn.choice('ab')}/{drawn.randrange(1000)}.txt"] = data
    for _ in range(drawn.randrange(5)):
        now[f"{drawn.choice('ab')}/{drawn.randrange(1000)}.txt"] = content(drawn)
    return now


@pytest.mark.parametrize("seed", range(3))
def test_any_edits_make_the_version_that_reading_everything_makes(toy: Toy, seed: int) -> None:
    drawn = random.Random(seed)
    declare(toy)
    files = {f"{drawn.choice('ab')}/{n}.txt": content(drawn) for n in range(40)}
    for _ in range(5):
        fill(toy, files)
        whole = without_looking_back(toy)
        assert drafted(toy.become(DATA)) == whole
        made = versions.make(toy.become(DATA), "points")
        record = toy.become(DATA).registry.record(Dataset, made)
        assert (record.items, record.steps) == (whole.items, whole.steps)
        files = edited(files, drawn)


def test_only_what_changed_is_read_and_worked(toy: Toy, reads: list[str], worked: Worked) -> None:
    declare(toy)
    files = {f"a/{n}.txt": f"text {n}".encode() for n in range(50)}
    fill(toy, files)
    first = versions.make(toy.become(DATA), "points")
    assert len(reads) == 50 and len(worked) == 100
    reads.clear()
    worked.clear()
    assert versions.make(toy.become(DATA), "points") == first
    assert (reads, worked) == ([], [])
    fill(toy, files | {"a/3.txt": b"other 3", "b/new.txt": b"new"})
    second = versions.make(toy.become(DATA), "points")
    assert second != first and sorted({*reads}) == ["a/3.txt", "b/new.txt"] and len(reads) == 2
    assert sorted(worked) == [("short", b"NEW"), ("short", b"OTHER 3"), ("upper", b"new"), ("upper", b"other 3")]
    reads.clear()
    worked.clear()
    (toy.root / "incoming" / "b" / "new.txt").rename(toy.root / "incoming" / "b" / "renamed.txt")
    assert versions.make(toy.become(DATA), "points") != second
    assert reads == ["b/renamed.txt"] and worked == []  # another item with what the first had


def test_what_another_version_made_is_not_taken_for_what_was_seen(toy: Toy, reads: list[str]) -> None:
    declare(toy)
    files = {f"a/{n}.txt": f"text {n}".encode() for n in range(20)}
    fill(toy, files)
    versions.make(toy.become(DATA), "points")
    kept = (toy.root / ".cdl" / "looked" / "points.bin").read_bytes()
    assert b"text 3" not in kept and b"3.txt" not in kept  # sealed
    fill(toy, files | {"a/21.txt": b"new"})
    versions.make(toy.become(DATA), "points")
    toy.become(DATA).git.run("reset", "--quiet", "--hard", "HEAD~1")
    toy.write("data/steps.py", CODE)
    declare(toy)
    reads.clear()
    versions.make(toy.become(DATA), "points")
    assert len(reads) == 21


def test_a_change_that_keeps_size_and_time_is_seen(toy: Toy) -> None:
    declare(toy)
    fill(toy, {f"a/{n}.txt": f"text {n}".encode() for n in range(20)})
    path = toy.root / "incoming" / "a" / "3.txt"
    first = versions.make(toy.become(DATA), "points")
    was = path.stat()
    path.write_bytes(b"TEXT 3")
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert versions.make(toy.become(DATA), "points") != first


def test_a_change_in_the_tick_in_which_it_was_seen_is_seen(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose times are not surely older than the look at it is looked at again."""
    monkeypatch.setattr("cdl.data.sources.looked.TICK", 3_600_000_000_000)
    declare(toy)
    fill(toy, {f"a/{n}.txt": f"text {n}".encode() for n in range(20)})
    versions.make(toy.become(DATA), "points")
    monkeypatch.setattr(Folder, "_read", lambda *_: (_ for _ in ()).throw(ConfigError("read again")))
    with pytest.raises(ConfigError, match="read again"):
        versions.make(toy.become(DATA), "points")


def test_a_file_that_changes_while_it_is_read_is_an_error(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(toy)
    fill(toy, {f"a/{n}.txt": f"text {n}".encode() for n in range(20)})
    real = os.read

    def read(handle: int, size: int) -> bytes:
        data = real(handle, size)
        if data == b"text 7":
            (toy.root / "incoming" / "a" / "7.txt").write_bytes(b"text 7 and more")
        return data

    monkeypatch.setattr("cdl.data.sources.files.os.read", read)
    with pytest.raises(ConfigError, match="changed while the source was read") as raised:
        versions.make(toy.become(DATA), "points")
    assert raised.value.where == "incoming/a/7.txt"


def test_an_unchanged_table_is_not_read_and_a_changed_one_is_worked_where_it_differs(
    toy: Toy, reads: list[str], worked: Worked
) -> None:
    declare(toy, items="{rows: {format: csv, id: id, text: text}}")
    rows = [f"{n},text {n}\n" for n in range(40)]
    fill(toy, {"t.csv": ("id,text\n" + "".join(rows)).encode()})
    first = versions.make(toy.become(DATA), "points")
    reads.clear()
    worked.clear()
    assert versions.make(toy.become(DATA), "points") == first and (reads, worked) == ([], [])
    rows[4] = "4,other\n"
    fill(toy, {"t.csv": ("id,text\n" + "".join(rows)).encode()})
    assert drafted(toy.become(DATA)) == without_looking_back(toy)
    versions.make(toy.become(DATA), "points")
    assert sorted(worked) == [("short", b"OTHER"), ("upper", b"other")] and {*reads} == {"t.csv"}


def test_an_archive_that_is_as_it_was_is_not_unpacked(toy: Toy, reads: list[str]) -> None:
    fill(toy, {f"a/{n}.txt": f"text {n}".encode() for n in range(20)})
    shutil.make_archive(str(toy.root / "packed"), "zip", toy.root / "incoming")
    toy.write(".gitignore", "packed.zip\n.cdl/\nincoming/\n")
    declare(toy, source="{path: packed.zip}")
    first = versions.make(toy.become(DATA), "points")
    assert reads == ["packed.zip"]
    assert versions.make(toy.become(DATA), "points") == first and reads == ["packed.zip"]


def test_a_large_file_is_read_in_pieces_and_its_change_stores_a_chunk_or_two(
    toy: Toy, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdl.store.chunk.CHUNKED_BYTES", 5_000_000)
    declare(toy, source="{path: incoming, set: train}")
    toy.write(
        "data/steps.py", "def upper(content):\n    return content[:5]\n\ndef short(content):\n    return content\n"
    )
    data = bytearray(random.Random(1).randbytes(20_000_000))
    fill(toy, {"large.txt": bytes(data), "small.txt": b"small"})
    first = toy.become(DATA).registry.record(Dataset, versions.make(toy.become(DATA), "points"))
    assert reads == ["small.txt"]
    store, before = toy.become(DATA).store, {*toy.become(DATA).store.names()}
    data[10_000_000] ^= 1
    fill(toy, {"large.txt": bytes(data), "small.txt": b"small"})
    second = toy.become(DATA).registry.record(Dataset, versions.make(toy.become(DATA), "points"))
    sizes = sorted(store.size(name) for name in {*store.names()} - before)
    assert sum(size > 100_000 for size in sizes) <= 2 and sum(sizes) < 5_000_000
    tree = store.tree(second.steps[0].train)
    assert sorted(map(len, tree.contents().values())) == [5, 20_000_000] and data in tree.contents().values()
    raw = toy.become(DATA).vault("points", by="data").tree(second.sources[0].raw)
    assert raw.get("large.txt") == data and raw.unfit() == [] and first != second


@pytest.mark.parametrize("seed", range(3))
def test_any_edits_of_a_table_make_the_version_that_reading_everything_makes(toy: Toy, seed: int) -> None:
    drawn = random.Random(seed)
    declare(toy, items="{rows: {format: csv, id: id, text: text, label: label}}")
    rows = {n: (f"text {drawn.randrange(30)}", drawn.choice("ab"), drawn.randrange(3)) for n in range(40)}
    for _ in range(5):
        lines = [f"{n},{text},{label},{other}\n" for n, (text, label, other) in rows.items()]
        fill(toy, {"t.csv": ("id,text,label,other\n" + "".join(lines)).encode()})
        whole = without_looking_back(toy)
        assert drafted(toy.become(DATA)) == whole
        versions.make(toy.become(DATA), "points")
        for n in drawn.sample(sorted(rows), 6):
            text, label, other = rows.pop(n)
            what = drawn.choice(["remove", "text", "label", "other", "rename"])
            if what != "remove":
                changed = (f"text {drawn.randrange(30)}" if what == "text" else text, drawn.choice("ab"), other)
                rows[drawn.randrange(100, 999) if what == "rename" else n] = (
                    *changed[:2],
                    drawn.randrange(3) if what == "other" else other,
                )
