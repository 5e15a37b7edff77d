"""A `.cdl` of an earlier version is brought to this one on first use, with everything it held."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from cdl.data.history.reproduce import reproduce_data
from cdl.errors import ConfigError, Refused
from cdl.git.repository import Git
from cdl.housekeeping import upgrade
from cdl.housekeeping.gc import collect
from cdl.keys import Keyring, derive
from cdl.model.evaluate import evaluate
from cdl.model.results import counted
from cdl.model.train import train
from cdl.model.trials import points, trials
from cdl.registry.records import Dataset, Model
from cdl.store.builder import Builder
from cdl.store.seal import Vault
from cdl.store.store import Store
from cdl.store.tree import content_of, open_tree
from tests.projects import DATA, SCIENCE, Toy

ARCHIVE = Path(__file__).parents[1] / "old" / "project.tar.gz"


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """A project as version 1 left it: one model, registered and evaluated."""
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, "/dev/null")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    root = tmp_path / "toy"
    Git(tmp_path).run("clone", "--quiet", "repository.bundle", str(root))
    git = Git(root)
    git.run("fetch", "--quiet", "origin", "refs/cdl/*:refs/cdl/*")
    for branch in git.text("for-each-ref", "--format=%(refname:strip=3)", "refs/remotes/origin").split():
        if branch != "HEAD" and git.resolve(f"refs/heads/{branch}") is None:
            git.run("branch", "--quiet", branch, f"origin/{branch}")
    git.run("remote", "remove", "origin")
    (tmp_path / ".cdl").rename(root / ".cdl")
    toy = Toy(root, monkeypatch, keyring=tmp_path / "keyring")
    toy.sign(DATA)
    Keyring().create("toy", "points", secret=b"a key of 32 bytes, always equal.")
    return toy


def test_everything_is_there_and_work_goes_on(old: Toy) -> None:
    folder = old.root / ".cdl"
    before = set(Store(folder / "store").names())
    lines = {p: p.read_bytes() for p in (folder / "journal").glob("c-*/*")}
    results = {Store(folder / "store").claimed(c) for c in Store(folder / "store").claims("counted/")}
    assert upgrade.version(folder) is None and len(results) == 1
    workspace = old.become(DATA)
    assert upgrade.version(folder) == upgrade.VERSION
    assert set(workspace.store.names()) >= before
    assert all(p.read_bytes().startswith(data) for p, data in lines.items())
    (model, record), (_, dataset) = workspace.registry.all(Model)[0], workspace.registry.all(Dataset)[0]
    assert [r.encode() for r in counted(workspace, dataset.test)] == list(results)
    assert workspace.trusted.code
    found = evaluate(workspace, model)
    assert found.number == 1 and found.object.encode() in results, "it was evaluated again"
    assert points(workspace, trials(workspace)[0]) and trials(workspace)[0].weights == record.weights
    old.become(SCIENCE).git.run("switch", "--quiet", "exp/first")
    assert train(old.become(SCIENCE), "side", seed=5).metrics
    assert collect(old.become(DATA).clone, remove=False).missing == 0
    assert "wrong " not in old.cdl(DATA, "doctor", "--full")
    assert upgrade.upgrade(workspace.git, folder) is False


@pytest.mark.parametrize("step", ["claim", "unclaim", "note"])
def test_killed_in_between_it_is_done_by_the_next(old: Toy, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def dies(*arguments: object) -> None:
        raise RuntimeError("killed")

    place = "cdl.housekeeping.upgrade.note" if step == "note" else f"cdl.store.store.Store.{step}"
    with monkeypatch.context() as patch:
        patch.setattr(place, dies)
        with pytest.raises(RuntimeError):
            old.become(DATA)
    assert upgrade.version(old.root / ".cdl") is None
    workspace = old.become(DATA)
    test = workspace.registry.all(Dataset)[0][1].test
    assert len(counted(workspace, test)) == 1 and workspace.trusted.code
    assert evaluate(workspace, workspace.registry.all(Model)[0][0]).number == 1


def test_two_that_open_it_first_at_once(old: Toy) -> None:
    old.sign(DATA)
    command = [sys.executable, "-m", "cdl", "trial", "list"]
    both = [subprocess.Popen(command, cwd=old.root, env=os.environ, stdout=subprocess.PIPE) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0] and said[0] == said[1] != b""
    workspace = old.become(DATA)
    assert len(counted(workspace, workspace.registry.all(Dataset)[0][1].test)) == 1


def test_one_that_no_job_ran_in_or_a_commit_brought_is_not_allowed_code(old: Toy) -> None:
    git = Git(old.root)
    git.run("add", "--force", ".cdl/stream")
    assert not old.become(DATA).trusted.code
    with pytest.raises(Refused, match="not allowed to run"):
        old.become(DATA).trusted.require_code()
    git.run("rm", "--quiet", "--cached", ".cdl/stream")
    (old.root / ".cdl/version").unlink()
    (old.root / ".cdl/stream").write_text("c-" + "0" * 16 + "\n")
    assert not old.become(DATA).trusted.code


def test_a_later_one_is_refused_with_the_remedy(old: Toy) -> None:
    old.become(DATA)
    (old.root / ".cdl/version").write_text("99\n")
    with pytest.raises(ConfigError, match="later version") as caught:
        old.become(DATA)
    assert "pip install --upgrade" in str(caught.value)
    old.sign(DATA)
    done = subprocess.run([sys.executable, "-m", "cdl", "doctor"], cwd=old.root, capture_output=True, check=False)
    assert done.returncode == 5 and b"later version" in done.stdout


def test_what_was_made_then_is_reproduced_now(old: Toy) -> None:
    workspace = old.become(DATA)
    record = workspace.registry.all(Dataset)[0]
    assert reproduce_data(workspace, record[0])[0].identical
    vault = Vault(workspace.store, derive(b"a key of 32 bytes, always equal.", "data key 1"), "k-1", identity=bytes(32))
    for name, box in ((record[1].train, workspace.store), (record[1].test, vault)):
        tree, again = open_tree(box, name), Builder(box)
        assert tree.table is None and len(tree) > 10
        for place, item in enumerate(tree.names):
            again.add(item, tree.view(place), tree.meta(place))
        assert content_of(box, again.finish()) == content_of(box, name)
