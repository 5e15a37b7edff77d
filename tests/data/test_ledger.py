"""Sources and items of the real pipeline: wherever cdl.yaml lists a source, its items stay where they were."""

import random
from pathlib import Path

import pytest

from cdl.data import ledger, versions
from cdl.data.dataset import equal_items
from cdl.registry.records import Dataset, encode
from cdl.workflow.workspace import Workspace
from tests.projects import DATA, ROLES, YAML, Toy, make_toy

Rows = dict[str, int]


def test_a_source_keeps_its_number() -> None:
    numbers, every = ledger.numbered(["a", "b"], [])
    assert (numbers, every) == ([0, 1], ["a", "b"])
    assert ledger.numbered(["b", "a"], every) == ([1, 0], ["a", "b"])
    assert ledger.numbered(["c", "a", "b"], every) == ([2, 0, 1], ["a", "b", "c"])
    assert ledger.numbered(["b", "c"], every) == ([1, 2], ["a", "b", "c"])
    assert ledger.numbered(["a-2", "b"], every) == ([0, 1], ["a-2", "b"])  # another address of the same data
    assert ledger.numbered(["a", "a"], ["a"]) == ([0, 1], ["a", "a"])
    assert ledger.numbered(["a", "a"], ["a", "a"]) == ([0, 1], ["a", "a"])


def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    return make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring")


def version(toy: Toy, sources: dict[str, Rows]) -> tuple[Workspace, Dataset]:
    """A version from these sources, listed in this order."""
    listed = "".join(f"    - {{path: {name}}}\n" for name in sources)
    toy.write("cdl.yaml", YAML.replace("    source: {path: incoming}\n", f"    source:\n{listed}") + ROLES)
    for name, rows in sources.items():
        lines = (f"{i},{value},0,left\n" for i, value in rows.items())
        toy.write(f"{name}/points.csv", "id,x,y,side\n" + "".join(lines))
    workspace = toy.become(DATA)
    record = workspace.registry.get(versions.make(workspace, "points")).record
    assert isinstance(record, Dataset)
    return workspace, record


def sides(workspace: Workspace, record: Dataset) -> dict[tuple[str, str], str]:
    """The side of each item by source and name."""
    found = ledger.read(workspace.vault("points", by="test"), record.split.ledger)
    rows = {(row.id, row.equal): row.side for row in found.rows}
    return {(found.sources[o.source], o.name): rows[(i, o.equal)] for i, o in found.origins.items()}


def test_items_edited_while_their_source_moves_in_the_list_stay_on_their_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = project(tmp_path, monkeypatch)
    drawn = random.Random(7)
    contents: dict[str, Rows] = {name: {f"p{i}": 100 * i + k for i in range(25)} for k, name in enumerate(("a", "b"))}
    known: dict[tuple[str, str], str] = {}
    orders = (["a", "b"], ["b", "a"], ["c", "b", "a"], ["a", "c"], ["b", "c", "a"])
    contents["c"] = {f"p{i}": 50_000 + i for i in range(10)}
    for turn, order in enumerate(orders):
        for name in order:
            for item in drawn.sample(sorted(contents[name]), 8 if turn else 0):
                contents[name][item] = 1_000_000 * turn + drawn.randrange(1_000_000)
        now = sides(*version(toy, {name: contents[name] for name in order}))
        assert all(known.get(place, side) == side for place, side in now.items())
        known |= now
    assert set(known.values()) == {"train", "test"}


def test_equality_with_a_test_item_is_that_of_the_version_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of items that were edited again and again, what they are now is compared, not what they were."""
    toy = project(tmp_path, monkeypatch)
    first = {f"p{i}": i for i in range(40)}
    workspace, before = version(toy, {"a": first})
    workspace.git.run("branch", "old")
    tested = [name for (_, name), side in sides(workspace, before).items() if side == "test"]
    _, after = version(toy, {"a": {**first, **{n: 1000 + i for i, n in enumerate(tested)}}})
    toy.become(DATA).git.run("reset", "--quiet", "--hard", "old")
    trained = [name for (_, name), side in sides(workspace, before).items() if side == "train"]
    changed = {**first, **{name: 1000 + i for i, name in enumerate(trained[: len(tested)])}}
    workspace, other = version(toy, {"a": changed})  # another line of versions, whose training items those became
    vault = workspace.vault("points", by="test")
    found = equal_items(workspace, encode(other)[0], encode(after)[0], vault)
    assert found == {
        "before_cleaning": min(len(tested), len(trained)),
        "after_cleaning": min(len(tested), len(trained)),
    }
