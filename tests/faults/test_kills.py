"""The kill campaign: commands ended with SIGKILL at random points; the next command goes on and ends with the same content.

CDL_KILLS=seed:count repeats a campaign: scripts/test --long tests/faults/test_kills.py
"""

import os
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.faults.around import left_running, locks
from tests.faults.cases import CASES, DONE, Case, States, typed
from tests.faults.content import Content, content, faults
from tests.faults.killing import Ran, Stop, run
from tests.faults.world import World
from tests.team import CDL

POINTS = 100
TRIES = 3


@dataclass
class Campaign:
    """States, and what each command does when nobody disturbs it."""

    states: States
    work: Path
    reference: dict[str, tuple[Ran, dict[str, Content]]] = field(default_factory=dict)

    def undisturbed(self, case: Case) -> tuple[Ran, dict[str, Content]]:
        """How a command runs, and what it leaves in each clone."""
        if case.name not in self.reference:
            world = self.states.before(case).copy(self.work / "undisturbed")
            ran = run(case.person(world), typed(world, case), world.folder)
            assert ran.code == 0, ran.said
            try:
                self.reference[case.name] = ran, finished(case, world)
                assert wholly(case, world) == []
            finally:
                end(case, world)
        return self.reference[case.name]

    def point(self, case: Case, stop: Stop) -> list[str]:
        """Kills a command once and goes on; what is wrong afterwards."""
        expected = self.undisturbed(case)[1]
        world = self.states.before(case).copy(self.work / "killed")
        try:
            person, command = case.person(world), typed(world, case)
            wrong = []
            if run(person, command, world.folder, stop).code is None:
                wrong += [f"still runs: {left}" for left in left_running(world.folder)]
            wrong += go_on(case, world, command)
            if not wrong:
                found = finished(case, world)
                wrong += [line for name in case.clones for line in differences(case, name, expected[name], found[name])]
            return wrong + wholly(case, world)
        finally:
            end(case, world)


def go_on(case: Case, world: World, command: tuple[str, ...]) -> list[str]:
    """Types the command again; what does not let it end."""
    ran = run(case.person(world), command, world.folder)
    if ran.code == 0 or DONE.search(ran.said):
        return ["a traceback"] if "Traceback" in ran.said else []
    return [f"the same command again ends with {ran.code}: {ran.said}"]


def finished(case: Case, world: World) -> dict[str, Content]:
    """The content of each clone after what follows a case."""
    for at, *command in case.then:
        (world.b if at == "b" else world.a).cdl(*command)
    return {name: content(getattr(world, name)) for name in case.clones}


def differences(case: Case, name: str, expected: Content, found: Content) -> list[str]:
    """Where two contents differ."""
    first, second = (expected.once(), found.once()) if case.twice else (expected, found)
    return [
        f"clone {name}: {part} differ: {getattr(first, part)} {getattr(second, part)}"
        for part in vars(first)
        if getattr(first, part) != getattr(second, part)
    ]


def wholly(case: Case, world: World) -> list[str]:
    """What is not whole, in every clone."""
    found = [f"lock left: {path}" for path in locks(world.folder)]
    return found + [f"clone {name}: {fault}" for name in case.clones for fault in faults(getattr(world, name))]


def end(case: Case, world: World) -> None:
    """Ends a service and removes the world."""
    if case.command[0] == "deploy":
        world.a.run(str(CDL), "deploy", "stop", "staging")
    shutil.rmtree(world.folder)


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    """States on disk, made when they are needed."""
    folder = tmp_path_factory.mktemp("kills")
    yield Campaign(States(folder / "states"), folder)


def drawn(campaign: Campaign, cases: tuple[Case, ...], count: int, seed: int) -> list[tuple[Case, Stop]]:
    """Points: of each command as many as its share of the time of all, one at least; half by time, half by changes."""
    generator = random.Random(seed)
    ran = {case: campaign.undisturbed(case)[0] for case in cases}
    weights = [ran[case].seconds for case in cases]
    chosen = [*cases, *generator.choices(cases, weights, k=max(0, count - len(cases)))][:count]
    points = []
    for number, case in enumerate(chosen):
        alone = generator.random() < 0.3
        if number % 3 == 0:
            points.append((case, Stop(seconds=generator.uniform(0, ran[case].seconds), alone=alone)))
        else:
            points.append((case, Stop(changes=generator.randint(1, ran[case].changes), alone=alone)))
    return points


def play(campaign: Campaign, cases: tuple[Case, ...], count: int, seed: int) -> None:
    """Plays a campaign; fails with all that was found."""
    found = []
    begun = time.monotonic()
    for number, (case, stop) in enumerate(drawn(campaign, cases, count, seed)):
        wrong = campaign.point(case, stop)
        print(f"{time.monotonic() - begun:6.1f} s, point {number}: {case.name} killed after {stop}: {len(wrong)} faults")
        found += [f"point {number}: {case.name} killed after {stop}: {line}" for line in wrong]
    assert not found, f"seed {seed}\n" + "\n".join(found)


QUICK = tuple(case for case in CASES if case.name in ("data run", "label import", "train", "sync sends"))


def test_a_few_kills(campaign: Campaign) -> None:
    play(campaign, QUICK, 8, seed=1)


@pytest.mark.long
def test_a_hundred_kills(campaign: Campaign) -> None:
    seed = int(os.environ.get("CDL_KILLS", random.SystemRandom().randrange(1 << 32)))
    play(campaign, CASES, POINTS, seed)
