import subprocess
from pathlib import Path
from typing import Any

import pytest

from cdl.errors import CdlError, Conflict, NotFound, Unavailable
from cdl.git.commit import commit_files
from cdl.git.repository import Git, Worktree
from cdl.git.snapshot import snapshot


@pytest.fixture
def git(tmp_path: Path) -> Git:
    root = tmp_path / "repository"
    root.mkdir()
    git = Git.init(root)
    commit_files(git, "main", {"a b.txt": b"", "ü/missing": b"1\n2\n", "bytes": bytes(range(256)) * 50}, "start\n")
    return git


def test_many_files_and_blobs_at_once(git: Git) -> None:
    commit = git.head()
    asked = ["a b.txt", "nowhere", "ü/missing", "ü", "bytes", "not there missing"]
    found = git.read_many(commit, asked)
    assert found == {"a b.txt": b"", "ü/missing": b"1\n2\n", "bytes": bytes(range(256)) * 50}
    files = git.files(commit)
    assert set(files) == {"a b.txt", "ü/missing", "bytes"} and git.files(commit, "ü/") == {
        "ü/missing": files["ü/missing"]
    }
    assert git.cat([files["bytes"], files["a b.txt"]]) == {files["bytes"]: found["bytes"], files["a b.txt"]: b""}
    with pytest.raises(NotFound, match="git has no object"):
        git.cat([files["bytes"], "0" * 40])


def calls(git: Git, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """From now on, the git commands that are run."""
    asked: list[str] = []
    real = Git.call

    def call(self: Git, *arguments: str, **more: Any) -> "subprocess.CompletedProcess[bytes]":
        asked.append(arguments[0])
        return real(self, *arguments, **more)

    monkeypatch.setattr(Git, "call", call)
    return asked


def test_a_small_file_of_a_commit_is_read_once_and_one_of_head_again(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    before = git.head()
    asked = calls(git, monkeypatch)
    assert [git.read(before, "ü/missing") for _ in range(3)] == [b"1\n2\n"] * 3 and asked == ["cat-file"]
    assert git.read(before, "nowhere") is None and git.read("HEAD", "ü/missing") == b"1\n2\n"
    commit_files(git, "main", {"ü/missing": b"3\n", "large": bytes(1 << 17)}, "other\n")
    assert git.read("HEAD", "ü/missing") == b"3\n" == git.read(git.head(), "ü/missing")
    assert git.read(before, "ü/missing") == b"1\n2\n"
    del asked[:]
    head = "".join(git.refs("refs/heads/").values())
    assert [len(git.read(head, "large") or b"") for _ in range(2)] == [1 << 17] * 2
    assert asked.count("cat-file") == 2, "a large file is not kept in memory"


def test_which_commits_are_here_is_asked_once(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    head, blob = git.head(), git.files(git.head())["bytes"]
    asked = calls(git, monkeypatch)
    assert git.present([head, "1" * 40, blob, head]) == [head, head] and git.present([]) == []
    assert asked == ["cat-file"]


def test_names_of_revisions_are_never_options(git: Git) -> None:
    for name in ("--all", "-h", "--output=x", "nothing", "main:bytes"):
        assert git.resolve(name) is None
    assert git.resolve("main") == git.head() == git.resolve(git.head()) and git.resolve("1" * 40) is None
    assert not list(git.root.glob("*x"))


def test_the_branch_of_head(git: Git) -> None:
    git.run("tag", "topic/one")
    git.run("switch", "--quiet", "--create", "topic/one")
    assert git.branch() == "topic/one"
    git.run("switch", "--quiet", "--detach")
    assert git.branch() is None


def test_refs_are_compared_before_they_move(git: Git) -> None:
    first = git.head()
    second = commit_files(git, "main", {"x": b"1\n"}, "x\n")
    git.set_ref("refs/cdl/models/m-1", first)
    with pytest.raises(Conflict):
        git.set_ref("refs/cdl/models/m-1", second, second)
    with pytest.raises(Conflict):
        git.set_ref("refs/cdl/models/m-1", second, "0" * 40)
    git.set_ref("refs/cdl/models/m-1", second, first)
    assert git.refs("refs/cdl/") == {"refs/cdl/models/m-1": second} and git.refs("refs/nothing/") == {}
    assert git.is_ancestor(first, second) and not git.is_ancestor(second, first)


def test_work_trees_with_odd_names(git: Git, tmp_path: Path) -> None:
    odd = tmp_path / "odd\nname ü"
    git.run("worktree", "add", "--quiet", "-b", "dev", str(odd))
    git.run("worktree", "add", "--quiet", "--detach", str(tmp_path / "detached"))
    assert set(git.worktrees()) == {
        Worktree(git.root, "main"), Worktree(odd, "dev"), Worktree(tmp_path / "detached", None)
    }  # fmt: skip
    assert Git(odd).common_dir == git.common_dir and Git(odd).git_dir != git.git_dir


def test_the_person_is_who_git_says(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (git.person().name, git.person().email) == ("Ada Ä", "ada@example.org")
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.delenv(f"GIT_{role}_NAME")
        monkeypatch.delenv(f"GIT_{role}_EMAIL")
    git.run("config", "user.useConfigOnly", "true")
    with pytest.raises(Unavailable, match="git config user.name"):
        git.person()


def test_a_git_that_is_missing_or_old_is_named(git: Git, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(Unavailable, match="git is not installed"):
        git.run("status")
    (tmp_path / "bin" / "git").write_text("#!/bin/sh\necho git version 2.30.2\n")
    (tmp_path / "bin" / "git").chmod(0o755)
    with pytest.raises(Unavailable, match=r"git 2.30 is too old"):
        git.require_version()


def test_a_folder_that_is_missing_is_not_a_missing_git(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such folder"):
        Git(tmp_path / "nowhere").run("status")


def test_what_git_says_reaches_the_person_in_one_language(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGUAGE", "de")
    with pytest.raises(CdlError, match="git rev-parse: fatal: Needed a single revision"):
        git.run("rev-parse", "--verify", "nothing")


def test_a_commit_made_here_and_a_pulled_one(git: Git, tmp_path: Path) -> None:
    subprocess.run(["git", "clone", "--quiet", str(git.root), str(tmp_path / "clone")], check=True)
    clone = Git(tmp_path / "clone")
    theirs = commit_files(git, "main", {"x": b"1\n"}, "x\n")
    clone.run("pull", "--quiet", "--ff-only")
    ours = commit_files(clone, "main", {"y": b"1\n"}, "y\n")
    assert clone.made_here(ours, "main") and not clone.made_here(theirs, "main")


def test_a_repository_with_sha256(tmp_path: Path) -> None:
    root = tmp_path / "sha256"
    root.mkdir()
    git = Git(root)
    git.run("init", "--quiet", "--object-format=sha256", "--initial-branch=main")
    first = commit_files(git, "main", {"a": b"1\n", "b": b"2\n"}, "start\n")
    second = commit_files(git, "main", {"a": None, "c": b"3\n"}, "more\n")
    assert len(first) == len(second) == 64 and set(git.files(second)) == {"b", "c"}
    assert git.run("status", "--porcelain") == b"" and not (root / "a").exists()
    (root / ".env").write_text("secret\n")
    git.run("add", ".env")
    assert snapshot(git).left_out == (".env",)
