import os
from pathlib import Path

import pytest

from cdl.git import snapshot as snapshots
from cdl.git.repository import Git
from cdl.git.snapshot import snapshot


@pytest.fixture
def git(tmp_path: Path) -> Git:
    root = tmp_path / "repository"
    root.mkdir()
    git = Git.init(root)
    for number in range(6):
        (root / f"file {number}.py").write_text(f"x = {number}\n")
    git.run("add", "--all")
    git.run("commit", "--quiet", "--message", "start")
    return git


def state(git: Git) -> tuple[bytes, bytes, str]:
    """What must not change: status, index and branch."""
    looked = git.run("status", "--porcelain=v2", "-z", "--untracked-files=all", "--ignored")
    return looked, (git.git_dir / "index").read_bytes(), git.head()


def test_every_kind_of_change_is_in_the_snapshot(git: Git) -> None:
    root = git.root
    (root / "file 0.py").write_text("changed\n")
    git.run("mv", "file 1.py", "moved.py")
    (root / "file 2.py").unlink()
    (root / "file 3.py").chmod(0o755)
    (root / "file 4.py").unlink()
    (root / "file 4.py").mkdir()
    (root / "file 4.py" / "inner.py").write_text("a folder now\n")
    (root / "file 5.py").write_text("staged\n")
    git.run("add", "file 5.py")
    (root / "file 5.py").write_text("and changed again\n")
    (root / "link").symlink_to("moved.py")
    before = state(git)
    made = snapshot(git)
    assert state(git) == before and made.dirty and made.left_out == ()
    assert git.read_many(made.commit, git.files(made.commit)) == {
        "file 0.py": b"changed\n",
        "moved.py": b"x = 1\n",
        "file 3.py": b"x = 3\n",
        "file 4.py/inner.py": b"a folder now\n",
        "file 5.py": b"and changed again\n",
        "link": b"moved.py",
    }
    assert git.run("ls-tree", made.commit, "--", "file 3.py").startswith(b"100755")


def test_names_that_are_hard_to_say(git: Git) -> None:
    names = {"line\nend.py", "-dash.py", " space .py", "ü/日本.py", 'quote".py', "tab\t.py", "a*.py", ":(top)x", "~"}
    (git.root / "ü").mkdir()
    for name in names:
        (git.root / name).write_text(name)
    before = state(git)
    made = snapshot(git)
    assert names <= set(git.files(made.commit)) and state(git) == before


def test_secrets_are_left_out_also_when_staged(git: Git) -> None:
    secrets = [".env", "deep/.env.local", "cert.pem", "my.key", "id_rsa", "credentials.json", "keyring"]
    (git.root / "deep").mkdir()
    for path in secrets:
        (git.root / path).write_text("secret\n")
    git.run("add", ".env", "my.key")
    before = state(git)
    made = snapshot(git)
    assert sorted(made.left_out) == sorted(secrets) and state(git) == before
    assert made.commit == git.head() and not made.dirty


def test_a_left_out_file_that_git_tracks_stands_as_in_head(git: Git) -> None:
    (git.root / "items").mkdir()
    (git.root / "items" / "1.txt").write_text("committed\n")
    git.run("add", "--all")
    git.run("commit", "--quiet", "--message", "a source that git tracks")
    (git.root / "items" / "1.txt").write_text("staged\n")
    git.run("add", "--all")
    (git.root / "file 0.py").write_text("changed\n")
    made = snapshot(git, exclude=["items/"])
    assert made.left_out == ("items/1.txt",)
    assert git.read(made.commit, "items/1.txt") == b"committed\n"
    assert git.read(made.commit, "file 0.py") == b"changed\n"


def test_large_files_and_repositories_inside_are_named(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "LARGEST", 100)
    (git.root / "large.bin").write_bytes(bytes(101))
    (git.root / "fits.bin").write_bytes(bytes(100))
    (git.root / "inside").mkdir()
    inside = Git.init(git.root / "inside")
    (inside.root / "x").write_text("x\n")
    inside.run("add", "x")
    inside.run("commit", "--quiet", "--message", "x")
    made = snapshot(git)
    assert made.left_out == ("inside/", "large.bin")
    assert git.read(made.commit, "fits.bin") == bytes(100) and "inside" not in git.files(made.commit)


def test_many_excluded_files_do_not_overflow_a_command_line(git: Git) -> None:
    folder = git.root / ("a folder of the source" * 8)
    folder.mkdir()
    for number in range(12_000):
        (folder / f"{number:0100}").touch()
    (git.root / "new.py").write_text("y\n")
    made = snapshot(git, exclude=[folder.name])
    assert len(made.left_out) == 12_000 and len(git.files(made.commit)) == 7


def test_a_change_within_the_tick_of_the_clock_is_seen(git: Git) -> None:
    index, changed = git.git_dir / "index", git.root / "file 0.py"
    moment = 1_700_000_000_000_000_000
    os.utime(changed, ns=(moment, moment))
    git.run("update-index", "--refresh")
    os.utime(index, ns=(moment, moment))
    changed.write_text("x = 9\n")
    os.utime(changed, ns=(moment, moment))
    made = snapshot(git)
    assert made.dirty and git.read(made.commit, "file 0.py") == b"x = 9\n"


def test_a_clean_tree_is_head_itself_and_leaves_nothing(git: Git) -> None:
    objects = git.text("count-objects")
    made = snapshot(git)
    assert (made.commit, made.tree, made.dirty) == (git.head(), git.text("rev-parse", "HEAD^{tree}"), False)
    assert git.text("count-objects") == objects
    assert not [p for p in (git.common_dir / "cdl").iterdir() if p.name != "lock"]


def test_before_the_first_commit(tmp_path: Path) -> None:
    git = Git.init(tmp_path)
    (tmp_path / "x.py").write_text("x\n")
    made = snapshot(git)
    assert made.dirty and git.read(made.commit, "x.py") == b"x\n"
    assert git.resolve("HEAD") is None and git.text("rev-list", "--count", made.commit) == "1"


def test_in_the_middle_of_a_merge(git: Git) -> None:
    git.run("switch", "--quiet", "--create", "side")
    (git.root / "file 0.py").write_text("side\n")
    git.run("commit", "--quiet", "--all", "--message", "side")
    git.run("switch", "--quiet", "main")
    (git.root / "file 0.py").write_text("main\n")
    git.run("commit", "--quiet", "--all", "--message", "main")
    assert git.call("merge", "side").returncode == 1
    before = state(git)
    made = snapshot(git)
    assert b"<<<<<<<" in (git.read(made.commit, "file 0.py") or b"") and state(git) == before


def test_in_another_work_tree(git: Git, tmp_path: Path) -> None:
    git.run("worktree", "add", "--quiet", "-b", "dev", str(tmp_path / "other"))
    other = Git(tmp_path / "other")
    (other.root / "file 0.py").write_text("other\n")
    made = snapshot(other)
    assert git.read(made.commit, "file 0.py") == b"other\n" and not snapshot(git).dirty
