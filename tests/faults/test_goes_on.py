"""Kills at known places: each of these lost, doubled or hid something once."""

import contextlib
import threading
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from cdl.cycle import CYCLE, TRIGGERS
from cdl.data import labels, versions
from cdl.data.pipeline.split import TEST, TRAIN
from cdl.data.ready import announce
from cdl.errors import Conflict, Unavailable
from cdl.journal.journal import Journal
from cdl.model.register import register
from cdl.model.train import train
from cdl.monitoring import retrain
from cdl.registry.records import Dataset, DatasetHead, Made, Model
from cdl.registry.registry import Registry
from cdl.sharing import parcel, push
from cdl.sharing.place import Moved, object_name
from cdl.store.remote import Folder
from cdl.workflow.decide import decide
from cdl.workflow.trigger import fire, waiting
from cdl.workflow.workspace import Workspace
from tests.projects import DATA, SCIENCE, YAML, Toy, make_toy, table
from tests.sharing.conftest import Team, team

__all__ = ["team"]
TRIGGERED = YAML + "triggers:\n  - {when: dataset.ready, run: [evaluate, train], of: side}\n"


class Killed(BaseException):
    """What a kill is here: nothing of the command runs after it."""


def killed(*_: Any, **__: Any) -> Any:
    raise Killed


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """A solo project with released labels."""
    made = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring")
    made.data(table(60), DATA)
    return made


def test_a_model_whose_registration_was_killed_is_the_one_that_stands(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = toy.become(SCIENCE)
    trial = train(workspace, "side")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Registry, "commit", killed)
        register(workspace, trial)
    later(monkeypatch)
    again = toy.become(SCIENCE)
    model = register(again, trial)
    assert [identity for identity, _ in again.registry.all(Model)] == [model]
    assert [identity for identity, _ in again.registry.all(Model, at=again.git.head())] == [model]


def test_a_killed_import_of_labels_left_all_or_nothing(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = toy.become(DATA)
    session = labels.Session(workspace, "points")
    before = {side: len(labels.rows(workspace, "points", side)) for side in (TRAIN, TEST)}
    first = {side: next(i for i, s in session.known.items() if s == side) for side in (TRAIN, TEST)}
    write = Journal.append_many
    told: list[str] = []

    def once(self: Journal, events: Any, **named: Any) -> Any:
        if told:
            raise Killed
        told.extend(kind for kind, _, _ in events if kind == "labels.recorded")
        return write(self, events, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append_many", once)
        with contextlib.suppress(Killed):
            session.record(dict.fromkeys(first.values(), "left"))
    after = {side: len(labels.rows(toy.become(DATA), "points", side)) for side in (TRAIN, TEST)}
    assert {side: after[side] - before[side] for side in (TRAIN, TEST)} in ({TRAIN: 0, TEST: 0}, {TRAIN: 1, TEST: 1})


def test_an_answer_typed_again_makes_no_second_version(toy: Toy) -> None:
    workspace = toy.become(DATA)
    head = workspace.registry.head(DatasetHead, "points")
    assert head is not None
    toy.write("incoming/more.csv", table(10, first=60))
    sent = versions.make(workspace, "points")
    request = decide(toy.become(DATA), CYCLE, "data", sent, "reject", because="more", to="collection").request
    assert request
    toy.write("incoming/more.csv", table(20, first=60))
    found = [versions.make(toy.become(DATA), "points", answers=request) for _ in range(2)]
    assert found[0] == found[1] and toy.become(DATA).registry.record(Dataset, found[0]).answers == request


@pytest.mark.parametrize("place", ["register", "evaluate"])
def test_a_killed_trigger_goes_on_to_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    toy = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", roles=True, yaml=TRIGGERED)
    toy.data(table(120))
    toy.promote()
    toy.data(table(180))
    announce(toy.become(DATA))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(retrain, place if place == "register" else "compare", killed)
        fire(toy.become(DATA), TRIGGERS)
    later(monkeypatch)
    assert len(fire(toy.become(DATA), TRIGGERS)) == 2
    workspace = toy.become(DATA)
    assert waiting(workspace, TRIGGERS) == []
    made = [identity for identity, m in workspace.registry.all(Model) if m.made.cause is not None]
    assert len(made) == 1
    assert list(workspace.git.refs("refs/heads/cdl/")) == [f"refs/heads/cdl/retrain-{made[0][2:10]}"]


def test_what_came_after_a_killed_push_is_sent_too(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    a = team.a.become(DATA)
    item = a.store.tree(labels.current(a, "points")[1].train).names[0]
    labels.record(a, "points", {item: "left"})
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(parcel, "keep", killed)
        push.push(a.clone, Folder(team.store))
    again = team.a.become(DATA)
    labels.record(again, "points", {item: "right"})
    push.push(again.clone, Folder(team.store))
    team.b.cdl(SCIENCE, "sync")
    b = team.b.become(SCIENCE)
    assert len(b.journal.events()) == len(team.a.become(DATA).journal.events())
    assert [row.value for row in labels.rows(b, "points", TRAIN) if row.item == item][-2:] == ["left", "right"]


def test_what_was_sent_before_a_break_is_not_sent_again(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    a = team.a.become(DATA)
    names = [a.store.put(b"%d" % n) for n in range(40)]
    sent: list[str] = []
    others, put = threading.Event(), Folder.put

    def breaks(self: Folder, name: str, data: bytes | memoryview) -> None:
        if name == object_name(names[0]):
            others.wait(10)
            raise Unavailable("gone", where=self.place)
        put(self, name, data)
        sent.append(name)
        if len(sent) == 5:
            others.set()

    with monkeypatch.context() as patch, pytest.raises(Unavailable):
        patch.setattr(Folder, "put", breaks)
        push._send(a.clone, Folder(team.store), names, Moved(), again=frozenset())
    moved = Moved()
    push._send(a.clone, Folder(team.store), names, moved, again=frozenset())
    assert len(sent) >= 5 and moved.objects == len(names) - len(sent)
    assert all((team.store / object_name(name)).exists() for name in names)


@pytest.mark.parametrize("lock", [".git/refs/heads/main.lock", ".git/HEAD.lock"])
def test_a_lock_that_a_killed_git_left_is_named(toy: Toy, lock: str) -> None:
    (toy.root / lock).touch()
    with pytest.raises(Conflict) as caught:
        labels.release(with_a_label(toy), "points")
    assert caught.value.where == str(toy.root / lock) and "remove the file" in str(caught.value.remedy)
    (toy.root / lock).unlink()
    labels.release(toy.become(DATA), "points")


def test_a_lock_that_a_killed_git_left_at_the_remote_is_named(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cdl.sharing.sync.ATTEMPTS", 2)
    labels.release(with_a_label(team.a), "points")
    lock = team.origin / "refs/heads/main.lock"
    lock.touch()
    with pytest.raises(Conflict) as caught:
        team.a.cdl(DATA, "sync")
    assert str(caught.value.where).endswith("refs/heads/main.lock")
    lock.unlink()
    team.a.cdl(DATA, "sync")


def with_a_label(toy: Toy) -> Workspace:
    """The clone with a label more, opened by who made it."""
    workspace = toy.become(DATA)
    item = workspace.store.tree(labels.current(workspace, "points")[1].train).names[0]
    labels.record(workspace, "points", {item: "left"})
    return workspace


def test_a_half_written_checkpoint_is_ignored(toy: Toy) -> None:
    first = train(toy.become(SCIENCE), "side", seed=3)
    for claims in (toy.root / ".cdl/store/claims/jobs").iterdir():
        claims.unlink()  # nothing is known but what the notes say
    (notes,) = [p for p in (toy.root / ".cdl/trials").iterdir() if any(p.glob("epoch-4.json"))]
    (notes / "epoch-4.json").unlink()
    (notes / "epoch-4.4711.tmp").write_text('{"epoch": 4, "check')
    again = train(toy.become(SCIENCE), "side", seed=3)
    assert (again.weights, again.points, again.metrics) == (first.weights, first.points, first.metrics)


def later(patch: pytest.MonkeyPatch) -> None:
    """What is made from here on is made at another time than before."""
    made = Workspace.made

    def tomorrow(self: Workspace, role: str | None = None, *, cause: str | None = None) -> Made:
        return replace(made(self, role, cause=cause), when="2030-01-01T00:00:00Z")

    patch.setattr(Workspace, "made", tomorrow)
