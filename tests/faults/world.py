"""A project of 20 items and a one-epoch model in a folder that can be copied, brought from command to command.

A world is a folder: the clone `a`, what it shares (`origin.git`, `shared`), a second clone `b`, one keyring, and `tmp` for jobs.
Nothing in it names its own place.
"""

import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cdl.keys import Keyring
from tests.projects import FEATURES, SIDE, YAML, table
from tests.team import Person

WHO = "data@example.org"
SECRET = b"a key that splits twenty well 00"
SMALL = (
    YAML.replace("test.accuracy >= 0.60", "test.accuracy >= 0.10")
    .replace("epochs: 4\n", "epochs: 1\n")
    .replace("validation: 0.25", "validation: 0.4")
    .replace("max_trials: 6, min_epochs: 1, max_epochs: 4", "workers: 1, max_trials: 4, min_epochs: 1, max_epochs: 2")
    .replace(", origin: {source: true}", "")
)
SOURCE = {
    "cdl.yaml": SMALL,
    "model/side.py": SIDE,
    "model/features.py": FEATURES,
    "requirements.lock": "numpy==2.0.0\n",
    "incoming/points.csv": table(20),
}


@dataclass(frozen=True)
class World:
    """A folder with everything of a team of one. `around` is what else its processes are given."""

    folder: Path
    around: tuple[tuple[str, str], ...] = ()

    @cached_property
    def a(self) -> Person:
        """At the first clone."""
        return self._at("a")

    @cached_property
    def b(self) -> Person:
        """At the second clone."""
        return self._at("b")

    def _at(self, name: str) -> Person:
        return Person(
            WHO, self.folder / name, self.folder / "keys", {"TMPDIR": str(self.folder / "tmp"), **dict(self.around)}
        )

    def copy(self, folder: Path) -> "World":
        """The same somewhere else."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return World(folder, self.around)


def begin(folder: Path, *, store: str = "../shared", around: tuple[tuple[str, str], ...] = ()) -> World:
    """A new project with rows in its source; nothing was collected yet."""
    for name in ("a", "tmp", "shared"):
        (folder / name).mkdir(parents=True)
    (folder / "export.json").write_text(exported())
    world = World(folder, around)
    a = world.a
    for path, text in SOURCE.items():
        a.write(path, text)
    Keyring(folder / "keys" / "cdl" / "keyring").create("toy", "points", secret=SECRET)
    a.cdl("init")
    a.write("cdl.yaml", SMALL + f"store: {store}\n")
    a.git("init", "--quiet", "--bare", "--initial-branch=main", "../origin.git")
    a.git("remote", "add", "origin", "../origin.git")
    a.commit("model")
    a.cdl("trust", "--yes")
    return world


def exported(count: int = 20) -> str:
    """What Label Studio would export: a label of every item, each with its labeler and time."""
    rows = [line.split(",") for line in table(count).splitlines()[1:]]
    return json.dumps([{"data": {"file": name}, "annotations": [_annotation(side)]} for name, _, _, side in rows])


def _annotation(side: str) -> dict[str, object]:
    return {
        "completed_by": {"email": WHO},
        "created_at": "2026-01-02T03:04:05Z",
        "result": [{"type": "choices", "value": {"choices": [side]}}],
    }
