"""A small disk: a tmpfs of a few MB, mounted by root or in a user namespace of its own."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

FILLER = "filler"


@dataclass(frozen=True)
class Disk:
    """A mounted disk."""

    root: Path

    def leave(self, room: int) -> None:
        """Fills it up to so many bytes."""
        self.empty()
        with (self.root / FILLER).open("wb", buffering=0) as filler:
            os.posix_fallocate(filler.fileno(), 0, max(1, self.free() - room))

    def free(self) -> int:
        """Bytes of room."""
        found = os.statvfs(self.root)
        return found.f_bavail * found.f_frsize

    def empty(self) -> None:
        """Makes room again."""
        (self.root / FILLER).unlink(missing_ok=True)


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Disk]:
    """Mounts a small disk at a place; skips the test, with the reason, where this machine does not allow it."""
    place.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("no `mount` here: a full disk cannot be tested")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"this machine mounts no small disk: {done.stderr.strip()}")
    try:
        yield Disk(place)
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
