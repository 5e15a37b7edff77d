"""What differs between two commits: by git itself, with hostile paths and settings that would run a program."""

from pathlib import Path

from cdl.git.changes import changes, unified
from cdl.git.repository import Git


def commit(git: Git, message: str) -> str:
    git.run("add", "--all")
    git.run("-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--quiet", "--message", message)
    return git.head()


def test_files_lines_and_a_difference(tmp_path: Path) -> None:
    git = Git(tmp_path)
    git.run("init", "--quiet")
    (tmp_path / "a.py").write_text("one\ntwo\n")
    (tmp_path / "gone.py").write_text("x\n")
    (tmp_path / "[ab].py").write_text("y\n")
    first = commit(git, "one")
    (tmp_path / "a.py").write_text("one\n2\n3\n")
    (tmp_path / "gone.py").unlink()
    (tmp_path / "tab\t'\"<b>.py").write_text("new\n")
    (tmp_path / "[ab].py").write_text("z\n")
    (tmp_path / "bytes.bin").write_bytes(b"\0\1\2")
    second = commit(git, "two")
    trace = tmp_path / "trace"
    (tmp_path / ".gitattributes").write_text("* diff=evil\n")
    git.run("config", "diff.evil.command", f"touch {trace}")
    git.run("config", "diff.evil.textconv", f"touch {trace}; cat")
    git.run("config", "diff.external", f"touch {trace}")
    found = {c.path: (c.kind, c.added, c.removed) for c in changes(git, first, second)}
    assert found == {
        "a.py": ("changed", 2, 1),
        "gone.py": ("removed", 0, 1),
        "tab\t'\"<b>.py": ("added", 1, 0),
        "[ab].py": ("changed", 1, 1),
        "bytes.bin": ("added", None, None),
    }
    text = unified(git, first, second, ["[ab].py"])
    assert text.splitlines()[-2:] == ["-y", "+z"] and "a.py b/a.py" not in text, "a path is a path, no pattern"
    assert unified(git, first, second, []) == "" and changes(git, first, first) == []
    assert not trace.exists()
