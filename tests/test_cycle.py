"""Each row of the cycle: done by its command it leaves what it should; with its function doing nothing it does not."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType

import pytest

from cdl.cycle import CYCLE
from cdl.deployment import control
from cdl.deployment.base import left_out
from cdl.errors import CdlError, JobFailed
from cdl.model.trials import trials
from cdl.registry.records import Dataset, Model, Package
from cdl.workflow.run import plan
from cdl.workflow.step import Step, late
from tests.cycle import data, deployment, model
from tests.cycle.play import ACTS, CYCLE_YAML, LEFT, Act, Play, only
from tests.projects import DATA, OPS, REVIEW, SCIENCE

pytestmark = pytest.mark.xdist_group("cycle")  # one worker plays the cycle once
GO_ON = """
def train(context):
    for _ in context.loop(model=dict(context.pretrained)):
        context.report(accuracy=1.0)


def predict(weights, inputs):
    raise NotImplementedError
"""
FAILURES = (AssertionError, CdlError, AttributeError, LookupError, TypeError, ValueError)
STEPS = [step.name for step in CYCLE.steps]
MORE = [  # what else a row is made of
    ("initial_setup", "cdl.workflow.start:lay_out"),
    ("initial_setup", "cdl.workflow.start:first_policy"),
    ("define_requirements", "cdl.workflow.gates:look_at_policy"),
    ("data_gate", "cdl.data.gate:look"),
    ("pipeline_submission", "cdl.data.submit:merge_offer"),
    ("labeling", "cdl.data.labels:record"),
    ("experiment_evaluation", "cdl.model.compare:picture"),
    ("submission_gate", "cdl.model.submit:look"),
    ("model_gate", "cdl.model.review:look"),
    ("implementation_review", "cdl.deployment.gates:merge_source"),
    ("revision_gate", "cdl.deployment.gates:look_at_revision"),
    ("deployment", "cdl.deployment.control:start"),
    ("monitoring", "cdl.monitoring.scoring:collect"),
    ("trigger", "cdl.monitoring.retrain:on_ready"),
]


class Played:
    """The project after each act, in a folder of its own; an act is played when somebody asks for what it leaves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.typed: dict[str, list[str]] = {}

    def after(self, act: Act, patch: pytest.MonkeyPatch) -> Play:
        """The project as an act left it; not to be changed."""
        place = self.folder / act.__name__
        if act.__name__ not in self.typed:
            before = self.before(act, place, patch)
            perform(before, act)
            self.typed[act.__name__] = before.typed
        return Play(place, patch)

    def before(self, act: Act, place: Path, patch: pytest.MonkeyPatch) -> Play:
        """A copy of the project as the act before left it."""
        number = ACTS.index(act)
        if number:
            earlier = self.after(ACTS[number - 1], patch)
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(earlier.folder, place, symlinks=True)
        return Play(place, patch)


def perform(play: Play, act: Act) -> None:
    """Plays an act; no service outlives it."""
    try:
        act(play)
    finally:
        place = play.root / ".cdl/services/staging"
        if control.running(place):
            control.stop(place)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    return Played(tmp_path_factory.mktemp("cycle"))


def nothing(*arguments: object, **named: object) -> None:
    """Does nothing."""


@contextlib.contextmanager
def replaced(name: str) -> Iterator[None]:
    """A function does nothing, whoever calls it and however it was imported."""
    function = late(name)
    assert isinstance(function, FunctionType)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(function, "__code__", nothing.__code__)
        yield


def test_every_row_is_played() -> None:
    assert sorted(LEFT) == sorted(STEPS) and len(set(STEPS)) == len(STEPS)


@pytest.mark.parametrize("name", STEPS)
def test_a_row_leaves_what_it_should(name: str, played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    left = LEFT[name]
    left.check(played.after(left.act, monkeypatch).become(REVIEW))


@pytest.mark.parametrize("name", STEPS)
def test_a_row_is_done_by_its_command(name: str, played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    step, act = CYCLE.step(name), LEFT[name].act
    played.after(act, monkeypatch)
    typed = played.typed[act.__name__]
    assert any(line.startswith(command) for line in typed for command in commands(step)), typed


def commands(step: Step) -> list[str]:
    """What a person types, without the names that he chooses."""
    return [" ".join(w for w in command.split() if not w.isupper()) for command in step.command.split(", ")]


@pytest.mark.parametrize(("name", "function"), [*((s.name, s.function) for s in CYCLE.steps), *MORE])
def test_a_row_whose_function_does_nothing_leaves_nothing(
    name: str, function: str, played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = LEFT[name]
    play = played.before(left.act, tmp_path / "again", monkeypatch)
    with replaced(function), contextlib.suppress(*FAILURES):
        perform(play, left.act)
    with pytest.raises(FAILURES):
        left.check(play.become(REVIEW))


def test_a_row_agrees_with_its_gate_and_sends_back_to_rows() -> None:
    at_gates = {step.gate: step for step in CYCLE.steps if step.gate}
    assert set(at_gates) == set(CYCLE.gates) - {"request"}  # a request is decided where it was sent to
    for name, step in at_gates.items():
        assert step.back_to == CYCLE.gates[name].back_to and CYCLE.gates[name].role in step.roles
        assert step.function == "cdl.workflow.decide:decide"
    for step in CYCLE.steps:
        assert set(step.back_to) <= set(STEPS), step.name


def test_what_may_begin_by_itself_says_what_waits() -> None:
    for step in CYCLE.steps:
        by_itself = step.starts != "person"
        assert by_itself == (step.pending.__name__ != "nothing") == (step.begin.__name__ != "cannot_begin"), step.name


def test_a_model_begins_with_a_registered_one(played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play = played.before(model.evaluate, tmp_path / "again", monkeypatch)
    identity, record = only(play.become(SCIENCE), Model)
    play.write("cdl.yaml", CYCLE_YAML.replace("  side:\n", f"  side:\n    pretrained: {identity}\n"))
    play.write("model/side.py", GO_ON)
    play.cdl(SCIENCE, "train", "--model", "side")
    assert trials(play.become(SCIENCE))[-1].weights == record.weights
    with replaced("cdl.model.pretrained:pretrained"), pytest.raises(JobFailed, match="NoneType"):
        play.cdl(SCIENCE, "train", "--model", "side", "--seed", "2")


NOBODY: dict[str, list[str]] = {DATA: [], SCIENCE: [], REVIEW: [], OPS: []}
TRAINING = ["training", "training"]
WAITS = [  # what `cdl run [PIPELINE]` would do for each person; whoever is left out has nothing to do
    (data.require, None, {}),
    (data.label, None, {}),
    (data.label, "model", {SCIENCE: TRAINING}),
    (model.register, None, {DATA: ["model_evaluation"], REVIEW: ["model_evaluation"], OPS: ["model_evaluation"]}),
    (model.submit, None, {}),
    (model.promote, None, {REVIEW: ["model_revision"], OPS: ["model_revision"]}),
    (deployment.accept_revision, None, {OPS: ["packaging"]}),
    (deployment.package, None, {}),
    (deployment.deploy, None, {OPS: ["monitoring"]}),
    (deployment.bring_more, None, {DATA: ["trigger"], REVIEW: ["trigger"], OPS: ["trigger"]}),
    (deployment.go_round, None, {}),
    (deployment.promote_net, "deployment", {OPS: ["compression"]}),
]


@pytest.mark.parametrize(("act", "pipeline", "wanted"), WAITS)
def test_a_run_does_only_what_may_begin_by_itself(
    act: Act, pipeline: str | None, wanted: dict[str, list[str]], played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = played.after(act, monkeypatch)
    found = {who: [p.step.name for p in plan(play.become(who), CYCLE, pipeline)] for who in NOBODY}
    assert found == NOBODY | wanted


def test_optional_steps_that_are_left_out_stand_in_the_record(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = played.after(deployment.compress, monkeypatch).become(REVIEW)
    assert {tuple(d.skipped) for _, d in workspace.registry.all(Dataset)} == {("double",)}  # `off: true` in cdl.yaml
    review = ["model_implementation", "implementation_review"]
    (small,) = [m for _, m in workspace.registry.all(Model) if (m.origin or {}).get("by") == "compression"]
    assert small.skipped == review
    assert [p.skipped for _, p in workspace.registry.all(Package)] == [["compression"]]
    trained = [
        i for i, m in workspace.registry.all(Model, "side") if m.origin is None or m.origin["by"] == "retraining"
    ]
    assert [left_out(workspace, i) for i in trained] == 2 * [[*review, "compression"]]
    optional = {step.name for step in CYCLE.steps if step.optional}
    assert {*review, "compression"} <= optional
    assert [t.search is None for t in trials(workspace) if t.model == "net"] == [True]
