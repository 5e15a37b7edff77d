"""`cdl deploy apply` and its service killed at every point: the next command finishes it, or says what to type."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cdl.deployment import apply, control, stages
from cdl.registry.records import Package
from tests.deployment.test_load import workers_of
from tests.deployment.test_pipeline import supervisors
from tests.projects import DATA, OPS, ROLES, YAML, Toy, make_toy, table

STAGE = "production"
LONG = pytest.mark.long
DYING = """
import os, signal, sys
from cdl.cli import main
from cdl.deployment import control, manifest
from cdl.registry.registry import Registry
from cdl.store.store import Store

place, when, at = sys.argv[1], sys.argv[2], sys.argv[3]
owner = {"control": control, "manifest": manifest, "Registry": Registry, "Store": Store}[place.partition(".")[0]]
name = place.partition(".")[2]
plain = getattr(owner, name)

def dying(*given, **named):
    meant = not at or at in named.values() or (at == "heads" and named.get("heads"))
    if meant and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    found = plain(*given, **named)
    if meant:
        os.kill(os.getpid(), signal.SIGKILL)
    return found

setattr(owner, name, dying)
sys.argv[:] = ["cdl", *sys.argv[4:]]
sys.exit(main.main())
"""


@dataclass
class Made:
    """A toy project that was deployed once, and has the next package ready."""

    toy: Toy
    first: str
    second: str


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    root = tmp_path_factory.mktemp("base")
    with pytest.MonkeyPatch.context() as patch:
        toy = make_toy(root / "toy", patch, root / "keyring", roles=True)
        toy.data(table(120))
        toy.promote()
        first = toy.package()
        apply.apply(toy.become(OPS), STAGE)
        apply.stop(toy.become(OPS), STAGE)
        toy.promote("exp/second", seed=4, sets={"rate": 1.0})
        yield Made(toy, first, toy.package())


@dataclass
class Case:
    """A copy of the project; `before`: its service runs the first package."""

    toy: Toy
    first: str
    second: str
    place: Path

    def cdl(self, *arguments: str) -> "subprocess.Popen[str]":
        return self.start([sys.executable, "-m", "cdl", *arguments])

    def dying(self, place: str, when: str, at: str, *arguments: str) -> None:
        """A command that is killed by -9 at a point of its own."""
        command = self.start([sys.executable, "-c", DYING, place, when, at, *arguments])
        said = command.communicate(timeout=120)
        assert command.returncode == -signal.SIGKILL, said

    def start(self, command: list[str]) -> "subprocess.Popen[str]":
        self.toy.sign(OPS)
        return subprocess.Popen(command, cwd=self.toy.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def says(self, *arguments: str) -> str:
        command = self.cdl(*arguments)
        said, errors = command.communicate(timeout=120)
        return said + errors

    def serve_first(self) -> None:
        target = apply.checkout(self.toy.become(OPS), STAGE, self.first)
        control.start(self.place, {"package": str(target), "name": "toy", "port": 0, "replicas": 1})

    def assert_agreed(self, package: str) -> None:
        """Head and service agree, one service runs with nothing left over, and git is as it was."""
        assert f"{STAGE} runs" in self.says("deploy", "status", STAGE)
        found = stages.look(self.toy.become(OPS), STAGE)
        assert found.declared == found.running == package and found.workers == 1
        end = time.monotonic() + 60
        while time.monotonic() < end:
            status = control.ask(self.place, op="status")
            kept = {*status["workers"], *status["spares"]}
            if len(supervisors(self.toy.root)) == 1 and set(workers_of(self.place)) == kept and status["spares"]:
                break
            time.sleep(0.1)
        assert supervisors(self.toy.root) == [status["pid"]] and set(workers_of(self.place)) == kept
        assert self.toy.become(OPS).git.text("status", "--porcelain") == ""
        assert json.loads((self.place / "spec.json").read_text())["package"].endswith(package)
        assert sorted(p.suffix for p in self.place.glob("*.tmp")) == []


@pytest.fixture
def case(base: Made, tmp_path: Path) -> Iterator[Case]:
    toy = base.toy.copy(tmp_path / "toy")
    made = Case(toy, base.first, base.second, toy.root / ".cdl/services" / STAGE)
    yield made
    if control.running(made.place):
        control.stop(made.place)
    end = time.monotonic() + 60
    while (workers_of(made.place) or supervisors(toy.root)) and time.monotonic() < end:
        time.sleep(0.1)
    assert workers_of(made.place) == [] and supervisors(toy.root) == []


@dataclass
class Asked:
    failures: list[str] = field(default_factory=list)
    answered: int = 0


@contextmanager
def asking(port: int) -> Iterator[Asked]:
    """A client that asks all the time on one connection after the other."""
    told, ended = Asked(), threading.Event()
    body = json.dumps({"item": {"x": 4.0, "y": 0.0}})

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while not ended.wait(0.005):
            try:
                connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                assert json.loads(answer.read())["category"] == "right"
                told.answered += 1
            except (OSError, http.client.HTTPException, ValueError, KeyError, AssertionError) as error:
                told.failures.append(repr(error))
                connection.close()
        connection.close()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield told
    finally:
        ended.set()
        thread.join()


def until(what: Callable[[], Any]) -> None:
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


POINTS = [
    pytest.param("manifest.write", "after", "", "first", marks=LONG, id="before anything is prepared"),
    pytest.param("Store.checkout", "after", "", "first", marks=LONG, id="with the package half written"),
    pytest.param("control.ask", "before", "swap", "first", marks=LONG, id="before new workers"),
    pytest.param("control.ask", "after", "swap", "first", id="after healthy, before the commit"),
    pytest.param("Registry.commit", "before", "heads", "first", marks=LONG, id="at the commit"),
    pytest.param("Registry.commit", "after", "heads", "second", id="after the commit, before the switch"),
    pytest.param("control.ask", "after", "switch", "second", marks=LONG, id="while the old drain"),
]


@pytest.mark.parametrize(("place", "when", "at", "stands"), POINTS)
def test_a_swap_whose_command_is_killed(case: Case, place: str, when: str, at: str, stands: str) -> None:
    case.serve_first()
    with asking(control.ask(case.place, op="status")["port"]) as told:
        case.dying(place, when, at, "deploy", "apply", STAGE)
        case.assert_agreed(getattr(case, stands))  # by `cdl deploy status`
        assert case.second[:8] in case.says("deploy", "apply", STAGE)
        case.assert_agreed(case.second)
    assert told.failures == [] and told.answered > 50


def test_a_swap_whose_command_is_killed_before_the_new_are_healthy(case: Case) -> None:
    case.serve_first()
    with asking(control.ask(case.place, op="status")["port"]) as told:
        command = case.cdl("deploy", "apply", STAGE)
        until(lambda: control.ask(case.place, op="status")["next"])
        command.kill()
        command.communicate()
        case.assert_agreed(case.first)
        case.says("deploy", "apply", STAGE)
        case.assert_agreed(case.second)
    assert told.failures == [] and told.answered > 50


@pytest.mark.parametrize(
    ("place", "when", "at"),
    [
        pytest.param("control.start", "before", "", marks=LONG, id="before the start"),
        pytest.param("control.start", "after", "", marks=LONG, id="after the start, before the commit"),
        pytest.param("Registry.commit", "after", "heads", marks=LONG, id="after the commit"),
    ],
)
def test_a_start_whose_command_is_killed(case: Case, place: str, when: str, at: str) -> None:
    case.dying(place, when, at, "deploy", "apply", STAGE)
    said = case.says("deploy", "status", STAGE)
    assert "cdl deploy apply" in said or f"{STAGE} runs" in said
    for _ in range(2):  # what is declared comes first where another runs
        case.says("deploy", "apply", STAGE)
    case.assert_agreed(case.second)


def test_a_start_whose_command_is_killed_before_it_is_ready(case: Case) -> None:
    command = case.cdl("deploy", "apply", STAGE)
    until(lambda: (case.place / "starting.json").exists())
    command.kill()
    command.communicate()
    until(lambda: supervisors(case.toy.root) == [] or control.running(case.place))
    assert "cdl deploy apply" in case.says("deploy", "status", STAGE)
    for _ in range(2):
        case.says("deploy", "apply", STAGE)
    case.assert_agreed(case.second)


def kill_supervisor(case: Case) -> None:
    os.kill(control.ask(case.place, op="status")["pid"], signal.SIGKILL)


def test_a_supervisor_killed_in_the_middle_of_a_swap(case: Case) -> None:
    case.serve_first()
    command = case.cdl("deploy", "apply", STAGE)
    until(lambda: control.ask(case.place, op="status")["next"])
    kill_supervisor(case)
    said, errors = command.communicate(timeout=60)
    assert command.returncode not in (0, 1) and "the service ended before it answered" in errors, said + errors
    until(lambda: workers_of(case.place) == [])
    said = case.says("deploy", "status", STAGE)
    assert f"declared {case.first[:10]}" in said and f"nothing runs: cdl deploy apply {STAGE}" in said
    case.says("deploy", "apply", STAGE)
    case.assert_agreed(case.second)


@LONG
def test_a_supervisor_killed_after_the_commit(case: Case) -> None:
    case.serve_first()
    case.dying("Registry.commit", "after", "heads", "deploy", "apply", STAGE)
    kill_supervisor(case)
    until(lambda: control.running(case.place) is None)
    assert f"nothing runs: cdl deploy apply {STAGE}" in case.says("deploy", "status", STAGE)
    case.says("deploy", "apply", STAGE)
    case.assert_agreed(case.second)


def test_rollback_and_restart_by_commands_lose_no_request(case: Case) -> None:
    case.serve_first()
    with asking(control.ask(case.place, op="status")["port"]) as told:
        case.says("deploy", "apply", STAGE)
        case.assert_agreed(case.second)
        before = control.ask(case.place, op="status")
        assert f"{STAGE} runs" in case.says("deploy", "restart", STAGE)
        after = control.ask(case.place, op="status")
        assert after["pid"] == before["pid"] and not {*after["workers"]} & {*before["workers"]}
        case.dying("control.ask", "after", "swap", "deploy", "restart", STAGE)  # finished by the next command
        case.assert_agreed(case.second)
        assert not {*control.ask(case.place, op="status")["workers"]} & {*after["workers"]}
        case.says("deploy", "rollback", STAGE, "--because", "a test")
        case.assert_agreed(case.first)
        (case.toy.root / "cdl.yaml").write_text(
            YAML.replace("production: {}", "production: {spare: false, port: 1}") + ROLES
        )
        said = case.says("deploy", "apply", STAGE)
        assert "was rolled back from" in said and "swap" not in said
        said = case.says("deploy", "apply", STAGE, "--again")
        assert "new workers getting ready" in said and "for 1: cdl deploy stop production" in said
        until(lambda: len(workers_of(case.place)) == 1)
    assert told.failures == [] and told.answered > 100
    assert "no service runs here" in case.says("deploy", "restart", "staging")


def test_a_clone_that_was_not_allowed_to_serves_nothing(case: Case) -> None:
    (case.toy.root / ".git/cdl/trusted.json").unlink()
    for command in (["apply"], ["restart"], ["rollback", "--because", "a test"]):
        assert "cdl trust" in case.says("deploy", *command, STAGE)
    assert supervisors(case.toy.root) == []


def test_packages_of_a_case_differ(base: Made) -> None:
    made = [p.model for _, p in base.toy.become(DATA).registry.all(Package)]
    assert len(set(made)) == 2 and base.first != base.second
