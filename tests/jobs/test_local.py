import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from cdl.errors import JobFailed
from cdl.jobs.local import Jobs, Worker
from cdl.store.seal import Vault
from tests.jobs.steps import CODE, asking, make, parent


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
    with pytest.raises(JobFailed, match=r"no end after 0\.5 s"):
        jobs.run(make(jobs), asking([], "sleep"), timeout=0.5)


def test_the_log_of_a_job_that_its_driver_gives_up_is_whole(jobs: Jobs) -> None:
    def drive(worker: Worker) -> Mapping[str, str]:
        worker.ask({"op": "later"})
        raise JobFailed("seen enough")

    with pytest.raises(JobFailed, match="seen enough") as caught:
        jobs.run(make(jobs), drive)
    assert jobs.store.get((caught.value.remedy or "").split()[-1]).split() == [b"LATER", b"GOODBYE"]


def test_it_gets_no_secret_of_the_environment(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDL_KEY", "00" * 32)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    found: list[object] = []
    jobs.run(make(jobs), asking(found, "around"))
    assert isinstance(found[0], dict)
    assert not {"CDL_KEY", "AWS_SECRET_ACCESS_KEY"} & set(found[0]) and found[0]["OMP_NUM_THREADS"] == "1"


def test_a_worker_ends_with_itsparent(jobs: Jobs) -> None:
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
        seen = [int(p) for p in os.listdir("/proc") if p.isdigit() and parent(int(p)) == child]
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert seen
    while any(parent(p) is not None for p in seen) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert all(parent(p) is None for p in seen)
