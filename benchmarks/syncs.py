"""What sharing costs: objects to and from a folder and an S3 server on loopback, and a sync with nothing to do."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.s3 import of_server, s3_server

from cdl.project import open_workspace

CDL = str(Path(sys.executable).with_name("cdl"))
OBJECTS, BYTES = 2000, 10_000


def measure(runs: int) -> Iterator[tuple[str, str, str, list[float]]]:
    """(work, system, unit, values): objects a second to and from each kind of store, milliseconds of CPU of an idle sync."""
    for system in ("folder", "s3 on loopback"):
        sent, fetched, idle = [], [], []
        for _ in range(runs):
            with _project(system) as (root, other):
                sent.append(OBJECTS / _seconds(root, "sync"))
                fetched.append(OBJECTS / _seconds(other, "sync"))
                idle.append(_cpu(root, "sync"))
        yield "sync: send", system, "objects/s", sent
        yield "sync: fetch", system, "objects/s", fetched
        yield "sync: nothing to do", system, "ms cpu", idle


@contextmanager
def _project(system: str) -> Iterator[tuple[Path, Path]]:
    """A project with objects that were never sent, and a clone that has none of them."""
    server = s3_server() if system != "folder" else nullcontext("")
    with TemporaryDirectory() as name, server as address:
        folder = Path(name)
        os.environ |= of_server(address) if address else {}
        os.environ |= {
            "CDL_KEYRING": str(folder / "keyring"),
            "GIT_AUTHOR_NAME": "a",
            "GIT_AUTHOR_EMAIL": "a@example.org",
        }
        (folder / "shared").mkdir()
        root, other = folder / "a", folder / "b"
        _run(folder, CDL, "init", str(root))
        store = "s3://team/cdl" if address else "../shared"
        with (root / "cdl.yaml").open("a") as file:
            file.write(f"store: {store}\n")
        _run(root, "git", "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-qam", "store")
        _run(folder, "git", "init", "-q", "--bare", "--initial-branch=main", "o.git")
        _run(root, "git", "remote", "add", "origin", "../o.git")
        _run(root, CDL, "trust", "--yes")
        _run(root, CDL, "sync")
        _run(folder, CDL, "clone", "--yes", "o.git", str(other))
        workspace = open_workspace(root)
        names = [workspace.store.put(f"{n}".encode().ljust(BYTES, b".")) for n in range(OBJECTS)]
        workspace.store.claim("trained/all", " ".join(names).encode())
        workspace.journal.append("experiment.created", who="a@example.org", name="x", commit="0")
        workspace.journal.index.close()
        yield root, other


def _run(folder: Path, *command: str) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def _seconds(folder: Path, command: str) -> float:
    start = time.perf_counter()
    _run(folder, CDL, command)
    return time.perf_counter() - start


def _cpu(folder: Path, command: str) -> float:
    before = os.times()
    _run(folder, CDL, command)
    after = os.times()
    return (after.children_user + after.children_system - before.children_user - before.children_system) * 1000
