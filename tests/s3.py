"""A real S3 server on loopback, for tests of what is shared through a bucket; and one that fails as it is told."""

import http.client
import os
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

START_SECONDS = 30.0


@contextmanager
def s3_server(bucket: str = "team") -> Iterator[str]:
    """Runs moto's S3 server with one bucket; its address."""
    read, write = os.pipe()
    code = (
        "import os, sys, logging\nlogging.disable(logging.CRITICAL)\n"
        "from werkzeug.serving import make_server\n"
        "from moto.server import DomainDispatcherApplication, create_backend_app\n"
        "server = make_server('127.0.0.1', 0, DomainDispatcherApplication(create_backend_app), threaded=True)\n"
        "os.write(int(sys.argv[1]), b'%d\\n' % server.server_port)\n"
        "server.serve_forever()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, str(write)],
        pass_fds=[write],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    try:
        with os.fdopen(read) as told:
            port = told.readline().strip()
        assert port, "the S3 server did not start"
        address = f"http://127.0.0.1:{port}"
        add_bucket(address, bucket)
        yield address
    finally:
        process.kill()
        process.wait()


def add_bucket(address: str, name: str, *, versions: bool = False) -> None:
    """Makes a bucket; one that keeps versions."""
    body = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    for query, data in (("", None), ("?versioning", body))[: 1 + versions]:
        headers = {"Content-Type": "application/xml"} if data else {}
        request = urllib.request.Request(f"{address}/{name}{query}", data=data, headers=headers, method="PUT")
        with urllib.request.urlopen(request, timeout=START_SECONDS):
            pass


def of_server(address: str) -> dict[str, str]:
    """What the environment of a client says."""
    return {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": address,
    }


class Unreliable:
    """A way to a server that fails every `each`-th request with 503, and closes all while `gone`.

    With `lasts` it is gone after so many more requests. `written` counts what was put, by path.
    """

    def __init__(self, behind: str, each: int = 0) -> None:
        self.each = each
        self.gone = False
        self.lasts: int | None = None
        self.failed = self.passed = 0
        self.written: Counter[str] = Counter()
        self._behind = behind.removeprefix("http://")
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _do(self) -> None:
                outer._handle(self)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _do

            def log_message(self, format: str, *args: object) -> None:
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends it."""
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        with self._lock:
            count = self.passed + self.failed + 1
            if self.lasts is not None:
                self.lasts -= 1
                self.gone = self.gone or self.lasts < 0
            fails = self.gone or (self.each > 0 and count % self.each == 0)
            self.failed, self.passed = self.failed + fails, self.passed + (not fails)
        if self.gone:
            request.close_connection = True
            return
        if fails:
            request.send_error(503)
            return
        link = http.client.HTTPConnection(self._behind, timeout=30)
        try:
            link.putrequest(request.command, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                link.putheader(name, value)
            link.endheaders(body or None)
            answer = link.getresponse()
            data = answer.read()
            with self._lock:
                self.written[request.path] += request.command == "PUT" and answer.status < 300
            request.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length", "server", "date"):
                    request.send_header(name, value)
            length = answer.getheader("Content-Length") if request.command == "HEAD" else str(len(data))
            request.send_header("Content-Length", length or "0")
            request.end_headers()
            if request.command != "HEAD":
                request.wfile.write(data)
        finally:
            link.close()
