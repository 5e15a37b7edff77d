"""What differs between versions, item by item; with and without the key."""

import json
from pathlib import Path

import pytest

from cdl.data.history.changes import compare
from cdl.data.pipeline.split import TEST
from cdl.errors import ConfigError, NotFound
from cdl.registry.records import DatasetHead
from tests.projects import DATA, SCIENCE, Toy, make_toy, table


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    return make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", roles=True)


def current(toy: Toy) -> str:
    head = toy.become(DATA).registry.head(DatasetHead, "points")
    assert head is not None
    return head.version


def edited(rows: str) -> tuple[str, dict[str, set[str]]]:
    """A table with two rows added, three removed, four changed and five relabelled, and which those are."""
    head, *lines = rows.splitlines()
    names = [line.partition(",")[0] for line in lines]
    told = {"removed": {*names[0:3]}, "changed": {*names[10:14]}, "relabelled": {*names[20:25]}, "added": {"n1", "n2"}}
    found = []
    for name, line in zip(names, lines, strict=True):
        _, x, y, side = line.split(",")
        if name in told["changed"]:
            x = f"{float(x) + 0.125:.4f}"
        if name in told["relabelled"]:
            side = "left" if side == "right" else "right"
        if name not in told["removed"]:
            found.append(f"{name},{x},{y},{side}")
    found += [f"{name},0.{n}1,0.5,left" for n, name in enumerate(sorted(told["added"]))]
    return "\n".join([head, *found]) + "\n", told


def test_every_difference_is_told_by_item(toy: Toy) -> None:
    toy.data(table(120))
    first = current(toy)
    rows, told = edited(table(120))
    toy.data(rows)
    second = current(toy)
    workspace = toy.become(DATA)
    found = compare(workspace, first, second)
    assert not found.sealed and {c.side for c in found.items} == {"train", "test"}
    by_kind: dict[str, set[str]] = {}
    for change in found.items:
        by_kind.setdefault(change.what, set()).add(str(change.name))
    assert by_kind == told
    assert found.counts() == {"added": 2, "changed": 4, "relabelled": 5, "removed": 3}
    for change in found.items:
        assert (change.before is not None) == (change.what in ("relabelled", "removed")), change
    assert sum(b - a for a, b in found.classes.values()) == -1 and {*found.classes} == {"left", "right"}
    back = compare(workspace, second, first)
    assert back.counts() == {"added": 3, "changed": 4, "relabelled": 5, "removed": 2}
    assert compare(workspace, second, second).counts() == {}


def test_without_the_key_the_training_side_by_id(toy: Toy) -> None:
    toy.data(table(120))
    first = current(toy)
    toy.data(edited(table(120))[0])
    second = current(toy)
    whole = compare(toy.become(DATA), first, second)
    (toy.root.parent / "keyring").unlink()
    found = compare(toy.become(SCIENCE), first, second)
    assert found.sealed and {c.side for c in found.items} == {"train"} and {c.name for c in found.items} == {None}
    assert {(c.what, c.item) for c in found.items} == {(c.what, c.item) for c in whole.items if c.side != TEST}
    said = toy.cdl(SCIENCE, "data", "diff", first, second)
    assert "the test set is sealed" in said and not any(c.item[:12] in said for c in whole.items if c.side == TEST)


def test_the_command_says_what_changed_and_the_log_counts_it(toy: Toy) -> None:
    toy.data(table(120))
    with pytest.raises(NotFound, match="is the first version: nothing to compare"):
        toy.cdl(DATA, "data", "diff")
    toy.data(edited(table(120))[0])
    said = toy.cdl(DATA, "data", "diff")
    assert "2 added, 4 changed, 5 relabelled, 3 removed" in said and "left -> right" in said and "class" in said
    found = json.loads(toy.cdl(DATA, "data", "diff", "points@v1", "points@v2", "--json"))
    assert found["counts"]["changed"] == 4 and len(found["items"]) == 14 and len(found["classes"]) == 2
    rows = json.loads(toy.cdl(DATA, "data", "log", "--json"))
    assert [row["train"] + row["test"] for row in rows] == [119, 120] and "added" not in rows[1]
    sides = [c["side"] for c in found["items"] if c["what"] == "added"]
    assert rows[0]["added"] == sides.count("train")
    with pytest.raises(NotFound):
        toy.cdl(DATA, "data", "diff", "d-00000000", "points")
    toy.write("incoming/points.csv", table(120))
    toy.cdl(DATA, "data", "run")  # whose labels nobody released yet
    said = toy.cdl(DATA, "data", "diff")
    assert "3 added, 4 changed, 2 removed" in said and "relabelled" not in said and "class" not in said
    assert "labels are compared where those of both versions were released" in said
    with pytest.raises(ConfigError, match="no version of a dataset"):
        toy.cdl(DATA, "data", "diff", "labels:points", "points")
