import multiprocessing
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cdl.errors import Conflict
from cdl.git import commit as commits
from cdl.git.commit import advance, commit_files, make_commit, make_tree, merge_in_memory, repair
from cdl.git.repository import Git
from cdl.git.scan import scan
from cdl.git.snapshot import snapshot

RECORD = "registry/models/n/m-1.yaml"


@pytest.fixture
def git(tmp_path: Path) -> Git:
    return make(tmp_path / "repository")


def make(root: Path) -> Git:
    root.mkdir()
    git = Git.init(root)
    for i in range(8):
        (root / f"file {i}.txt").write_text(f"{i}\n" * 5)
    (root / "sub").mkdir()
    (root / "sub" / "-dash.py").write_text("x = 1\n")
    git.run("add", "--all")
    git.run("commit", "--quiet", "--message", "start")
    return git


def status(git: Git) -> bytes:
    return git.run("status", "--porcelain=v2", "-z", "--untracked-files=all")


def disturb(git: Git, choice: random.Random) -> None:
    """What a person may have under way: changed, staged, untracked, renamed, removed, mode-changed."""
    acts: list[Callable[[str], object]] = [
        lambda p: (git.root / p).write_text("changed\n"),
        lambda p: ((git.root / p).write_text("staged\n"), git.run("add", "--", p)),
        lambda p: git.run("mv", "--", p, p + ".moved"),
        lambda p: (git.root / p).unlink(),
        lambda p: git.run("rm", "--quiet", "--", p),
        lambda p: (git.root / p).chmod(0o755),
        lambda p: ((git.root / p).write_text("one\n"), git.run("add", "--", p), (git.root / p).write_text("two\n")),
        lambda p: (git.root / (p + ".new ü")).write_text("untracked\n"),
    ]
    for i in choice.sample(range(8), 6):
        choice.choice(acts)(f"file {i}.txt")


@pytest.mark.parametrize("seed", range(12))
def test_status_is_the_same_before_and_after(git: Git, seed: int) -> None:
    disturb(git, random.Random(seed))
    before, head = status(git), git.head()
    made = commit_files(git, "main", {RECORD: b"a: 1\n"}, "model register: n\n")
    assert status(git) == before
    assert git.head() == made and git.resolve("HEAD~1") == head
    assert (git.root / RECORD).read_bytes() == b"a: 1\n"
    git.run("commit", "--quiet", "--allow-empty", "--message", "the person's")
    assert git.read("HEAD", RECORD) == b"a: 1\n"


def test_only_the_record_is_in_the_commit(git: Git) -> None:
    disturb(git, random.Random(3))
    made = commit_files(git, "main", {RECORD: b"a: 1\n"}, "x\n")
    changed = git.run("diff-tree", "-r", "--name-only", "--no-commit-id", made).decode().split()
    assert changed == [RECORD]


def test_a_file_that_the_person_changed_is_named_and_nothing_moves(git: Git) -> None:
    commit_files(git, "main", {RECORD: b"a: 1\n"}, "x\n")
    head = git.head()
    (git.root / RECORD).write_text("mine\n")
    with pytest.raises(Conflict) as caught:
        commit_files(git, "main", {RECORD: b"a: 2\n"}, "x\n")
    assert caught.value.where == RECORD and git.head() == head
    assert (git.root / RECORD).read_text() == "mine\n"


def test_a_branch_that_is_checked_out_nowhere(git: Git) -> None:
    git.run("branch", "dev")
    before = status(git)
    made = commit_files(git, "dev", {RECORD: b"a\n"}, "x\n")
    assert git.resolve("dev") == made and git.head() != made and status(git) == before
    assert not (git.root / RECORD).exists()


def test_detached_head_is_left_alone(git: Git) -> None:
    git.run("switch", "--quiet", "--detach")
    assert git.branch() is None
    head = git.head()
    made = commit_files(git, "main", {RECORD: b"a\n"}, "x\n")
    assert git.resolve("main") == made and git.head() == head and status(git) == b""


def test_the_other_work_tree_follows(git: Git, tmp_path: Path) -> None:
    git.run("worktree", "add", "--quiet", "-b", "dev", str(tmp_path / "other"))
    other = Git(tmp_path / "other")
    (other.root / "file 1.txt").write_text("mine\n")
    before = status(other)
    commit_files(git, "dev", {RECORD: b"a\n"}, "x\n")
    assert (other.root / RECORD).exists() and status(other) == before
    assert not (git.root / RECORD).exists()


def test_in_the_middle_of_a_merge_nothing_is_committed(git: Git) -> None:
    git.run("switch", "--quiet", "-c", "side")
    (git.root / "file 0.txt").write_text("side\n")
    git.run("commit", "--quiet", "--all", "--message", "side")
    git.run("switch", "--quiet", "main")
    (git.root / "file 0.txt").write_text("main\n")
    git.run("commit", "--quiet", "--all", "--message", "main")
    assert git.call("merge", "side").returncode != 0
    with pytest.raises(Conflict, match="a merge is under way"):
        commit_files(git, "main", {RECORD: b"a\n"}, "x\n")
    git.run("merge", "--abort")
    assert git.call("rebase", "side").returncode != 0
    with pytest.raises(Conflict, match="a rebase is under way"):
        head = git.text("rev-parse", "HEAD")
        git.run("symbolic-ref", "HEAD", "refs/heads/main")
        commit_files(git, "main", {RECORD: b"a\n"}, f"x {head}\n")


def commit_some(root: str, who: int, count: int) -> None:
    git = Git(Path(root))
    for i in range(count):
        commit_files(git, "main", {f"registry/{who}-{i}.yaml": b"x\n"}, f"{who} {i}\n")


def test_processes_committing_at_once_lose_nothing(git: Git) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=commit_some, args=(str(git.root), who, 5)) for who in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [w.exitcode for w in workers] == [0, 0, 0]
    assert len(git.files("main", "registry/")) == 15
    assert len(git.text("rev-list", "--first-parent", "main").splitlines()) == 16
    assert git.call("fsck", "--strict").returncode == 0 and status(git) == b""


def test_a_held_index_lock_is_waited_for(git: Git) -> None:
    lock = git.git_dir / "index.lock"
    lock.touch()
    timer = threading.Timer(0.5, lock.unlink)
    timer.start()
    commit_files(git, "main", {RECORD: b"a\n"}, "x\n")
    timer.join()
    assert status(git) == b"" and git.read("HEAD", RECORD) == b"a\n"


def test_what_a_kill_left_is_finished(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(commits, "follow", killed)
        with pytest.raises(KeyboardInterrupt):
            commit_files(git, "main", {RECORD: b"a\n"}, "x\n")
    assert b".D" in status(git)  # the index went ahead, the work tree did not follow
    repair(git)
    assert status(git) == b"" and (git.root / RECORD).read_bytes() == b"a\n"


def test_a_merge_in_memory_lands_in_one_move(git: Git) -> None:
    git.run("switch", "--quiet", "-c", "side")
    (git.root / "file 0.txt").write_text("side\n")
    git.run("commit", "--quiet", "--all", "--message", "side")
    side = git.head()
    git.run("switch", "--quiet", "main")
    (git.root / "file 1.txt").write_text("dirty\n")
    before, start = status(git), git.head()
    merged = merge_in_memory(git, start, side)
    assert merged.tree is not None
    new = make_commit(git, make_tree(git, merged.tree, {RECORD: b"a\n"}), [start, side], "promote\n")
    advance(git, "main", new, expect=start)
    assert status(git) == before and (git.root / "file 0.txt").read_text() == "side\n"
    with pytest.raises(Conflict):
        advance(git, "main", start, expect=side)


def test_a_merge_that_conflicts_names_the_files(git: Git) -> None:
    start = git.head()
    one = commit_files(git, "main", {"a.txt": b"one\n"}, "x\n")
    two = make_commit(git, make_tree(git, start, {"a.txt": b"two\n"}), [start], "y\n")
    assert merge_in_memory(git, one, two).conflicts == ("a.txt",)


def test_a_snapshot_holds_the_work_tree_and_touches_nothing(git: Git) -> None:
    assert snapshot(git).commit == git.head()
    disturb(git, random.Random(5))
    (git.root / "new.py").write_text("y = 2\n")
    (git.root / "secret.pem").write_text("key\n")
    (git.root / ".gitignore").write_text("ignored/\n")
    (git.root / "ignored").mkdir()
    (git.root / "ignored" / "x").write_text("x\n")
    (git.root / "source").mkdir()
    (git.root / "source" / "1.txt").write_text("item\n")
    before = status(git)
    made = snapshot(git, exclude=["source"])
    assert made.dirty and status(git) == before
    assert git.read(made.commit, "new.py") == b"y = 2\n"
    assert git.read(made.commit, "secret.pem") is None and git.read(made.commit, "source/1.txt") is None
    assert set(made.left_out) == {"secret.pem", "source/1.txt"}
    assert git.resolve(f"{made.commit}~1") == git.head()
    on_disk = {
        p.relative_to(git.root).as_posix() for p in git.root.rglob("*") if p.is_file() and ".git/" not in p.as_posix()
    }
    assert set(git.files(made.commit)) == on_disk - {"secret.pem", "source/1.txt", "ignored/x"}


def test_hooks_of_the_person_do_not_run(git: Git) -> None:
    hook = git.git_dir / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ntouch ran\nexit 1\n")
    hook.chmod(0o755)
    commit_files(git, "main", {RECORD: b"a\n"}, "x\n")
    snapshot(git)
    time.sleep(0.05)
    assert not (git.root / "ran").exists()


def test_scan_names_what_each_commit_changed_also_merges(git: Git) -> None:
    start = git.head()
    one = commit_files(git, "main", {"registry/a.yaml": b"1\n", "code.py": b"x\n"}, "x\n")
    side = make_commit(git, make_tree(git, start, {"registry/b.yaml": b"1\n"}), [start], "side\n")
    merged = merge_in_memory(git, one, side)
    assert merged.tree is not None
    tip = make_commit(git, merged.tree, [one, side], "merge\n")
    found = {c.id: [change.path for change in c.changes] for c in scan(git, [tip], [])}
    assert found == {one: ["registry/a.yaml"], side: ["registry/b.yaml"], tip: ["registry/b.yaml"]}
    assert [c.id for c in scan(git, [tip], [one])] == [side, tip]
    assert [c.id for c in scan(git, [tip], [], first_parent=True)] == [one, tip]


def test_git_variables_of_a_hook_do_not_lead_astray(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_INDEX_FILE", os.devnull)
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert git.branch() == "main"


def test_a_person_who_commits_all_the_time_is_held_off(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[bool] = []

    def meanwhile(git: Git, base: str | None, files: Mapping[str, bytes | None]) -> str:
        done = git.call("commit", "--quiet", "--allow-empty", "--message", "theirs")
        kept.append(done.returncode == 0)
        return make_tree(git, base, files)

    monkeypatch.setattr(commits, "make_tree", meanwhile)
    commit_files(git, "main", {"registry/a.yaml": b"a\n"}, "ours")
    assert kept == [True] * commits.OPTIMISTIC + [False]
    assert git.text("log", "--format=%s", "-4").split() == ["ours", *["theirs"] * commits.OPTIMISTIC]
    assert git.text("status", "--porcelain") == "" and not (git.git_dir / "index.lock").exists()


def test_the_index_goes_ahead_of_the_branch(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    """`git commit` reads HEAD, then the index, then locks: never the old index for the new HEAD."""
    moved, seen = Git.set_ref, []

    def looks(self: Git, ref: str, commit: str, old: str | None = None, *, because: str = "") -> None:
        seen.append(git.call("diff", "--cached", "--quiet", commit).returncode)
        moved(self, ref, commit, old, because=because)

    monkeypatch.setattr(Git, "set_ref", looks)
    commit_files(git, "main", {RECORD: b"a\n"}, "x\n")
    assert seen == [0] and status(git) == b""


def test_where_the_branch_does_not_move_the_index_is_as_it_was(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise Conflict("moved by somebody else")

    monkeypatch.setattr(Git, "set_ref", refuses)
    with pytest.raises(Conflict):
        commit_files(git, "main", {RECORD: b"a\n"}, "x\n")
    assert status(git) == b"" and not (git.root / RECORD).exists()
    assert not list((git.common_dir / "cdl").glob("intent-*"))
