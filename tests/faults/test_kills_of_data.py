"""The kill campaign of data: add, run (first, and with what was looked at before), ingest, merge, sync and gc, ended by SIGKILL.

The next command goes on, or says what to type, and that is typed. Then every version that was ever acknowledged holds what a
dictionary says, the current one is what a run makes that looks at everything, and verify and doctor find nothing.

CDL_KILLS=4711 .venv/bin/python -m pytest -q -s tests/faults/test_kills_of_data.py -k fifty       repeats one by its seed
"""

import json
import os
import random
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cdl.data import versions
from cdl.data.pipeline.code import source_snapshot
from cdl.data.pipeline.collect import collect
from cdl.data.pipeline.draft import begin
from cdl.errors import CdlError
from cdl.registry.records import Dataset, DatasetHead, Joined
from cdl.workflow.workspace import Workspace
from tests.faults import around
from tests.faults.campaign import LOCK, Clock
from tests.faults.content import faults
from tests.faults.data_world import CASES, Case, DataStates, DataWorld, model
from tests.faults.killing import Ran, Stop, run
from tests.faults.points import held
from tests.team import CDL, Person

pytestmark = pytest.mark.xdist_group("faults")
POINTS, ALONE, AGAIN, BY_TIME = 56, 0.3, 0.2, 0.3
QUICK = tuple(case for case in CASES if case.name in ("data run, changed",))
TRIES = 4
TYPED = re.compile(r"cdl (data run points|key create points|data merge NAME)\b")  # what a message says to type instead
DONE = re.compile(r"no merge is under way|is joined already|nothing to merge")


@dataclass
class DataCampaign:
    """States, how long each command takes undisturbed, and the locks of git that had to be removed by hand."""

    folder: Path
    states: DataStates
    removed: list[str] = field(default_factory=list)
    undisturbed_: dict[str, Ran] = field(default_factory=dict)

    def undisturbed(self, case: Case) -> Ran:
        """How a command runs when nobody kills it; afterwards everything holds."""
        if case.name not in self.undisturbed_:
            data = self.states.before(case, self.folder / "undisturbed")
            ran = run(person(case, data), case.command, data.world.folder)
            assert ran.code == 0, ran.said
            end(case, data)
            assert wrong(case, data) == []
            shutil.rmtree(data.world.folder)
            self.undisturbed_[case.name] = ran
        return self.undisturbed_[case.name]

    def point(self, case: Case, stops: tuple[Stop, ...]) -> list[str]:
        """Kills a command, once or twice, and goes on; what is wrong afterwards."""
        data = self.states.before(case, self.folder / "world")
        found: list[str] = []
        try:
            for stop in stops:
                if run(person(case, data), case.command, data.world.folder, stop).code is None:
                    found += [f"still runs: {left}" for left in around.left_running(data.world.folder)]
            return found + self._on(case, data)
        except (AssertionError, CdlError) as error:
            return [*found, f"{type(error).__name__}: {error}"]
        finally:
            shutil.rmtree(data.world.folder)

    def _on(self, case: Case, data: DataWorld) -> list[str]:
        command, said = case.command, ""
        for _ in range(TRIES):
            ran = run(person(case, data), command, data.world.folder)
            said += f"$ cdl {' '.join(command)}\n{ran.said}"
            if "Traceback" in ran.said:
                return [f"a traceback: {said}"]
            if (lock := LOCK.search(ran.said)) is not None:
                self.removed.append(f"{case.name}: {lock[1]}")
                Path(lock[1]).unlink()
            elif ran.code == 0 or DONE.search(ran.said):
                break
            elif (typed := TYPED.search(ran.said)) is not None:
                command = tuple(typed[1].replace("NAME", "points").split())
        else:
            return [f"it does not go on: {said}"]
        self._locks(data)
        end(case, data)
        return wrong(case, data)

    def _locks(self, data: DataWorld) -> None:
        """Removes the locks that the doctor names."""
        for path in around.locks(data.world.folder):
            os.utime(path, (0, 0))
            for each in (data.world.a, data.world.b):
                if path.is_relative_to(each.root) and str(path) in run(each, ("doctor",), data.world.folder).said:
                    self.removed.append(str(path))
                    path.unlink()


def person(case: Case, data: DataWorld) -> Person:
    """Who types it."""
    return data.world.b if case.at == "b" else data.world.a


def end(case: Case, data: DataWorld) -> None:
    """What a person does after it: a commit of cdl.yaml, or the one that ends a merge; and what was sent is fetched."""
    a, b = data.world.a, data.world.b
    if case.ends:
        a.git(*case.ends)
    if case.name == "data add":
        a.commit("data")
    a.cdl("sync")  # all of it can be sent
    if case.name == "sync sends":
        b.root.mkdir()
        b.cdl("clone", "--yes", "../origin.git", ".")
        b.git("remote", "set-url", "origin", "../origin.git")
    if case.name.startswith("sync"):
        b.cdl("sync")


def wrong(case: Case, data: DataWorld) -> list[str]:
    """What does not hold, in every clone."""
    found = []
    for each in (data.world.a, data.world.b) if data.world.b.root.exists() else (data.world.a,):
        found += [f"{each.root.name}: {line}" for line in (*faults(each), *_doctor(each), *_versions(case, data, each))]
    return found + [f"lock left: {path}" for path in around.locks(data.world.folder)]


def _doctor(each: Person) -> Iterator[str]:
    said = json.loads(each.run(str(CDL), "doctor", "--full", "--json").stdout)
    yield from (f"doctor: {f}" for f in said["findings"] if f["fault"])
    verified = each.run(str(CDL), "data", "verify")
    if verified.returncode or " 0 faults" not in verified.stdout:
        yield f"verify: {verified.stdout}{verified.stderr}"


def _versions(case: Case, data: DataWorld, each: Person) -> Iterator[str]:
    with around.opened(each) as workspace:
        for version, files in data.versions.items():
            if held(workspace, version) != model(files):
                yield f"version {version} is not what it was"
        head = workspace.registry.head(DatasetHead, "points")
        assert head is not None
        if case.wanted is None:
            if head.version not in data.versions:
                yield f"another version: {head.version}"
            return
        if held(workspace) != model(case.wanted, steps=case.steps):
            yield "the version does not hold what its source holds"
        record = workspace.registry.record(Dataset, head.version)
        if not isinstance(record.joined, Joined) and not versions.same(record, _anew(workspace, head)):
            yield "a run that looks at everything makes another version"


def _anew(workspace: Workspace, head: DatasetHead) -> Dataset:
    """The record that a run makes which looks at everything, committed nowhere."""
    with ExitStack() as opened:
        draft = begin(workspace, "points", workspace.config, source_snapshot(workspace).commit, head.version)
        collect(draft, opened)
        draft.looked = None
        versions.pipeline(draft)
        return versions.finish(draft, head.version, None)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> DataCampaign:
    """A campaign, whose states are made once."""
    if not os.path.isdir("/proc/self"):
        pytest.skip("no /proc here: what a killed command leaves running cannot be seen")
    folder = tmp_path_factory.mktemp("kills")
    return DataCampaign(folder, DataStates(folder / "states"))


def test_a_few_kills_of_a_run(played: DataCampaign) -> None:
    play(played, QUICK, 2, seed=1)


@pytest.mark.long
def test_fifty_kills_of_data(played: DataCampaign) -> None:
    seed = int(os.environ.get("CDL_KILLS", random.SystemRandom().randrange(1 << 32)))
    play(played, CASES, POINTS, seed)


def play(played: DataCampaign, cases: tuple[Case, ...], count: int, seed: int) -> None:
    """Plays as many points, each command equally often; fails with all that was found."""
    found, clock, drawn = [], Clock(), random.Random(seed)
    print(f"seed {seed}, {count} points")
    for number in range(count):
        case = cases[number % len(cases)]
        stops = tuple(_stop(played.undisturbed(case), drawn) for _ in range(2 if drawn.random() < AGAIN else 1))
        lines = played.point(case, stops)
        told = f"point {number}: {case.name} killed after {', then '.join(map(str, stops))}"
        print(f"{clock}, {told}: {len(lines)} faults", flush=True)
        found += [f"{told}: {line}" for line in lines]
    print("locks of git removed by hand:", played.removed or "none")
    assert not found, f"seed {seed}\n" + "\n".join(found)


def _stop(ran: Ran, drawn: random.Random) -> Stop:
    alone = drawn.random() < ALONE
    if drawn.random() < BY_TIME:
        return Stop(seconds=drawn.uniform(0.1, ran.seconds), alone=alone)
    return Stop(changes=drawn.randint(1, ran.changes), alone=alone)
