"""A project with a dataset of files and two steps, brought from command to command; and what each of its versions must hold.

Copying a world makes other files of its sources; so what is to be seen as unchanged is looked at once after the copy.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cdl.keys import Keyring
from cdl.store.store import digest
from tests.faults import points
from tests.faults.points import Files, fill
from tests.faults.world import SECRET, World

STEPS = """\
    steps:
    - upper: {run: "data.steps:upper", resources: {cpus: 1}}
    - mark: {run: [sh, mark.sh], files: [mark.sh], io: folders, batch: 7}
"""
DECLARED = (
    """\
  points:
    source: {path: incoming}
    items: {files: "*.txt"}
    split: {test: 0.3}
"""
    + STEPS
)
UPPER = points.CODE.replace("    return content.upper()", "    time.sleep(0.004)\n    return content.upper()")
CODE = "import time\n" + UPPER
MARK = 'for f in "$CDL_IN"/0*; do { cat "$f"; printf "!"; } > "$CDL_OUT/${f##*/}"; done\n'
YAML = "cdl: 1\nproject: toy\nstore: {store}\n"

FIRST = points.files(40)
MORE = points.files(8, seed=2)
NEW = points.files(6, seed=3)
OURS, THEIRS = points.files(5, seed=4), points.files(5, seed=5)
BIG = {"b/big.txt": b"".join(b"%032d" % n for n in range(2_200_000))}  # cut into chunks
CHANGED = {"a/1-2.txt": b"changed", "b/1-3.txt": b"no more"}
SECOND = {name: data for name, data in {**FIRST, **MORE, **CHANGED}.items() if name != "a/1-4.txt"}


def model(files: Files, *, steps: bool = True) -> Files:
    """What the last stage holds of some files."""
    return {name: data + b"!" for name, data in points.model(files).items()} if steps else files


@dataclass
class DataWorld:
    """A world, and the files that each of its acknowledged versions was made of."""

    world: World
    versions: dict[str, Files] = field(default_factory=dict)

    def copy(self, folder: Path) -> "DataWorld":
        """The same somewhere else."""
        return DataWorld(self.world.copy(folder), dict(self.versions))

    def run(self, files: Files) -> None:
        """Makes a version of these files, undisturbed."""
        fill(self.world.a.root, files)
        self.versions[self.world.a.json("data", "run", "points")["version"]] = files


def begin(
    folder: Path, *, declared: bool = True, store: str = "../shared", around: tuple[tuple[str, str], ...] = ()
) -> DataWorld:
    """A new project; with files in its source, that are declared or not."""
    for name in ("a", "tmp", "shared"):
        (folder / name).mkdir(parents=True)
    world = World(folder, around)
    a = world.a
    a.write("cdl.yaml", YAML.format(store=store) + ("data:\n" + DECLARED if declared else ""))
    a.write("data/steps.py", CODE)
    a.write("mark.sh", MARK)
    if declared:
        Keyring(folder / "keys" / "cdl" / "keyring").create("toy", "points", secret=SECRET)
    a.cdl("init")
    a.git("init", "--quiet", "--bare", "--initial-branch=main", "../origin.git")
    a.git("remote", "add", "origin", "../origin.git")
    if declared:
        a.write(".gitignore", (a.root / ".gitignore").read_text() + "incoming/\n")
    a.commit("data")
    a.cdl("trust", "--yes")
    fill(a.root, FIRST)
    return DataWorld(world)


def _nothing(data: DataWorld) -> None:
    """Nothing more."""


def _changed(data: DataWorld) -> None:
    """What stands is looked at; then the source changes."""
    data.world.a.cdl("data", "run", "points")
    fill(data.world.a.root, SECOND)


def _outside(data: DataWorld) -> None:
    """New files lie outside, and a large one."""
    data.world.a.cdl("data", "run", "points")
    for name, content in {**NEW, **BIG}.items():
        place = data.world.folder / "new" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)


def _merging(data: DataWorld) -> None:
    """A git merge of two branches, both with a version, that stopped."""
    a = data.world.a
    a.git("switch", "--quiet", "--create", "theirs")
    data.run({**FIRST, **THEIRS})
    a.git("switch", "--quiet", "main")
    data.run({**FIRST, **OURS})
    assert a.run("git", "merge", "--no-edit", "theirs").returncode == 1


def _clone(data: DataWorld) -> None:
    """A second version with a large file, sent; a second clone that has nothing of it yet."""
    b = data.world.b
    b.root.mkdir()
    b.cdl("clone", "--yes", "../origin.git", ".")
    b.git("remote", "set-url", "origin", "../origin.git")
    data.world.a.cdl("sync")


def _grown(data: DataWorld) -> None:
    """A second version, with a large file."""
    data.run({**SECOND, **BIG})
    data.world.a.git("push", "--quiet", "origin", "main")


def _litter(data: DataWorld) -> None:
    """Objects that nothing names, among them those of a version that was taken back."""
    a = data.world.a
    data.run(SECOND)
    gone = data.world.a.json("data", "run", "points")["version"]
    a.git("reset", "--quiet", "--hard", "HEAD~1")
    a.git("update-ref", "-d", f"refs/cdl/data/{gone}")
    del data.versions[gone]
    for number in range(12):
        place = a.root / ".cdl/store/objects" / digest(b"%d" % number)[:2] / digest(b"%d" % number)[2:]
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(b"%d" % number)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A command on a world in a state, after `ready`; the files whose version it makes, and where it is typed."""

    name: str
    state: str
    command: tuple[str, ...]
    ready: Callable[[DataWorld], None] = _nothing
    wanted: Files | None = None
    steps: bool = True
    at: str = "a"
    ends: tuple[str, ...] = ()  # git, after it


CASES = (
    Case(name="data add", state="bare", command=("data", "add", "incoming", "--name", "points"), wanted=FIRST, steps=False),
    Case(name="data run, first", state="begun", command=("data", "run"), wanted=FIRST),
    Case(name="data run, changed", state="first", command=("data", "run"), ready=_changed, wanted=SECOND),
    Case(
        name="data ingest", state="first", command=("data", "ingest", "points", "../new/a", "../new/b"),
        ready=_outside, wanted={**FIRST, **NEW, **BIG},
    ),
    Case(
        name="data merge", state="merging", command=("data", "merge"), wanted={**FIRST, **OURS, **THEIRS},
        ends=("commit", "--quiet", "--no-edit"),
    ),
    Case(name="sync sends", state="grown", command=("sync",)),
    Case(name="sync fetches", state="sent", command=("sync",), at="b"),
    Case(name="gc", state="littered", command=("gc", "--remove", "--older-than", "0s")),
)  # fmt: skip


def _first(data: DataWorld) -> None:
    data.run(FIRST)


WAYS: Mapping[str, tuple[str, Callable[[DataWorld], None]]] = {
    "first": ("begun", _first),
    "merging": ("first", _merging),
    "grown": ("first", _grown),
    "sent": ("grown", _clone),
    "littered": ("first", _litter),
}


@dataclass
class DataStates:
    """Worlds in the state before each command, made on the way to it and kept below a folder."""

    folder: Path
    made: dict[str, DataWorld] = field(default_factory=dict)

    def state(self, name: str) -> DataWorld:
        """A state by its name."""
        if name not in self.made:
            if name in ("bare", "begun"):
                self.made[name] = begin(self.folder / name, declared=name == "begun")
            else:
                earlier, way = WAYS[name]
                self.made[name] = self.state(earlier).copy(self.folder / name)
                way(self.made[name])
        return self.made[name]

    def before(self, case: Case, place: Path) -> DataWorld:
        """A fresh world in the state before a case."""
        shutil.rmtree(place, ignore_errors=True)
        found = self.state(case.state).copy(place)
        case.ready(found)
        return found
