"""The works of versioning: files in folders, one large file, a table, an array; and a million files of ours."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from versioning import material
from versioning.material import Sizes
from versioning.reading import read_batches
from versioning.systems import BY_NAME, CDL, System, declare, there
from versioning.taking import Found, held, objects, take

TRAIN = """
data:
  files:
    source: {path: incoming, set: train}
    items: {files: "*"}
"""
HASH = """
import sys
from blake3 import blake3
total, buffer = blake3(), bytearray(1 << 20)
with open(sys.argv[1], "rb", buffering=0) as file:
    while count := file.readinto(buffer):
        total.update(memoryview(buffer)[:count])
print(total.hexdigest())
"""
READ = "import sys\nwith open(sys.argv[1], 'rb', buffering=0) as f:\n    b = bytearray(1 << 20)\n    while f.readinto(b): pass\n"
SIZE = 200  # bytes of one of many files


def small(found: Found, folder: Path, sizes: Sizes) -> None:
    """Adds files in folders, looks whether anything changed, adds some more; in turn, with files that were never seen."""
    for number in range(sizes.runs):
        for system in there():
            with _root(folder, system) as root:
                material.files(root / "incoming", range(sizes.files))
                found.take("add", system.name, root, system.add("incoming", 0))
                if system.recheck:
                    found.take("recheck", system.name, root, system.recheck("incoming", 0))
                if system.name == "cdl":
                    found.take("recheck: cdl data status", "cdl", root, [CDL, "data", "status"])
                    found.take("recheck: cdl run data", "cdl", root, [CDL, "run", "data"])
                if number == sizes.runs - 1:
                    read_batches(found, system.name, root, sizes.batches)
                material.files(root / "incoming", range(sizes.files, sizes.files + sizes.more))
                _append(found, "append", system, root, sizes.files)


def many(found: Found, folder: Path, sizes: Sizes) -> None:
    """Many more files: what adding, checking and appending take, and what an append stores."""
    work, system = f"{sizes.many:,} files", BY_NAME["cdl"]
    with _root(folder, system) as root:
        material.files(root / "incoming", range(sizes.many), size=SIZE, folders=1000)
        found.take(f"{work}: add", "cdl", root, system.add("incoming", 0))
        found.take(f"{work}: recheck", "cdl", root, [CDL, "data", "run"])
        material.files(root / "incoming", range(sizes.many, sizes.many + sizes.more), size=SIZE, folders=1000)
        _append(found, f"{work}: append", system, root, sizes.many)


def one_large(found: Found, folder: Path, sizes: Sizes) -> None:
    """Adds a large file, changes a byte in its middle, and adds it again; beside hashing and reading it on one thread."""
    for system in there("git", "lance"):  # git takes minutes to pack it
        with _root(folder, system, begin=system.name != "cdl") as root:
            path = root / "incoming/large.bin"
            material.large(path, sizes.large)
            if system.name == "cdl":
                _hashed(found, path)
                declare(root, TRAIN)
            add = [CDL, "data", "run"] if system.name == "cdl" else system.add("incoming", 0)
            taken = found.take("large file: add", system.name, root, add)
            found.note("large file: add", system.name, "GB/s of CPU", path.stat().st_size / 1e9 / taken.cpu)
            before, stored = held(root, "incoming"), objects(root)
            material.change_byte(path)
            again = ["cp", "-r", "incoming", "again"] if system.name == "cp" else add
            taken = found.take("change_byte", system.name, root, again)
            found.note("change_byte", system.name, "GB/s of CPU", path.stat().st_size / 1e9 / taken.cpu)
            found.note("change_byte", system.name, "MB stored", (held(root, "incoming") - before) / 1e6)
            if system.name == "cdl":
                new = objects(root).since(stored)
                found.note("change_byte", "cdl", "chunks stored", sum(size > 200_000 for size in new.sizes.values()))


def tables(found: Found, folder: Path, sizes: Sizes) -> None:
    """A table as CSV: added, looked at again, and some rows more."""
    for system in there():
        with _root(folder, system) as root:
            material.rows(root / "rows.csv", range(sizes.rows))
            found.take("rows: add", system.name, root, system.add("rows.csv", 0))
            if system.recheck:
                found.take("rows: recheck", system.name, root, system.recheck("rows.csv", 0))
            material.rows(root / "rows.csv", range(sizes.rows, sizes.rows + sizes.more))
            _append(found, "rows: append", system, root, sizes.rows, source="rows.csv")


def arrays(found: Found, folder: Path, sizes: Sizes) -> None:
    """Images as one array: added, and looked at again."""
    for system in there("lance"):
        with _root(folder, system) as root:
            material.images(root / "images.idx", sizes.images)
            found.take("one array: add", system.name, root, system.add("images.idx", 0))
            if system.recheck:
                found.take("one array: recheck", system.name, root, system.recheck("images.idx", 0))


def _append(found: Found, work: str, system: System, root: Path, kept: int, *, source: str = "incoming") -> None:
    """Adds what came; and what that stored."""
    if system.append is None:
        return
    before, stored = held(root, source), objects(root)
    found.take(work, system.name, root, system.append(source, kept))
    found.note(work, system.name, "MB stored", (held(root, source) - before) / 1e6)
    if system.name == "cdl":
        new = objects(root).since(stored)
        found.note(work, "cdl", "objects stored", len(new.sizes))
        found.note(work, "cdl", "MB of objects stored", new.bytes / 1e6)


def _hashed(found: Found, path: Path) -> None:
    """How fast one thread reads a file that is in memory, and hashes it."""
    for name, code in (("read", READ), ("blake3", HASH)):
        taken = take(path.parent, [sys.executable, "-c", code, str(path)])
        found.note("large file: one thread", name, "GB/s of CPU", path.stat().st_size / 1e9 / taken.cpu)


@contextmanager
def _root(folder: Path, system: System, *, begin: bool = True) -> Iterator[Path]:
    """A new folder for a system, gone afterwards."""
    root = folder / "root"
    root.mkdir()
    try:
        if begin:
            system.begin(root)
        yield root
    finally:
        shutil.rmtree(root)
