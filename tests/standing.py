"""A toy whose training stands still where a test holds it, so that it can be killed exactly there; it also notes what it does."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.projects import SIDE, Toy, make_toy, table

CDL = Path(sys.executable).with_name("cdl")
WAIT_SECONDS = 60
STAND = '''

def stand(point, note=""):
    """Shows a test where the training is, and waits as long as the test wants."""
    import os
    import time
    from pathlib import Path

    folder = Path("FOLDER")
    with open(folder / "notes", "a") as file:
        file.write(f"{point} {note}\\n")
    (folder / point).touch()
    while (folder / f"hold-{point}").exists():
        time.sleep(0.01)
'''
BEGAN = 'for epoch in context.loop(model=model):\n        stand(f"began-{epoch}", note(context))\n'
REPORTED = 'context.validation.labels).mean()))\n        stand(f"reported-{epoch}", note(context))\n'
NOTE = '''

def note(context):
    """The trial, and the hash of the last checkpoint."""
    from blake3 import blake3

    return f"{context.hyperparameters['rate']} {blake3(context.last).hexdigest() if context.last else '-'}"
'''
STOPPING = (
    SIDE.replace("for _ in context.loop(model=model):\n", BEGAN).replace(
        "context.validation.labels).mean()))\n", REPORTED
    )
    + NOTE
)
assert "began" in STOPPING and "reported" in STOPPING


class Standing(Toy):
    """The toy, and the folder beside it through which a test and the training meet."""

    @property
    def points(self) -> Path:
        """The folder of the points that were reached or are held, and of the notes."""
        return self.root.parent / "points"

    def start(self, *command: str) -> "subprocess.Popen[bytes]":
        """A command in a process of its own."""
        return subprocess.Popen(
            [str(CDL), *command],
            cwd=self.root,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=dict(os.environ),
        )

    def kill_at(self, point: str, *command: str) -> None:
        """Runs a command until the training reaches a point, and kills the process there; its worker ends with it."""
        (self.points / f"hold-{point}").touch()
        process = self.start(*command)
        end = time.monotonic() + WAIT_SECONDS
        while not (self.points / point).exists():
            assert process.poll() is None and time.monotonic() < end, f"{point} was not reached"
            time.sleep(0.01)
        process.kill()
        process.wait()
        (self.points / f"hold-{point}").unlink()
        (self.points / point).unlink()

    def notes(self) -> list[list[str]]:
        """What the training noted so far: point, trial, hash of the last checkpoint."""
        return [line.split() for line in (self.points / "notes").read_text().splitlines()]


def standing(tmp_path: Path, patch: pytest.MonkeyPatch, yaml: str, files: Mapping[str, str]) -> Standing:
    """A project with data whose files can stand still."""
    folder = tmp_path / "points"
    folder.mkdir(parents=True)
    source = {path: text + STAND.replace("FOLDER", str(folder)) for path, text in files.items()}
    made = make_toy(tmp_path / "toy", patch, tmp_path / "keyring", yaml=yaml, files=source)
    made.data(table(120))
    return Standing(made.root, patch)
