"""What a source's folder may hold: regular files, in order of their names; each of the others is named."""

import os
from pathlib import Path

import pytest

from cdl.data.sources.walk import glance, walk
from cdl.errors import ConfigError


def test_files_in_order_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.txt", "a/.hidden", ".git/config", "a.txt", "a/b/c.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "link.txt").symlink_to("a/z.txt")
    found = walk(tmp_path, "in")
    assert [s.name for s in found] == ["a.txt", "a/b/c.txt", "a/z.txt", "b.txt", "link.txt"]
    assert [s.size for s in found] == [5, 9, 7, 5, 7] and found == glance(tmp_path)
    os.utime(tmp_path / "b.txt", ns=(1, 17))
    assert walk(tmp_path, "in")[3].changed == 17
    assert [s.name for s in glance(tmp_path / "b.txt")] == ["b.txt"] and not glance(tmp_path / "none")


@pytest.mark.parametrize(
    ("target", "what"),
    [("/etc/passwd", "leads out"), ("../..", "leads out"), ("sub", "to a folder"), ("none", "to nothing")],
)
def test_links_that_are_no_file_of_the_source_are_refused(tmp_path: Path, target: str, what: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "odd").symlink_to(target)
    with pytest.raises(ConfigError, match=f"in/odd: a symbolic link {what}"):
        walk(tmp_path, "in")
    assert len(glance(tmp_path)) <= 1


def test_a_device_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="in/pipe: neither a file nor a folder"):
        walk(tmp_path, "in")
    assert not glance(tmp_path)
