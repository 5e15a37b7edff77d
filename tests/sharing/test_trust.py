"""A clone runs nothing, and uses no store or program, before it was allowed to; what a branch names instead is not used."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from cdl.cycle import CYCLE
from cdl.errors import Conflict, Refused
from cdl.model.train import train
from cdl.project import clone
from cdl.sharing.trust import Trusted, note, trusted
from cdl.workflow.notify import notify
from tests.projects import DATA, SCIENCE, Toy, table
from tests.sharing.conftest import Team

CDL = Path(sys.executable).with_name("cdl")


def poisoned(team: Team, trace: Path) -> None:
    """A branch of somebody who pushes whatever touches a file when it runs, and names another store and program."""
    evil = f"import pathlib\npathlib.Path({str(trace)!r}).touch()\nraise SystemExit(13)\n"
    git = team.a.become(DATA).git
    git.run("switch", "--quiet", "-c", "exp/evil")
    for path in ("model/side.py", "model/features.py", "sitecustomize.py", "conftest.py", "cdl.py", "numpy.py"):
        team.a.write(path, evil)
    yaml = (
        (team.a.root / "cdl.yaml").read_text().replace("store: ../shared", f"store: {team.store.parent / 'elsewhere'}")
    )
    yaml = yaml.replace("source: {path: incoming}", f"source: {{command: [touch, {trace}]}}")
    team.a.write("cdl.yaml", yaml + f'notify: "touch {trace}"\nsync: auto\n')
    (team.store.parent / "elsewhere").mkdir()
    team.a.commit(team.a.become(DATA), "evil")
    git.run("push", "--quiet", "origin", "exp/evil")


def test_a_hostile_branch_leaves_no_trace_in_a_new_clone(team: Team, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    poisoned(team, trace)
    root = tmp_path / "new"
    team.b.sign(SCIENCE)
    subprocess.run(["git", "clone", "--quiet", "--branch", "exp/evil", str(team.origin), str(root)], check=True)
    subprocess.run(["git", "-C", str(root), "branch", "--quiet", "main", "origin/main"], check=True)
    shutil.copytree(team.a.root / ".cdl/store", root / ".cdl/store")
    reading = (
        ["status"], ["log"], ["events"], ["model", "list"], ["trial", "list"], ["data", "list"], ["store", "verify"],
        ["ci", "check"], ["sync"], ["deploy", "status"],
    )  # fmt: skip
    for command in reading:
        done = subprocess.run([str(CDL), *command], cwd=root, capture_output=True, text=True)
        assert done.returncode == 0, (command, done.stderr)
        assert not trace.exists(), command
    for command in (["run", "--yes"], ["data", "run"], ["train"], ["search"]):
        done = subprocess.run([str(CDL), *command], cwd=root, capture_output=True, text=True)
        assert not trace.exists(), command
        assert done.returncode in (0, 3, 7), (command, done.stdout, done.stderr)
    assert not list((tmp_path / "elsewhere").iterdir()), "the store that the branch names was used"
    refused = subprocess.run([str(CDL), "train"], cwd=root, capture_output=True, text=True)
    assert refused.returncode == 3 and "cdl trust" in refused.stderr
    subprocess.run([str(CDL), "trust", "--yes", "--only", "code"], cwd=root, capture_output=True, check=True)
    subprocess.run([str(CDL), "train"], cwd=root, capture_output=True)
    assert trace.exists()  # the poison works once it is allowed to


def test_a_branch_that_names_another_store_is_named_and_not_followed(team: Team, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    poisoned(team, trace)
    team.b.cdl(SCIENCE, "sync")
    team.b.become(SCIENCE).git.run("switch", "--quiet", "-c", "exp/evil", "origin/exp/evil")
    assert "not used in this clone: store" in team.b.cdl(SCIENCE, "status")
    team.b.cdl(SCIENCE, "sync")
    notify(team.b.become(SCIENCE), CYCLE)
    assert not trace.exists() and not list((tmp_path / "elsewhere").iterdir())


def test_without_a_terminal_nobody_is_taken_to_have_said_yes(team: Team, tmp_path: Path) -> None:
    team.b.sign(SCIENCE)
    clone(str(team.origin), tmp_path / "new")
    new = Toy(tmp_path / "new", team.a._patch, keyring=tmp_path / "keys")
    with pytest.raises(Refused, match="code of .* may run here; store none -> ../shared"):
        new.cdl(SCIENCE, "trust")
    assert trusted(new.become(SCIENCE).git) == Trusted()


def test_what_a_commit_holds_below_the_clones_own_folder_is_refused(team: Team, tmp_path: Path) -> None:
    team.a.write(".cdl/store/claims/jobs/x", "{}")
    git = team.a.become(DATA).git
    git.run("add", "--force", ".cdl/store/claims/jobs/x")
    git.run("commit", "--quiet", "-m", "planted")
    git.run("push", "--quiet", "origin", "main")
    clone(str(team.origin), tmp_path / "new")
    new = Toy(tmp_path / "new", team.a._patch)
    for command in (["trust", "--yes"], ["sync"]):
        with pytest.raises(Refused, match="git tracks"):
            new.cdl(SCIENCE, *command)


def test_code_needs_trust_wherever_it_would_run(team: Team) -> None:
    workspace = team.b.become(SCIENCE)
    note(workspace.git, msgspec.structs.replace(workspace.trusted, code=False))
    with pytest.raises(Refused, match="not allowed to run"):
        train(team.b.become(SCIENCE), "side")
    team.b.cdl(SCIENCE, "trust", "--yes")
    train(team.b.become(SCIENCE), "side")


def test_what_each_command_changed_goes_out_by_itself(team: Team) -> None:
    team.a.write("cdl.yaml", (team.a.root / "cdl.yaml").read_text().replace("store:", "sync: auto\nstore:"))
    team.a.commit(team.a.become(DATA), "sync: auto")
    team.a.write("incoming/points.csv", table(140))
    done = subprocess.run([str(CDL), "data", "run"], cwd=team.a.root, capture_output=True, text=True, check=True)
    assert "sync: origin/main: sent" in done.stderr
    team.store.rename(team.store.with_name("gone"))
    done = subprocess.run([str(CDL), "approve"], cwd=team.a.root, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0 and "not synced: the shared folder is not there" in done.stderr
    team.store.with_name("gone").rename(team.store)
    assert "sent" in team.a.cdl(DATA, "sync")


def test_init_in_a_clone_that_git_made_sets_it_up(team: Team, tmp_path: Path) -> None:
    team.b.sign(SCIENCE)
    subprocess.run(["git", "clone", "--quiet", str(team.origin), str(tmp_path / "new")], check=True)
    new = Toy(tmp_path / "new", team.a._patch, keyring=tmp_path / "keys")
    assert "this is a clone of toy" in new.cdl(SCIENCE, "init", "--yes")
    workspace = new.become(SCIENCE)
    assert trusted(workspace.git).code and workspace.git.refs("refs/cdl/data/")
    assert workspace.journal.events("dataset.versioned")
    with pytest.raises(Conflict, match="a project already"):
        new.cdl(SCIENCE, "init")
