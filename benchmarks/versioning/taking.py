"""What a command takes: CPU and wall seconds of it and all it starts, and the memory of the largest of these processes."""

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

Key = tuple[str, str, str]  # work, system, unit


@dataclass(frozen=True)
class Taken:
    """Seconds of CPU and of the clock, bytes."""

    cpu: float
    wall: float
    peak: int


class Found:
    """What was measured, by work, system and unit."""

    def __init__(self) -> None:
        self.values: dict[Key, list[float]] = {}

    def note(self, work: str, system: str, unit: str, value: float) -> None:
        """One more value."""
        self.values.setdefault((work, system, unit), []).append(value)

    def take(self, work: str, system: str, root: Path, command: list[str]) -> Taken:
        """Runs a command and notes what it took."""
        taken = take(root, command)
        for unit, value in (("s cpu", taken.cpu), ("s wall", taken.wall), ("MB peak", taken.peak / 1e6)):
            self.note(work, system, unit, value)
        return taken


def take(root: Path, command: list[str]) -> Taken:
    """Runs a command in a folder. CalledProcessError with what it said where it fails."""
    said, start = root.parent / "said.txt", time.perf_counter()
    with said.open("w+") as out:
        process = subprocess.Popen(command, cwd=root, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            out.seek(0)
            raise subprocess.CalledProcessError(process.returncode, command, out.read())
    return Taken(used.ru_utime + used.ru_stime, wall, used.ru_maxrss * 1024)


def run(folder: Path, *command: str) -> str:
    """Runs a command that is not timed; what it prints."""
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@dataclass(frozen=True)
class Stored:
    """Objects of a store of cdl by name, with their bytes."""

    sizes: Mapping[str, int]

    def since(self, before: "Stored") -> "Stored":
        """Those that came."""
        return Stored({name: size for name, size in self.sizes.items() if name not in before.sizes})

    @property
    def bytes(self) -> int:
        """All of them together."""
        return sum(self.sizes.values())


def objects(root: Path) -> Stored:
    """What the store of a project holds."""
    places = (root / ".cdl/store/objects").glob("*/*")
    return Stored({place.parent.name + place.name: place.stat().st_size for place in places})


def held(root: Path, source: str) -> int:
    """Bytes of all files below a folder but the data themselves."""
    return sum(path.stat().st_size for path in _files(root) if source not in path.relative_to(root).parts)


def _files(root: Path) -> Iterator[Path]:
    return (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
