"""A person in the wrong role gets no further at any step that leaves a record, and the attempt is an event."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cdl.data import labels, submit, versions
from cdl.deployment import apply, implement
from cdl.errors import Refused
from cdl.model.register import register
from cdl.model.train import train
from cdl.monitoring import select, window
from cdl.workflow.workspace import Workspace
from tests.projects import DATA, OPS, REVIEW, SCIENCE, Toy, make_toy, table

Act = Callable[[Workspace], object]
STEPS: dict[str, tuple[str, Act]] = {
    "data run": (SCIENCE, lambda w: versions.make(w, "points")),
    "data submit": (SCIENCE, lambda w: submit.submit(w, "points")),
    "data collect": (SCIENCE, lambda w: select.bring_back(w, "r-00000000", "points")),
    "labeling": (SCIENCE, lambda w: labels.record(w, "points", {})),
    "label release": (OPS, lambda w: labels.release(w, "points")),
    "model register": (DATA, lambda w: register(w, train(w, "side"))),
    "model implement": (SCIENCE, lambda w: implement.implement(w, "m-00000000", input="row")),
    "deployment": (REVIEW, lambda w: apply.apply(w, "production")),
    "monitor run": (DATA, lambda w: window.monitor(w, "production")),
}


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    made = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", roles=True)
    made.data(table(60))
    return made


@pytest.mark.parametrize("step", STEPS)
def test_the_wrong_role_is_refused_and_recorded(toy: Toy, step: str) -> None:
    who, act = STEPS[step]
    workspace = toy.become(who)
    before = (workspace.git.refs("refs/heads/"), (toy.root / "incoming/points.csv").read_text())
    with pytest.raises(Refused, match=f"{step} is for"):
        act(workspace)
    event = toy.become(who).journal.events("decision.refused")[-1]
    assert (event.who, event.fields) == (who, {"gate": step, "subject": step, "because": "role"})
    assert (workspace.git.refs("refs/heads/"), (toy.root / "incoming/points.csv").read_text()) == before
