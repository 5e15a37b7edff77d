"""What is derived can be thrown away: the index and the cache of git, rebuilt row by row; unsynced labels stay."""

import json
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cdl.data import labels
from cdl.journal import stream
from tests.projects import DATA, Toy, make_toy, table

CDL = Path(sys.executable).with_name("cdl")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toy]:
    """A project with two models, a merge, a revert, and labels that nobody released."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        toy = make_toy(folder / "toy", patch, folder / "keyring", roles=True)
        toy.data(table(120))
        toy.promote()
        toy.model("exp/second", seed=3)
        workspace = toy.become(DATA)
        workspace.git.run("switch", "--quiet", "main")
        workspace.git.run("merge", "--quiet", "--no-ff", "--no-edit", "exp/second")
        workspace.git.run("revert", "--no-edit", "-m", "1", "HEAD")
        workspace.git.run("revert", "--no-edit", "HEAD")
        _, dataset = labels.current(workspace, "points")
        items = sorted(labels.sides(workspace, dataset))[:6]
        labels.record(workspace, "points", dict.fromkeys(items, "left"))
        toy.become(DATA).registry.observe()
        yield toy


@pytest.fixture
def toy(made: Toy, tmp_path: Path) -> Toy:
    """A copy of it."""
    copied = made.copy(tmp_path / "toy")
    copied.become(DATA)
    return copied


def tables(toy: Toy, *, without: tuple[str, ...] = ()) -> dict[str, list[tuple[Any, ...]]]:
    """Every table of the index with its rows, once it is up to date."""
    toy.become(DATA).journal.index.refresh()
    with sqlite3.connect(toy.root / ".cdl/index.sqlite") as index:
        names = [n for (n,) in index.execute("SELECT name FROM sqlite_master WHERE type = 'table'") if n not in without]
        found = {name: sorted(index.execute(f"SELECT * FROM {name}")) for name in names}
    index.close()
    return found


def unreleased(toy: Toy) -> list[labels.Row]:
    """All label rows, of both sides."""
    workspace = toy.become(DATA)
    return [row for side in ("train", "test") for row in labels.rows(workspace, "points", side)]


def status(toy: Toy) -> str:
    done = subprocess.run([str(CDL), "status"], cwd=toy.root, env=dict(os.environ), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_index_deleted_is_rebuilt_and_unreleased_labels_are_there(toy: Toy) -> None:
    rows, said = unreleased(toy), status(toy)
    before = tables(toy)
    assert set(before) == {"events", "positions"} and len(before["events"]) > 15 and len(rows) == 126
    for path in (toy.root / ".cdl").glob("index.sqlite*"):
        path.unlink()
    assert tables(toy) == before
    assert unreleased(toy) == rows and status(toy) == said
    workspace = toy.become(DATA)
    released = labels.release(workspace, "points")
    assert len(labels.decode(workspace.store.get(released.record.rows["train"]), where="test")) == sum(
        row in rows for row in labels.rows(workspace, "points", "train")
    )


def test_the_cache_of_git_deleted_is_read_again_and_nothing_happens_twice(toy: Toy) -> None:
    cache = toy.root / ".cdl/observed.json"
    said = status(toy)
    before, happened = json.loads(cache.read_text()), tables(toy)
    cache.unlink()
    toy.become(DATA).registry.observe()
    after = json.loads(cache.read_text())
    assert after == before and len(after["records"]) > 6 and len(after["line"]) > 6
    assert tables(toy) == happened and status(toy) == said
    for path in [cache, *(toy.root / ".cdl").glob("index.sqlite*")]:
        path.unlink()
    toy.become(DATA).registry.observe()
    assert json.loads(cache.read_text()) == before and tables(toy) == happened


@pytest.mark.parametrize("seed", range(3))
def test_events_shuffled_and_doubled_give_the_same_tables(toy: Toy, seed: int) -> None:
    rows = unreleased(toy)
    before = tables(toy, without=("positions",))
    path = toy.root / ".cdl/journal" / stream.own_stream(toy.root / ".cdl") / stream.name(1)
    lines = path.read_bytes().splitlines(keepends=True) * 2
    random.Random(seed).shuffle(lines)
    path.write_bytes(b"".join(lines))
    for index in (toy.root / ".cdl").glob("index.sqlite*"):
        index.unlink()
    assert tables(toy, without=("positions",)) == before and unreleased(toy) == rows


def test_a_stream_that_came_later_gives_the_tables_that_it_would_have_given_from_the_start(toy: Toy) -> None:
    alone = tables(toy)
    foreign = "c-0000000000000000"
    own = toy.root / ".cdl/journal" / stream.own_stream(toy.root / ".cdl") / stream.name(1)
    told = [json.loads(line) for line in own.read_text().splitlines()]
    shared = [e for e in told if e["kind"] in ("model.registered", "decision.made", "model.promoted")]
    lines = [json.dumps({**e, "stream": foreign, "count": max(1, e["count"] - 5), "who": DATA}) for e in shared]
    other = toy.root / ".cdl/journal" / foreign / stream.name(1)
    other.parent.mkdir()
    other.write_text("".join(f"{line}\n" for line in lines))
    joined = tables(toy)
    assert len(joined["events"]) == len(alone["events"]) and joined != alone, "one fact is one event, the earlier one"
    for index in (toy.root / ".cdl").glob("index.sqlite*"):
        index.unlink()
    assert tables(toy) == joined
