import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from cdl.errors import ConfigError, JobFailed
from cdl.model import trials
from cdl.model.steps import untrained
from cdl.model.train import execute, plan, train
from tests.projects import SIDE, Toy, make_toy, table


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    made = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring")
    made.data(table(120))
    return made


def test_a_training_keeps_weights_metrics_points_and_what_it_was(toy: Toy) -> None:
    workspace = toy.become("data@example.org")
    made = train(workspace, "side")
    assert made.status == "finished" and made.trained == 4
    assert made.metrics["validation.accuracy"] > 0.8
    assert [e for e, _ in trials.points(workspace, made)["validation.accuracy"]] == [1, 2, 3, 4]
    assert workspace.store.has(made.weights or "") and workspace.store.has(made.log or "")
    assert trials.load(workspace, made.id.partition("-")[0]) == made
    kinds = [e.kind for e in workspace.journal.events()]
    assert kinds.count("trial.started") == kinds.count("trial.finished") == 1


def test_equal_work_is_not_done_again_and_another_parameter_is(toy: Toy) -> None:
    workspace = toy.become("data@example.org")
    first = train(workspace, "side")
    second = train(workspace, "side")
    assert (second.weights, second.seconds) == (first.weights, 0.0) and second.id != first.id
    assert train(workspace, "side", sets={"rate": 0.1}).weights != first.weights


def test_stopped_at_every_epoch_the_weights_are_the_same(toy: Toy) -> None:
    workspace = toy.become("data@example.org")
    found = []
    for seed in (0, 3):
        what = plan(workspace, "side", seed=seed)
        for until in (1, 2, 3, 4):  # each goes on from the checkpoint that the one before left
            done = execute(workspace, workspace.jobs, replace(what, until=until))
        notes = sorted(p.name for p in what.folder(workspace).glob("*.json"))
        assert notes == [f"epoch-{i}.json" for i in (1, 2, 3, 4)]
        straight = execute(workspace, workspace.jobs, what, fresh=True)
        assert (straight.weights, straight.checkpoint, straight.differs) == (done.weights, done.checkpoint, None)
        found.append(done.weights)
    assert found[0] != found[1]


def test_a_dirty_tree_is_what_is_trained_and_recorded(toy: Toy) -> None:
    workspace = toy.become("data@example.org")
    clean = train(workspace, "side")
    toy.write("model/side.py", SIDE.replace("np.zeros(x.shape[1]", "np.ones(x.shape[1]"))
    before = workspace.git.run("status", "--porcelain=v2")
    dirty = train(workspace, "side")
    assert workspace.git.run("status", "--porcelain=v2") == before
    assert dirty.weights != clean.weights and dirty.code["commit"] != clean.code["commit"]
    kept = workspace.git.read(dirty.code["commit"], "model/side.py")
    assert kept is not None and b"np.ones(x.shape[1]" in kept
    assert workspace.git.read(dirty.code["commit"], "incoming/points.csv") is None


def test_a_trial_that_raises_is_kept_with_its_log(toy: Toy) -> None:
    workspace = toy.become("data@example.org")
    toy.write(
        "model/side.py", SIDE.replace("order = np.random", "print('so far'); raise KeyError('oh'); order = np.random")
    )
    with pytest.raises(JobFailed, match="KeyError") as caught:
        train(workspace, "side")
    assert caught.value.where == "model/side.py:11" and caught.value.remedy == "cdl trial logs e1"
    kept = trials.load(workspace, "e1")
    assert kept.status == "failed" and "KeyError" in (kept.error or "")
    assert b"so far" in workspace.store.get(kept.log or "")


def test_a_measure_that_is_not_a_number_fails_the_trial_and_keeps_the_epochs_before(toy: Toy) -> None:
    workspace = toy.become("data@example.org")
    toy.write("model/side.py", SIDE.replace("context.report(", "context.report(loss=float('nan') if _ == 3 else 1.0, "))
    with pytest.raises(JobFailed, match="validation.loss is nan in epoch 3"):
        train(workspace, "side")
    notes = list((toy.root / ".cdl/trials").glob("*/epoch-2.json"))
    assert len(notes) == 1 and workspace.store.has(json.loads(notes[0].read_text())["checkpoint"])


def test_a_misspelt_hyperparameter_is_named(toy: Toy) -> None:
    with pytest.raises(ConfigError, match="no hyperparameter 'raet'") as caught:
        train(toy.become("data@example.org"), "side", sets={"raet": 1})
    assert caught.value.remedy == "did you mean 'rate'?"


def test_a_module_that_does_not_import_is_named(toy: Toy) -> None:
    toy.write("model/side.py", "import nowhere_to_be_found\n" + SIDE)
    with pytest.raises(JobFailed, match="nowhere_to_be_found") as caught:
        train(toy.become("data@example.org"), "side")
    assert caught.value.where == "model/side.py:1"


def test_what_a_snapshot_leaves_out_is_named_and_planning_keeps_nothing(toy: Toy) -> None:
    toy.write(".env", "TOKEN=1")
    toy.write("notes.md", "a note")
    lines: list[str] = []
    workspace = replace(toy.become("data@example.org"), tell=lines.append)
    assert [w.step for w in untrained(workspace)] == ["training"]
    assert workspace.git.refs("refs/cdl/trials/") == {} and lines == []
    made = train(workspace, "side")
    kept = workspace.git.files(made.code["commit"])
    assert "notes.md" in kept and ".env" not in kept and "incoming/points.csv" not in kept
    assert [line for line in lines if "not kept" in line] == [
        "not kept with the code: .env (large, a secret by its name, or a repository of its own)"
    ]
    assert list(workspace.git.refs("refs/cdl/trials/").values()) == [made.code["commit"]]


@pytest.mark.parametrize("value", [10**30, float("nan"), float("inf"), "\udcff"])
def test_a_hyperparameter_that_no_record_can_hold_is_named(toy: Toy, value: object) -> None:
    workspace = toy.become("data@example.org")
    with pytest.raises(ConfigError, match="'rate' is no number that can be kept"):
        train(workspace, "side", sets={"rate": value})
    assert trials.trials(workspace) == []
