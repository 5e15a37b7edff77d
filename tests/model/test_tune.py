from collections import Counter
from pathlib import Path

import pytest
from msgspec.structs import replace

from cdl.errors import ConfigError, JobFailed
from cdl.model.search import from_config
from cdl.model.train import plan
from cdl.model.trials import load, points, trials
from cdl.model.tune import search, settings
from tests.jobs.steps import parent
from tests.projects import SIDE, YAML, Toy, make_toy, table
from tests.standing import STOPPING, WAIT_SECONDS, Standing, standing

FILES = {"model/side.py": STOPPING}


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
    started = [e for e in workspace.journal.events("job.finished")]
    again = search(workspace, "side")
    assert [(t.hyperparameters, t.weights, t.trained) for t in again.trials] == [
        (t.hyperparameters, t.weights, t.trained) for t in found.trials
    ]
    assert len(workspace.journal.events("job.finished")) == len(started)  # nothing was trained twice
    assert again.id == found.id


@pytest.fixture
def one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Standing:
    """A project whose search runs one trial at a time and notes each epoch."""
    yaml = YAML.replace("eta: 2}", "eta: 2, workers: 1}")
    return standing(tmp_path, monkeypatch, yaml, FILES)


def epochs(notes: list[list[str]], point: str) -> Counter[tuple[float, int]]:
    """How often each trial, by its rate, was at a point of each epoch."""
    return Counter((float(n[1]), int(n[0].partition("-")[2])) for n in notes if n[0].startswith(point))


def test_epochs_that_ran_are_those_that_successive_halving_planned(one_by_one: Standing) -> None:
    workspace = one_by_one.become("data@example.org")
    found = search(workspace, "side")
    what = plan(workspace, "side")
    config = settings(what, "side", {})
    halving = from_config(config, what.hyperparameters)  # asked again, and told what the trials reported
    while (task := halving.ask()) is not None:
        curve = dict(points(workspace, found.trials[task.trial])["validation.accuracy"])
        halving.tell(task, curve[task.until])
    ran = epochs(one_by_one.notes(), "began")
    assert set(ran.values()) == {1}, "no epoch twice"
    for number, trial in enumerate(found.trials):
        mine = [epoch for rate, epoch in ran if rate == trial.hyperparameters["rate"]]
        assert mine == list(range(1, halving.epochs(number) + 1)) and trial.trained == halving.epochs(number)
    assert sum(ran.values()) == sum(halving.epochs(n) for n in range(6)) < 6 * 4


def test_the_checkpoint_at_resume_is_the_one_at_pause(one_by_one: Standing) -> None:
    workspace = one_by_one.become("data@example.org")
    found = search(workspace, "side")
    what = replace(plan(workspace, "side"), epochs=4)
    gone_on = 0
    for number, trial in enumerate(found.trials):
        for until in (1, 2):
            task = replace(what, hyperparameters=trial.hyperparameters, until=until, seed=what.seed + number)
            paused = workspace.jobs.cached(task.job())
            began = [n for n in one_by_one.notes() if n[0] == f"began-{until + 1}"]
            began = [n for n in began if float(n[1]) == trial.hyperparameters["rate"]]
            assert len(began) == (trial.trained > until)
            if began and paused is not None:
                gone_on += 1
                assert began[0][2] == paused["checkpoint"]
    assert gone_on >= 4


def test_a_killed_search_goes_on_with_what_is_missing_and_ends_the_same(
    one_by_one: Standing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_by_one.kill_at("reported-3", "search", "--yes")
    before = epochs(one_by_one.notes(), "began")
    assert len(before) > 6
    assert one_by_one.start("search", "--yes").wait(WAIT_SECONDS) == 0
    ran = epochs(one_by_one.notes(), "began")
    twice = [which for which, times in ran.items() if times > 1]
    assert len(twice) == 1 and twice[0][1] == 3 and ran[twice[0]] == 2, "only the epoch that was killed"
    workspace = one_by_one.become("data@example.org")
    ended = {t.hyperparameters["rate"]: (t.trained, t.weights, t.points) for t in trials(workspace)}
    best = workspace.journal.events("search.finished")[-1].fields["best"]
    other = standing(tmp_path / "other", monkeypatch, YAML.replace("eta: 2}", "eta: 2, workers: 1}"), FILES)
    straight = search(other.become("data@example.org"), "side")
    assert ended == {t.hyperparameters["rate"]: (t.trained, t.weights, t.points) for t in straight.trials}
    assert load(workspace, best).hyperparameters == straight.best.hyperparameters


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
