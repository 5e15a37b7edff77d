import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cdl.errors import ConfigError, JobFailed
from cdl.jobs import slots
from cdl.jobs.local import Jobs
from cdl.jobs.slots import Need, Slots
from cdl.journal.journal import Journal
from tests.jobs.steps import asking, make, open_jobs

KEY = "cdl.yaml: model.side.resources"
HOLD = """
import sys
from pathlib import Path
from cdl.jobs.slots import Need, Slots
with Slots(Path(sys.argv[1])).taken(Need(cpus=int(sys.argv[2]), key="")):
    print("held", flush=True)
    sys.stdin.read()
"""


def need(cpus: int = 1, gpus: int = 0) -> Need:
    return Need(cpus=cpus, gpus=gpus, key=KEY)


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slots:
    """Two cores and two accelerators."""
    monkeypatch.setenv("CDL_CPUS", "2")
    monkeypatch.setenv("CDL_GPUS", "2")
    return Slots(tmp_path / "slots")


@contextmanager
def holder(folder: Path, cpus: int) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds cores."""
    command = [sys.executable, "-c", HOLD, str(folder), str(cpus)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_there_are_as_many_as_the_process_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CDL_CPUS", raising=False)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    assert Slots(tmp_path).cpus == [str(core) for core in cores]
    monkeypatch.setenv("CDL_CPUS", "3")
    assert len(set(Slots(tmp_path).cpus)) == 3
    monkeypatch.setenv("CDL_CPUS", "1")
    assert Slots(tmp_path).cpus == [str(min(cores))]
    for wrong in ("0", "many", "-1", ""):
        monkeypatch.setenv("CDL_CPUS", wrong)
        with pytest.raises(ConfigError, match="is no number of at least 1") as caught:
            Slots(tmp_path).check(need())
        assert caught.value.where == "CDL_CPUS"


def test_accelerators_are_those_that_are_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(**environment: str) -> list[str]:
        for name in ("CUDA_VISIBLE_DEVICES", "CDL_GPUS"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return Slots(tmp_path).gpus

    monkeypatch.setattr(slots, "NVIDIA", tmp_path / "gpus")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert found() == [] == found(CUDA_VISIBLE_DEVICES="") == found(CUDA_VISIBLE_DEVICES="-1")
    assert found(CUDA_VISIBLE_DEVICES="3, GPU-8a") == ["3", "GPU-8a"] and found(CUDA_VISIBLE_DEVICES="1,-1,2") == ["1"]
    assert found(CDL_GPUS="2") == ["0", "1"] and found(CDL_GPUS="1", CUDA_VISIBLE_DEVICES="5,6") == ["5"]
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: GPU-1)'\necho '  MIG 1g'\necho 'GPU 1: A (UUID: GPU-2)'\n")
    smi.chmod(0o755)
    assert found() == ["0", "1"] and found(CDL_GPUS="0") == []
    smi.write_text("#!/bin/sh\necho 'GPU 0: is not there'\nexit 9\n")
    assert found() == []
    (tmp_path / "gpus" / "0000:01:00.0").mkdir(parents=True)
    assert found() == ["0"]


def test_more_than_the_machine_has_names_the_key_and_the_remedy(two: Slots) -> None:
    for wrong, kind in ((need(3), "cpus"), (need(1, 3), "gpus"), (need(-1), "cpus"), (need(0, -1), "gpus")):
        with pytest.raises(ConfigError) as caught:
            two.check(wrong)
        assert caught.value.where == f"{KEY}.{kind}" and kind in (caught.value.remedy or "")
    with pytest.raises(ConfigError, match="asks for 3, this machine has 2"), two.taken(need(3)):
        pass
    assert [two.most(n) for n in (need(1), need(2), need(1, 2), need(0))] == [2, 1, 1, None]


def test_a_job_gets_its_devices_and_no_other(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-7,6")
    found: list[Any] = []
    for number, asked in enumerate((None, need(0), need(1), need(1, 1), need(1, 3))):
        jobs.run(make(jobs, n=number, need=asked), asking(found, "around"))
    assert [f["CUDA_VISIBLE_DEVICES"] for f in found] == ["4,GPU-7,6", "", "", "4", "4,GPU-7,6"]
    with jobs.slots.taken(need(0, 1)) as devices:
        jobs.run(make(jobs, n=9, need=need(0, 1)), asking(found, "around"))
        assert devices == ("4",) and found[-1]["CUDA_VISIBLE_DEVICES"] == "GPU-7"


def test_what_it_needs_is_no_part_of_a_job(jobs: Jobs) -> None:
    assert make(jobs, need=need(2)).id == make(jobs, need=need(1)).id == make(jobs).id


def test_never_more_run_than_there_are_cores(jobs: Jobs, two: Slots) -> None:
    """Jobs of several processes: each notes when it runs; at no time are the cores of those that run more than two."""
    log = two.folder.parent / "log"
    code = f"""
import sys, time
from pathlib import Path
from cdl.jobs.slots import Need, Slots
for cpus in map(int, sys.argv[1:]):
    with Slots(Path({str(two.folder)!r})).taken(Need(cpus=cpus, key="")), open({str(log)!r}, "a", buffering=1) as log:
        log.write(f"{{cpus}}\\n")
        time.sleep(0.02)
        log.write(f"-{{cpus}}\\n")
"""
    wanted = [["1", "2", "1", "1"], ["2", "1", "1", "2"], ["1", "1", "1", "1"]]
    running = [subprocess.Popen([sys.executable, "-c", code, *each]) for each in wanted]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    used, most = 0, 0
    for line in log.read_text().split():
        used += int(line)
        most = max(most, used)
        assert 0 <= used <= 2
    assert used == 0 and most == 2


def test_a_killed_holder_frees_its_slots_at_once(two: Slots) -> None:
    with holder(two.folder, 2) as process:
        waited: list[str] = []
        with pytest.raises(JobFailed), two.taken(need(), tell=waited.append, stop=_set()):
            pass
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with two.taken(need(2)):
            pass


def _set() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


def test_who_waits_is_told_what_for_and_who_holds_it(two: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "TELL_SECONDS", 0.0)
    told: list[str] = []
    with holder(two.folder, 1) as first:
        stop = threading.Event()

        def tell(line: str) -> None:
            told.append(line)
            stop.set()

        with two.taken(need(1), tell=tell, stop=stop):
            assert told == []
            with (
                pytest.raises(JobFailed, match="cancelled before it started"),
                two.taken(need(2), tell=tell, stop=stop),
            ):
                pass
        assert told == [
            f"waits for 2 of 2 cpus, held by processes {', '.join(map(str, sorted((first.pid, os.getpid()))))}"
        ]
        stop.clear()
        with two.taken(need(0, 2)), pytest.raises(JobFailed), two.taken(need(1, 1), tell=tell, stop=stop):
            pass
    assert told[1:] == [f"waits for 1 of 2 gpus, held by process {os.getpid()}"]


def test_a_large_request_is_not_passed_by_small_ones_for_ever(two: Slots) -> None:
    """Two threads always want one core; who wants both still gets them, and the third in line says who comes first."""
    end, large = threading.Event(), threading.Event()
    held = [threading.Event(), threading.Event()]

    def small(number: int) -> None:
        while not end.is_set():
            with two.taken(need(1)):
                held[number].set()
                time.sleep(0.002)

    def both() -> None:
        with two.taken(need(2)):
            large.set()

    threads = [threading.Thread(target=small, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    assert all(event.wait(30) for event in held)
    waiting = threading.Thread(target=both)
    waiting.start()
    got = large.wait(30)
    end.set()
    for thread in (*threads, waiting):
        thread.join(30)
    assert got


def test_requests_in_any_order_never_wait_for_each_other(two: Slots) -> None:
    generator = random.Random(3)
    asked = [need(generator.randint(0, 2), generator.randint(0, 2)) for _ in range(60)]
    done: list[Need] = []

    def work(mine: list[Need]) -> None:
        for each in mine:
            with two.taken(each):
                time.sleep(0.001)
            done.append(each)

    threads = [threading.Thread(target=work, args=(asked[n::4],), daemon=True) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(done) == 60


def test_who_waits_behind_another_is_told_so(two: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "TELL_SECONDS", 0.0)
    told: list[str] = []
    stop, first = threading.Event(), threading.Event()

    def large() -> None:
        with pytest.raises(JobFailed), two.taken(need(2), tell=lambda line: first.set(), stop=stop):
            pass

    def tell(line: str) -> None:
        told.append(line)
        stop.set()

    with two.taken(need(1)):
        thread = threading.Thread(target=large)
        thread.start()
        assert first.wait(30)
        with pytest.raises(JobFailed), two.taken(need(1), tell=tell, stop=stop):
            pass
        thread.join(30)
    assert told == [f"waits for 1 of 2 cpus; process {os.getpid()} comes first"]


def test_two_that_want_the_same_do_it_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDL_CPUS", "1")
    jobs = open_jobs(root)
    found: list[object] = []
    results = []
    job = make(jobs, need=need(1))

    def run() -> None:
        results.append(jobs.beside(Journal(jobs.journal.root)).run(job, asking(found, "double", 4)))

    with jobs.slots.taken(need(1)):
        threads = [threading.Thread(target=run) for _ in range(2)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)  # both have asked the cache by now; else the test shows less, and passes
    for thread in threads:
        thread.join(60)
    assert found == [8] and sorted(r.cached for r in results) == [False, True]


def test_what_waits_is_cancelled(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "TELL_SECONDS", 0.0)
    everything = need(len(jobs.slots.cpus))
    with jobs.slots.taken(everything), pytest.raises(JobFailed, match="cancelled before it started"):
        jobs.run(make(jobs, need=need(1)), asking([], "double", 1), tell=lambda line: jobs.cancel())
