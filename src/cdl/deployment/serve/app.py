"""The service: a bare ASGI app. `handle` does the work, `App` only translates.

    POST /predict                     an image or other bytes, text/plain, or JSON {data: base64 | text: ... | array: [...]}
    POST /v2/models/NAME/infer        Open Inference Protocol, version 2, REST
    POST /feedback                    {id, truth}: what was right, later
    GET  /v2, /v2/health/live, /v2/health/ready, /v2/models/NAME, /v2/models/NAME/ready

NAME may be followed by /versions/VERSION, the id of the model. Tensors are JSON; the binary extension is not spoken.
Protocol: https://github.com/kserve/open-inference-protocol
"""

import asyncio
import base64
import binascii
import io
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cdl.deployment.serve.batching import Batcher
from cdl.deployment.serve.package import Served
from cdl.deployment.serve.scoring import Log

LARGEST_BODY = 10_000_000  # bytes
BODY_SECONDS = 30.0  # that the body of a request may take
ID = re.compile(r"q-[0-9a-f]{16}")
OUTPUTS = ("probabilities", "category")
CHARSET = re.compile(r""";\s*charset="?([\w.-]+)""", re.IGNORECASE)
CHARSETS = ("us-ascii", "iso-8859-1", "windows-1252", "utf-16")
TYPES = {"image": "image/", "text": "text/plain"}
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class BadRequest(Exception):
    """What the client should hear: a status and a sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status, self.message = status, message


class App:
    """Answers HTTP for one loaded package."""

    def __init__(self, served: Served, name: str, scoring: Log, feedback: Log) -> None:
        self.served = served
        self.name = name
        self.scoring = scoring
        self.feedback = feedback
        self.draining = False
        self._of_items = Batcher(self._predict)
        self._of_inputs = Batcher(self._forward)
        self._model = f"/v2/models/{name}"
        self._version = f"{self._model}/versions/{served.model}"
        self._metadata = metadata(served, name)

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        try:
            status, answer = await self._route(scope, receive)
        except BadRequest as error:
            status, answer = error.status, {"error": error.message}
            self._scored_error(scope["path"], "BadRequest")
        except Exception as error:  # noqa: BLE001 the model's code may raise anything; its class is all that leaves
            status, answer = 500, {"error": f"the model failed: {type(error).__name__}"}
            self._scored_error(scope["path"], type(error).__name__)
        body = msgspec.json.encode(answer)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if self.draining:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _route(self, scope: Mapping[str, Any], receive: Receive) -> tuple[int, Any]:
        path, method, model = scope["path"].rstrip("/") or "/", scope["method"], self._model
        if path.startswith(self._version):
            path = model + path.removeprefix(self._version)
        reading: dict[str, Any] = {
            "/v2": {"name": "cdl", "version": "2", "extensions": []},
            "/v2/health/live": {"live": True},
            "/v2/health/ready": {"ready": not self.draining},
            f"{model}/ready": {"ready": not self.draining},
            model: self._metadata,
        }
        writing = {"/predict": self._predict_one, "/feedback": self._feedback, f"{model}/infer": self._infer}
        if path in reading:
            if method not in ("GET", "HEAD"):
                raise BadRequest(405, f"{path} is read with GET")
            return 200, reading[path]
        if path not in writing:
            raise BadRequest(404, f"no such path; there are: {', '.join([*reading, *writing])}")
        if method != "POST":
            raise BadRequest(405, f"{path} is used with POST")
        if _header(scope, b"inference-header-content-length"):
            raise BadRequest(400, "binary tensor data is not spoken here; JSON is (binary_data=False)")
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _body(scope, receive)
        except TimeoutError as error:
            raise BadRequest(408, f"the body did not arrive within {BODY_SECONDS:.0f} s") from error
        kind = _header(scope, b"content-type")
        return await writing[path](_utf8(scope, body) if kind.startswith("text/") else body, kind)

    async def _predict_one(self, body: bytes, kind: str) -> tuple[int, Any]:
        start = time.perf_counter()
        item = self._item(body, kind)
        row = await self._of_items.ask(item)
        return 200, self._answer(item, row, time.perf_counter() - start)

    async def _infer(self, body: bytes, kind: str) -> tuple[int, Any]:
        start = time.perf_counter()
        request = _json(body)
        tensors = request.get("inputs")
        if not isinstance(tensors, list) or len(tensors) != 1 or not isinstance(tensors[0], dict):
            raise BadRequest(400, "inputs: one tensor {name, shape, datatype, data} is expected")
        tensor, wanted = tensors[0], _wanted(request)
        if tensor.get("datatype") == "BYTES":
            items = _items(tensor)
            rows = await asyncio.gather(*(self._of_items.ask(item) for item in items))
        elif tensor.get("datatype") == "FP32":
            values = self._inputs(tensor)
            items = [b""] * len(values)
            rows = await asyncio.gather(*(self._of_inputs.ask(value) for value in values))
        else:
            raise BadRequest(400, f"inputs[0].datatype: FP32 or BYTES is expected, not {tensor.get('datatype')!r}")
        seconds = time.perf_counter() - start
        answers = [self._answer(item, row, seconds) for item, row in zip(items, rows, strict=True)]
        count, classes = len(rows), len(self.served.classes)
        flat = [float(v) for row in rows for v in row]
        categories = [a["category"] for a in answers]
        outputs = [
            {"name": "probabilities", "datatype": "FP32", "shape": [count, classes], "data": flat},
            {"name": "category", "datatype": "BYTES", "shape": [count], "data": categories},
        ]
        outputs = [o for o in outputs if o["name"] in wanted]
        identity = request.get("id") or (answers[0]["id"] if answers else None)
        found = {"model_name": self.name, "model_version": self.served.model, "id": identity, "outputs": outputs}
        return 200, found | {"parameters": {"ids": [a["id"] for a in answers]}}

    async def _feedback(self, body: bytes, kind: str) -> tuple[int, Any]:
        request = _json(body)
        identity, truth = request.get("id"), request.get("truth")
        if not isinstance(identity, str) or not ID.fullmatch(identity):
            raise BadRequest(400, "id: what /predict answered is expected, q- and 16 hex digits")
        if truth not in self.served.classes:
            raise BadRequest(400, f"truth: one of {', '.join(self.served.classes)} is expected, not {truth!r}")
        self.feedback.add(identity, _now(), truth)
        return 202, {"id": identity}

    def _item(self, body: bytes, kind: str) -> bytes:
        """The content of one item from a request's body."""
        wanted = (self.served.schema or {}).get("input")
        if kind == "application/json":
            return _item_of(_json(body))
        if wanted in TYPES and not kind.startswith((TYPES[wanted], "application/octet-stream")):
            raise BadRequest(415, f"Content-Type: {TYPES[wanted]}... is expected, not '{kind}'")
        if not body:
            raise BadRequest(400, "the body is empty")
        return body

    def _inputs(self, tensor: Mapping[str, Any]) -> NDArray[np.float32]:
        shape, data = tensor.get("shape"), tensor.get("data")
        wanted = list(self.served.shape)
        if not isinstance(shape, list) or not all(isinstance(n, int) and n > 0 for n in shape) or shape[1:] != wanted:
            raise BadRequest(400, f"inputs[0].shape: [n, {', '.join(map(str, wanted))}] is expected, not {shape!r}")
        try:
            values = np.asarray(data, dtype=np.float32).reshape(shape)
        except (ValueError, TypeError) as error:
            raise BadRequest(400, f"inputs[0].data: numbers of shape {shape} are expected") from error
        if not np.isfinite(values).all():
            raise BadRequest(400, "inputs[0].data: finite numbers are expected")
        return values

    def _predict(self, items: Sequence[bytes]) -> Sequence[Any]:
        try:
            inputs = self.served.transform(items)
        except Exception as error:  # the transformation may raise anything for content that it cannot read
            raise BadRequest(400, f"the input cannot be read as an item: {type(error).__name__}") from error
        return list(self.served.forward(inputs))

    def _forward(self, inputs: Sequence[Any]) -> Sequence[Any]:
        return list(self.served.forward(np.stack(inputs)))

    def _answer(self, item: bytes, row: Any, seconds: float) -> dict[str, Any]:
        place = int(row.argmax())
        identity = "q-" + secrets.token_hex(8)
        values = [float(v) for v in row]
        category = self.served.classes[place]
        self.scoring.add(identity, _now(), item, category, values[place], values, seconds, None)
        return {
            "id": identity,
            "category": category,
            "probabilities": dict(zip(self.served.classes, values, strict=True)),
        }

    def _scored_error(self, path: str, name: str) -> None:
        if path.endswith(("/predict", "/infer")):
            self.scoring.add("q-" + secrets.token_hex(8), _now(), b"", "", 0.0, [], 0.0, name)


def metadata(served: Served, name: str) -> dict[str, Any]:
    """What the protocol's model metadata say."""
    return {
        "name": name,
        "versions": [served.model],
        "platform": "cdl",
        "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, *served.shape]}],
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, len(served.classes)]},
            {"name": "category", "datatype": "BYTES", "shape": [-1]},
        ],
    }


def _wanted(request: Mapping[str, Any]) -> tuple[str, ...]:
    """The outputs that a request names; all where it names none."""
    asked = request.get("outputs")
    if not asked:
        return OUTPUTS
    names = [o.get("name") if isinstance(o, dict) else None for o in asked] if isinstance(asked, list) else [None]
    if any(n not in OUTPUTS for n in names):
        raise BadRequest(400, f"outputs: a list of {{name}} is expected, name one of {', '.join(OUTPUTS)}")
    return tuple(str(n) for n in names)


async def _body(scope: Mapping[str, Any], receive: Receive) -> bytes:
    announced = _header(scope, b"content-length")
    if announced.isdigit() and int(announced) > LARGEST_BODY:
        raise BadRequest(413, f"the body has {announced} bytes; at most {LARGEST_BODY}")
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadRequest(400, "the client went away")
        part = message.get("body", b"")
        size += len(part)
        if size > LARGEST_BODY:
            raise BadRequest(413, f"the body has more than {LARGEST_BODY} bytes")
        parts.append(part)
        more = message.get("more_body", False)
    return b"".join(parts)


def _utf8(scope: Mapping[str, Any], body: bytes) -> bytes:
    """A text as UTF-8, whatever charset its Content-Type names: the model was trained on UTF-8."""
    declared = next(v for k, v in scope["headers"] if k == b"content-type").decode("latin-1")
    named = CHARSET.search(declared)
    if named is None or named[1].lower() in ("utf-8", "utf8"):
        return body
    if named[1].lower() not in CHARSETS:
        raise BadRequest(415, f"charset: one of utf-8, {', '.join(CHARSETS)} is expected, not '{named[1]}'")
    return body.decode(named[1], "replace").encode()


def _header(scope: Mapping[str, Any], name: bytes) -> str:
    found = next((v for k, v in scope["headers"] if k == name), b"")
    return found.decode("latin-1").partition(";")[0].strip().lower()


def _json(body: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(400, f"not JSON: {error}") from error
    if not isinstance(found, dict):
        raise BadRequest(400, "a JSON object is expected")
    return found


def _item_of(request: Mapping[str, Any]) -> bytes:
    given = [k for k in ("data", "text", "array", "item") if k in request]
    if len(given) != 1:
        raise BadRequest(400, "exactly one of data (base64), text, array and item (a row) is expected")
    value = request[given[0]]
    try:
        if given[0] == "data":
            return base64.b64decode(value, validate=True)
        if given[0] == "text":
            return str(value).encode()
        if given[0] == "item":
            return msgspec.json.encode(value, order="sorted")
        buffer = io.BytesIO()
        np.save(buffer, np.asarray(value, dtype=np.float32), allow_pickle=False)
        return buffer.getvalue()
    except (binascii.Error, ValueError, TypeError) as error:
        raise BadRequest(400, f"{given[0]}: {error}") from error


def _items(tensor: Mapping[str, Any]) -> list[bytes]:
    """Item contents of a BYTES tensor: base64 with parameters {content_type: base64}, else text."""
    data, shape = tensor.get("data"), tensor.get("shape")
    if not isinstance(data, list) or shape != [len(data)] or not all(isinstance(d, str) for d in data) or not data:
        raise BadRequest(400, "inputs[0]: BYTES data is a list of strings, its shape [n]")
    if (tensor.get("parameters") or {}).get("content_type") != "base64":
        return [d.encode() for d in data]
    try:
        return [base64.b64decode(d, validate=True) for d in data]
    except (binascii.Error, ValueError) as error:
        raise BadRequest(400, f"inputs[0].data: not base64: {error}") from error


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
