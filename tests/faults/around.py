"""What a person's processes leave behind, and reading a clone as that person without a process of its own."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cdl.project import open_workspace
from cdl.workflow.workspace import Workspace
from tests.team import Person

SERVICE = b"cdl.deployment"  # what outlives its command on purpose
SECONDS = 5.0  # for what a killed command started to end


@contextmanager
def opened(person: Person) -> Iterator[Workspace]:
    """The workspace of a person at a clone, opened in this process."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(person.env())
    try:
        yield open_workspace(person.root)
    finally:
        os.environ.clear()
        os.environ.update(before)


def left_running(folder: Path) -> list[str]:
    """Processes that belong to a folder, services apart, after they had time to end."""
    end = time.monotonic() + SECONDS
    while (found := _belonging(folder)) and time.monotonic() < end:
        time.sleep(0.02)
    return found


def locks(folder: Path) -> list[Path]:
    """Locks of git that somebody left, but for those of indexes that one command made for itself."""
    found = [path for git in ("a/.git", "b/.git", "origin.git") for path in (folder / git).rglob("*.lock")]
    return sorted(path for path in found if path.parent.name != "cdl")


def _belonging(folder: Path) -> list[str]:
    needle = os.fsencode(folder) + b"/"
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if needle not in (process / "environ").read_bytes() + os.fsencode(os.readlink(process / "cwd")) + b"/":
                continue
            said = (process / "cmdline").read_bytes().replace(b"\0", b" ")
            ended = (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            continue  # it ended meanwhile
        if not ended and SERVICE not in said:
            found.append(f"{process.name}: {said.decode('utf-8', 'replace').strip()}")
    return found
