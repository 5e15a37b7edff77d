"""How datasets stand: what changed in a source since a version, in every way that a clone can know it."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cdl.data import versions
from cdl.registry.records import DatasetHead
from tests.projects import DATA, FILES, ROLES, YAML, Toy, make_toy, table, write_files


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """A version of 60 files."""
    made = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", yaml=FILES, roles=True)
    write_files(made, 60)
    return made


def status(toy: Toy) -> dict[str, Any]:
    found = json.loads(toy.cdl(DATA, "data", "status", "--json"))
    assert [each["name"] for each in found] == ["points"]
    return dict(found[0])


def differing(toy: Toy) -> dict[str, Any]:
    return {k: v for k, v in status(toy)["source"].items() if v}


def edit(toy: Toy) -> dict[str, list[str]]:
    """Adds a file, removes one, changes one in size and one in its time alone; which those are."""
    toy.write("incoming/new.json", "{}")
    (toy.root / "incoming/1/004.json").unlink()
    toy.write("incoming/0/003.json", "longer than it was before, and no JSON at all")
    os.utime(toy.root / "incoming/2/005.json", ns=(1, 1))
    changed = ["incoming/0/003.json", "incoming/2/005.json"]
    return {"added": ["incoming/new.json"], "removed": ["incoming/1/004.json"], "changed": changed}


def test_what_changed_in_the_source_is_told_by_names_sizes_and_times(toy: Toy) -> None:
    before = status(toy)
    assert before["version"] is None and len(before["source"]["added"]) == 60 and before["every"] == 0
    toy.cdl(DATA, "data", "run")
    assert differing(toy) == {} and not status(toy)["pipeline"]
    told = edit(toy)
    assert differing(toy) == told
    said = toy.cdl(DATA, "data", "status")
    assert "2 changed: incoming/0/003.json, incoming/2/005.json" in said and "next: cdl data run" in said


def test_a_clone_that_did_not_make_the_version_looks_at_names_and_sizes(toy: Toy) -> None:
    toy.cdl(DATA, "data", "run")
    told = edit(toy)
    (toy.root / ".cdl/looked/points.bin").unlink()
    found = differing(toy)
    assert found == {**told, "changed": ["incoming/0/003.json"], "sizes_only": True}
    (toy.root.parent / "keyring").unlink()
    assert differing(toy) == {"unknown": {"incoming": "you hold no key"}}
    (toy.root / "incoming").rename(toy.root / "elsewhere")
    assert differing(toy) == {"unknown": {"incoming": "it is not here"}}


def test_sources_that_are_a_file_or_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two = "[{path: incoming/points.csv}, {command: [sh, -c, 'cp more.csv $CDL_OUT']}]"
    toy = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", yaml=YAML.replace("{path: incoming}", two))
    toy.write("incoming/points.csv", table(30))
    toy.write("more.csv", table(10, first=30))
    toy.cdl(DATA, "data", "run")
    unknown = {"sh -c cp more.csv $CDL_OUT": "a command"}
    assert differing(toy) == {"unknown": unknown}
    toy.write("incoming/points.csv", table(31))
    assert differing(toy) == {"changed": ["incoming/points.csv"], "unknown": unknown}
    (tmp_path / "toy/.cdl/looked/points.bin").unlink()
    assert differing(toy) == {"changed": ["incoming/points.csv"], "unknown": unknown, "sizes_only": True}
    toy.write("incoming/points.csv", table(30))
    assert differing(toy) == {"unknown": unknown, "sizes_only": True}


def test_gate_labels_key_and_disk(toy: Toy) -> None:
    toy.cdl(DATA, "data", "run")
    first = status(toy)
    assert first["verdict"] is None and first["coverage"] is None and first["classes"] == 2 and first["key"]
    toy.approve(DATA, "data")
    approved = status(toy)
    assert approved["verdict"] == "approve" and approved["ready"] and approved["coverage"] == {"train": 1, "test": 1}
    toy.write("incoming/new.json", '{"x": 1, "y": 2}')
    toy.cdl(DATA, "data", "run")
    second = status(toy)
    assert second["coverage"] is None and not second["ready"]
    assert first["bytes"] == first["every"] and second["bytes"] < second["every"] < second["bytes"] + first["bytes"]
    toy.write("cdl.yaml", FILES.replace("require: [items >= 10]", "require: [items >= 11]") + ROLES)
    assert not status(toy)["pipeline"]  # what decides is as it is in force
    toy.write("cdl.yaml", FILES.replace("require:", "steps: [{same: {run: [cat]}}]\n    require:") + ROLES)
    assert status(toy)["pipeline"] and "code of its steps changed" in toy.cdl(DATA, "data", "status")
    toy.write("cdl.yaml", FILES.replace("require:", "steps: [{same: {run: 'no.where:f'}}]\n    require:") + ROLES)
    assert "no module 'no.where'" in status(toy)["trouble"] and "no.where" in toy.cdl(DATA, "data", "status")
    (toy.root.parent / "keyring").unlink()
    assert not status(toy)["key"] and "not held" in toy.cdl(DATA, "data", "status")


def test_what_comes_while_the_pipeline_runs_is_new(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    make = versions.make

    def late(*arguments: Any, **named: Any) -> str:
        made = make(*arguments, **named)
        toy.write("incoming/late.json", "{}")
        return made

    monkeypatch.setattr(versions, "make", late)
    toy.cdl(DATA, "data", "run")
    head = toy.become(DATA).registry.head(DatasetHead, "points")
    assert head is not None and differing(toy) == {"added": ["incoming/late.json"]}
