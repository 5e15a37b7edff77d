"""Git manners of a whole project: merges of every kind, deleted branches, reverts, work trees, and commands at once."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdl.cycle import CYCLE
from cdl.deployment import control, stages
from cdl.deployment.reproduce import reproduce
from cdl.model.evaluate import evaluate
from cdl.model.register import register
from cdl.model.results import evaluated
from cdl.model.train import train
from cdl.registry.check import check_registry
from cdl.registry.records import Model, Request, short
from cdl.workflow.run import run
from tests.projects import DATA, OPS, SCIENCE, SIDE, Toy, make_toy, table

CDL = Path(sys.executable).with_name("cdl")
OTHER = SIDE.replace("np.zeros(x.shape[1]", "np.ones(x.shape[1]")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toy]:
    """A project with data and a promoted model."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        toy = make_toy(folder / "toy", patch, folder / "keyring", roles=True)
        toy.data(table(120))
        toy.promote()
        yield toy


@pytest.fixture
def toy(made: Toy, tmp_path: Path) -> Iterator[Toy]:
    """A copy of it."""
    copied = made.copy(tmp_path / "toy")
    yield copied
    place = copied.root / ".cdl/services/production"
    if control.running(place):
        control.stop(place)


def said(root: Path, *arguments: str) -> str:
    done = subprocess.run([str(CDL), *arguments], cwd=root, env=dict(os.environ), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def experiment(toy: Toy, branch: str = "exp/other") -> str:
    """Changed source committed on a branch, trained and registered there; the branch stays checked out."""
    workspace = toy.become(SCIENCE)
    workspace.git.run("switch", "--quiet", "-C", branch, "main")
    toy.write("model/side.py", OTHER)
    toy.commit(workspace, "ones")
    workspace = toy.become(SCIENCE)
    return register(workspace, train(workspace, "side"))


@pytest.mark.parametrize("how", ["squash", "rebase", "never"])
def test_a_model_survives_a_squash_a_rebase_and_a_deleted_branch(toy: Toy, how: str) -> None:
    model = experiment(toy)
    found = evaluate(toy.become(DATA), model)
    git = toy.become(SCIENCE).git
    git.run("switch", "--quiet", "main")
    toy.write("README.md", "meanwhile\n")
    toy.commit(toy.become(SCIENCE), "meanwhile")
    if how == "squash":
        git.run("merge", "--quiet", "--squash", "exp/other")
        git.run("commit", "--quiet", "--message", "the experiment in one commit")
    elif how == "rebase":
        git.run("rebase", "--quiet", "main", "exp/other")
        git.run("switch", "--quiet", "main")
        git.run("merge", "--quiet", "--ff-only", "exp/other")
    git.run("branch", "--quiet", "-D", "exp/other")
    for ref in [*git.refs("refs/cdl/trials/"), *git.refs("refs/cdl/offers/")]:
        git.run("update-ref", "-d", ref)  # what is left is refs/cdl/models
    git.run("reflog", "expire", "--expire=now", "--expire-unreachable=now", "--all")
    git.run("gc", "--quiet", "--prune=now")
    (toy.root / ".cdl/observed.json").unlink()
    workspace = toy.become(DATA)
    assert workspace.registry.get(short(model)).id == model
    again = evaluated(workspace, model)
    assert again is not None and again.object == found.object
    assert all(f.identical for f in reproduce(workspace, model))
    assert (model in [m for m, _ in workspace.registry.all(Model, at="main")]) == (how != "never")
    assert check_registry(git, "main") == []
    assert run(workspace, CYCLE, "model") == [] and git.run("status", "--porcelain") == b""


def test_a_reverted_deployment_is_named_and_the_service_stays_until_apply(toy: Toy) -> None:
    first = toy.package()
    said(toy.root, "deploy", "apply", "production")
    toy.promote("exp/second", seed=4, sets={"rate": 1.0})
    toy.package()
    said(toy.root, "deploy", "apply", "production")
    second = stages.status(toy.become(OPS), "production").running
    assert second is not None and second != first
    assert stage_line(toy).startswith(f"production runs {short(second)} at http://127.0.0.1:")
    toy.become(OPS).git.run("revert", "--no-edit", "HEAD")
    line = stage_line(toy)
    assert line.startswith(f"production: declared {short(first)}, running {short(second)} at http://127.0.0.1:")
    assert line.endswith(": cdl deploy apply production")
    tip = toy.become(OPS).git.head()
    said(toy.root, "deploy", "apply", "production")
    assert stage_line(toy).startswith(f"production runs {short(first)} at http://127.0.0.1:")
    subjects = toy.become(OPS).git.text("log", "--format=%s", f"{tip}..").splitlines()
    assert [s.partition(":")[0] for s in subjects] == ["manifest"], "the head says it already"
    git = toy.become(OPS).git
    git.run("rm", "--quiet", "registry/deployments/production.yaml")
    git.run("commit", "--quiet", "--message", "nothing is deployed")
    assert stage_line(toy).startswith(f"production: declared nothing, running {short(first)} at http://127.0.0.1:")
    assert stage_line(toy).endswith(": cdl deploy stop production")


def stage_line(toy: Toy) -> str:
    """What `cdl status` and `cdl deploy status` say of the stage: the same."""
    toy.become(OPS)
    both = [said(toy.root, *command).splitlines() for command in (["status"], ["deploy", "status", "production"])]
    [first], [second] = ([line for line in lines if line.startswith("production")] for lines in both)
    assert first == second
    return first


def test_two_branches_that_register_models_merge_and_both_are_found(toy: Toy) -> None:
    first = experiment(toy, "exp/one")
    second = toy.model("exp/two", seed=3)
    git = toy.become(SCIENCE).git
    git.run("switch", "--quiet", "main")
    for branch in ("exp/one", "exp/two"):
        git.run("merge", "--quiet", "--no-edit", branch)
        git.run("branch", "--quiet", "-d", branch)
    workspace = toy.become(DATA)
    at_main = {m for m, _ in workspace.registry.all(Model, at="main")}
    assert {first, second} < at_main and check_registry(git, "main") == []
    assert {p.work.subject for p in run(workspace, CYCLE, "model")} == {first, second}
    listed = {row["model"]: row["test.accuracy"] for row in json.loads(said(toy.root, "model", "list", "--json"))}
    assert len(listed) == 3 and all(value is not None for value in listed.values())


def test_commands_that_commit_at_once_all_land(toy: Toy) -> None:
    toy.become(DATA)
    toy.write("README.md", "not committed\n")
    before = toy.become(DATA).git.run("status", "--porcelain=v2")
    commands = [[str(CDL), "reopen", "training", "--because", f"reason {i}"] for i in range(6)]
    both = [subprocess.Popen(c, cwd=toy.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for c in commands]
    ended = [(process.communicate()[0], process.returncode) for process in both]
    assert [code for _, code in ended] == [0] * 6, ended
    workspace = toy.become(DATA)
    requests = {r.because for _, r in workspace.registry.all(Request, at="main")}
    assert requests == {f"reason {i}" for i in range(6)}
    assert workspace.git.run("status", "--porcelain=v2") == before and check_registry(workspace.git, "main") == []
    assert len(workspace.journal.events("request.opened")) == 6


def test_a_second_work_tree_shares_store_journal_and_service(toy: Toy, tmp_path: Path) -> None:
    first = toy.become(SCIENCE)
    second = Toy(tmp_path / "second", toy._patch)
    first.git.run("worktree", "add", "--quiet", "-b", "exp/second", str(second.root), "main")
    assert not (second.root / "incoming").exists()
    second.write("model/side.py", OTHER)
    workspace = second.become(SCIENCE)
    before = workspace.git.run("status", "--porcelain=v2")
    trial = train(workspace, "side")
    assert workspace.git.run("status", "--porcelain=v2") == before
    second.commit(workspace, "ones")
    model = register(second.become(SCIENCE), train(second.become(SCIENCE), "side"))
    assert not (second.root / ".cdl").exists(), "one store for all work trees"
    second.submit(model)
    assert first.git.branch() == "main" and first.git.run("status", "--porcelain") == b""
    run(second.become(DATA), CYCLE, None)
    second.approve("review@example.org", model)
    here = toy.become(SCIENCE)
    assert (toy.root / "model/side.py").read_text() == OTHER, "the work tree of main followed"
    assert here.git.run("status", "--porcelain") == b"" == second.become(SCIENCE).git.run("status", "--porcelain")
    assert "e2" in said(toy.root, "trial", "list") and trial.id in said(toy.root, "trial", "show", "e2")
    assert all(f.identical for f in reproduce(here, model))
    shutil.rmtree(second.root)
    here.git.run("worktree", "prune")
    assert evaluated(toy.become(DATA), model) is not None
