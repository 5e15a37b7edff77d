"""What a command takes: CPU and wall seconds of it and all it starts, and the memory of the largest of these processes."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

LAUNCH = """
import json, os, sys, time
said = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
start = time.perf_counter()
child = os.posix_spawnp(sys.argv[3], sys.argv[3:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, said, n) for n in (1, 2)])
_, status, used = os.wait4(child, 0)
wall = time.perf_counter() - start
taken = {"cpu": used.ru_utime + used.ru_stime, "wall": wall, "peak": used.ru_maxrss * 1024}
open(sys.argv[2], "w").write(json.dumps(taken))
sys.exit(os.waitstatus_to_exitcode(status))
"""  # from a small process: a child's peak is never less than what its parent held when it began
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
    said, used = root.parent / "said.txt", root.parent / "used.json"
    launch = [sys.executable, "-I", "-S", "-c", LAUNCH, str(said), str(used), *command]
    code = subprocess.run(launch, cwd=root, stdin=subprocess.DEVNULL).returncode
    if code:
        raise subprocess.CalledProcessError(code, command, said.read_text(errors="replace"))
    return Taken(**json.loads(used.read_text()))


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
