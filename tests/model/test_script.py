from pathlib import Path

import pytest

from cdl.errors import Conflict, JobFailed, NotFound
from cdl.model import compare, experiment, trials
from cdl.model.evaluate import evaluate
from cdl.model.register import register
from cdl.model.train import reproduce, train
from cdl.registry.records import Model
from tests.projects import DATA, Toy, make_toy, table

SCRIPT = """
import json, os, sys
import numpy as np
from safetensors.numpy import save_file
import cdl
from model import side

data, out = os.environ["CDL_DATA"], os.environ["CDL_OUT"]
x, y = np.load(f"{data}/training_inputs.npy"), np.load(f"{data}/training_labels.npy")
rate = float(sys.argv[1])
w, b = np.zeros(x.shape[1], dtype=np.float32), np.zeros(1, dtype=np.float32)
for epoch in range(1, json.loads(os.environ["CDL_PARAMETERS"])["epochs"] + 1):
    error = (side.predict({"w": w, "b": b}, x)[:, 1] - y).astype(np.float32)
    w, b = w - rate * (x.T @ error / len(x)), b - rate * error.mean(keepdims=True)
    cdl.log(epoch=epoch, loss=float((error**2).mean()))
print("done", json.load(open(f"{data}/classes.json")))
save_file({"w": w.astype(np.float32), "b": b.astype(np.float32)}, f"{out}/weights.safetensors")
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    made = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring")
    made.data(table(120))
    made.write("plain.py", SCRIPT)
    return made


def test_an_unchanged_script_is_a_trial_a_model_and_reproduces(toy: Toy) -> None:
    workspace = toy.become(DATA)
    made = train(workspace, "side", command=["python", "plain.py", "2.0"])
    assert made.script == ["python", "plain.py", "2.0"] and made.trained == 4
    curve = trials.points(workspace, made)["validation.loss"]
    assert [e for e, _ in curve] == [1, 2, 3, 4] and curve[-1][1] < curve[0][1]
    assert b"done ['left', 'right']" in workspace.store.get(made.log or "")
    model = register(workspace, made)
    assert evaluate(workspace, model).measures()["test.accuracy"] > 0.6
    record = workspace.registry.get(model).record
    assert isinstance(record, Model)
    again = reproduce(workspace, record)
    assert again.weights == record.weights and not again.cached and again.differs is None


def test_a_script_that_fails_or_leaves_nothing_is_named(toy: Toy) -> None:
    workspace = toy.become(DATA)
    with pytest.raises(JobFailed, match="exit code 1"):
        train(workspace, "side", command=["python", "plain.py", "fast"])
    toy.write("plain.py", "print('nothing')\n")
    with pytest.raises(JobFailed, match="left neither model.onnx nor weights.safetensors"):
        train(workspace, "side", command=["python", "plain.py"])
    assert [t.status for t in trials.trials(workspace)] == ["failed", "failed"]


def test_trials_side_by_side(toy: Toy) -> None:
    workspace = toy.become(DATA)
    found = [train(workspace, "side", sets={"rate": r}) for r in (0.01, 2.0)]
    rows = compare.rows(found, sort="validation.accuracy")
    assert [r["validation.accuracy"] for r in rows] == sorted(
        (t.metrics["validation.accuracy"] for t in found), reverse=True
    )
    assert {r["rate"] for r in rows} == {0.01, 2.0}
    curves = {t.id: trials.points(workspace, t) for t in found}
    assert compare.picture(curves, "validation.accuracy").startswith(b"\x89PNG")
    with pytest.raises(NotFound, match="no trial reported 'f1'"):
        compare.picture(curves, "f1")
    with pytest.raises(NotFound, match="no trial e99"):
        trials.load(workspace, "e99")


def test_an_experiment_is_a_branch(toy: Toy) -> None:
    workspace = toy.become(DATA)
    start = workspace.git.head()
    assert experiment.create(workspace, "first") == "exp/first" == workspace.git.branch()
    assert experiment.experiments(workspace) == {"exp/first": start}
    assert [e.fields["commit"] for e in workspace.journal.events("experiment.created")] == [start]
    with pytest.raises(Conflict, match="exists"):
        experiment.create(workspace, "first")
    with pytest.raises(NotFound, match="cannot name a branch"):
        experiment.create(workspace, "a..b")
    with pytest.raises(NotFound, match="no revision"):
        experiment.create(workspace, "second", start="nowhere")
