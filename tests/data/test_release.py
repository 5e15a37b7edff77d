"""Labels that came with the source, when the command that approved them was killed, and classes that are none any more."""

from pathlib import Path

import pytest

from cdl.cycle import CYCLE
from cdl.data import labels, ready, versions
from cdl.errors import ConfigError
from cdl.workflow.decide import decide
from cdl.workflow.run import plan, run
from tests.projects import DATA, Toy, make_toy, table

KILLED = "cdl.data.labels.release", "cdl.data.labels.record", "cdl.data.gate._release"


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    return make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", roles=True)


@pytest.mark.parametrize("where", KILLED)
def test_an_approval_killed_before_its_labels_is_finished_by_the_next_run(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    toy.write("incoming/points.csv", table(40))
    made = versions.make(toy.become(DATA), "points")

    def killed(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(where, killed)
        decide(toy.become(DATA), CYCLE, "data", made, "approve")
    assert "labeling" in [p.step.name for p in plan(toy.become(DATA), CYCLE, None)]
    run(toy.become(DATA), CYCLE, None)
    workspace = toy.become(DATA)
    assert ready.ready(workspace, "points") is not None and plan(workspace, CYCLE, None) == []
    assert sum(len(labels.rows(workspace, "points", side)) for side in ("train", "test")) == 40


def test_labels_of_a_class_that_is_none_any_more_are_named(toy: Toy) -> None:
    toy.data(table(40))
    toy.write("cdl.yaml", (toy.root / "cdl.yaml").read_text().replace("[left, right]", "[left, top]"))
    toy.commit(toy.become(DATA), "another class")
    toy.approve("review@example.org", "policy")
    with pytest.raises(ConfigError, match="no class 'right'"):
        labels.release(toy.become(DATA), "points")
