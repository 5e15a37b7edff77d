from dataclasses import replace
from pathlib import Path

import pytest

from cdl.errors import ConfigError, JobFailed
from cdl.model.trials import trials
from cdl.model.tune import search
from tests.jobs.steps import parent
from tests.projects import SIDE, Toy, make_toy, table


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    made = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring")
    made.data(table(120))
    return made


def test_a_search_trains_what_was_planned_and_finds_the_best(toy: Toy) -> None:
    workspace = toy.become("data@example.org")
    found = search(workspace, "side")
    assert len(found.trials) == 6 and {t.search for t in found.trials} == {found.id}
    reached = [t.trained for t in found.trials]
    assert sorted(set(reached)) == [1, 2, 4] and found.best.trained == 4 and found.best.status == "finished"
    for trial in found.trials:  # checkpoints at resume are those at pause: one note an epoch, never an epoch twice
        points = workspace.store.get(trial.points or "")
        assert points.count(b"epoch") == 1
    started = [e for e in workspace.journal.events("job.finished")]
    again = search(workspace, "side")
    assert [(t.hyperparameters, t.weights, t.trained) for t in again.trials] == [
        (t.hyperparameters, t.weights, t.trained) for t in found.trials
    ]
    assert len(workspace.journal.events("job.finished")) == len(started)  # nothing was trained twice
    assert again.id == found.id


def test_failing_trials_are_recorded_and_the_search_goes_on(toy: Toy) -> None:
    toy.write(
        "model/side.py",
        SIDE.replace("order = np", "assert context.hyperparameters['rate'] > 0.3, 'too small'; order = np"),
    )
    workspace = toy.become("data@example.org")
    found = search(workspace, "side")
    failed = [t for t in found.trials if t.status == "failed"]
    assert failed and len(failed) < 6 and all("too small" in (t.error or "") and t.log for t in failed)
    assert found.best.hyperparameters["rate"] > 0.3
    assert {t.id for t in trials(workspace)} == {t.id for t in found.trials}


def test_a_search_without_a_trial_that_ends_says_why(toy: Toy) -> None:
    toy.write("model/side.py", SIDE.replace("order = np", "raise ValueError('never'); order = np"))
    with pytest.raises(JobFailed, match="never"):
        search(toy.become("data@example.org"), "side")


def test_an_interrupted_search_ends_what_runs(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = tmp_path / "pid"
    waits = f"""
    import os, pathlib, time
    note = pathlib.Path({str(note)!r})
    if context.hyperparameters["rate"] > 1:
        note.with_suffix(".new").write_text(str(os.getpid()))
        note.with_suffix(".new").rename(note)
        time.sleep(600)
    while not note.exists():
        time.sleep(0.02)
"""
    toy.write("model/side.py", SIDE.replace("def train(context):", "def train(context):" + waits))
    monkeypatch.setenv("CDL_CPUS", "2")

    def tell(line: str) -> None:
        if "epoch" in line:
            raise KeyboardInterrupt

    workspace = replace(toy.become("data@example.org"), tell=tell)
    changes = {"method": "grid", "space": {"rate": {"choice": [0.5, 2.0]}}, "max_epochs": 1, "workers": 2}
    with pytest.raises(KeyboardInterrupt):
        search(workspace, "side", changes=changes)
    assert parent(int(note.read_text())) is None


def test_a_metric_that_nobody_reports_is_named(toy: Toy) -> None:
    with pytest.raises(JobFailed, match="reported no validation.f1"):
        search(toy.become("data@example.org"), "side", changes={"metric": "validation.f1", "max_trials": 2})
    with pytest.raises(ConfigError, match="trails"):
        search(toy.become("data@example.org"), "side", changes={"max_trails": 2})
    with pytest.raises(ConfigError, match="0 trials at a time"):
        search(toy.become("data@example.org"), "side", changes={"workers": 0})
