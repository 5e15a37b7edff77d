"""Odd clients, signals and dying workers: none of them harms who asks properly."""

import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from cdl.deployment import control
from cdl.deployment.serve.scoring import FEEDBACK, SECONDS, Log, read
from cdl.errors import JobFailed
from tests.deployment.test_killed import asking
from tests.deployment.test_load import swap, workers_of
from tests.deployment.test_serve import ROW, Service, package
from tests.projects import SIDE

BODY = json.dumps(ROW).encode()
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY)
DEADLY = SIDE.replace(
    "def predict(weights, inputs):\n",
    "def predict(weights, inputs):\n"
    "    if (inputs > 19).any():\n        os._exit(3)\n"
    "    if (inputs < -19).any():\n        time.sleep(3600)\n",
    1,
).replace("import numpy as np", "import os\nimport time\n\nimport numpy as np", 1)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    folder, first = tmp_path / "service", package(tmp_path / "first")
    (first / "code/model/side.py").write_text(DEADLY)
    spec = {"package": str(first), "name": "toy", "port": 0, "replicas": 1}
    yield Service(folder, control.start(folder, spec))
    if control.running(folder):
        control.stop(folder)
    until(lambda: workers_of(folder) == [])


def until(what: Callable[[], Any], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def status(service: Service) -> dict[str, Any]:
    return control.ask(service.folder, op="status")


def connected(port: int, said: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    connection.sendall(said)
    return connection


@dataclass
class Answer:
    status: int
    headers: Message
    said: bytes


def answers(connection: socket.socket, count: int = 1) -> list[Answer]:
    """The next answers on a connection, read whole."""
    found = []
    with connection.makefile("rb") as reader:
        for _ in range(count):
            number = int(reader.readline().split()[1])
            headers = http.client.parse_headers(reader)
            found.append(Answer(number, headers, reader.read(int(headers["Content-Length"]))))
    return found


@pytest.mark.parametrize(
    "at", [3, len(HEAD) - 2, len(HEAD), len(HEAD) + 5], ids=["word", "head", "no body", "half body"]
)
def test_a_request_that_is_half_here_survives_a_swap(service: Service, tmp_path: Path, at: int) -> None:
    with connected(service.port, (HEAD + BODY)[:at]) as slow, connected(service.port) as silent:
        until(lambda: len(status(service)["workers"]) == 1)
        time.sleep(0.3)  # so that the old worker has it
        [old] = status(service)["workers"]
        swap(service.folder, package(tmp_path / "second", model="m-2", bias=9.0))
        until(lambda: silent.recv(1) == b"")  # the worker has drained; who said nothing was let go
        assert old in workers_of(service.folder)
        slow.sendall((HEAD + BODY)[at:])
        [answer] = answers(slow)
        assert answer.status == 200 and answer.headers["Connection"] == "close"
        until(lambda: old not in workers_of(service.folder))
    until(lambda: service.call("GET", "/v2/models/toy")[1]["versions"] == ["m-2"])


def test_pipelined_requests_are_answered_in_order(service: Service) -> None:
    rows = [json.dumps({"item": {"x": x, "y": 0.0}}).encode() for x in (3.0, -3.0) * 20]
    head = HEAD[: HEAD.index(b"Content-Length")]
    with connected(
        service.port, b"".join(head + b"Content-Length: %d\r\n\r\n" % len(r) + r for r in rows)
    ) as connection:
        said = [json.loads(a.said)["category"] for a in answers(connection, len(rows))]
    assert said == ["right", "left"] * 20


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_refused_once_it_was_sent(service: Service, chunked: bool) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    part = b"x" * 1_000_000
    headers = {} if chunked else {"Content-Length": str(12 * len(part))}
    connection.request("POST", "/predict", iter([part] * 12), headers, encode_chunked=chunked)
    answer = connection.getresponse()
    assert answer.status == 413 and "10000000" in json.loads(answer.read())["error"]
    connection.close()
    assert service.call("POST", "/predict", ROW)[0] == 200


def test_many_connections_that_say_nothing_hold_up_nobody(service: Service, tmp_path: Path) -> None:
    crowd = [connected(service.port, b"POST /pre" if i % 2 else b"") for i in range(400)]
    with asking(service.port) as told:
        swap(service.folder, package(tmp_path / "second", model="m-2"))
        until(lambda: told.answered > 100)
    assert told.failures == []
    for connection in crowd:
        connection.close()


@pytest.mark.long
def test_who_never_reads_or_never_ends_is_let_go(service: Service, tmp_path: Path) -> None:
    deaf = connected(service.port)
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.settimeout(2.0)
    with pytest.raises(TimeoutError):
        while True:
            deaf.sendall((HEAD + BODY) * 100)
    silent, half = connected(service.port), connected(service.port, HEAD[:10])
    body = connected(service.port, HEAD)
    begin = time.monotonic()
    assert silent.recv(1) == half.recv(1) == b""  # no request came
    [answer] = answers(body)
    assert answer.status == 408 and "did not arrive" in answer.said.decode()
    assert time.monotonic() - begin > 20
    [old] = status(service)["workers"]
    hung = connected(service.port, HEAD.replace(b"%d" % len(BODY), b"31") + b'{"item": {"x": -1e9, "y": 0.0}}')
    time.sleep(0.5)
    swap(service.folder, package(tmp_path / "second", model="m-2"))
    time.sleep(1.0)  # the old one, which answers nobody any more, has stopped accepting
    with asking(service.port) as told:
        until(lambda: old not in workers_of(service.folder))
    assert told.failures == []
    for connection in (deaf, silent, half, body, hung):
        connection.close()


def test_signals_to_workers_lose_no_request(service: Service) -> None:
    with asking(service.port) as told:
        until(lambda: status(service)["spares"])
        [worker] = status(service)["workers"]
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            os.kill(worker, number)
        until(lambda: told.answered > 50)
        assert status(service)["workers"] == [worker]
        os.kill(worker, signal.SIGTERM)
        until(lambda: status(service)["workers"] not in ([worker], []))
        os.kill(status(service)["pid"], signal.SIGHUP)
        [second] = status(service)["workers"]
        until(lambda: status(service)["workers"] not in ([second], []))
        until(lambda: second not in workers_of(service.folder))
    assert told.failures == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_supervisor_that_is_told_to_end_answers_what_was_begun(service: Service, number: int) -> None:
    found = status(service)
    with connected(service.port, HEAD) as begun:
        time.sleep(0.3)
        for _ in range(2):
            os.kill(found["pid"], number)
        until(lambda: refused(service.port))
        with pytest.raises(JobFailed, match="the service is ending"):
            control.ask(service.folder, op="swap", package="anything", replicas=1)
        begun.sendall(BODY)
        [answer] = answers(begun)
        assert answer.status == 200 and answer.headers["Connection"] == "close"
    until(lambda: control.running(service.folder) is None and workers_of(service.folder) == [])
    until(lambda: not (service.folder / "control").exists())  # the last thing that it does
    assert (service.folder / "spec.json").exists()


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=60).close()
    except (ConnectionRefusedError, ConnectionResetError):
        return True
    return False


def test_a_supervisor_that_is_killed_loses_nothing_that_its_workers_began(service: Service) -> None:
    with connected(service.port, HEAD) as begun:
        time.sleep(0.3)
        os.kill(status(service)["pid"], signal.SIGKILL)
        until(lambda: refused(service.port))
        begun.sendall(BODY)
        [answer] = answers(begun)
        assert answer.status == 200
        identity = json.loads(answer.said)["id"]
    until(lambda: workers_of(service.folder) == [])
    [path] = (service.folder / "scoring").glob("*.batch")
    assert read(path.read_bytes())[1]["id"] == [identity]
    spec = json.loads((service.folder / "spec.json").read_text())
    assert control.start(service.folder, spec | {"port": 0})["port"] == service.port  # who asked there finds it again


def test_a_request_that_kills_its_worker_harms_others_for_a_moment(service: Service) -> None:
    for _ in range(3):
        until(lambda: status(service)["workers"])
        with pytest.raises((http.client.HTTPException, OSError)):
            service.call("POST", "/predict", {"item": {"x": 1e9, "y": 0.0}})
    assert service.call("POST", "/predict", ROW)[0] == 200
    assert len(status(service)["workers"]) == 1


def test_prepared_workers_that_die_are_replaced_before_the_switch(service: Service, tmp_path: Path) -> None:
    second = package(tmp_path / "second", model="m-2")
    until(lambda: status(service)["spares"])
    control.ask(service.folder, op="swap", package=str(second), replicas=1)
    found = status(service)
    [prepared] = [w for w in workers_of(service.folder) if w not in {*found["workers"], *found["spares"]}]
    os.kill(prepared, signal.SIGKILL)
    assert control.ask(service.folder, op="switch")["package"] == str(second)
    until(lambda: service.call("GET", "/v2/models/toy")[1]["versions"] == ["m-2"])


def test_a_new_worker_killed_before_it_is_ready_leaves_the_old(service: Service, tmp_path: Path) -> None:
    slow = package(tmp_path / "second", model="m-2")
    (slow / "code/model/side.py").write_text("import time\n\ntime.sleep(600)\n" + SIDE)
    until(lambda: status(service)["spares"])
    found = status(service)
    with socket.socket(socket.AF_UNIX) as asked:
        asked.connect(str(service.folder / "control"))
        asked.sendall(json.dumps({"op": "swap", "package": str(slow), "replicas": 1}).encode() + b"\n")
        until(lambda: status(service)["next"] == str(slow))  # it answers while it waits
        known = {*found["workers"], *found["spares"]}
        until(lambda: {*workers_of(service.folder)} - known)
        [new] = {*workers_of(service.folder)} - known
        os.kill(new, signal.SIGKILL)
        assert b"did not become ready, one ended" in asked.recv(4096)
    with socket.socket(socket.AF_UNIX) as asked:
        asked.connect(str(service.folder / "control"))
        asked.sendall(json.dumps({"op": "swap", "package": str(slow), "replicas": 1}).encode() + b"\n")
        until(lambda: status(service)["next"] == str(slow))
        assert control.ask(service.folder, op="abandon")["next"] is None
        assert b"another command took them back" in asked.recv(4096)
    time.sleep(0.5)
    assert {*workers_of(service.folder)} == known
    assert status(service)["workers"] == found["workers"] and service.call("POST", "/predict", ROW)[0] == 200


def test_who_holds_up_the_control_socket_holds_up_nobody(service: Service) -> None:
    silent = [socket.socket(socket.AF_UNIX) for _ in range(5)]
    for connection in silent:
        connection.connect(str(service.folder / "control"))
    for said in (b"nonsense\n", b"[]\n", b'{"op": "swap"}\n', b"x" * 200_000 + b"\n", b'{"op": 1}\n'):
        with socket.socket(socket.AF_UNIX) as odd:
            odd.connect(str(service.folder / "control"))
            odd.settimeout(60)
            try:
                odd.sendall(said)
                odd.recv(4096)
            except (BrokenPipeError, ConnectionResetError):
                pass  # it did not listen to the end
    until(lambda: status(service)["spares"])
    [worker] = status(service)["workers"]
    os.kill(worker, signal.SIGKILL)
    until(lambda: status(service)["workers"] not in ([worker], []))
    for connection in silent:
        connection.close()


def test_a_row_is_in_a_file_after_the_stated_seconds_whatever_is_killed(service: Service) -> None:
    found = [service.call("POST", "/predict", ROW)[1]["id"] for _ in range(3)]
    time.sleep(SECONDS)
    [worker] = status(service)["workers"]
    os.kill(worker, signal.SIGKILL)
    written = [read(path.read_bytes())[1]["id"] for path in (service.folder / "scoring").glob("*.batch")]
    assert sorted(i for ids in written for i in ids) == sorted(found)


def test_rows_wait_while_they_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = Log(tmp_path / "feedback", FEEDBACK, model="m-1")
    (tmp_path / "feedback").rename(tmp_path / "aside")
    log.add("q-1", "now", "left")
    until(lambda: "rows wait" in capsys.readouterr().err)
    log.add("q-2", "now", "right")
    (tmp_path / "aside").rename(tmp_path / "feedback")
    until(lambda: list((tmp_path / "feedback").glob("*.batch")))
    log.close()
    written = [i for p in sorted((tmp_path / "feedback").glob("*.batch")) for i in read(p.read_bytes())[1]["id"]]
    assert sorted(written) == ["q-1", "q-2"]
