"""Files of the registry that somebody wrote by hand: each is named where it stands, and none of them stops history."""

import subprocess
import sys
from pathlib import Path

import pytest

from cdl.errors import CdlError
from cdl.git.repository import Git
from cdl.registry.check import check_registry
from cdl.registry.records import Model, ModelHead
from tests.registry.made import Kept

LIES = {
    "a letter of no kind": ("registry/models/side/z-" + "a" * 32 + ".yaml", "kind: model\n"),
    "another's name": ("registry/models/side/m-" + "a" * 32 + ".yaml", "kind: model\n"),
    "a short name": ("registry/requests/r-aaaaaaaa.yaml", "kind: request\n"),
    "a folder of no kind": ("registry/foo/m-" + "b" * 32 + ".yaml", "a: 1\n"),
    "marks of a merge": ("registry/models/side.yaml", "<<<<<<< HEAD\npromoted: m-1\n=======\n"),
    "a huge head": ("registry/labels/articles.yaml", "version: " + "l" * 1_100_000 + "\n"),
    "a head to nothing": ("registry/models/other.yaml", "promoted: m-" + "c" * 32 + "\n"),
    "a name of two lines": ("registry/models/a\nb.yaml", "promoted: m-" + "c" * 32 + "\n"),
}


def put(git: Git, path: str, text: str) -> None:
    target = git.root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    git.run("add", "--force", "--", path)
    git.run("commit", "--quiet", "--message", "by hand", "--", path)


@pytest.mark.parametrize("lie", LIES)
def test_a_file_that_lies_is_named_and_stops_nothing_once_it_is_gone(kept: Kept, lie: str) -> None:
    path, text = LIES[lie]
    made = kept.model(1)
    before = len(kept.registry.journal.events())
    put(kept.registry.git, path, text)
    assert path in {f.where for f in check_registry(kept.registry.git, "HEAD")}
    kept.opened().observe()
    kept.registry.git.run("revert", "--no-edit", "HEAD")
    registry = kept.opened()
    registry.observe()
    assert registry.get(made).id == made and [i for i, _ in registry.all(Model, at="HEAD")] == [made]
    assert len(registry.journal.events()) >= before and registry.heads(ModelHead) == {}
    assert path not in {f.where for f in check_registry(kept.registry.git, "HEAD")}


def test_a_record_that_lies_is_refused_where_it_is_read(kept: Kept) -> None:
    kept.model(1)
    path, text = LIES["another's name"]
    put(kept.registry.git, path, text)
    with pytest.raises(CdlError, match="not the hash"):
        kept.opened().all(Model, at="HEAD")


def test_a_record_in_the_wrong_place_is_named(kept: Kept) -> None:
    made = kept.model(1)
    put(
        kept.registry.git,
        f"registry/models/other/{made}.yaml",
        (kept.registry.git.root / f"registry/models/side/{made}.yaml").read_text(),
    )
    assert [f.where for f in check_registry(kept.registry.git, "HEAD")] == [f"registry/models/other/{made}.yaml"]


def test_a_shallow_clone_is_checked_as_far_as_it_shows_and_says_so(kept: Kept, tmp_path: Path) -> None:
    put(kept.registry.git, "cdl.yaml", "cdl: 1\nproject: news\n")
    made = kept.model(1)
    kept.model(2)
    shallow = tmp_path / "shallow"
    kept.registry.git.run("clone", "--quiet", "--depth", "1", f"file://{kept.registry.git.root}", str(shallow))
    assert (check_registry(Git(shallow), "HEAD"), Git(shallow).whole()) == ([], False)
    done = ci_check(tmp_path, shallow)
    assert done.returncode == 7 and "not checked: records and keys that earlier commits changed" in done.stdout
    assert "git fetch --unshallow, or --shallow" in done.stderr
    assert ci_check(tmp_path, shallow, "--shallow").returncode == 0
    (shallow / f"registry/models/side/{made}.yaml").write_text("kind: model\n")
    Git(shallow).run("-c", "user.name=x", "-c", "user.email=x@y.z", "commit", "--quiet", "--all", "--message", "lie")
    assert ci_check(tmp_path, shallow, "--shallow").returncode == 5


def ci_check(home: Path, clone: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """`cdl ci check` as a runner without a name types it."""
    around = {"PATH": "/usr/bin:/bin", "HOME": str(home), "GIT_CONFIG_GLOBAL": "/dev/null"}
    command = [sys.executable, "-m", "cdl", "ci", "check", *arguments]
    return subprocess.run(command, cwd=clone, env=around, capture_output=True, text=True, check=False)


def test_a_runner_without_a_name_checks_a_detached_head(kept: Kept, tmp_path: Path) -> None:
    kept.model(1)
    put(kept.registry.git, "cdl.yaml", "cdl: 1\nproject: news\n")
    clone = tmp_path / "runner"
    kept.registry.git.run("clone", "--quiet", str(kept.registry.git.root), str(clone))
    Git(clone).run("checkout", "--quiet", "--detach")
    Git(clone).run("branch", "--quiet", "--delete", "--force", "main")
    done = ci_check(tmp_path, clone)
    assert done.returncode == 0 and done.stdout.endswith("is whole\n"), done.stderr
    assert ci_check(tmp_path, clone, "nowhere").returncode == 6
    assert not (clone / ".cdl").exists()
