"""Versioning of data beside what people use for it: the same folder, the same file, the same machine, in turn.

| work | what is timed |
|---|---|
| add | 70,000 files of 300 to 900 bytes in 100 folders that were never seen before |
| recheck | that nothing changed |
| append | 100 files more |
| change_byte | one byte in the middle of a file of 2 GB that was added before; and how many bytes that stores |
| read_batches | items a second of CPU, at random, in batches of 256: of what `add` stored (cdl), of a table of the same (lance) |

`cdl data run` is the whole of it: ids, split, sealing of the test set, record and commit; beside it what the others do.
Peers live in environments of their own below `.bench/`, made by `--install-peers`.
"""

import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

CDL = str(Path(sys.executable).with_name("cdl"))
PEERS = Path(__file__).parents[1] / ".bench"
PACKAGES = {"dvc": ["dvc"], "lance": ["pylance", "pyarrow"]}
FILES, MORE, FOLDERS = 70_000, 100, 100
LARGE = 2_000_000_000  # bytes
BATCH, BATCHES = 256, 800
Row = tuple[str, str, str, list[float]]
YAML = """
data:
  files:
    source: {path: incoming}
    items: {files: "*"}
    split: {test: 0.2}
    labels: {classes: [a, b]}
"""
READ_LANCE = """
import json, random, sys, time
import lance
data = lance.dataset(sys.argv[1])
count, batch, batches = data.count_rows(), int(sys.argv[2]), int(sys.argv[3])
drawn = random.Random(1)
data.take([0])
start = time.process_time()
for _ in range(batches):
    data.take([drawn.randrange(count) for _ in range(batch)], columns=["content"]).column("content").to_pylist()
print(json.dumps(batch * batches / (time.process_time() - start)))
"""
WRITE_LANCE = """
import pathlib, sys
import lance, pyarrow
files = sorted(p for p in pathlib.Path(sys.argv[2]).rglob("*") if p.is_file())
rows = pyarrow.table({"name": [str(p) for p in files], "content": [p.read_bytes() for p in files]})
lance.write_dataset(rows, sys.argv[1])
"""
READ_CDL = """
import json, random, sys, time
from cdl.project import open_workspace
from cdl.registry.records import Dataset
from pathlib import Path
workspace = open_workspace(Path(sys.argv[1]))
tree = workspace.store.tree(workspace.registry.all(Dataset)[0][1].train)
count, batch, batches = len(tree), int(sys.argv[2]), int(sys.argv[3])
drawn = random.Random(1)
tree.take(list(range(count)))
start = time.process_time()
for _ in range(batches):
    [bytes(data) for data in tree.take([drawn.randrange(count) for _ in range(batch)])]
print(json.dumps(batch * batches / (time.process_time() - start)))
"""


def install() -> None:
    """Makes the peers' environments where they are not there."""
    for name, packages in PACKAGES.items():
        if not (PEERS / name / "bin" / "python").exists():
            venv.create(PEERS / name, with_pip=True)
            pip = [str(PEERS / name / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages]
            subprocess.run(pip, check=True)


@dataclass(frozen=True)
class System:
    """How a system is set up in an empty folder, and its commands; None for what it does not do."""

    name: str
    begin: Callable[[Path], None]
    add: list[str]
    recheck: list[str] | None = None

    @property
    def there(self) -> bool:
        """Whether it is installed."""
        return Path(self.add[0]).exists() or shutil.which(self.add[0]) is not None


def _git(root: Path) -> None:
    _run(root, "git", "init", "--quiet", "--initial-branch=main")


def _dvc(root: Path) -> None:
    _git(root)
    _run(root, str(PEERS / "dvc/bin/dvc"), "init", "--quiet")
    _run(root, str(PEERS / "dvc/bin/dvc"), "config", "core.analytics", "false")


def _cdl(root: Path) -> None:
    _run(root, CDL, "init", "--name", "bench")
    (root / "cdl.yaml").write_text((root / "cdl.yaml").read_text() + YAML)
    (root / ".gitignore").write_text((root / ".gitignore").read_text() + "incoming/\n")
    _run(root, CDL, "key", "create")
    _run(root, "git", "commit", "--quiet", "--all", "--message", "data")
    _run(root, CDL, "approve", "policy")


SYSTEMS = (
    System("cdl", _cdl, [CDL, "data", "run"], [CDL, "run", "data"]),
    System("dvc", _dvc, [str(PEERS / "dvc/bin/dvc"), "add", "incoming"], [str(PEERS / "dvc/bin/dvc"), "status"]),
    System("git", _git, ["git", "add", "incoming"], ["git", "status", "--porcelain"]),
    System("cp", lambda root: None, ["cp", "-r", "incoming", "copy"]),
)


def measure(runs: int, *, large: int = LARGE) -> Iterator[Row]:
    """(work, system, unit, values) of every work and system that is installed."""
    for name in ("AUTHOR", "COMMITTER"):
        os.environ |= {f"GIT_{name}_NAME": "a", f"GIT_{name}_EMAIL": "a@example.org"}
    os.environ["DVC_NO_ANALYTICS"] = "1"
    found: dict[tuple[str, str, str], list[float]] = {}
    with TemporaryDirectory(dir=os.environ.get("CDL_BENCH_DIR")) as name:
        folder = Path(name)
        os.environ["CDL_KEYRING"] = str(folder / "keyring")
        _files(folder / "files", range(FILES))
        _files(folder / "more", range(FILES, FILES + MORE))
        for number in range(runs):
            for system in (s for s in SYSTEMS if s.there):
                for key, value in _small(folder, system, last=number == runs - 1):
                    found.setdefault(key, []).append(value)
        shutil.rmtree(folder / "files")
        for system in (s for s in SYSTEMS if s.there and s.name != "git"):  # which takes minutes to pack it
            for key, value in _one_large(folder, system, large):
                found.setdefault(key, []).append(value)
    for (work, system_, unit), values in found.items():
        yield work, system_, unit, values


def _small(folder: Path, system: System, *, last: bool) -> Iterator[tuple[tuple[str, str, str], float]]:
    """Adds the files, looks whether anything changed, adds some more; and puts them back."""
    root = folder / "root"
    root.mkdir()
    system.begin(root)
    (folder / "files").rename(root / "incoming")
    yield from _timed("add", system.name, root, system.add)
    if system.recheck:
        yield from _timed("recheck", system.name, root, system.recheck)
    if last and system.name == "cdl":
        yield (
            ("read_batches", "cdl", "items/s"),
            _printed(sys.executable, "-c", READ_CDL, str(root), str(BATCH), str(BATCHES)),
        )
        lance = PEERS / "lance/bin/python"
        if lance.exists():
            table = str(folder / "table.lance")
            _run(folder, str(lance), "-c", WRITE_LANCE, table, str(root / "incoming"))
            yield (
                ("read_batches", "lance", "items/s"),
                _printed(str(lance), "-c", READ_LANCE, table, str(BATCH), str(BATCHES)),
            )
    if system.recheck:
        for path in (folder / "more").rglob("*.txt"):
            shutil.copy(path, root / "incoming" / path.parent.name)
        yield from _timed("append", system.name, root, system.add)
        for path in (folder / "more").rglob("*.txt"):
            (root / "incoming" / path.parent.name / path.name).unlink()
    (root / "incoming").rename(folder / "files")
    shutil.rmtree(root)


def _one_large(folder: Path, system: System, size: int) -> Iterator[tuple[tuple[str, str, str], float]]:
    """Adds a large file, changes a byte in its middle, and adds it again."""
    root = folder / "root"
    (root / "incoming").mkdir(parents=True)
    system.begin(root)
    path = root / "incoming" / "large.bin"
    drawn = random.Random(2)
    with path.open("wb") as file:
        for _ in range(size // 1_000_000):
            file.write(drawn.randbytes(1_000_000))
    yield from _timed("add_large", system.name, root, system.add)
    held = _bytes(root)
    with path.open("r+b") as file:
        file.seek(size // 2)
        byte = file.read(1)
        file.seek(size // 2)
        file.write(bytes([byte[0] ^ 1]))
    yield from _timed("change_byte", system.name, root, system.add)
    yield ("change_byte: stored", system.name, "MB"), (_bytes(root) - held) / 1e6
    shutil.rmtree(root)


def _timed(work: str, system: str, root: Path, command: list[str]) -> Iterator[tuple[tuple[str, str, str], float]]:
    """Runs a command; seconds of CPU of it and all it starts, and of the clock."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    yield (work, system, "s cpu"), cpu
    yield (work, system, "s wall"), wall


def _files(folder: Path, numbers: range) -> None:
    drawn = random.Random(numbers.start)
    for number in range(FOLDERS):
        (folder / f"{number:03d}").mkdir(parents=True)
    for number in numbers:
        path = folder / f"{number % FOLDERS:03d}" / f"{number:07d}.txt"
        path.write_bytes(drawn.randbytes(300 + drawn.randrange(600)))


def _bytes(root: Path) -> int:
    """Bytes of all files below a folder but the data themselves."""
    return sum(p.stat().st_size for p in root.rglob("*") if p.is_file() and "incoming" not in p.parts)


def _printed(*command: str) -> float:
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout))


def _run(folder: Path, *command: str) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
