"""`cdl data run` killed exactly between what it writes: the commit, the ref, what it looked at, the note that nothing is pending.

The process really ends there (`os._exit` in a child). Whatever the source does next, the version that follows holds what the
source holds, and is the one that a run makes which looks at everything.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cdl.data import versions
from cdl.data.pipeline import pending
from cdl.data.pipeline.code import source_snapshot
from cdl.data.pipeline.collect import collect
from cdl.data.pipeline.draft import begin
from cdl.data.sources import looked
from cdl.errors import Conflict
from cdl.git.repository import Git
from cdl.registry.records import Dataset, DatasetHead
from cdl.registry.registry import Registry
from cdl.store import whole
from cdl.store.builder import Builder
from cdl.store.store import Store
from tests.faults import points
from tests.faults.points import fill, held, make_points, model, objects, opened, small_pieces
from tests.projects import DATA, Toy

KILLED = 9
FIRST = points.files(20)
SECOND = {**FIRST, **points.files(5, seed=2), "a/1-2.txt": b"changed"}
THIRD = {**SECOND, "a/1-2.txt": b"CHANGED", "b/2-1.txt": b"another", "b/late.txt": b"late"}


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """One version, and other files in the source."""
    small_pieces(monkeypatch)
    made = make_points(tmp_path, monkeypatch)
    fill(made.root, FIRST)
    versions.make(opened(made), "points")
    fill(made.root, SECOND)
    return made


def dies(owner: Any, name: str, *, after: bool, nth: int = 1) -> None:
    """From now on this process ends at the n-th call of something, before it or after it."""
    real: Callable[..., Any] = getattr(owner, name)
    left = [nth]

    def call(*arguments: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] == 0 and not after:
            os._exit(KILLED)
        found = real(*arguments, **named)
        if left[0] == 0:
            os._exit(KILLED)
        return found

    setattr(owner, name, call)


def killed(toy: Toy, owner: Any, name: str, *, after: bool, nth: int = 1) -> bool:
    """`cdl data run` in a child that ends there; whether it came so far."""
    process = os.fork()
    if process == 0:
        try:
            dies(owner, name, after=after, nth=nth)
            versions.make(opened(toy), "points")
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == KILLED


def anew(toy: Toy) -> Dataset:
    """The record that a run makes which looks at everything, committed nowhere."""
    workspace = opened(toy)
    head = workspace.registry.head(DatasetHead, "points")
    assert head is not None
    with ExitStack() as held_:
        draft = begin(workspace, "points", workspace.config, source_snapshot(workspace).commit, head.version)
        collect(draft, held_)
        draft.looked = None
        versions.pipeline(draft)
        return versions.finish(draft, head.version, None)


def goes_on(toy: Toy, wanted: points.Files) -> None:
    """After the kill the source holds these files: the next run makes their version, and the one after it nothing."""
    fill(toy.root, wanted)
    whole_one = anew(toy)
    version = versions.make(opened(toy), "points")
    workspace = opened(toy)
    assert held(workspace) == model(wanted) and points.raw(workspace) == wanted
    assert versions.same(points.record_of(workspace), whole_one) and objects(workspace)
    assert workspace.git.resolve(versions.DATA_REFS + version) is not None
    assert versions.make(workspace, "points") == version and not pending.pending(opened(toy), "points")
    assert " 0 faults" in toy.cdl(DATA, "data", "verify")
    assert workspace.git.run("status", "--porcelain") == b""


ENDS = (
    (Registry, "commit", False, 1),
    (Registry, "commit", True, 1),
    (Git, "set_ref", True, 1),
    (looked, "write", False, 1),
    (looked, "write", True, 1),
    (pending, "note", False, 1),
    (pending, "note", True, 1),
)
SOME = (ENDS[0], ENDS[1], ENDS[4])
INSIDE = tuple((Builder, "finish", after, nth) for after in (False, True) for nth in range(1, 6)) + tuple(
    (owner, name, after, nth)
    for owner, name in ((Store, "put"), (whole, "half"), (os, "replace"))
    for after in (False, True)
    for nth in (1, 2, 3, 5, 8, 13, 18)
)


@pytest.mark.parametrize(("owner", "name", "after", "nth"), SOME)
def test_a_kill_between_commit_looked_and_note(toy: Toy, owner: Any, name: str, after: bool, nth: int) -> None:
    assert killed(toy, owner, name, after=after, nth=nth)
    goes_on(toy, THIRD)


@pytest.mark.long
@pytest.mark.parametrize("wanted", [FIRST, SECOND, THIRD])
@pytest.mark.parametrize(("owner", "name", "after", "nth"), ENDS)
def test_whatever_the_source_holds_then(
    toy: Toy, owner: Any, name: str, after: bool, nth: int, wanted: points.Files
) -> None:
    assert killed(toy, owner, name, after=after, nth=nth)
    goes_on(toy, wanted)


@pytest.mark.long
@pytest.mark.parametrize(("owner", "name", "after", "nth"), INSIDE)
def test_a_kill_within(toy: Toy, owner: Any, name: str, after: bool, nth: int) -> None:
    assert killed(toy, owner, name, after=after, nth=nth)
    goes_on(toy, THIRD)


@pytest.mark.parametrize("wanted", [SECOND, THIRD])
def test_what_was_looked_at_for_a_commit_that_is_gone_counts_no_more(toy: Toy, wanted: points.Files) -> None:
    """Killed after it was looked; then the commit is taken back by git, and the files are still as they were seen."""
    assert killed(toy, looked, "write", after=True)
    opened(toy).git.run("reset", "--quiet", "--hard", "HEAD~1")
    goes_on(toy, wanted)


@pytest.mark.parametrize("wanted", [FIRST])
def test_a_note_that_nothing_is_pending_is_of_this_version(toy: Toy, wanted: points.Files) -> None:
    """Killed before the note: the one of the version before does not say that nothing is pending."""
    assert killed(toy, pending, "note", after=False)
    assert pending.pending(opened(toy), "points")
    goes_on(toy, wanted)


def test_of_two_runs_at_once_the_later_one_is_told(toy: Toy) -> None:
    """What the other one made meanwhile stays the current version, and who comes late types it again."""
    head, late = opened(toy).registry.head(DatasetHead, "points"), anew(toy)
    fill(toy.root, THIRD)
    version = versions.make(opened(toy), "points")
    with pytest.raises(Conflict, match="changed by somebody else just now"):
        versions.commit(opened(toy), late, head)
    now = opened(toy).registry.head(DatasetHead, "points")
    assert now is not None and now.version == version
    assert versions.commit(opened(toy), points.record_of(opened(toy)), head) == version, "the same is no conflict"
