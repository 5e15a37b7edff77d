"""Triggers fire once, in the clone where an event became true."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cdl.config.schema import TriggerConfig
from cdl.cycle import CYCLE, TRIGGERS
from cdl.data import labels, versions
from cdl.data.ready import announce, ready
from cdl.errors import JobFailed
from cdl.journal.events import Event
from cdl.registry.records import Model
from cdl.workflow.run import plan, run
from cdl.workflow.trigger import Kind, Waiting, claim, fire, waiting
from cdl.workflow.workspace import Workspace
from tests.projects import DATA, YAML, Toy, make_toy, table

CDL = Path(sys.executable).with_name("cdl")
TRIGGERED = YAML + "triggers:\n  - {when: dataset.ready, run: [evaluate, train], of: side}\n"
BY_PEOPLE = TRIGGERED.replace(", origin: {source: true}", "")


def prepared(tmp_path: Path, patch: pytest.MonkeyPatch, yaml: str = TRIGGERED) -> Toy:
    return make_toy(tmp_path / "toy", patch, tmp_path / "keyring", roles=True, yaml=yaml)


@pytest.fixture
def due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """A project with a promoted model, whose new data became ready here."""
    toy = prepared(tmp_path, monkeypatch)
    toy.data(table(120))
    toy.promote()
    toy.data(table(180))
    announce(toy.become(DATA))
    return toy


def models(workspace: Workspace) -> list[str]:
    return [m for m, record in workspace.registry.all(Model) if (record.origin or {}).get("by") == "retraining"]


def test_new_data_evaluate_and_train_once(due: Toy) -> None:
    workspace = due.become(DATA)
    found = waiting(workspace, TRIGGERS)
    assert [w.line for w in found] == ["dataset.ready > evaluate, train of side"] and found[0].unable is None
    lines = fire(workspace, TRIGGERS)
    assert lines[0].startswith("current m-") and lines[1].startswith("trained m-") and len(lines) == 2
    assert len(models(workspace)) == 1 and waiting(due.become(DATA), TRIGGERS) == []
    finished = workspace.journal.events("trigger.finished")
    assert [e.cause for e in finished] == [found[0].event.id]
    evaluated = [e for e in workspace.journal.events("model.evaluated") if e.cause == found[0].event.id]
    assert len(evaluated) == 2  # the current model and the new one, on the new test
    assert workspace.git.resolve(f"refs/heads/cdl/retrain-{models(workspace)[0][2:10]}") is not None
    assert fire(due.become(DATA), TRIGGERS) == []


def test_it_does_not_fire_where_it_was_pulled(due: Toy, tmp_path: Path) -> None:
    other = tmp_path / "other"
    subprocess.run(["git", "clone", "--quiet", str(due.root), str(other)], check=True)
    shutil.copytree(due.root / ".cdl/store", other / ".cdl/store")
    there = Toy(other, due._patch).become(DATA)
    assert ready(there, "points") is not None
    announce(there)
    assert len(there.journal.events("dataset.ready")) >= 1 and waiting(there, TRIGGERS) == []
    assert "trigger" not in [p.step.name for p in plan(there, CYCLE, None)]
    assert len(waiting(due.become(DATA), TRIGGERS)) == 1


def test_readiness_that_came_by_a_merge_fires_at_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = prepared(tmp_path, monkeypatch, BY_PEOPLE)
    label_all(toy, 120)
    toy.promote()
    workspace = toy.become(DATA)
    label_all(toy, 180, branch="labels/more")
    assert waiting(toy.become(DATA), TRIGGERS) == [] and ready(toy.become(DATA), "points") is None
    workspace.git.run("switch", "--quiet", "main")
    workspace.git.run("merge", "--quiet", "--no-ff", "--no-edit", "labels/more")
    announce(toy.become(DATA))
    assert len(waiting(toy.become(DATA), TRIGGERS)) == 1
    done = run(toy.become(DATA), CYCLE, None)
    assert [p.step.name for p in done][-1] == "trigger"
    assert run(toy.become(DATA), CYCLE, None) == [] and len(models(toy.become(DATA))) == 1


def label_all(toy: Toy, count: int, branch: str | None = None) -> None:
    """New rows, approved, labeled by hand and released, the labels on a branch of their own."""
    toy.write("incoming/points.csv", table(count))
    versions.make(toy.become(DATA), "points")
    toy.approve(DATA, "data")
    workspace = toy.become(DATA)
    if branch:
        workspace.git.run("switch", "--quiet", "-c", branch)
    found = {i: json.loads(content)["x"] for i, content in labels.unlabeled(workspace, "points")}
    labels.record(workspace, "points", {i: "right" if float(x) > 0 else "left" for i, x in found.items()})
    labels.release(workspace, "points")


def test_a_trigger_waits_for_somebody_with_the_key(due: Toy, tmp_path: Path) -> None:
    workspace = due.become(DATA)
    (tmp_path / "keyring").rename(tmp_path / "away")
    assert fire(due.become(DATA), TRIGGERS) == [
        "trigger dataset.ready > evaluate, train of side waits: you hold no key of points (holders: data@example.org)"
    ]
    (tmp_path / "away").rename(tmp_path / "keyring")
    assert models(workspace) == [] and len(fire(due.become(DATA), TRIGGERS)) == 2


def test_a_failed_trigger_is_tried_again(due: Toy) -> None:
    workspace = due.become(DATA)
    raising = dict(TRIGGERS)

    def fail(workspace: Workspace, trigger: TriggerConfig, event: Event) -> tuple[list[str], list[str]]:
        raise JobFailed("the machine is full")

    kind = TRIGGERS["dataset.ready"]
    raising["dataset.ready"] = Kind(candidates=kind.candidates, able=kind.able, run=fail)
    assert "failed: the machine is full" in fire(workspace, raising)[0]
    with pytest.raises(JobFailed, match="the machine is full"):
        fire(workspace, raising, strict=True)
    assert len(fire(workspace, TRIGGERS)) == 2 and len(models(workspace)) == 1


RACER = """
import sys, time
from pathlib import Path
from cdl.config.schema import TriggerConfig
from cdl.project import open_workspace
from cdl.workflow.trigger import Waiting, claim

workspace = open_workspace(Path("."))
events = [e for e in workspace.journal.events("request.opened")]
Path(sys.argv[1]).touch()
while not Path(sys.argv[2]).exists():
    time.sleep(0.001)
trigger = TriggerConfig(when="dataset.ready", run="train", of="side")
won = [e.id for e in events if claim(workspace, Waiting(trigger=trigger, event=e, unable=None))]
print(" ".join(won), flush=True)
sys.stdin.read()  # a process that is gone could be taken over: both stay until both have tried
"""


def test_of_two_processes_one_claims_each_of_fifty_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = prepared(tmp_path, monkeypatch)
    workspace = toy.become(DATA)
    for i in range(50):
        workspace.journal.append("request.opened", who=DATA, request=f"r-{i}", step="training")
    names = ("one", "two")
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(tmp_path / mine), str(tmp_path / other)],
            cwd=toy.root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for mine, other in (names, names[::-1])
    ]
    won = []
    for racer in racers:
        assert racer.stdout is not None
        won += racer.stdout.readline().split()
    for racer in racers:
        racer.communicate("")
    assert sorted(won) == sorted(e.id for e in workspace.journal.events("request.opened"))
    assert len(workspace.journal.events("trigger.claimed")) == 50


def test_two_runs_at_once_train_one_model_and_the_second_run_does_nothing(due: Toy) -> None:
    command = [str(CDL), "run", "--yes"]
    both = [
        subprocess.Popen(command, cwd=due.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [p.returncode for p in both] == [0, 0], "\n".join(said)
    workspace = due.become(DATA)
    assert len(models(workspace)) == 1, said
    assert len(workspace.journal.events("trigger.claimed")) == 1
    tip = workspace.registry.tip()
    again = subprocess.run(command, cwd=due.root, capture_output=True, text=True, env=dict(os.environ))
    assert again.returncode == 0 and "nothing to do" in again.stdout + again.stderr
    assert due.become(DATA).registry.tip() == tip


def test_a_claim_of_a_dead_process_is_taken_over(due: Toy) -> None:
    workspace = due.become(DATA)
    found = waiting(workspace, TRIGGERS)[0]
    gone = subprocess.Popen(["true"])
    gone.wait()
    holder = {"who": DATA, "host": socket.gethostname(), "pid": gone.pid}
    assert workspace.store.claim(f"{found.claim}/0", json.dumps(holder).encode())
    assert claim(workspace, found) == f"{found.claim}/1"
    elsewhere = Waiting(
        trigger=TriggerConfig(when="dataset.ready", run="evaluate", of="side"), event=found.event, unable=None
    )
    holder["host"] = "another-machine"
    assert workspace.store.claim(f"{elsewhere.claim}/0", json.dumps(holder).encode())
    assert claim(workspace, elsewhere) is None
