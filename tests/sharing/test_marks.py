"""Lists of gc in a folder and in a bucket: read as they were written, timed by the remote's clock, never changed."""

from pathlib import Path

import pytest

from cdl.errors import Conflict, Corrupt
from cdl.sharing import marks
from cdl.store.remote import Remote
from tests.store.test_remote import remote, server

__all__ = ["remote", "server"]
ONE, TWO, THREE = "1a" * 32, "2b" * 32, "3c" * 32


def test_lists_are_read_as_they_were_written(remote: Remote, tmp_path: Path) -> None:
    assert marks.read(remote, tmp_path).absent == set()
    before = marks.clock(remote)
    marks.write(remote, "marks/one", {ONE, TWO})
    marks.write(remote, "swept/two", {THREE})
    found = marks.read(remote, tmp_path)
    assert found.absent == {ONE, TWO, THREE} and set(found.marked) == {ONE, TWO}
    assert set(found.going) == {THREE} == found.swept and list(found.open_sweeps) == ["swept/two"]
    assert before <= found.marked[ONE] <= marks.clock(remote)
    remote.create("swept/two.done", b"")
    remote.delete("marks/one")
    found = marks.read(remote, tmp_path)
    assert found.absent == {THREE} and not found.going


def test_a_list_is_read_once_and_never_changed(remote: Remote, tmp_path: Path) -> None:
    marks.write(remote, "swept/one", {ONE})
    marks.write(remote, "swept/one", {TWO})
    assert marks.read(remote, tmp_path).swept == {ONE}
    remote.put("swept/one", b"anything")
    assert marks.read(remote, tmp_path).swept == {ONE}
    with pytest.raises(Corrupt, match="not a list"):
        marks.read(remote, tmp_path / "another clone")


def test_only_who_needs_what_is_going_waits(remote: Remote, tmp_path: Path) -> None:
    marks.write(remote, "swept/one", {ONE})
    found = marks.read(remote, tmp_path)
    marks.wait_for(remote, found, {TWO})
    with pytest.raises(Conflict, match="removing objects"):
        marks.wait_for(remote, found, {ONE, TWO})
    found.going[ONE] -= 2 * marks.DEAD_SECONDS
    marks.wait_for(remote, found, {ONE})
