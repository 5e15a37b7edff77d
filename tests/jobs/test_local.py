import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cdl.errors import JobFailed
from cdl.git.repository import Git
from cdl.git.snapshot import snapshot
from cdl.jobs.closure import closure
from cdl.jobs.environment import environment
from cdl.jobs.job import Job
from cdl.jobs.local import Drive, Jobs, Worker
from cdl.journal.journal import Journal
from cdl.store.seal import Vault
from cdl.store.store import Store

CODE = """
import os
def work(channel):
    while True:
        message = channel.receive()
        if message["op"] == "stop":
            return
        channel.send({"answer": globals()[message["op"]](message)})
def double(message): return message["value"] * 2
def shout(message): print("LOUD", message["value"], flush=True); return None
def outside(message): return open("../../../../note.txt").read()
def inside(message): return open("note.txt").read()
def fail(message): raise ValueError("CANARY " + str(message["value"]))
def die(message): os.kill(os.getpid(), 9)
def sleep(message): import time; time.sleep(60)
def around(message): return {k: v for k, v in os.environ.items()}
def where(message): return sorted(os.listdir("."))
"""
Make = Callable[..., Job]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, "/dev/null")
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "a")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@example.org")
    Git.init(tmp_path)
    (tmp_path / "steps.py").write_text(CODE)
    (tmp_path / "note.txt").write_text("one\n")
    (tmp_path / ".gitignore").write_text(".cdl/\n")
    return tmp_path


@pytest.fixture
def jobs(root: Path) -> Jobs:
    folder = root / ".cdl"
    return Jobs(Store(folder / "store"), Journal(folder), Git(root), who="a@example.org")


def make(jobs: Jobs, *, declared: tuple[str, ...] = (), **parameters: object) -> Job:
    git = jobs.git
    files = git.files(snapshot(git).tree)
    code = closure(files, git.cat, ["steps:work"], declared=declared, section=None)
    return Job(loop="steps:work", closure=code, inputs={}, parameters=parameters, environment=environment(None))


def asking(found: list[object], op: str, value: object = None) -> Drive:
    def drive(worker: Worker) -> Mapping[str, str]:
        found.append(worker.ask({"op": op, "value": value})["answer"])
        worker.tell({"op": "stop"})
        return {"out": str(found[-1])}

    return drive


def test_a_job_runs_once_and_its_outputs_are_found_again(jobs: Jobs) -> None:
    found: list[object] = []
    job = make(jobs)
    first = jobs.run(job, asking(found, "double", 21))
    second = jobs.run(job, asking(found, "double", 21))
    assert found == [42] and first.outputs == second.outputs == {"out": "42"}
    assert not first.cached and second.cached
    assert [e.fields["job"] for e in jobs.journal.events("job.finished")] == [job.id]


def test_fresh_asks_no_cache_and_names_what_differs(jobs: Jobs) -> None:
    job = make(jobs)
    jobs.store.claim(f"jobs/{job.id}", b'{"outputs": {"out": "wrong"}, "log": null}')
    assert jobs.run(job, asking([], "double", 2)).outputs == {"out": "wrong"}
    fresh = jobs.run(job, asking([], "double", 2), fresh=True)
    assert fresh.outputs == {"out": "4"} and fresh.differs == {"out": "wrong"}


def test_its_folder_holds_exactly_its_closure(jobs: Jobs) -> None:
    found: list[object] = []
    jobs.run(make(jobs), asking(found, "where"))
    assert found == [["steps.py"]]
    with pytest.raises(JobFailed, match="FileNotFoundError"):
        jobs.run(make(jobs, n=1), asking(found, "inside"))
    with pytest.raises(JobFailed, match="FileNotFoundError"):
        jobs.run(make(jobs, n=2), asking(found, "outside"))


def test_a_declared_file_is_there_and_its_change_is_other_work(jobs: Jobs, root: Path) -> None:
    found: list[object] = []
    one = make(jobs, declared=("note.txt",))
    jobs.run(one, asking(found, "inside"))
    (root / "note.txt").write_text("two\n")
    two = make(jobs, declared=("note.txt",))
    jobs.run(two, asking(found, "inside"))
    assert found == ["one\n", "two\n"] and one.id != two.id
    assert make(jobs).id == make(jobs).id


def test_an_exception_is_named_with_its_place_and_its_log_kept(jobs: Jobs) -> None:
    with pytest.raises(JobFailed, match="ValueError: CANARY 7") as caught:
        jobs.run(make(jobs), asking([], "fail", 7))
    assert (
        caught.value.where
        == f"steps.py:{CODE.splitlines().index(next(x for x in CODE.splitlines() if 'CANARY' in x)) + 1}"
    )
    log = (caught.value.remedy or "").split()[-1]
    assert b"CANARY 7" in jobs.store.get(log)
    assert jobs.cached(make(jobs)) is None


def test_a_sealed_job_leaves_nothing_in_the_open(jobs: Jobs, root: Path) -> None:
    vault = Vault(jobs.store, bytes(32), "k-1", identity=bytes(32))
    with pytest.raises(JobFailed) as caught:
        jobs.run(make(jobs), asking([], "fail", "secret-item"), vault=vault)
    result = jobs.run(make(jobs), asking([], "shout", "secret-item"), vault=vault)
    assert "secret-item" not in str(caught.value) and "ValueError" in str(caught.value)
    assert result.log is not None and b"LOUD secret-item" in vault.get(result.log)
    open_bytes = b"".join(p.read_bytes() for p in (root / ".cdl").rglob("*") if p.is_file())
    assert b"secret-item" not in open_bytes


def test_a_worker_that_dies_or_never_answers_is_an_error(jobs: Jobs) -> None:
    with pytest.raises(JobFailed, match="ended before it answered"):
        jobs.run(make(jobs), asking([], "die"))
    with pytest.raises(JobFailed, match="ended before it answered"):
        jobs.run(make(jobs), asking([], "sleep"), timeout=0.5)


def test_it_gets_no_secret_of_the_environment(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDL_KEY", "00" * 32)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    found: list[object] = []
    jobs.run(make(jobs), asking(found, "around"))
    assert isinstance(found[0], dict)
    assert not {"CDL_KEY", "AWS_SECRET_ACCESS_KEY"} & set(found[0]) and found[0]["OMP_NUM_THREADS"] == "1"


def test_a_worker_ends_with_its_parent(jobs: Jobs) -> None:
    seen: list[int] = []
    child = os.fork()
    if child == 0:  # the parent of the worker, to be killed

        def drive(worker: Worker) -> Mapping[str, str]:
            worker.ask({"op": "double", "value": 1})
            time.sleep(60)
            return {}

        jobs.run(make(jobs), drive)
        os._exit(0)
    deadline = time.monotonic() + 30
    while not seen and time.monotonic() < deadline:
        seen = [int(p) for p in os.listdir("/proc") if p.isdigit() and _parent(int(p)) == child]
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert seen
    while any(_parent(p) is not None for p in seen) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert all(_parent(p) is None for p in seen)


def _parent(process: int) -> int | None:
    """The parent of a process that runs; None for one that ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else int(fields[1])
