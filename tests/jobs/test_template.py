"""Jobs forked from a template. What is warmed is light here; tests/model/test_warm.py has torch."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from cdl.errors import JobFailed
from cdl.jobs import template
from cdl.jobs.job import Job
from cdl.jobs.local import Jobs, Worker
from cdl.jobs.start import surroundings
from cdl.journal.journal import Journal
from cdl.store.seal import Vault
from tests.jobs.steps import CODE, asking, make, parent

LIGHT = "os:getpid"
MANY = 200
BUSY = """
import threading
def step():
    threading.Thread(target=threading.Event().wait, daemon=True).start()
"""
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every job has a new interpreter")


@pytest.fixture
def warm(jobs: Jobs) -> Iterator[Jobs]:
    with jobs.warmed() as warmed:
        yield warmed


def ask(jobs: Jobs, op: str, value: object = None, *, warm: str | None = LIGHT, timeout: float | None = None) -> Any:
    found: list[object] = []
    jobs.run(make(jobs, n=[op, str(value)], warm=warm), asking(found, op, value), fresh=True, timeout=timeout)
    return found[0]


def runs(process: int) -> bool:
    return parent(process) is not None


@pytest.fixture(autouse=True)
def earlier() -> set[int]:
    """Children of this process that other tests left unreaped."""
    return set(children(os.getpid()))


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert true()


def children(process: int) -> list[int]:
    return [int(p) for p in os.listdir("/proc") if p.isdigit() and parent(int(p)) == process]


def files(process: int | str = "self") -> int:
    gc.collect()
    return len(os.listdir(f"/proc/{process}/fd"))


class Held:
    """A job in work, in a thread of its own, until it is let go: `pid` and `template` are its process and that one's parent."""

    def __init__(self, jobs: Jobs, number: int) -> None:
        self.error: JobFailed | None = None
        self.out = ""
        self._started, self._go = threading.Event(), threading.Event()
        job = make(jobs, held=number, warm=LIGHT)
        self._thread = threading.Thread(target=self._run, args=(jobs, job), daemon=True)
        self._thread.start()
        assert self._started.wait(60)

    def end(self) -> None:
        self._go.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _run(self, jobs: Jobs, job: Job) -> None:
        def drive(worker: Worker) -> Mapping[str, str]:
            self.pid, self.template, _ = worker.ask({"op": "whoami"})["answer"]
            self._started.set()
            self._go.wait(60)
            return asking([], "double", 21)(worker)

        try:
            self.out = jobs.beside(Journal(jobs.journal.root)).run(job, drive, fresh=True).outputs["out"]
        except JobFailed as error:
            self.error = error


def test_a_fork_is_what_a_new_interpreter_would_be(warm: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDL_KEY", "00" * 32)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    found = [ask(warm, "state", warm=how) for how in (None, LIGHT)]
    for state in found:
        folder = state["folder"].removesuffix("/code")
        state["environment"] = {k: v.replace(folder, "JOB") for k, v in state["environment"].items()}
        state["path"] = [p.replace(folder, "JOB") for p in state["path"]]
        del state["folder"]
    assert found[0] == found[1]
    assert found[1]["environment"]["HOME"] == "JOB/home" and "CDL_KEY" not in found[1]["environment"]
    _, process, _ = ask(warm, "whoami")
    assert process != os.getpid() and b"canary" not in Path(f"/proc/{process}/environ").read_bytes()
    assert ask(warm, "where") == ["steps.py"]


def test_what_may_be_warm_is_no_part_of_a_job(warm: Jobs) -> None:
    assert make(warm, warm=LIGHT).id == make(warm).id
    result = warm.run(make(warm, warm=LIGHT), asking([], "shout", 7))
    assert b"LOUD 7" in warm.store.get(result.log or "")
    assert warm.run(make(warm), asking([], "shout", 7)).cached


def test_an_exception_in_a_fork_is_named_with_its_place(warm: Jobs) -> None:
    with pytest.raises(JobFailed, match="ValueError: CANARY 7") as caught:
        ask(warm, "fail", 7)
    lines = CODE.splitlines()
    assert caught.value.where == f"steps.py:{lines.index(next(x for x in lines if 'CANARY' in x)) + 1}"
    assert b"Traceback" in warm.store.get((caught.value.remedy or "").split()[-1])


@pytest.mark.parametrize("how", [None, LIGHT])
def test_what_a_job_leaves_to_its_end_is_done(warm: Jobs, how: str | None) -> None:
    result = warm.run(make(warm, warm=how), asking([], "later"), fresh=True)
    assert warm.store.get(result.log or "").split() == [b"LATER", b"GOODBYE"]


def test_threads_share_one_template(warm: Jobs) -> None:
    held = [Held(warm, n) for n in range(4)]
    assert len({h.template for h in held}) == 1 and len({h.pid for h in held}) == 4
    for h in reversed(held):
        h.end()
    assert [h.out for h in held] == ["42"] * 4 and len(children(held[0].template)) == 0


def test_the_end_of_one_fork_is_told_and_leaves_the_others_alone(warm: Jobs) -> None:
    held = Held(warm, 1)
    with pytest.raises(JobFailed, match="ended before it answered: killed by signal 9"):
        ask(warm, "die")
    with pytest.raises(JobFailed, match="ended before it answered: exit code 3"):
        ask(warm, "leave", 3)
    with pytest.raises(JobFailed, match="no end after 0.5 s"):
        ask(warm, "sleep", timeout=0.5)
    assert children(held.template) == [held.pid]
    held.end()
    assert held.out == "42"


def test_a_timeout_ends_what_a_fork_has_started(warm: Jobs) -> None:
    seen: list[int] = []

    def drive(worker: Worker) -> Mapping[str, str]:
        seen.append(worker.ask({"op": "descend"})["answer"])
        worker.ask({"op": "sleep"})
        return {}

    with pytest.raises(JobFailed):
        warm.run(make(warm, warm=LIGHT), drive, timeout=1.0)
    try:
        until(lambda: not runs(seen[0]))
    finally:
        with suppress(ProcessLookupError):
            os.kill(seen[0], signal.SIGKILL)


def test_a_killed_template_fails_what_is_in_work_and_no_more(warm: Jobs, earlier: set[int]) -> None:
    held = [Held(warm, n) for n in range(2)]
    os.kill(held[0].template, signal.SIGKILL)
    until(lambda: not any(runs(h.pid) for h in held))
    for h in held:
        h.end()
        assert h.error is not None and "the template that it was forked from ended" in h.error.message
    again = ask(warm, "whoami")
    assert again[1] not in (held[0].template, os.getpid()) and set(children(os.getpid())) - earlier == {again[1]}


def test_the_template_ends_with_the_block_that_opened_it(jobs: Jobs, earlier: set[int]) -> None:
    before = files()
    with jobs.warmed() as warm:
        held = Held(warm, 1)
        assert set(children(os.getpid())) - earlier == {held.template}
    assert set(children(os.getpid())) <= earlier and not runs(held.pid)
    held.end()
    assert held.error is not None and "the template that it was forked from ended" in held.error.message
    assert files() == before


@contextmanager
def owner(does: Callable[[], object]) -> Iterator[int]:
    """A process that does something and waits; killed at the end."""
    process = os.fork()
    if process == 0:
        try:
            does()
            signal.pause()
        finally:
            os._exit(1)
    try:
        yield process
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def test_killing_the_owner_ends_template_and_forks(warm: Jobs, tmp_path: Path) -> None:
    def does() -> None:
        held = [Held(warm, n) for n in range(2)]
        (tmp_path / "pids.new").write_text(f"{held[0].template} {held[0].pid} {held[1].pid}")
        (tmp_path / "pids.new").rename(tmp_path / "pids")
        signal.pause()

    with owner(does):
        until(lambda: (tmp_path / "pids").exists())
        found = [int(p) for p in (tmp_path / "pids").read_text().split()]
        assert len(found) == 3 and all(runs(p) for p in found)
    until(lambda: not any(runs(p) for p in found))


def test_killing_the_owner_ends_a_template_that_is_not_ready(warm: Jobs) -> None:
    def pausing() -> list[int]:
        return [p for p in children(process) if b"signal:pause" in told(p, "cmdline") and b" S " in told(p, "stat")]

    with owner(lambda: ask(warm, "whoami", warm="signal:pause")) as process:
        until(lambda: [p for p in pausing() if b"pause" in told(p, "wchan")])
        found = pausing()
    until(lambda: not any(runs(p) for p in found))


def told(process: int, what: str) -> bytes:
    """What the system says of a process; nothing once it has ended."""
    try:
        return Path(f"/proc/{process}/{what}").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def test_many_jobs_leave_no_process_and_no_file_behind(warm: Jobs) -> None:
    found = ask(warm, "whoami")
    before = files(), files(found[1])
    job = make(warm, warm=LIGHT)
    answers: list[object] = []
    for number in range(MANY):
        warm.run(job, asking(answers, "double", number), fresh=True)
    assert answers == [2 * n for n in range(MANY)]
    assert ask(warm, "whoami")[1] == found[1]
    assert children(found[1]) == [] and zombies(found[1]) == []
    assert (files(), files(found[1])) == before


def zombies(process: int) -> list[str]:
    listed = subprocess.run(["ps", "-o", "stat=", "--ppid", str(process)], capture_output=True, text=True, check=False)
    return listed.stdout.split()


def test_what_may_not_be_warm_gets_a_new_interpreter(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    with jobs.warmed(told.append) as warm:
        assert ask(warm, "whoami", warm=None)[1] == os.getpid()
        vault = Vault(jobs.store, bytes(32), "k-1", identity=bytes(32))
        found: list[Any] = []
        warm.run(make(warm, warm=LIGHT), asking(found, "whoami"), vault=vault)
        assert found[0][1] == os.getpid()
        monkeypatch.setattr(template, "FORKS", False)
        assert ask(warm, "whoami")[1] == os.getpid()
    assert told == []


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("nowhere:step", "No module named 'nowhere'"),
        ("os:abort", "it said nothing"),
        ("busy:step", "left 2 threads; a template can hold one only"),
    ],
)
def test_what_cannot_get_warm_is_told_once_and_runs_all_the_same(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str, why: str
) -> None:
    def around(folder: Path, *, threads: int, devices: tuple[str, ...]) -> dict[str, str]:
        found = surroundings(folder, threads=threads, devices=devices)
        return {**found, "PYTHONPATH": f"{found['PYTHONPATH']}:{tmp_path}"}

    monkeypatch.setattr(template, "surroundings", around)
    (tmp_path / "busy.py").write_text(BUSY)
    told: list[str] = []
    with jobs.warmed(told.append) as warm:
        assert [ask(warm, "whoami", warm=what)[1] for _ in range(2)] == [os.getpid()] * 2
    assert len(told) == 1 and why in told[0]


def test_a_module_of_the_project_that_hides_a_loaded_one_is_used(jobs: Jobs, root: Path) -> None:
    (root / "selectors.py").write_text("MINE = True\n")
    (root / "steps.py").write_text(
        CODE + "def mine(message): import selectors; return getattr(selectors, 'MINE', False)\nimport selectors\n"
    )
    told: list[str] = []
    with jobs.warmed(told.append) as warm:
        assert ask(warm, "mine") is ask(warm, "mine", warm=None) is True
    assert told == ["no warm start: the project has a module 'selectors' of its own, beside one that is loaded already"]


def test_what_is_cancelled_ends_and_nothing_starts_any_more(warm: Jobs) -> None:
    held = Held(warm, 1)
    warm.cancel()
    until(lambda: not runs(held.pid))
    held.end()
    assert held.error is not None
    with pytest.raises(JobFailed, match="killed by signal 9"):
        ask(warm, "sleep")
