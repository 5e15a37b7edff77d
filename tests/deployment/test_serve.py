import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from cdl.deployment import control
from cdl.deployment.serve.scoring import read
from cdl.errors import Conflict, JobFailed, NotFound
from tests.projects import FEATURES, SIDE


def package(folder: Path, *, model: str = "m-1", broken: bool = False, bias: float = 0.0) -> Path:
    (folder / "code/model").mkdir(parents=True)
    (folder / "state").mkdir()
    (folder / "code/model/side.py").write_text("import nowhere\n" if broken else SIDE)
    (folder / "code/model/features.py").write_text(FEATURES)
    np.save(folder / "state/scale.npy", np.asarray([5.0, 5.0], dtype=np.float32))
    (folder / "state/state.json").write_text("{}")
    weights = {"w": np.asarray([4.0, -1.0], dtype=np.float32), "b": np.asarray([bias], dtype=np.float32)}
    (folder / "weights").write_bytes(save(weights))
    content = {
        "format": 1,
        "name": "toy",
        "model": model,
        "kind": "function",
        "call": "model.side:predict",
        "hyperparameters": {},
        "transform": "model.features:Columns",
        "output": {"kind": "probabilities", "classes": ["left", "right"]},
        "input": {"shape": [2]},
        "schema": None,
    }
    (folder / "package.json").write_text(json.dumps(content))
    return folder


class Service:
    def __init__(self, folder: Path, found: dict[str, Any]) -> None:
        self.folder = folder
        self.port = found["port"]

    def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        connection.request(method, path, data, {"Content-Type": kind} if data is not None else {})
        answer = connection.getresponse()
        found = answer.status, json.loads(answer.read())
        connection.close()
        return found


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    folder = tmp_path / "service"
    spec = {"package": str(package(tmp_path / "first")), "name": "toy", "port": 0, "replicas": 1}
    yield Service(folder, control.start(folder, spec))
    if control.running(folder):
        control.stop(folder)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service for tests that only ask."""
    root = tmp_path_factory.mktemp("shared")
    spec = {"package": str(package(root / "first")), "name": "toy", "port": 0, "replicas": 1}
    yield Service(root / "service", control.start(root / "service", spec))
    control.stop(root / "service")


ROW = {"item": {"x": 3.0, "y": 0.0}}


def test_predictions_by_every_way(shared: Service) -> None:
    status, found = shared.call("POST", "/predict", ROW)
    assert status == 200 and found["category"] == "right" and found["id"].startswith("q-")
    assert sum(found["probabilities"].values()) == pytest.approx(1)
    raw = json.dumps(ROW["item"]).encode()
    for kind in ("text/plain", "application/octet-stream"):
        assert shared.call("POST", "/predict", raw, kind)[1]["category"] == "right"
    for body in ({"data": base64.b64encode(raw).decode()}, {"text": raw.decode()}):
        assert shared.call("POST", "/predict", body)[1]["category"] == "right"
    tensor = {"name": "input", "datatype": "FP32", "shape": [2, 2], "data": [0.6, 0.0, -0.6, 0.0]}
    status, found = shared.call("POST", "/v2/models/toy/infer", {"id": "mine", "inputs": [tensor]})
    assert status == 200 and found["id"] == "mine" and found["outputs"][0]["shape"] == [2, 2]
    assert found["outputs"][1]["data"] == ["right", "left"]
    text = {"name": "input", "datatype": "BYTES", "shape": [1], "data": [raw.decode()]}
    assert shared.call("POST", "/v2/models/toy/infer", {"inputs": [text]})[1]["outputs"][1]["data"] == ["right"]
    for path in ("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/toy", "/v2/models/toy/ready"):
        assert shared.call("GET", path)[0] == 200
    assert shared.call("GET", "/v2/models/toy")[1]["inputs"][0]["shape"] == [-1, 2]


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/predict", b"{", 400, "not JSON"),
        ("/predict", [1], 400, "object"),
        ("/predict", {"data": "%%%"}, 400, "data"),
        ("/predict", {"text": "no row"}, 400, "cannot be read as an item: JSONDecodeError"),
        ("/predict", {"item": {"x": 1}}, 400, "KeyError"),
        ("/predict", {}, 400, "exactly one"),
        ("/v2/models/toy/infer", {"inputs": []}, 400, "one tensor"),
        ("/v2/models/toy/infer", {"inputs": [{"datatype": "INT64"}]}, 400, "FP32 or BYTES"),
        ("/v2/models/toy/infer", {"inputs": [{"datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}, 400, "[n, 2]"),
        ("/v2/models/toy/infer", {"inputs": [{"datatype": "FP32", "shape": [1, 2], "data": ["a", 1]}]}, 400, "numbers"),
        ("/v2/models/toy/infer", {"inputs": [{"datatype": "FP32", "shape": [1, 2], "data": [1e99, 1]}]}, 400, "finite"),
        ("/feedback", {"id": "q-1", "truth": "left"}, 400, "id"),
        ("/feedback", {"id": "q-0123456789abcdef", "truth": "up"}, 400, "one of left, right"),
        ("/nowhere", {}, 404, "/predict"),
    ],
)
def test_a_bad_request_hears_what_is_wrong(shared: Service, path: str, body: Any, status: int, said: str) -> None:
    found = shared.call("POST", path, body)
    assert found[0] == status and said in found[1]["error"]
    assert shared.call("POST", "/predict", ROW)[0] == 200


def test_a_text_comes_in_the_charset_that_it_names(shared: Service) -> None:
    row = json.dumps({"x": 3.0, "y": 0.0, "note": "\xa3 5"}, ensure_ascii=False)
    for charset in ("utf-8", "ISO-8859-1", '"windows-1252"', "utf-16"):
        body = row.encode(charset.strip('"'))
        status, found = shared.call("POST", "/predict", body, f"text/plain; format=fixed; charset={charset}")
        assert status == 200 and found["category"] == "right", charset
    status, found = shared.call("POST", "/predict", row.encode(), "text/plain; charset=idna")
    assert status == 415 and "charset: one of utf-8" in found["error"]


def test_too_large_and_the_wrong_method(shared: Service) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", shared.port, timeout=30)
    connection.putrequest("POST", "/predict")
    connection.putheader("Content-Length", "20000000")
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()
    assert shared.call("GET", "/predict")[0] == 405 and shared.call("POST", "/v2", {})[0] == 405


def test_scoring_and_feedback_are_whole_files(service: Service) -> None:
    answers = [service.call("POST", "/predict", {"item": {"x": i - 5.0, "y": 0}})[1] for i in range(10)]
    service.call("POST", "/predict", b"{")
    service.call("POST", "/feedback", {"id": answers[0]["id"], "truth": "left"})
    control.stop(service.folder)
    [path] = (service.folder / "scoring").glob("*.batch")
    model, columns = read(path.read_bytes())
    assert model == "m-1"
    assert columns["id"][:10] == [a["id"] for a in answers] and columns["error"] == [None] * 10 + ["BadRequest"]
    assert json.loads(columns["input"][0]) == {"x": -5.0, "y": 0} and columns["category"][0] == "left"
    assert columns["confidence"][0] == pytest.approx(max(answers[0]["probabilities"].values()))
    [path] = (service.folder / "feedback").glob("*.batch")
    assert read(path.read_bytes())[1]["truth"] == ["left"]


def test_swaps_under_load_lose_nothing_and_a_broken_one_changes_nothing(service: Service, tmp_path: Path) -> None:
    stop = threading.Event()
    failures: list[str] = []
    seen: set[str] = set()
    tensor = {"name": "input", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 0.0]}
    body = json.dumps({"inputs": [tensor]})

    def load() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
        while not stop.is_set():
            try:
                connection.request("POST", "/v2/models/toy/infer", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                seen.add(json.loads(answer.read())["model_version"])
                if answer.headers.get("Connection") == "close":
                    connection.close()
            except (OSError, http.client.HTTPException, KeyError) as error:
                failures.append(repr(error))
                connection.close()
        connection.close()

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in (2, 3, 4):
            made = package(tmp_path / f"package-{number}", model=f"m-{number}")
            answer = control.ask(service.folder, op="swap", package=str(made), replicas=1)
            assert answer["ready"] and answer["next"] == str(made) and answer["package"] != str(made)
            assert control.ask(service.folder, op="switch")["package"] == str(made)
        with pytest.raises(JobFailed, match="did not become ready"):
            control.ask(service.folder, op="swap", package=str(package(tmp_path / "bad", broken=True)), replicas=1)
        assert control.ask(service.folder, op="status")["package"].endswith("package-4")
        end = time.monotonic() + 20
        while "m-4" not in seen and time.monotonic() < end:
            time.sleep(0.05)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == [] and "m-4" in seen


def test_a_killed_worker_comes_back_and_workers_end_with_their_supervisor(service: Service) -> None:
    [worker] = control.ask(service.folder, op="status")["workers"]
    os.kill(worker, signal.SIGKILL)
    end = time.monotonic() + 30
    while time.monotonic() < end:
        found = control.ask(service.folder, op="status")["workers"]
        if found and found != [worker]:
            break
        time.sleep(0.05)
    assert service.call("POST", "/predict", ROW)[0] == 200
    status = control.ask(service.folder, op="status")
    os.kill(status["pid"], signal.SIGKILL)
    end = time.monotonic() + 30
    while time.monotonic() < end and any(Path(f"/proc/{w}/stat").exists() and _runs(w) for w in status["workers"]):
        time.sleep(0.05)
    assert not any(_runs(w) for w in status["workers"])
    assert control.running(service.folder) is None
    with pytest.raises(NotFound, match="no service runs"):
        control.ask(service.folder, op="status")


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_service_that_does_not_start_says_why_and_a_taken_port_who_holds_it(tmp_path: Path) -> None:
    spec = {"package": str(package(tmp_path / "bad", broken=True)), "name": "toy", "port": 0, "replicas": 1}
    with pytest.raises(JobFailed, match="No module named 'nowhere'"):
        control.start(tmp_path / "service", spec)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(Conflict, match=f"port {port} is taken by process {os.getpid()}"):
            control.start(tmp_path / "service", spec | {"port": port})


CLIENT = """
import sys
import numpy
from tritonclient import http
from tritonclient.utils import InferenceServerException

client = http.InferenceServerClient(sys.argv[1])
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("toy")
assert client.is_model_ready("toy", "m-1") and not client.is_model_ready("other")
described = client.get_model_metadata("toy")
assert described["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 2]}], described
given = http.InferInput("input", [2, 2], "FP32")
given.set_data_from_numpy(numpy.asarray([[1, 0], [-1, 0]], dtype=numpy.float32), binary_data=False)
asked = [http.InferRequestedOutput("category", binary_data=False)]
found = client.infer("toy", [given], outputs=asked, model_version="m-1", request_id="mine")
answer = found.get_response()
assert answer["id"] == "mine" and answer["model_version"] == "m-1", answer
assert [o["name"] for o in answer["outputs"]] == ["category"] and answer["outputs"][0]["data"] == ["right", "left"], answer
everything = client.infer("toy", [given])
assert everything.as_numpy("probabilities").shape == (2, 2)
for change in (lambda: given.set_data_from_numpy(numpy.zeros((2, 2), dtype=numpy.float32)), lambda: given.set_shape([1, 4])):
    change()
    try:
        client.infer("toy", [given])
        raise SystemExit("a wrong request was answered")
    except InferenceServerException as error:
        print(error)
"""


def test_the_protocols_own_client_is_answered(shared: Service) -> None:
    command = [sys.executable, "-c", CLIENT, f"127.0.0.1:{shared.port}"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert said.returncode == 0, said.stderr[-2000:] + said.stdout
    assert "binary tensor data is not spoken here" in said.stdout


def test_items_of_one_request_are_answered_in_order(shared: Service) -> None:
    items = [json.dumps({"x": x, "y": 0}) for x in (3, -3, 2, -2) * 20]
    tensor = {"name": "input", "datatype": "BYTES", "shape": [80], "data": items}
    status, answer = shared.call(
        "POST", "/v2/models/toy/infer", {"inputs": [tensor], "outputs": [{"name": "category"}]}
    )
    assert status == 200 and answer["outputs"][0]["data"] == ["right", "left"] * 40
    assert len(set(answer["parameters"]["ids"])) == 80
    status, answer = shared.call("POST", "/v2/models/toy/infer", {"inputs": [tensor], "outputs": [{"name": "x"}]})
    assert status == 400 and "outputs" in answer["error"]


def test_a_service_is_nobodys_child(tmp_path: Path) -> None:
    folder = tmp_path / "service"
    spec = {"package": str(package(tmp_path / "first")), "name": "toy", "port": 0, "replicas": 1}
    found = control.start(folder, spec)
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    mine = children.read_text().split() if children.exists() else []
    assert str(found["pid"]) not in mine and control.running(folder)
    control.stop(folder)
    assert control.running(folder) is None
    end = time.monotonic() + 30
    while Path(f"/proc/{found['pid']}").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not Path(f"/proc/{found['pid']}").exists()
