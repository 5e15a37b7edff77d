"""What a fault does to a command: the state before it, the fault, the same command again, and what must hold afterwards."""

import os
import re
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from cdl.errors import CdlError
from tests.faults.around import left_running, locks
from tests.faults.cases import DONE, Case, States, typed
from tests.faults.content import Content, content, faults
from tests.faults.killing import Ran, Stop, run
from tests.faults.world import World
from tests.team import CDL

LOCK = re.compile(r"(/\S+\.lock): another git process holds")
TRIES = 3


@dataclass
class Campaign:
    """States, what each command does when nobody disturbs it, and the locks of git that had to be removed by hand."""

    states: States
    work: Path
    removed: list[str] = field(default_factory=list)
    _undisturbed: dict[str, tuple[Ran, dict[str, Content]]] = field(default_factory=dict)

    def undisturbed(self, case: Case) -> tuple[Ran, dict[str, Content]]:
        """How a command runs, and what it leaves in each clone."""
        if case.name not in self._undisturbed:
            world = self.copy(case, self.work / "undisturbed")  # another one may be in work
            ran = run(case.person(world), typed(world, case), world.folder)
            assert ran.code == 0, ran.said
            try:
                self._undisturbed[case.name] = ran, finished(case, world)
                assert wholly(case, world) == []
            finally:
                end(case, world)
        return self._undisturbed[case.name]

    def copy(self, case: Case, place: Path | None = None) -> World:
        """A fresh world in the state before a case."""
        return self.states.before(case).copy(place or self.work / "world")

    def point(self, case: Case, stops: tuple[Stop, ...]) -> list[str]:
        """Kills a command, once or several times in a row, and goes on; what is wrong afterwards."""
        self.undisturbed(case)
        world = self.copy(case)
        wrong = []
        try:
            for stop in stops:
                if run(case.person(world), typed(world, case), world.folder, stop).code is None:
                    wrong += [f"still runs: {left}" for left in left_running(world.folder)]
                    wrong += self._meanwhile(case, world)
            return wrong + self.goes_on(case, world)
        except (AssertionError, CdlError) as error:
            return [*wrong, f"{type(error).__name__}: {error}"]
        finally:
            end(case, world)

    def _meanwhile(self, case: Case, world: World) -> list[str]:
        """What the other clone sees that is not whole."""
        if not case.meanwhile:
            return []
        ran = run(world.b, ("sync",), world.folder)
        said = [] if ran.code == 0 else [f"meanwhile, in the other clone: {ran.said}"]
        return said + [f"meanwhile, in the other clone: {fault}" for fault in faults(world.b)]

    def goes_on(self, case: Case, world: World) -> list[str]:
        """Types the command again, as often as its message says; what is wrong then."""
        for _ in range(TRIES):
            ran = run(case.person(world), typed(world, case), world.folder)
            if (lock := LOCK.search(ran.said)) is None:
                break
            self.removed.append(f"{case.name}: {lock[1]}")
            Path(lock[1]).unlink()
        if "Traceback" in ran.said or (ran.code != 0 and not DONE.search(ran.said)):
            return [f"the same command again ends with {ran.code}: {ran.said}"]
        expected, found = self.undisturbed(case)[1], finished(case, world)
        self._remove_locks(case, world)
        unlike = [line for name in case.clones for line in differences(case, name, expected[name], found[name])]
        return unlike + wholly(case, world)

    def _remove_locks(self, case: Case, world: World) -> None:
        """Removes locks that a killed git left and nothing met since, as the doctor says; one that it does not name stays."""
        for person in (world.a, world.b):
            for path in (p for p in locks(world.folder) if p.is_relative_to(person.root)):
                os.utime(path, (0, 0))  # a minute later
                said = run(person, ("doctor",), world.folder).said
                if str(path) in said and "remove the file" in said:
                    self.removed.append(f"{case.name}, by the doctor: {path}")
                    path.unlink()


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
        if (case.objects or part != "objects") and getattr(first, part) != getattr(second, part)
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


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def __str__(self) -> str:
        return f"{time.monotonic() - self._begun:6.1f} s"
