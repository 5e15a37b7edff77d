"""Sixteen processes that ingest into one project at once: whatever each was told, one more run has every file, in one line."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from cdl.registry.names import find
from cdl.registry.records import Dataset, short
from tests.faults import around, points
from tests.faults.content import faults
from tests.faults.data_world import FIRST, STEPS, DataWorld, begin, model
from tests.faults.points import held
from tests.team import CDL

pytestmark = pytest.mark.xdist_group("faults")
MANY, EACH = 16, 5
AGAIN = re.compile("the command again|changed by somebody else just now")  # what whoever lost a race is told


def crowd(data: DataWorld, *commands: tuple[str, ...]) -> list[tuple[int, str]]:
    """Commands at once: how each ended and what it said."""
    a = data.world.a
    begun = [
        subprocess.Popen(
            [str(CDL), *command], cwd=a.root, env=a.env(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for command in commands
    ]
    ended = [(process.communicate(timeout=300)[0], process.returncode) for process in begun]
    return [(code, said) for said, code in ended]


def parent(data: DataWorld, version: str) -> str | None:
    """The version that one follows."""
    with around.opened(data.world.a) as workspace:
        found = find(workspace.registry, version, prefer_dataset=True).stored.record
    assert isinstance(found, Dataset)
    return found.parent


@pytest.mark.long
@pytest.mark.parametrize("steps", [False, True])
def test_sixteen_ingest_at_once(tmp_path: Path, steps: bool) -> None:
    data = begin(tmp_path / "world")
    a = data.world.a
    if not steps:
        a.write("cdl.yaml", (a.root / "cdl.yaml").read_text().replace(STEPS, ""))
        a.commit("no steps")
    data.run(FIRST)
    wanted, commands = dict(FIRST), []
    for number in range(MANY):
        new = points.files(EACH, seed=100 + number)
        wanted |= new
        for name, content in new.items():
            place = tmp_path / "world" / "new" / str(number) / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        commands.append(("data", "ingest", "points", *(f"../new/{number}/{side}" for side in "ab")))
    ended = crowd(data, *commands)
    assert all(code == 0 or AGAIN.search(said) for code, said in ended), ended
    assert not any("Traceback" in said for _, said in ended), ended
    print(sum(code == 0 for code, _ in ended), "of", MANY, "made a version or found it made")
    a.cdl("data", "run", "points")
    with around.opened(a) as workspace:
        assert held(workspace) == model(wanted, steps=steps)
    assert a.git("rev-list", "--min-parents=2", "main") == ""
    assert faults(a) == [] and around.locks(data.world.folder) == [] == around.left_running(data.world.folder)
    log = json.loads(a.cdl("data", "log", "--json"))
    assert len({version["version"] for version in log}) == len(log)
    parents = [parent(data, version["version"]) for version in log]
    assert [p and short(p) for p in parents] == [*(short(version["version"]) for version in log[1:]), None]
    assert " 0 faults" in a.cdl("data", "verify")
    assert "nothing changed" in a.cdl("data", "run", "points")


@pytest.mark.long
def test_of_several_who_run_at_once_on_the_same_files_all_get_one_version(tmp_path: Path) -> None:
    data = begin(tmp_path / "world")
    ended = crowd(data, *[("data", "run", "points", "--json")] * 6)
    assert all(code == 0 or AGAIN.search(said) for code, said in ended), ended
    a = data.world.a
    assert "nothing changed" in a.cdl("data", "run", "points")
    assert len(json.loads(a.cdl("data", "log", "--json"))) == 1
    assert len(a.git("log", "--format=%s", "--grep=^data run").splitlines()) == 1
    assert faults(a) == []
