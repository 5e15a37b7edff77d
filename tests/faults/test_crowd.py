"""Sixteen processes at once on one project: labels, trials, reads, commits by git and by `cdl`, sync of two clones."""

import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from cdl.data.labels import rows
from cdl.model.trials import trials
from tests.faults.around import left_running, locks, opened
from tests.faults.campaign import Campaign
from tests.faults.cases import item
from tests.faults.content import faults
from tests.faults.world import World
from tests.team import CDL, Person

pytestmark = pytest.mark.xdist_group("faults")
READS = ("status", "log", "events", "trial list")
AGAIN = re.compile(r"changed by somebody else just now|moved by somebody else")  # of two who release at once
TAKEN = re.compile(r"index\.lock|cannot lock ref")  # git itself waits for nobody
Turn = Callable[[int], None]
LABELER = """
import sys, time
from pathlib import Path
from cdl.data.labels import Session
from cdl.project import open_workspace

session, count, end = Session(open_workspace(Path.cwd()), "points"), 0, time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    count += session.record({sys.argv[1]: ("left", "right")[count % 2]})
    time.sleep(0.03)
print(count)
"""


@dataclass
class Crowd:
    """What was done, counted, and what went wrong."""

    world: World
    labeled: str
    end: float
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str, many: int = 1) -> None:
        """One more of something, or many."""
        with self._lock:
            self.done[what] += many

    def cdl(self, what: str, person: Person, *command: str) -> None:
        """A command, counted when it did it. Anything else than success, or a conflict that says so, is wrong."""
        ran = person.run(str(CDL), *command)
        said = ran.stdout + ran.stderr
        if ran.returncode == 4 and AGAIN.search(said):
            self.count("again")
        elif ran.returncode or "Traceback" in said or "FAULT" in said:
            self.wrong.append(f"cdl {' '.join(command)}: {ran.returncode}: {said}")
        else:
            self.count(what)

    def label(self, number: int) -> None:
        """Labels an item."""
        self.cdl("labels", self.world.a, "label", "set", self.labeled, ("left", "right")[number % 2])

    def label_on(self, number: int) -> None:
        """Labels one after another in one process, up to the end."""
        left = str(max(0.1, self.end - time.monotonic()))
        ran = self.world.a.run(sys.executable, "-c", LABELER, self.labeled, left)
        if ran.returncode:
            self.wrong.append(ran.stderr)
        else:
            self.count("labels", int(ran.stdout))

    def label_there(self, number: int) -> None:
        """Labels in the second clone, and shares that."""
        self.cdl("labels", self.world.b, "label", "set", self.labeled, ("left", "right")[number % 2])
        self.cdl("syncs", self.world.b, "sync")

    def train(self, number: int) -> None:
        """Trains with a seed of its own."""
        self.cdl("trials", self.world.a, "train", "--seed", str(threading.get_ident() % 10_000 + number))

    def read(self, number: int) -> None:
        """Reads something."""
        self.cdl("reads", self.world.a, *READS[number % len(READS)].split())

    def release(self, number: int) -> None:
        """A commit by `cdl` on the branch checked out."""
        self.cdl("releases", self.world.a, "label", "release")

    def sync(self, number: int) -> None:
        """Shares what the first clone has."""
        self.cdl("syncs", self.world.a, "sync")

    def commit(self, number: int) -> None:
        """A commit by git on the branch checked out."""
        self._commit(self.world.a, number)

    def commit_beside(self, number: int) -> None:
        """A commit by git in another work tree."""
        self._commit(self.world.a.at(self.world.folder / "beside"), number)

    def _commit(self, person: Person, number: int) -> None:
        name = f"{person.root.name}-{number}.txt"
        person.write(name, "a note\n")
        for command in (["add", name], ["commit", "--quiet", "--message", name, "--", name]):
            while (ran := person.run("git", *command)).returncode:
                if not TAKEN.search(ran.stderr):
                    self.wrong.append(f"git {' '.join(command)}: {ran.stderr}")
                    return
        self.count(f"commits {person.root.name}")


def test_a_crowd(campaign: Campaign) -> None:
    play(campaign, seconds=8)


@pytest.mark.long
def test_a_crowd_for_a_minute(campaign: Campaign) -> None:
    play(campaign, seconds=60)


def play(campaign: Campaign, seconds: float) -> None:
    """Sixteen at once, each again and again; afterwards all is there."""
    world = campaign.states.state("trained").copy(campaign.work / "crowd")
    world.a.git("worktree", "add", "--quiet", "-b", "exp/beside", "../beside")
    before = standing(world)
    crowd = Crowd(world, item(world), time.monotonic() + seconds)
    turns = (
        [crowd.label, crowd.label, crowd.label_on, crowd.label_on]
        + [crowd.train] * 2
        + [crowd.read] * 4
        + [crowd.release] * 2
    )
    turns += [crowd.commit, crowd.commit_beside, crowd.sync, crowd.label_there]
    assert len(turns) == 16
    threads = [threading.Thread(target=_again, args=(turn, crowd.end)) for turn in turns]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(dict(crowd.done))
    assert crowd.wrong == [], "\n".join(crowd.wrong)
    assert min(crowd.done[what] for what in ("labels", "trials", "reads")) > 0
    for person in (world.a, world.b, world.a):
        person.cdl("sync")
    after = standing(world)
    assert {what: after[what] - before[what] for what in before} == {w: crowd.done[w] for w in before}
    all_whole(world)


def standing(world: World) -> dict[str, int]:
    """How many labels and trials there are, and commits that git made."""
    with opened(world.a) as workspace:
        labels = sum(len(rows(workspace, "points", side)) for side in ("train", "test"))
        ids = [trial.id for trial in trials(workspace)]
    assert len(set(ids)) == len(ids)
    commits = {
        f"commits {name}": len(world.a.git("log", "--format=%s", f"--grep=^{name}-", branch).splitlines())
        for name, branch in (("a", "exp/first"), ("beside", "exp/beside"))
    }
    return {"labels": labels, "trials": len(ids), **commits}


def all_whole(world: World) -> None:
    """Both clones are whole and hold the same events; history is one line; nothing is left over."""
    assert locks(world.folder) == [] and left_running(world.folder) == []
    assert world.a.git("rev-list", "--min-parents=2", "exp/first", "main") == ""
    assert faults(world.a) == [] and faults(world.b) == []
    told = []
    for person in (world.a, world.b):
        with opened(person) as workspace:
            told.append([event.id for event in workspace.journal.events()])
    assert told[0] == told[1] and len(set(told[0])) == len(told[0])


def _again(turn: Turn, end: float) -> None:
    number = 0
    while time.monotonic() < end:
        turn(number)
        number += 1
