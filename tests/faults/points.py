"""A dataset of small files, a large one and two steps, and what it must hold by a plain model: a dictionary."""

import random
from pathlib import Path

import pytest

from cdl.data.pipeline import ledger as ledgers
from cdl.data.pipeline.split import TEST, TRAIN
from cdl.registry.records import Dataset, DatasetHead
from cdl.store import chunk, reach, table
from cdl.store.store import SEALED
from cdl.workflow.workspace import Workspace
from tests.projects import DATA, Toy, make_toy

YAML = """\
cdl: 1
project: toy
data:
  points:
    source: {path: incoming}
    items: {files: "*.txt"}
    split: {test: 0.3}
    steps:
    - upper: {run: "data.steps:upper"}
    labels: {classes: [a, b], origin: {folder: true}}
"""
CODE = """
from cdl.data.reject import Reject

def upper(content):
    if content.startswith(b"no"):
        raise Reject("begins with no")
    return content.upper()
"""
LARGE_BYTES = 1_500_000
Files = dict[str, bytes]


def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of few rows and chunks of few bytes, so that a small dataset has several of each."""
    monkeypatch.setattr(table, "PAGE_ROWS", 8)
    monkeypatch.setattr(table, "FEW_ROWS", 2)
    monkeypatch.setattr(chunk, "CHUNKED_BYTES", 1_000_000)
    monkeypatch.setattr("cdl.data.sources.looked.TICK", 0)


def make_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """The project, with nothing in its source."""
    toy = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", yaml=YAML, files={"data/steps.py": CODE})
    toy.write("incoming/a/.keep", "")
    return toy


def files(count: int, seed: int = 1) -> Files:
    """Small files in two folders, some of which the step rejects; and with a number in their name that no other has."""
    drawn = random.Random(seed)
    starts = (b"no", b"yes", b"text")
    return {f"{'ab'[n % 2]}/{seed}-{n}.txt": drawn.choice(starts) + b" %d %d" % (seed, n) for n in range(count)}


def large(byte: int = 0) -> Files:
    """One file that is kept in chunks."""
    data = bytearray(b"large" + random.Random(7).randbytes(LARGE_BYTES))
    data[LARGE_BYTES // 2] ^= byte
    return {"a/large.txt": bytes(data)}


def fill(root: Path, wanted: Files) -> None:
    """Makes the source hold exactly these files; what is as it was is not touched."""
    folder = root / "incoming"
    for path in [p for p in folder.rglob("*.txt") if p.relative_to(folder).as_posix() not in wanted]:
        path.unlink()
    for name, data in wanted.items():
        path = folder / name
        if not path.exists() or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def model(wanted: Files) -> Files:
    """What the last stage holds of these files, by name."""
    return {name: data.upper() for name, data in wanted.items() if not data.startswith(b"no")}


def held(workspace: Workspace, version: str | None = None) -> Files:
    """What a version holds after its last step, both sets, by the names of the files that it came from."""
    record = record_of(workspace, version)
    vault = workspace.vault(record.name, by="data")
    origins = ledgers.read(vault, record.split.ledger).origins
    found: Files = {}
    for side in (TRAIN, TEST):
        tree = (workspace.store if side == TRAIN else vault).tree(getattr(record.steps[-1], side))
        found |= {origins[identity].name: data for identity, data in tree.contents().items()}
    return found


def raw(workspace: Workspace, version: str | None = None) -> Files:
    """The source files that a version holds."""
    record = record_of(workspace, version)
    return workspace.vault(record.name, by="data").tree(record.sources[0].raw).contents()


def record_of(workspace: Workspace, version: str | None = None) -> Dataset:
    """A version of the dataset; the current one for None."""
    head = workspace.registry.head(DatasetHead, "points")
    assert head is not None
    return workspace.registry.record(Dataset, version or head.version)


def objects(workspace: Workspace, version: str | None = None) -> list[str]:
    """Every object that a version needs."""
    wanted = (name.removeprefix(SEALED) for name in record_of(workspace, version).objects)
    return sorted({*reach.reachable(workspace.store, wanted)})


def opened(toy: Toy) -> Workspace:
    """The project, as its data engineer opens it."""
    return toy.become(DATA)
