"""What is compared: how each system is set up in an empty folder, and its commands as a person types them."""

import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from versioning.taking import run

CDL = str(Path(sys.executable).with_name("cdl"))
PEERS = Path(__file__).parents[2] / ".bench"
DVC, LANCE = str(PEERS / "dvc/bin/dvc"), str(PEERS / "lance/bin/python")
PACKAGES = {"dvc": ["dvc"], "lance": ["pylance", "pyarrow"]}
WRITE_LANCE = """
import pathlib, sys
import lance, pyarrow, pyarrow.csv
source, mode, kept = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
if source.suffix == ".csv":
    rows = pyarrow.csv.read_csv(source).slice(kept)
else:
    files = sorted((p for p in source.rglob("*") if p.is_file()), key=lambda p: p.name)[kept:]
    rows = pyarrow.table({"name": [str(p) for p in files], "content": [p.read_bytes() for p in files]})
lance.write_dataset(rows, "table.lance", mode=mode)
"""
Command = Callable[[str, int], list[str]]  # of a source, and how many items it held before


@dataclass(frozen=True)
class System:
    """A system; None for what it does not do."""

    name: str
    begin: Callable[[Path], None]
    add: Command
    recheck: Command | None = None
    append: Command | None = None

    @property
    def there(self) -> bool:
        """Whether it is installed."""
        return shutil.which(self.add("x", 0)[0]) is not None


def install() -> None:
    """Makes the peers' environments where they are not there."""
    for name, packages in PACKAGES.items():
        if not (PEERS / name / "bin" / "python").exists():
            venv.create(PEERS / name, with_pip=True)
            pip = [str(PEERS / name / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages]
            subprocess.run(pip, check=True)


def _git(root: Path) -> None:
    run(root, "git", "init", "--quiet", "--initial-branch=main")


def _dvc(root: Path) -> None:
    _git(root)
    run(root, DVC, "init", "--quiet")
    run(root, DVC, "config", "core.analytics", "false")


def _cdl(root: Path) -> None:
    run(root, CDL, "init", "--name", "bench")


SYSTEMS = (
    System(
        "cdl",
        _cdl,
        add=lambda source, _: [CDL, "data", "add", source],
        recheck=lambda *_: [CDL, "data", "run"],
        append=lambda *_: [CDL, "data", "run"],
    ),
    System(
        "dvc",
        _dvc,
        add=lambda source, _: [DVC, "add", source],
        recheck=lambda *_: [DVC, "status"],
        append=lambda source, _: [DVC, "add", source],
    ),
    System(
        "git",
        _git,
        add=lambda source, _: ["git", "add", source],
        recheck=lambda *_: ["git", "status", "--porcelain"],
        append=lambda source, _: ["git", "add", source],
    ),
    System("cp", lambda root: None, add=lambda source, _: ["cp", "-r", source, "copy"]),
    System(
        "lance",
        lambda root: None,
        add=lambda source, _: [LANCE, "-c", WRITE_LANCE, source, "create", "0"],
        append=lambda source, kept: [LANCE, "-c", WRITE_LANCE, source, "append", str(kept)],
    ),
)
BY_NAME = {system.name: system for system in SYSTEMS}


def there(*but: str) -> list[System]:
    """The systems that are installed, but for some."""
    return [system for system in SYSTEMS if system.there and system.name not in but]


def versions() -> list[str]:
    """The versions of the peers that are installed."""
    lance = "import lance; print('lance', lance.__version__)"
    asked = {"dvc": [DVC, "--version"], "lance": [LANCE, "-c", lance], "git": ["git", "--version"]}
    found = {name: run(PEERS.parent, *asked[name]).split()[-1] for name in asked if BY_NAME[name].there}
    return [f"{name} {version}" for name, version in found.items()]


def declare(root: Path, section: str) -> None:
    """A project of cdl with a dataset that is declared by hand."""
    _cdl(root)
    (root / "cdl.yaml").write_text((root / "cdl.yaml").read_text() + section)
    (root / ".gitignore").write_text((root / ".gitignore").read_text() + "incoming/\n")
    run(root, CDL, "key", "create")
    run(root, "git", "add", "--all")
    run(root, "git", "commit", "--quiet", "--message", "data")
    run(root, CDL, "approve", "policy")
