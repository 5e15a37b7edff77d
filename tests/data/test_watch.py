"""`cdl data watch`: versions as files arrive, never of a file that is being written; and two runs at once."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cdl.data import versions
from cdl.data.pipeline.collect import look
from cdl.data.sources import arrivals
from cdl.data.sources.arrivals import Arrivals
from cdl.data.sources.walk import glance
from cdl.data.sources.watch import Watch
from cdl.errors import Conflict, Refused
from cdl.registry.records import Dataset, DatasetHead
from tests.projects import DATA, FILES, ROLES, SCIENCE, Toy, make_toy, write_files

CDL = Path(sys.executable).with_name("cdl")
PATIENCE_SECONDS = 120
OLD = time.time() - 3600


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """Points as files, and a first version of 20."""
    made = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring")
    made.write("cdl.yaml", FILES + ROLES)
    write_files(made, 20)
    versions.make(made.become(DATA), "points")
    return made


def put(toy: Toy, name: str, text: str, *, when: float | None = OLD) -> None:
    """A file of the source; `when` it was last written."""
    toy.write(f"incoming/{name}", text)
    if when is not None:
        os.utime(toy.root / "incoming" / name, (when, when))


def history(toy: Toy) -> list[Dataset]:
    """The versions of this branch, newest first."""
    registry = toy.become(DATA).registry
    head = registry.head(DatasetHead, "points")
    found = [registry.record(Dataset, head.version)] if head else []
    while found and found[-1].parent:
        found.append(registry.record(Dataset, found[-1].parent))
    return found


def eventually(true: Callable[[], bool]) -> bool:
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.2)
    return False


def test_a_file_is_taken_when_it_stands_still_or_was_renamed_into_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr("cdl.data.sources.arrivals.time.monotonic", lambda: clock[0])
    found = Arrivals({})
    ahead = time.time() + 3600  # as on a disk whose clock runs ahead
    for name, when in (("whole", OLD), ("half", ahead)):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (when, when))

    def names() -> list[str]:
        return found.take("in", glance(tmp_path)).names

    assert names() == ["whole"]
    clock[0] += arrivals.STILL_SECONDS - 0.1
    (tmp_path / "half").write_bytes(b"xy")
    os.utime(tmp_path / "half", (ahead, ahead))
    clock[0] += 0.2
    assert names() == ["whole"]  # it grew meanwhile
    clock[0] += arrivals.STILL_SECONDS
    assert names() == ["half", "whole"]
    found.took()
    assert found.look("in", glance(tmp_path)).count == 0
    (tmp_path / "whole").unlink()
    news = found.look("in", glance(tmp_path))
    assert (news.count, news.writing, news.still.names) == (1, 0, ["half"])
    os.utime(tmp_path / "half", (ahead + 9, ahead + 9))
    with pytest.raises(Conflict, match="in: half: it is being written"):
        names()


def test_a_version_is_due_after_so_many_files_or_seconds(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("cdl.data.sources.watch.time.monotonic", lambda: clock[0])
    for path in (toy.root / "incoming").rglob("*.json"):
        os.utime(path, (OLD, OLD))
    versions.make(toy.become(DATA), "points")
    watching = Watch(toy.become(DATA), "points", items=3, seconds=60)
    assert not watching.look() or watching.count == 20  # times were not known: then they are learned
    for name in ("0/a.json", "0/b.json"):
        put(toy, name, json.dumps({"x": 1, "y": len(name)}))
    versions.make(toy.become(DATA), "points", sift=watching.options["sift"])
    watching.took(toy.become(DATA))
    assert not watching.look() and watching.count == 0
    for name in ("1/a.json", "1/b.json"):
        put(toy, name, json.dumps({"x": 2, "y": len(name)}))
        assert not watching.look()
    put(toy, "1/c.json", "{}", when=time.time() + 3600)
    assert not watching.look() and watching.count == 2  # the third is being written
    clock[0] += 61
    assert watching.look()
    versions.make(toy.become(DATA), "points", sift=lambda shown, seen: Arrivals({}).take(shown, seen))
    assert sum(history(toy)[0].items.values()) == 24


def test_another_role_is_told_before_anything_arrives(toy: Toy) -> None:
    toy.commit(toy.become(DATA), "roles")
    toy.approve(DATA, "policy")
    with pytest.raises(Refused, match="data watch is for data_engineer"):
        Watch(toy.become(SCIENCE), "points")


def test_a_known_file_that_is_being_written_holds_the_version_back(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (toy.root / "incoming").rglob("*.json"):
        os.utime(path, (OLD, OLD))
    watching = Watch(toy.become(DATA), "points", items=1, seconds=0)
    name = min(p.relative_to(toy.root / "incoming").as_posix() for p in (toy.root / "incoming").rglob("*.json"))
    put(toy, name, '{"x": 1', when=time.time() + 3600)
    put(toy, "0/new.json", '{"x": 1, "y": 2}')
    assert not watching.look() and toy.said[-1] == f"waits: {name} is being written"
    with pytest.raises(Conflict, match="it is being written"):
        versions.make(toy.become(DATA), "points", sift=watching.options["sift"])
    assert len(history(toy)) == 1


def test_a_version_that_another_run_made_meanwhile_is_followed(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    put(toy, "0/a.json", '{"x": 1, "y": 2}')
    real, once = look, [True]

    def looked(draft: object) -> None:
        real(draft)  # type: ignore[arg-type]
        if once:
            once.clear()
            put(toy, "0/b.json", '{"x": 3, "y": 4}')
            versions.make(toy.become(DATA), "points")

    monkeypatch.setattr(versions, "look", looked)
    made = versions.make(toy.become(DATA), "points")
    assert any("meanwhile" in line for line in toy.said)
    first, *earlier = history(toy)
    assert made == toy.become(DATA).registry.heads(DatasetHead)["points"].version
    assert [sum(v.items.values()) for v in (first, *earlier)] == [22, 20]


@pytest.mark.long
def test_files_arrive_while_it_watches_and_ctrl_c_ends_it(toy: Toy) -> None:
    said: list[str] = []
    command = [str(CDL), "data", "watch", "points", "--items", "2", "--seconds", "600", "--json"]
    toy.become(DATA)
    with subprocess.Popen(
        command, cwd=toy.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as watching:
        assert watching.stdout is not None and watching.stderr is not None
        reader = threading.Thread(target=said.extend, args=(watching.stderr,))
        reader.start()
        try:
            assert eventually(lambda: any("Ctrl-C" in line for line in said)), said
            for number, name in enumerate(("0/a.json", "0/b.json")):
                put(toy, name, json.dumps({"x": number, "y": 7}), when=None)
            line = json.loads(watching.stdout.readline())
            assert line["dataset"] == "points" and line["items"] == 22
            assert len(history(toy)) == 2
            collects = sum(line.startswith("collect") for line in said)
            for name in ("1/a.json", "1/b.json"):
                put(toy, name, json.dumps({"x": 5, "y": len(said)}), when=None)
            assert eventually(lambda: sum(line.startswith("collect") for line in said) > collects), said
        finally:
            os.killpg(watching.pid, signal.SIGINT)  # as a terminal does
            code = watching.wait(PATIENCE_SECONDS)
            reader.join()
    assert code == 0 and said[-1] == "ended\n", said
    assert [sum(v.items.values()) for v in history(toy)] == [24, 22, 20], said  # the one under way was made
