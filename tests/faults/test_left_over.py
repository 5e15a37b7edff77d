"""What a killed command must not leave: programs that run on, and folders outside the project with what lay in them."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.faults.around import left_running
from tests.faults.world import SMALL, World, begin
from tests.team import CDL

pytestmark = pytest.mark.xdist_group("faults")
SECONDS = 30.0
SLOW = "#!/bin/sh\necho here > {place}\nif [ -e {go} ]; then exec cat; fi\nexec sleep 300\n"
SOURCE = (
    '#!/bin/sh\ncp incoming/points.csv "$CDL_OUT"\necho here > {place}\nif [ ! -e {go} ]; then exec sleep 300; fi\n'
)
STEP = (
    "    require: [items >= 10]\n",
    "    require: [items >= 10]\n    steps:\n    - clean: {run: [./slow.sh], files: [slow.sh]}\n",
)
FETCHED = ("source: {path: incoming}", "source: {command: [./slow.sh]}")
TRAINED = ("train", "--", "sh", "slow.sh")
NOTHING = ("", "")


@pytest.mark.parametrize(
    ("program", "change", "command"),
    [(SLOW, STEP, ("data", "run")), (SOURCE, FETCHED, ("data", "run")), (SLOW, NOTHING, TRAINED)],
    ids=["a step", "a source", "a training"],
)
def test_programs_end_and_folders_go(
    tmp_path: Path, program: str, change: tuple[str, str], command: tuple[str, ...]
) -> None:
    world = begin(tmp_path / "world")
    place, go = world.folder / "here", world.folder / "go"
    if command == TRAINED:
        for words in ("data run", "approve", "label import ../export.json", "label release"):
            world.a.cdl(*words.split())
    world.a.write("slow.sh", program.format(place=place, go=go))
    (world.a.root / "slow.sh").chmod(0o755)
    world.a.write("cdl.yaml", SMALL.replace(*change) + "store: ../shared\n")
    world.a.commit("a program")
    kill_at(world, command, place)
    assert left_running(world.folder) == []
    left = list((world.folder / "tmp").glob("cdl-*"))
    assert left
    for held in [path / "held" for path in left]:
        os.utime(held, (0, 0))  # a killed command's, a minute ago
    go.touch()
    world.a.run(str(CDL), *command)
    assert list((world.folder / "tmp").glob("cdl-*")) == []


def kill_at(world: World, command: tuple[str, ...], place: Path) -> None:
    """Starts a command, and kills its process alone once its program runs."""
    process = subprocess.Popen(
        [str(CDL), *command],
        cwd=world.a.root,
        env=world.a.env(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + SECONDS
    while not place.exists():
        assert process.poll() is None and time.monotonic() < end, "the program was not started"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
