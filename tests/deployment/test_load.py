"""Services under full load: swaps, restarts and killed workers, by clients in processes of their own."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cdl.deployment import control
from cdl.deployment.serve.scoring import SECONDS, read
from cdl.errors import JobFailed
from tests.deployment import load
from tests.deployment.test_serve import Service, package

PROCESSES, CONNECTIONS = 2, 8
BACK_SECONDS = 2.0
BIASES = {f"m-{n}": round(0.3 * n - 1.0, 1) for n in range(1, 8)}
TRITON = """
import sys, threading
import numpy
from tritonclient import http

client = http.InferenceServerClient(sys.argv[1])
given = http.InferInput("input", [1, 2], "FP32")
given.set_data_from_numpy(numpy.asarray([[1, 0]], dtype=numpy.float32), binary_data=False)
asked = [http.InferRequestedOutput("category", binary_data=False)]
ended, models, count = threading.Event(), set(), 0
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
while not ended.is_set():
    answer = client.infer("toy", [given], outputs=asked).get_response()
    assert answer["outputs"][0]["data"] == ["right"], answer
    models.add(answer["model_version"])
    count += 1
print(count, *sorted(models))
"""


@dataclass
class Told:
    """What the clients saw, all of them together."""

    answered: list[tuple[str, float, str]] = field(default_factory=list)
    failed: list[tuple[str, float, int]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)

    @property
    def models(self) -> set[str]:
        """Who answered."""
        return {model for _, _, model in self.answered if model}


@contextmanager
def under_load(port: int, folder: Path, biases: dict[str, float] = BIASES) -> Iterator[Told]:
    """Full load until the end of the block; then what the clients saw."""
    told, outs = Told(), [folder / f"load-{n}.json" for n in range(PROCESSES)]
    words = [sys.executable, load.__file__, str(port), str(CONNECTIONS)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    clients = [subprocess.Popen([*words, str(out), json.dumps(biases)], **pipes) for out in outs]
    try:
        for client in clients:
            assert client.stdout is not None and client.stdout.readline() == b"loading\n"
        yield told
    finally:
        for client in clients:
            client.communicate(timeout=120)
    for out in outs:
        for key, values in json.loads(out.read_text()).items():
            if key != "seconds":
                getattr(told, key).extend(values)


@pytest.fixture
def packages(tmp_path: Path) -> dict[str, Path]:
    return {m: package(tmp_path / "packages" / m, model=m, bias=b) for m, b in BIASES.items()}


@contextmanager
def serving(folder: Path, first: Path, *, replicas: int = 1) -> Iterator[Service]:
    spec = {"package": str(first), "name": "toy", "port": 0, "replicas": replicas}
    yield Service(folder, control.start(folder, spec))
    if control.running(folder):
        control.stop(folder)


def rows(folder: Path) -> dict[str, str]:
    """Ids of the scoring rows that were written, with the model that answered."""
    found: dict[str, str] = {}
    for path in (folder / "scoring").glob("*.batch"):
        model, columns = read(path.read_bytes())
        assert not found.keys() & set(columns["id"]), "a row was written twice"
        found |= dict.fromkeys(columns["id"], model)
    assert not list((folder / "scoring").glob("*.tmp"))
    return found


def swap(folder: Path, to: Path) -> None:
    assert control.ask(folder, op="swap", package=str(to), replicas=1)["ready"]
    assert control.ask(folder, op="switch")["package"] == str(to)


def workers_of(folder: Path) -> list[int]:
    """The processes of a service that are no supervisor."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if b"cdl.deployment.serve" in words and os.fsencode(folder) in words:
            found.append(int(place.name))
    return found


@pytest.mark.parametrize(
    ("seconds", "every"), [(6.0, 1.5), pytest.param(60.0, 5.0, marks=pytest.mark.long)], ids=["quick", "long"]
)
def test_swaps_at_full_load_fail_no_request(
    tmp_path: Path, packages: dict[str, Path], seconds: float, every: float
) -> None:
    folder, names = tmp_path / "service", itertools.cycle([*list(BIASES)[1:], "m-1"])
    with serving(folder, packages["m-1"]) as service:
        peer = [sys.executable, "-c", TRITON, f"127.0.0.1:{service.port}"]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        triton = subprocess.Popen(peer, text=True, **pipes)
        swapped = {"m-1"}
        with under_load(service.port, tmp_path) as told:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                time.sleep(every)
                swap(folder, packages[name := next(names)])
                swapped.add(name)
            broken = package(tmp_path / "broken", broken=True)
            with pytest.raises(JobFailed, match=r"did not become ready, one ended(?s:.*)No module named 'nowhere'"):
                control.ask(folder, op="swap", package=str(broken), replicas=1)
        said, errors = triton.communicate(timeout=60)
    print(f"{len(told.answered)} answered, {len(swapped)} packages, triton: {said}")
    assert told.failed == [] and told.wrong == [] and len(told.answered) > 500
    assert told.models == swapped and triton.returncode == 0 and set(said.split()[1:]) == swapped, errors
    written = rows(folder)
    assert [i for i, _, _ in told.answered if i not in written] == []
    assert [i for i, _, model in told.answered if model and written[i] != model] == []
    assert workers_of(folder) == []


@pytest.mark.parametrize(
    ("seconds", "every", "replicas"),
    [(5.0, 1.0, 2), pytest.param(60.0, 10.0, 1, marks=pytest.mark.long)],
    ids=["quick", "long"],
)
def test_a_killed_worker_fails_its_own_connections_at_most_and_is_back(
    tmp_path: Path, packages: dict[str, Path], seconds: float, every: float, replicas: int
) -> None:
    folder, kills = tmp_path / "service", list[tuple[float, set[int]]]()
    with serving(folder, packages["m-1"], replicas=replicas) as service, under_load(service.port, tmp_path) as told:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(every)
            while not control.ask(folder, op="status")["spares"]:
                assert time.monotonic() < end + 20, "no spare was loaded"
                time.sleep(0.02)
            before = control.ask(folder, op="status")["workers"]
            os.kill(before[0], signal.SIGSTOP)  # so that it takes no other connection before it is killed
            own = connections_of(before[0], service.port)
            kills.append((time.monotonic(), own))
            os.kill(before[0], signal.SIGKILL)
            while len(back := control.ask(folder, op="status")["workers"]) < replicas or before[0] in back:
                assert time.monotonic() - kills[-1][0] < BACK_SECONDS
                time.sleep(0.02)
    held = sum(len(own) for _, own in kills)
    print(f"{len(told.answered)} answered, {len(told.failed)} failed in {len(kills)} kills, of {held} connections")
    assert told.wrong == [] and len(told.answered) > 500 and len(kills) > 1
    for what, at, port in told.failed:  # a port may serve again for a later connection
        assert any(port in own and kill <= at < kill + BACK_SECONDS for kill, own in kills), what
    assert len(told.failed) <= held
    assert_rows(told, rows(folder), [kill for kill, _ in kills])
    assert workers_of(folder) == []


def assert_rows(told: Told, written: dict[str, str], kills: Sequence[float]) -> None:
    """The rows of all answers are there but for those of the last seconds before a kill."""
    missing = [at for identity, at, _ in told.answered if identity not in written]
    assert [at for at in missing if not any(kill - SECONDS <= at <= kill + 0.5 for kill in kills)] == []


def connections_of(process: int, port: int) -> set[int]:
    """The clients' ports of the connections that a process holds."""
    held = {os.readlink(handle) for handle in Path(f"/proc/{process}/fd").iterdir()}
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    mine = [f for f in lines if f"socket:[{f[9]}]" in held and int(f[1].rsplit(":", 1)[1], 16) == port]
    return {int(f[2].rsplit(":", 1)[1], 16) for f in mine if f[3] == "01"}
