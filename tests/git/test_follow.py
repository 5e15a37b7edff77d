import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cdl.errors import Conflict, NotFound
from cdl.git import commit as commits
from cdl.git import follow as follows
from cdl.git.commit import advance, commit_files, make_commit, make_tree, merge_in_memory, repair
from cdl.git.repository import Git

RECORD = "registry/models/n/m-1.yaml"
HEAD = "registry/models/n.yaml"


@pytest.fixture(autouse=True)
def author_alone(identity: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Ada")
    for name in ("GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        monkeypatch.delenv(name)


@pytest.fixture
def git(tmp_path: Path) -> Git:
    root = tmp_path / "repository"
    root.mkdir()
    git = Git.init(root)
    git.run("config", "user.name", "Ada")
    git.run("config", "user.email", "ada@example.org")
    for number in range(8):
        (root / f"file {number}.txt").write_text(f"{number}\n" * 5)
    keep(git, {"registry/old.yaml": "old\n", HEAD: "at: 0\n"})
    return git


def keep(git: Git, files: dict[str, str]) -> str:
    """A commit of the person's own."""
    for path, text in files.items():
        (git.root / path).parent.mkdir(parents=True, exist_ok=True)
        (git.root / path).write_text(text)
    git.run("add", "--all")
    git.run("commit", "--quiet", "--message", "by hand")
    return git.head()


def status(git: Git) -> bytes:
    return git.run("status", "--porcelain=v2", "-z", "--untracked-files=all")


def paths_of(git: Git, commit: str) -> list[str]:
    return git.text("diff-tree", "-r", "--root", "--name-only", "--no-commit-id", commit).split("\n")


def to_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("elsewhere")


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inner").write_text("a folder now\n")


def disturb(git: Git, choice: random.Random) -> None:
    """Changed, staged, both, renamed, removed, mode-changed, linked, intended and oddly named work."""
    odd = ["line\nend.txt", "-dash", " space ", 'quote".txt', "ü/ä.txt", "tab\t.txt"]
    acts: list[Callable[[Path], object]] = [
        lambda p: p.write_text("changed\n"),
        lambda p: (p.write_text("staged\n"), git.run("add", "--", p.name)),
        lambda p: (p.write_text("one\n"), git.run("add", "--", p.name), p.write_text("two\n")),
        lambda p: git.run("mv", "--", p.name, p.name + ".moved"),
        lambda p: p.unlink(),
        lambda p: git.run("rm", "--quiet", "--cached", "--", p.name),
        lambda p: p.chmod(0o755),
        to_link,
        lambda p: (p.with_suffix(".new").write_text(""), git.run("add", "--intent-to-add", "--", p.stem + ".new")),
        to_folder,
    ]
    for number in choice.sample(range(8), 5):
        choice.choice(acts)(git.root / f"file {number}.txt")
    for name in choice.sample(odd, 3):
        (git.root / name).parent.mkdir(exist_ok=True)
        (git.root / name).write_text("untracked\n")
    git.run("add", "--", *choice.sample([p.name for p in git.root.iterdir() if p.name in odd], 1))


@pytest.mark.parametrize("seed", range(24))
def test_the_person_s_work_is_as_it_was_and_the_record_stays(git: Git, seed: int) -> None:
    disturb(git, random.Random(seed))
    before, start = status(git), git.head()
    files = {RECORD: b"a: 1\n", HEAD: b"at: 1\n", "registry/old.yaml": None}
    made = commit_files(git, "main", files, "model register: n\n")
    assert status(git) == before
    assert git.text("rev-parse", "HEAD~1") == start and sorted(paths_of(git, made)) == sorted(files)
    assert (git.root / HEAD).read_text() == "at: 1\n" and not (git.root / "registry/old.yaml").exists()
    git.run("commit", "--quiet", "--allow-empty", "--message", "the person's")
    assert git.read_many("HEAD", files) == {RECORD: b"a: 1\n", HEAD: b"at: 1\n"}
    assert git.call("fsck", "--strict").returncode == 0


def test_author_and_committer_are_the_person(git: Git) -> None:
    made = commit_files(git, "main", {RECORD: b"a\n"}, "x\n")
    assert git.text("log", "-1", "--format=%an %ae %cn %ce", made) == "Ada ada@example.org Ada ada@example.org"


def test_a_file_that_is_what_is_committed_needs_no_leave(git: Git) -> None:
    (git.root / "cdl.yaml").write_text("cdl: 1\n")
    (git.root / "both.yaml").write_text("cdl: 1\n")
    git.run("add", "both.yaml")
    commit_files(git, "main", {"cdl.yaml": b"cdl: 1\n", "both.yaml": b"cdl: 1\n"}, "init\n")
    assert status(git) == b""


def unstaged(git: Git) -> None:
    (git.root / HEAD).write_text("mine\n")


def staged(git: Git) -> None:
    (git.root / HEAD).write_text("mine\n")
    git.run("add", HEAD)
    (git.root / HEAD).write_text("at: 0\n")


def removed(git: Git) -> None:
    (git.root / HEAD).unlink()


def linked(git: Git) -> None:
    (git.root / HEAD).unlink()
    (git.root / HEAD).symlink_to("/etc/hostname")


def executable(git: Git) -> None:
    (git.root / HEAD).chmod(0o755)


def folder(git: Git) -> None:
    (git.root / HEAD).unlink()
    (git.root / HEAD / "inner").mkdir(parents=True)
    (git.root / HEAD / "inner" / "mine").write_text("mine\n")


def linked_above(git: Git) -> None:
    (git.root / "registry/models").rename(git.root.parent / "outside")
    (git.root / "registry/models").symlink_to(git.root.parent / "outside")


def file_above(git: Git) -> None:
    (git.root / HEAD).unlink()
    (git.root / "registry/models").rmdir()
    (git.root / "registry/models").write_text("mine\n")


def hidden(git: Git) -> None:
    git.run("update-index", "--assume-unchanged", HEAD)
    (git.root / HEAD).write_text("mine\n")


@pytest.mark.parametrize(
    "change", [unstaged, staged, removed, linked, executable, folder, linked_above, file_above, hidden]
)
def test_what_the_person_changed_is_named_and_nothing_moves(git: Git, change: Callable[[Git], None]) -> None:
    change(git)
    before, start = status(git), git.head()
    with pytest.raises(Conflict) as caught:
        commit_files(git, "main", {RECORD: b"a\n", HEAD: b"at: 1\n"}, "x\n")
    assert caught.value.where in (HEAD, RECORD) and caught.value.remedy
    assert status(git) == before and git.head() == start and not (git.root / RECORD).exists()
    assert not list((git.common_dir / "cdl").glob("intent-*")) and not (git.git_dir / "index.lock").exists()


@pytest.mark.parametrize("ignored", [False, True])
def test_an_untracked_file_in_the_way_is_not_written_over(git: Git, ignored: bool) -> None:
    if ignored:
        keep(git, {".gitignore": "*.yaml\n"})
    (git.root / "registry/models/n").mkdir()
    (git.root / RECORD).write_text("mine\n")
    with pytest.raises(Conflict, match="changed by you"):
        commit_files(git, "main", {RECORD: b"a\n"}, "x\n")
    assert (git.root / RECORD).read_text() == "mine\n"


def diverge(git: Git) -> None:
    git.run("switch", "--quiet", "--create", "side")
    keep(git, {"file 0.txt": "side\n"})
    git.run("switch", "--quiet", "main")
    keep(git, {"file 0.txt": "main\n"})


@pytest.mark.parametrize(
    ("command", "what"),
    [
        (["merge", "side"], "a merge"),
        (["rebase", "side"], "a rebase"),
        (["rebase", "--apply", "side"], "a rebase"),
        (["cherry-pick", "side"], "a cherry-pick"),
        (["revert", "--no-edit", "HEAD~1"], "a revert"),
    ],
)
def test_nothing_is_committed_in_the_middle_of_something(git: Git, command: list[str], what: str) -> None:
    if command[0] == "revert":
        keep(git, {"file 0.txt": "one\n"})
        keep(git, {"file 0.txt": "two\n"})
    else:
        diverge(git)
    assert git.call(*command).returncode != 0
    before, tip = status(git), git.resolve("refs/heads/main")
    with pytest.raises(Conflict, match=f"{what} is under way") as caught:
        commit_files(git, "main", {RECORD: b"a\n"}, "x\n")
    assert caught.value.where == str(git.root)
    assert status(git) == before and git.resolve("refs/heads/main") == tip
    git.run("branch", "dev")
    made = commit_files(git, "dev", {RECORD: b"a\n"}, "another branch is free\n")
    assert git.resolve("refs/heads/dev") == made and status(git) == before


def test_the_first_commit_of_a_repository(tmp_path: Path) -> None:
    git = Git.init(tmp_path)
    (tmp_path / "other").write_text("untracked\n")
    before = status(git)
    made = commit_files(git, "main", {"cdl.yaml": b"cdl: 1\n"}, "init\n")
    assert git.head() == made and status(git) == before and git.files(made).keys() == {"cdl.yaml"}


def test_a_branch_that_nobody_made_is_not_made(git: Git) -> None:
    with pytest.raises(NotFound, match="no branch typo"):
        commit_files(git, "typo", {RECORD: b"a\n"}, "x\n")
    assert git.resolve("refs/heads/typo") is None


def test_what_was_expected_is_compared(git: Git) -> None:
    start = git.head()
    made = commit_files(git, "main", {RECORD: b"a\n"}, "x\n", expect=start)
    with pytest.raises(Conflict, match="moved by somebody else"):
        commit_files(git, "main", {HEAD: b"at: 2\n"}, "y\n", expect=start)
    assert git.head() == made


def race(git: Git, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes | None]) -> str:
    """Another git process moves `dev` once, just before it is compared."""
    theirs = make_commit(git, make_tree(git, git.resolve("dev"), files), [git.text("rev-parse", "dev")], "theirs\n")
    original = Git.set_ref

    def late(self: Git, ref: str, commit: str, old: str | None = None, *, because: str = "") -> None:
        monkeypatch.setattr(Git, "set_ref", original)
        original(self, ref, theirs)
        original(self, ref, commit, old)

    monkeypatch.setattr(Git, "set_ref", late)
    return theirs


def test_a_lost_race_is_run_again_on_the_new_tip(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    git.run("branch", "dev")
    theirs = race(git, monkeypatch, {"theirs.txt": b"1\n"})
    made = commit_files(git, "dev", {RECORD: b"a\n"}, "x\n")
    assert git.text("rev-parse", f"{made}~1") == theirs and git.read(made, "theirs.txt") == b"1\n"


def test_a_lost_race_for_the_same_file_is_a_conflict(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    git.run("branch", "dev")
    theirs = race(git, monkeypatch, {HEAD: b"at: theirs\n"})
    with pytest.raises(Conflict) as caught:
        commit_files(git, "dev", {HEAD: b"at: 1\n"}, "x\n")
    assert caught.value.where == HEAD and git.resolve("dev") == theirs


def test_a_lock_that_is_never_let_go_is_named_and_nothing_moves(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follows, "LOCK_SECONDS", 0.05)
    lock = git.git_dir / "index.lock"
    lock.touch()
    start = git.head()
    with pytest.raises(Conflict) as caught:
        commit_files(git, "main", {RECORD: b"a\n"}, "x\n")
    assert caught.value.where == str(lock) and lock.exists()
    assert git.head() == start and not (git.root / RECORD).exists()
    lock.unlink()
    assert status(git) == b""


def test_the_person_s_git_waits_or_fails_while_we_write_but_never_mixes(
    git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def meanwhile(tree: Git, found: object) -> None:
        (git.root / "file 0.txt").write_text("mine\n")
        tried.append(git.call("commit", "--quiet", "--all", "--message", "in between").returncode)
        follows.follow(tree, found)  # type: ignore[arg-type]

    monkeypatch.setattr(commits, "follow", meanwhile)
    made = commit_files(git, "main", {RECORD: b"a\n"}, "x\n")
    assert tried == [128] and git.head() == made
    git.run("commit", "--quiet", "--all", "--message", "afterwards")
    assert git.read("HEAD", RECORD) == b"a\n"


KILLED = """
import os, sys
from pathlib import Path
from cdl.git import commit, follow
from cdl.git.repository import Git
point, root = sys.argv[1:]

def die(*arguments, **named):
    os.kill(os.getpid(), 9)

git = Git(Path(root))
if point == "locked":
    commit._undisturbed = die
elif point == "staged":
    Git.set_ref = die
elif point == "moved":
    follow.follow = commit.follow = die
else:
    real = Git.run
    def run(self, *arguments, **named):
        out = real(self, *arguments, **named)
        if arguments[0] == "checkout-index":
            if point == "torn":
                (self.root / "registry/models/n.yaml").write_text("at")
                (self.root / "registry/models/n/m-1.yaml").unlink()
            die()
        return out
    Git.run = run
commit.commit_files(git, "main", {"registry/models/n/m-1.yaml": b"a: 1\\n", "registry/models/n.yaml": b"at: 1\\n",
                                  "registry/old.yaml": None}, "x\\n")
"""


def killed(git: Git, point: str) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, point, str(git.root)], check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("point", ["locked", "staged", "moved", "written", "torn"])
def test_what_a_kill_left_is_finished_at_the_next_command(git: Git, point: str) -> None:
    disturb(git, random.Random(7))
    before, start = status(git), git.head()
    killed(git, point)
    repair(git)
    assert status(git) == before and (git.head() == start) == (point in ("locked", "staged"))
    assert not (git.git_dir / "index.lock").exists() and not list((git.common_dir / "cdl").glob("intent-*.json"))
    assert not list(git.git_dir.glob("cdl-*"))
    expected = {"locked": "at: 0\n", "staged": "at: 0\n"}.get(point, "at: 1\n")
    assert (git.root / HEAD).read_text() == expected
    git.run("commit", "--quiet", "--allow-empty", "--message", "goes through")


def test_repair_leaves_what_the_person_did_since(git: Git) -> None:
    killed(git, "moved")
    (git.git_dir / "index.lock").unlink()
    (git.root / HEAD).write_text("mine\n")
    git.run("add", HEAD)
    repair(git)
    assert (git.root / HEAD).read_text() == "mine\n" and git.read("HEAD", HEAD) == b"at: 1\n"
    assert (git.root / RECORD).read_text() == "a: 1\n"
    assert git.text("diff", "--cached", "--name-only") == HEAD


def test_repair_does_not_bring_back_what_a_later_commit_took_away(git: Git) -> None:
    killed(git, "moved")
    (git.git_dir / "index.lock").unlink()
    git.run("reset", "--quiet", "HEAD^", "--", ".")
    git.run("commit", "--quiet", "--message", "takes all of it back")
    assert git.read("HEAD", RECORD) is None
    before = status(git)
    repair(git)
    assert status(git) == before == b""


def test_repair_where_the_work_tree_is_gone(git: Git, tmp_path: Path) -> None:
    made = commit_files(git, "main", {RECORD: b"a\n"}, "x\n")
    git.run("worktree", "add", "--quiet", "-b", "dev", str(tmp_path / "other"))
    (tmp_path / "other").rename(tmp_path / "moved away")
    intent = git.common_dir / "cdl" / "intent-0.json"
    intent.write_text(json.dumps({"branch": "dev", "old": git.text("rev-parse", f"{made}~1"), "new": made}))
    repair(git)
    assert not intent.exists()


def test_an_executable_stays_one(git: Git) -> None:
    (git.root / "tell.sh").write_text("#!/bin/sh\n")
    (git.root / "tell.sh").chmod(0o755)
    keep(git, {})
    commit_files(git, "main", {"tell.sh": b"#!/bin/sh\nexit 0\n"}, "x\n")
    assert status(git) == b"" and os.access(git.root / "tell.sh", os.X_OK)


def merge(git: Git) -> tuple[str, str]:
    """`side` merged into `main` in memory: the commit and what it follows."""
    start = git.head()
    merged = merge_in_memory(git, start, git.text("rev-parse", "side"))
    assert merged.tree is not None
    return make_commit(git, merged.tree, [start, git.text("rev-parse", "side")], "merge\n"), start


def test_a_merge_brings_folders_for_files_links_modes_and_odd_names(git: Git) -> None:
    keep(git, {"becomes folder": "1\n", "becomes file/inner": "2\n", "gone/only": "3\n"})
    git.run("switch", "--quiet", "--create", "side")
    for path in ("becomes folder", "becomes file/inner", "gone/only"):
        (git.root / path).unlink()
    (git.root / "becomes file").rmdir()
    keep(git, {"becomes folder/a": "1\n", "becomes file": "2\n", "line\nend": "3\n", '"q"': "4\n", "-x": "5\n"})
    (git.root / "link").symlink_to("becomes file")
    (git.root / "file 1.txt").chmod(0o755)
    keep(git, {})
    git.run("switch", "--quiet", "main")
    (git.root / "file 2.txt").write_text("mine\n")
    before = status(git)
    new, start = merge(git)
    advance(git, "main", new, expect=start)
    assert status(git) == before and git.head() == new
    assert (git.root / "becomes folder/a").read_text() == "1\n" and (git.root / "line\nend").read_text() == "3\n"
    assert os.readlink(git.root / "link") == "becomes file" and not (git.root / "gone").exists()


def test_a_merge_never_removes_a_file_of_the_person_s_from_a_folder_that_goes(git: Git) -> None:
    keep(git, {"folder/inner": "2\n"})
    git.run("switch", "--quiet", "--create", "side")
    (git.root / "folder/inner").unlink()
    (git.root / "folder").rmdir()
    keep(git, {"folder": "a file\n"})
    git.run("switch", "--quiet", "main")
    (git.root / "folder/mine").write_text("mine\n")
    new, start = merge(git)
    with pytest.raises(Conflict) as caught:
        advance(git, "main", new, expect=start)
    assert caught.value.where == "folder" and (git.root / "folder/mine").read_text() == "mine\n" and git.head() == start


def test_a_dirty_file_that_a_merge_changes_is_a_conflict(git: Git) -> None:
    git.run("switch", "--quiet", "--create", "side")
    keep(git, {"file 0.txt": "side\n"})
    git.run("switch", "--quiet", "main")
    (git.root / "file 0.txt").write_text("mine\n")
    new, start = merge(git)
    with pytest.raises(Conflict) as caught:
        advance(git, "main", new, expect=start)
    assert caught.value.where == "file 0.txt" and (git.root / "file 0.txt").read_text() == "mine\n"


def test_line_ends_of_the_person_s_platform(git: Git) -> None:
    keep(git, {".gitattributes": "*.yaml text eol=crlf\n"})
    git.run("rm", "--quiet", "--cached", "-r", "registry")
    git.run("reset", "--quiet", "--hard")
    assert (git.root / HEAD).read_bytes() == b"at: 0\r\n"
    commit_files(git, "main", {HEAD: b"at: 1\n"}, "x\n")
    assert (git.root / HEAD).read_bytes() == b"at: 1\r\n" and git.read("HEAD", HEAD) == b"at: 1\n"
    assert status(git) == b""


def test_every_hook_stays_silent(git: Git) -> None:
    hooks = git.git_dir / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("pre-commit", "post-commit", "reference-transaction", "post-index-change", "post-checkout"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch '{git.root.parent}/{name} ran'\n")
        (hooks / name).chmod(0o755)
    commit_files(git, "main", {RECORD: b"a\n"}, "x\n")
    status(git)
    assert not [p.name for p in git.root.parent.iterdir() if p.name.endswith("ran")]


def test_threads_of_one_process_wait_for_each_other(git: Git) -> None:
    def make(number: int) -> None:
        commit_files(git, "main", {f"registry/{number}.yaml": b"x\n"}, "x\n")

    threads = [threading.Thread(target=make, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(git.text("rev-list", "main").split()) == 5 and status(git) == b""


def test_a_split_index_and_a_sparse_work_tree(git: Git) -> None:
    git.run("config", "core.splitIndex", "true")
    git.run("sparse-checkout", "set", "--no-cone", "/registry/models/", "/file*")
    (git.root / "file 1.txt").write_text("mine\n")
    before = status(git)
    commit_files(git, "main", {RECORD: b"a\n"}, "x\n")
    assert status(git) == before and (git.root / RECORD).exists()


def test_more_files_than_a_command_line_names(git: Git) -> None:
    files: dict[str, bytes | None] = {f"many/{number}.txt": b"x" * number for number in range(follows.FEW + 50)}
    made = commit_files(git, "main", files, "x\n")
    assert status(git) == b"" and git.read_many(made, files) == files
    (git.root / "many/3.txt").write_text("mine\n")
    gone: dict[str, bytes | None] = {path: None for path in files}
    with pytest.raises(Conflict) as caught:
        commit_files(git, "main", gone, "y\n")
    assert caught.value.where == "many/3.txt" and len(list((git.root / "many").iterdir())) == len(files)
    git.run("restore", "many")
    commit_files(git, "main", gone, "y\n")
    assert status(git) == b"" and not (git.root / "many").exists()
