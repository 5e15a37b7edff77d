"""Whatever a client sends, the service answers with JSON and a status that says whose fault it is, and stays up."""

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdl.deployment import control, protocol
from tests.deployment.test_serve import package

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
TENSOR = st.fixed_dictionaries(
    {},
    optional={
        "name": VALUES,
        "shape": VALUES | st.lists(st.integers(-2, 1 << 40), max_size=4),
        "datatype": st.sampled_from(["FP32", "BYTES", "INT8", "", None]),
        "data": VALUES | st.lists(st.floats() | st.text(max_size=12), max_size=6),
        "parameters": VALUES | st.just({"content_type": "base64"}),
    },
)
INFER = st.fixed_dictionaries(
    {"inputs": st.lists(TENSOR, max_size=2) | VALUES}, optional={"outputs": VALUES, "id": VALUES}
)
PREDICT = st.dictionaries(st.sampled_from(["data", "text", "array", "item", "x"]), VALUES, max_size=2)
BODIES = st.binary(max_size=200) | (INFER | PREDICT | VALUES).map(lambda v: json.dumps(v).encode())
PATHS = st.sampled_from(
    ["/predict", "/feedback", "/v2/models/toy/infer", "/v2/models/toy/versions/m-1/infer", "/v2", "/x"]
)
KINDS = st.sampled_from(["application/json", "text/plain", "image/png", "application/octet-stream", "a/b; c=d", ""])


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("fuzz")
    spec = {"package": str(package(folder / "package")), "name": "toy", "port": 0, "replicas": 1}
    yield control.start(folder / "service", spec)["port"]
    assert control.running(folder / "service")
    assert "Traceback" not in (folder / "service" / protocol.LOG).read_text()
    control.stop(folder / "service")


def check(port: int, method: str, path: str, body: bytes, kind: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, {"Content-Type": kind})
        answer = connection.getresponse()
        said = answer.read()
        assert answer.status in (200, 202, 400, 404, 405, 413, 415), (answer.status, said)
        if method != "HEAD":
            found = json.loads(said)
            assert answer.status < 400 or isinstance(found["error"], str)
    finally:
        connection.close()


@given(st.sampled_from(["POST", "GET", "PUT", "DELETE", "HEAD"]), PATHS, BODIES, KINDS)
@settings(max_examples=300)
def test_any_request_is_answered(port: int, method: str, path: str, body: bytes, kind: str) -> None:
    check(port, method, path, body, kind)


@pytest.mark.long
@given(st.just("POST"), PATHS, BODIES, KINDS)
@settings(max_examples=10_000)
def test_many_requests_are_answered(port: int, method: str, path: str, body: bytes, kind: str) -> None:
    check(port, method, path, body, kind)
