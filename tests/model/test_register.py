"""Registration: what a model is made of stays, whatever happens to the branch."""

import os
from pathlib import Path

import pytest

from cdl.model.loading import Predictor, with_predictor
from cdl.model.register import keep_source
from cdl.model.source import model_record, transformation_of
from cdl.registry.history import history
from cdl.registry.registry import MODEL_REFS
from tests.projects import SCIENCE, make_toy, table


def test_a_model_outlives_its_branch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring")
    toy.data(table(60), "data@example.org")
    model = toy.model("exp/gone")
    git = toy.become(SCIENCE).git
    git.run("switch", "--quiet", "main")
    git.run("branch", "--quiet", "-D", "exp/gone")
    git.run("reflog", "expire", "--expire=now", "--all")
    git.run("gc", "--quiet", "--prune=now", env={**os.environ, "GIT_OPTIONAL_LOCKS": "1"})
    workspace = toy.become(SCIENCE)
    record = model_record(workspace, model)
    assert transformation_of(workspace, record) is not None
    found: list[tuple[int, ...]] = []

    def use(predictor: Predictor) -> None:
        found.append(predictor.probabilities([b'{"x": "1", "y": "2"}']).shape)

    with_predictor(workspace, record, use)
    assert found == [(1, 2)]
    (entry,) = [e for e in history(workspace.registry, "side") if e.kind == "model"]
    assert (entry.id, entry.who) == (model, SCIENCE) and entry.line.startswith("model register: side m-")


def test_two_clones_that_make_the_same_record_make_the_same_ref(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring")
    toy.data(table(60), "data@example.org")
    model = toy.model("exp/one")
    workspace = toy.become(SCIENCE)
    record, kept = model_record(workspace, model), workspace.git.resolve(MODEL_REFS + model)
    line = workspace.git.text("log", "-1", "--format=%s", str(kept)).partition(": ")[2]
    workspace.git.run("update-ref", "-d", MODEL_REFS + model)
    for name in ("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"):
        monkeypatch.setenv(name, "2001-02-03T04:05:06Z")  # another clone, at another moment
    workspace = toy.become(SCIENCE)
    again = keep_source(workspace, record, transformation_of(workspace, record), line=line)
    assert again == kept == workspace.git.resolve(MODEL_REFS + model)
