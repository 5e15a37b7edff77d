"""Refs are read once, and again whenever somebody moved one, however it was moved."""

import os
import subprocess
from pathlib import Path

import pytest

from cdl.git.refs import Refs
from cdl.git.repository import Git


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Git:
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, "/dev/null")
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "a")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@example.org")
    (tmp_path / "repository").mkdir()
    made = Git.init(tmp_path / "repository")
    made.run("commit", "--quiet", "--allow-empty", "--message", "one")
    made.run("commit", "--quiet", "--allow-empty", "--message", "two")
    return made


def person(git: Git, *arguments: str) -> None:
    """What somebody does with git, in a process of their own."""
    subprocess.run(["git", *arguments], cwd=git.root, check=True, capture_output=True)


MOVES: dict[str, list[list[str]]] = {
    "reset": [["reset", "--quiet", "--hard", "HEAD~1"]],
    "new branch": [["branch", "exp/deep/er"]],
    "own ref": [["update-ref", "refs/cdl/models/m-1", "HEAD"]],
    "packed, then moved": [["pack-refs", "--all"], ["update-ref", "refs/heads/main", "HEAD~1"]],
    "packed, then deleted": [["branch", "b"], ["pack-refs", "--all"], ["branch", "-D", "b"]],
    "other work tree": [["worktree", "add", "--quiet", "-b", "there", "../there"]],
}


@pytest.mark.parametrize("move", MOVES)
def test_a_move_is_seen_at_once(git: Git, move: str) -> None:
    for _ in range(3):  # also right after what changed just now
        git.refs("refs/heads/")
    for command in MOVES[move]:
        person(git, *command)
    fresh = Git(git.root)
    for prefix in ("refs/heads/", "refs/cdl/"):
        assert git.refs(prefix) == fresh.refs(prefix)
    assert git.resolve("refs/heads/main") == fresh.text("rev-parse", "refs/heads/main")


def test_moves_within_one_tick_of_the_clock_are_all_seen(git: Git) -> None:
    first, second = git.text("rev-parse", "HEAD~1"), git.text("rev-parse", "HEAD")
    for commit in [first, second] * 40:
        git.set_ref("refs/heads/main", commit)
        assert git.resolve("refs/heads/main") == commit


def test_what_did_not_move_is_not_read_again(tmp_path: Path) -> None:
    (tmp_path / "refs/heads").mkdir(parents=True)
    asked: list[int] = []

    def ask() -> dict[str, str]:
        asked.append(1)
        return {"refs/heads/main": "a"}

    for folder in (tmp_path / "refs/heads", tmp_path / "refs"):
        os.utime(folder, (1, 1))
    refs = Refs(tmp_path, ask)
    assert refs.now() == refs.now() == {"refs/heads/main": "a"} and len(asked) == 1
    (tmp_path / "refs/heads/exp").mkdir()
    refs.now()
    assert len(asked) == 2
    os.utime(tmp_path / "refs/heads", (2, 2))
    os.utime(tmp_path / "refs/heads/exp", (2, 2))
    refs.now()
    refs.now()
    (tmp_path / "packed-refs").write_text("")
    refs.now()
    assert len(asked) == 4
