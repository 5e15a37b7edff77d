"""Evaluations between people: who registers without the key waits for a holder, and anyone checks what a decision saw."""

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from cdl import document
from cdl.cycle import CYCLE
from cdl.errors import Corrupt, Refused, Unavailable
from cdl.keys import Keyring
from cdl.model.check import check_results
from cdl.model.evaluate import evaluate
from cdl.model.register import register
from cdl.model.results import evaluated, result_key, target, unsigned
from cdl.model.source import model_record
from cdl.model.submit import offer
from cdl.model.train import train
from cdl.registry.records import Decision, Made, encode
from cdl.workflow.decide import decide
from cdl.workflow.run import run
from tests.desks import Desk, Team, git
from tests.projects import DATA, OPS, REVIEW, SCIENCE, table


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Team:
    made = Team(tmp_path, monkeypatch)
    made.first.data(table(120))
    made.first.push()
    return made


def registered(desk: Desk) -> str:
    """A model that the desk's person trained and registered."""
    workspace = desk.me()
    workspace.git.run("switch", "--quiet", "-C", "exp/first", "main")
    return register(workspace, train(workspace, "side"))


def test_a_model_registered_without_the_key_is_evaluated_by_a_holder(team: Team) -> None:
    science, data = team.desk(SCIENCE), team.first
    science.me().git.run("switch", "--quiet", "-c", "exp/first")
    trial = train(science.me(), "side")
    waits = f"evaluation waits for {DATA}, who runs `cdl run`, or CI"
    said = science.type("model", "register", trial.id)
    assert said.endswith(waits + "\n")
    model = said.split()[0]
    assert f"{model}: {waits}" in science.type("status")
    with pytest.raises(Refused, match=waits):
        science.type("model", "submit")
    assert waits in science.type("run", "--yes")
    with pytest.raises(Unavailable, match=rf"no key of points \(holders: {DATA}\)"):
        science.type("model", "evaluate")
    assert science.me().journal.events("sealed.opened") == []
    science.push()
    data.pull()
    assert f"{model}: evaluation waits: cdl run" in data.type("status")
    assert "model_evaluation" in data.type("run", "--yes", "--json")
    assert data.type("model", "evaluate", model).startswith(f"{model} test.accuracy")
    assert len(data.me().journal.events("model.evaluated")) == 1
    assert "evaluation waits" not in science.type("status")
    assert "submitted" in science.type("model", "submit")


def last(desk: Desk, gate: str) -> Decision:
    found = [d for _, d in desk.me().registry.all(Decision) if d.gate == gate]
    return max(found, key=lambda d: d.made.when)


def checked(desk: Desk) -> list[str]:
    workspace = desk.me()
    return [f.what for f in check_results(workspace.git, workspace.store, "main").findings]


def planted(desk: Desk, decision: Decision, **seen: object) -> list[str]:
    """What is found of a decision like another but for what it saw, or was held against."""
    requirements = seen.pop("requirements", decision.requirements)
    changed = msgspec.structs.replace(decision, seen={**decision.seen, **seen}, requirements=requirements)
    _, path, data = encode(changed)
    desk.write(path, data.decode())
    workspace = desk.me()
    workspace.git.run("add", path)
    workspace.git.run("commit", "--quiet", "--message", "planted")
    found = checked(desk)
    workspace.git.run("reset", "--quiet", "--hard", "HEAD~1")
    return found


def test_every_result_that_a_decision_names_is_checked_without_a_key(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = team.first
    model = desk.promote()
    assert checked(desk) == []
    decision, store = last(desk, "model"), desk.me().store
    seen = str(decision.seen["evaluation"])
    result = json.loads(store.get(seen))
    other = "m-" + "0" * 32
    copied = planted(desk, msgspec.structs.replace(decision, subject=other))
    assert f"evaluation {seen[:12]}: it is of {model[:10]}, and was used for {other[:10]}" in copied
    assert "other test than the decision saw" in planted(desk, decision, test="s:" + "0" * 64)[0]
    better = [{"require": "test.accuracy >= 0.60", "value": 0.999, "held": True}]
    assert "where the decision says test.accuracy >= 0.60: 0.999" in planted(desk, decision, requirements=better)[0]
    forged = store.put(document.canonical(result | {"items": 3}))
    assert "the signature does not fit" in planted(desk, decision, evaluation=forged)[0]
    stranger = Keyring(team.folder / "stranger").create("toy", "points")
    own = store.put(document.canonical(result | {"signature": stranger.sign(unsigned(result))}))
    assert "the signature does not fit" in planted(desk, decision, evaluation=own)[0]
    assert "it is no comparison but a evaluation" in planted(desk, decision, comparisons=[seen])[0]
    raw = store.put(b"[]")
    assert "something else under its name" in planted(desk, decision, evaluation=raw)[0]
    checked_ = check_results(desk.me().git, None, "main")
    assert checked_.findings == [] and "not in the store here" in checked_.unchecked[0]


def test_an_older_key_counts_for_what_decisions_named_and_nothing_else(team: Team) -> None:
    ops, review = team.desk(OPS), team.desk(REVIEW)
    data = team.first
    for desk in (ops, review):
        data.type("member", "add", desk.email, desk.public)
    data.approve(REVIEW, "policy")
    run(data.me(), CYCLE, "deployment")
    promoted = data.promote()
    undecided = data.model("exp/second", seed=7)
    before = evaluate(data.become(DATA), undecided)
    data.me().git.run("switch", "--quiet", "main")
    data.push()
    ops.pull()
    old = ops.me().keys("points")
    data.type("member", "remove", OPS)
    data.approve(REVIEW, "policy")
    run(data.me(), CYCLE, "deployment")
    workspace = data.me()
    file = workspace.key_file("points")
    assert file is not None and len(file.older[0].results) == 1 and file.older[0].public == old.public
    assert evaluated(workspace, promoted) is not None and checked(data) == []
    assert evaluated(workspace, undecided) is None  # no decision named it by then
    assert "test.accuracy" in data.type("model", "list")
    run(workspace, CYCLE, None)
    again = evaluated(data.me(), undecided)
    assert again is not None and again.object != before.object and again.measures() == before.measures()
    decision, store = last(data, "model"), workspace.store
    result = json.loads(store.get(str(decision.seen["evaluation"])))
    content = {k: v for k, v in result.items() if k != "signature"} | {"items": 3}
    late = store.put(document.canonical(content | {"signature": old.sign(document.canonical(content))}))
    assert "an older key signed it" in planted(data, decision, evaluation=late)[0]
    data.push()
    review.pull()
    assert review.me().signing("points").public == file.evaluation


def test_a_result_that_was_put_under_another_model_s_name_is_not_taken(team: Team) -> None:
    data = team.first
    first, second = data.model("exp/first"), data.model("exp/second", seed=7)
    made = evaluate(data.me(), first)
    workspace = data.me()
    model = model_record(workspace, second)
    name = result_key(workspace, second, model, target(workspace, model))
    workspace.store.claim(name, made.object.encode())
    with pytest.raises(Corrupt, match=f"is of model {first[:10]}, and was put there for {second[:10]}"):
        evaluated(data.me(), second)


def test_a_key_file_that_forgets_is_named(team: Team) -> None:
    desk = team.first
    desk.promote()
    file = desk.me().key_file("points")
    assert file is not None
    stranger = Keyring(team.folder / "stranger").create("toy", "points")
    desk.write("registry/keys/points.yaml", f'evaluation: "{stranger.public}"\ndata_key: k-1\n')
    desk.commit(desk.me(), "another key")
    found = checked(desk)
    assert any(f"it names no more {file.evaluation[:16]}" in f for f in found)
    assert any("the signature does not fit" in f for f in found)


def runner(folder: Path, *arguments: str, key: str | None = None) -> "subprocess.CompletedProcess[str]":
    """A command in continuous integration: no name, no keyring, perhaps a key."""
    around = {"PATH": os.environ["PATH"], "HOME": str(folder / "nobody"), "GIT_CONFIG_GLOBAL": "/dev/null"}
    command = [sys.executable, "-m", "cdl", "ci", *arguments]
    env = around | ({"CDL_KEY": key} if key else {})
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_a_runner_evaluates_and_checks_on_a_detached_shallow_checkout(team: Team) -> None:
    data, science = team.first, team.desk(SCIENCE)
    data.promote()
    data.push()
    science.pull()
    model = registered(science)
    science.push()
    folder = team.folder / "runner"
    git(team.folder, "clone", "--quiet", "--depth", "1", "--branch", "exp/first", f"file://{team.remote}", str(folder))
    git(folder, "checkout", "--quiet", "--detach")
    git(folder, "branch", "--quiet", "--delete", "--force", "exp/first")
    assert "not checked: " in runner(folder, "check").stdout
    (folder / ".cdl").mkdir()
    (folder / ".cdl/store").symlink_to(team.store)
    done = runner(folder, "check")
    assert done.returncode == 7 and "earlier commits" in done.stdout and "--shallow" in done.stderr
    assert "store here" not in done.stdout and runner(folder, "check", "--shallow").returncode == 0
    assert runner(folder, "evaluate").returncode == 7
    key = data.type("key", "backup").strip()
    done = runner(folder, "evaluate", key=key)
    assert done.returncode == 0 and done.stdout.startswith(model[:10] + " test.accuracy"), done.stderr
    assert key not in done.stdout + done.stderr
    found = evaluated(science.me(), model)
    assert found is not None and found.number == 2
    assert runner(folder, "evaluate", key=key).stdout == "no model waits for an evaluation\n"
    assert git(folder, "branch", "--list").strip().startswith("* (HEAD detached")
    offer(science.me(), model)
    decide(science.me(), CYCLE, "submission", model, "submit")


def test_a_runner_does_not_judge_by_a_commit_with_findings(team: Team) -> None:
    desk = team.first
    desk.promote()
    made = msgspec.structs.replace(last(desk, "model").made, who=SCIENCE)
    assert isinstance(made, Made)
    _, path, data = encode(msgspec.structs.replace(last(desk, "model"), made=made))
    desk.write(path, data.decode())
    desk.commit(desk.me(), "planted")
    key = desk.type("key", "backup").strip()
    done = runner(desk.root, "evaluate", key=key)
    assert done.returncode == 5 and "would judge" in done.stderr
