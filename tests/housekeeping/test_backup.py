"""Restoring: from a copy of `.cdl`, from the shared store, from the git remote alone; and what is lost then."""

import shutil
from pathlib import Path

import pytest

from cdl.housekeeping.needed import missing, needed
from cdl.journal import stream
from cdl.keys import Keyring
from cdl.model.results import evaluated
from cdl.model.trials import trials
from cdl.project import clone
from cdl.registry.records import Dataset, Decision, Model
from tests.projects import DATA, SCIENCE, Toy
from tests.sharing.conftest import Team


def test_from_a_copy_of_the_folder(shared: Team, tmp_path: Path) -> None:
    """Git repository and `.cdl` copied, work went on, then the disk was lost: the copy goes on with a stream of its own."""
    own = stream.own_stream(shared.b.root / ".cdl")
    backup = shared.b.copy(tmp_path / "backup")
    shared.b.model("exp/later", seed=9)
    shared.b.cdl(SCIENCE, "sync")
    shutil.rmtree(shared.b.root)
    restored = backup.copy(shared.b.root)
    assert len(trials(restored.become(SCIENCE))) == 1
    restored.become(SCIENCE).journal.append("project.initialized", who=SCIENCE)
    restored.cdl(SCIENCE, "sync")
    restored.cdl(SCIENCE, "sync")
    assert stream.own_stream(restored.root / ".cdl") != own
    assert len(trials(restored.become(SCIENCE))) == 2, "what was sent after the copy was made is there too"
    assert "wrong " not in restored.cdl(SCIENCE, "doctor", "--full")


def test_from_the_shared_store(shared: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clone and its keyring are lost: the git remote, the store and a backup line bring everything that was sent."""
    a = shared.a.become(DATA)
    line = shared.a.cdl(DATA, "key", "backup")
    model = a.registry.all(Model)[0][0]
    events = {e.id for e in a.journal.events()}
    measures = evaluated(a, model)
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(shared.a.root)
    shutil.rmtree(shared.a.root.parent / "keys-a")
    restored = shared.another(tmp_path / "again", DATA)
    assert not restored.become(DATA).holds_key("points")
    restored.cdl(DATA, "key", "restore", given=line)
    workspace = restored.become(DATA)
    assert events <= {e.id for e in workspace.journal.events()} and not missing(workspace.clone)
    found = evaluated(workspace, model)
    assert found is not None and measures is not None and found.measures() == measures.measures()
    tree = workspace.vault("points", by="test").tree(workspace.registry.all(Dataset)[0][1].test)
    assert tree.view(0)
    assert "wrong " not in restored.cdl(DATA, "doctor", "--full")


def test_from_the_git_remote_alone(shared: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Store and clones are lost: records, decisions and code are there; every object, trial, label and event is not."""
    a = shared.a.become(DATA)
    keyring = Keyring().path.read_bytes()
    kept = {i for kind in (Model, Dataset, Decision) for i, _ in a.registry.all(kind)}
    monkeypatch.chdir(tmp_path)
    for lost in (shared.a.root, shared.b.root, shared.store):
        shutil.rmtree(lost)
    shared.store.mkdir()
    toy = Toy(tmp_path / "again", shared.a._patch, keyring=tmp_path / "keyring")
    (tmp_path / "keyring").write_bytes(keyring)
    (tmp_path / "keyring").chmod(0o600)
    toy.sign(DATA)
    clone(str(shared.origin), toy.root)
    toy.cdl(DATA, "trust", "--yes")
    toy.cdl(DATA, "sync")
    workspace = toy.become(DATA)
    assert kept == {i for kind in (Model, Dataset, Decision) for i, _ in workspace.registry.all(kind)}
    model = workspace.registry.all(Model)[0]
    assert workspace.git.resolve(f"refs/cdl/models/{model[0]}") is not None
    assert trials(workspace) == [] and evaluated(workspace, model[0]) is None
    assert set(missing(workspace.clone)) == {name for name, _ in needed(workspace.clone)} != set()
    kinds = {e.kind for e in workspace.journal.events()}
    assert "model.registered" in kinds and "decision.made" in kinds and "trial.finished" not in kinds
