"""Sources at an address: what is as it was is neither fetched nor read again, and what changed outside is said."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cdl.config.load import load, parse
from cdl.data import versions
from cdl.data.pipeline import pending
from cdl.data.sources import download as downloads
from cdl.errors import ConfigError, Unavailable
from cdl.registry.records import Dataset
from tests.projects import DATA, ROLES, YAML, Toy, make_toy, table


class Server:
    """A server of one file that counts: answers with the file, and answers that it is as it was."""

    def __init__(self) -> None:
        self.data, self.etag, self.modified = b"", "", ""
        self.whole = self.same = 0
        self.broken = False
        self.short = 0  # so many bytes too few are sent
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                known = self.headers.get("If-None-Match") or self.headers.get("If-Modified-Since")
                if outer.broken:
                    self.send_error(503)
                elif known and known in (outer.etag, outer.modified):
                    outer.same += 1
                    self.send_response(304)
                    self.end_headers()
                else:
                    outer.whole += 1
                    self.send_response(200)
                    for name, value in (("ETag", outer.etag), ("Last-Modified", outer.modified)):
                        if value:
                            self.send_header(name, value)
                    self.send_header("Content-Length", str(len(outer.data)))
                    self.end_headers()
                    self.wfile.write(outer.data[: len(outer.data) - outer.short])

            def log_message(self, format: str, *args: object) -> None:
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/points.csv"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def give(self, rows: int, *, etag: str = "", modified: str = "") -> None:
        """What it holds from now on."""
        self.data, self.etag, self.modified = table(rows).encode(), etag, modified


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.server.shutdown()
    made.server.server_close()
    made.thread.join()


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    return make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring")


def declare(toy: Toy, server: Server, said: str) -> None:
    """The server's file as the source."""
    yaml = YAML.replace("{path: incoming}", f'{{url: "{server.url}", {said}}}')
    toy.write("cdl.yaml", yaml + ROLES)


def make(toy: Toy) -> str:
    toy.said.clear()
    return versions.make(toy.become(DATA), "points")


def told(toy: Toy) -> list[str]:
    return [line for line in toy.said if line.startswith("changed outside")]


def sources(toy: Toy, version: str) -> list[str]:
    return [source.raw for source in toy.become(DATA).registry.record(Dataset, version).sources]


def test_a_pinned_file_is_fetched_once(toy: Toy, server: Server) -> None:
    server.give(30)
    sha = hashlib.sha256(server.data).hexdigest()
    declare(toy, server, f"sha256: {sha}")
    first = make(toy)
    assert (make(toy), server.whole) == (first, 1)
    toy.write("cdl.yaml", (toy.root / "cdl.yaml").read_text().replace("id: id, label", "id: id, text: x, label"))
    server.broken = True  # the file is read again, from the version that holds it
    assert make(toy) != first
    declare(toy, server, f"sha256: {'0' * 64}")
    server.broken = False
    with pytest.raises(ConfigError, match=sha):
        make(toy)


@pytest.mark.parametrize("said", [{"etag": '"one"'}, {"modified": "Mon, 02 Nov 2020 08:00:00 GMT"}])
def test_a_file_that_may_change_is_asked_for_and_not_fetched_again(
    toy: Toy, server: Server, said: dict[str, str]
) -> None:
    server.give(30, **said)
    declare(toy, server, "unpinned: true")
    first = make(toy)
    assert (make(toy), server.whole, server.same, told(toy)) == (first, 1, 1, [])
    assert not pending.pending(toy.become(DATA), "points")  # `cdl run` leaves it alone
    server.give(40, **{key: value.replace("one", "two").replace("02 Nov", "03 Nov") for key, value in said.items()})
    second = make(toy)
    assert second != first and server.whole == 2
    assert told(toy) == [f"changed outside: {server.url} (1 changed)"]
    assert (make(toy), server.whole, server.same) == (second, 2, 2)
    server.broken = True
    with pytest.raises(Unavailable, match="not fetched"):
        make(toy)


def test_equal_bytes_are_no_change_whatever_the_server_says(toy: Toy, server: Server) -> None:
    server.give(30)
    declare(toy, server, "unpinned: true")
    first = make(toy)
    assert (make(toy), server.whole) == (first, 2)  # nothing to ask with
    server.give(30, etag='W/"weak"')
    assert (make(toy), server.whole, server.same) == (first, 3, 0)
    assert (make(toy), server.whole, server.same) == (first, 4, 0)  # other bytes may have a weak one too
    server.give(30, etag='"strong"')
    assert make(toy) == first
    assert (make(toy), server.whole, server.same, told(toy)) == (first, 5, 1, [])


def test_what_was_not_fetched_is_read_from_the_version(toy: Toy, server: Server) -> None:
    server.give(30, etag='"one"')
    declare(toy, server, "unpinned: true")
    first = make(toy)
    toy.write("cdl.yaml", (toy.root / "cdl.yaml").read_text().replace("id: id, label", "id: id, text: x, label"))
    second = make(toy)
    assert second != first and server.whole == 1
    assert sources(toy, first) == sources(toy, second)
    (toy.root / ".cdl/looked/points.bin").unlink()  # as in another clone
    assert (make(toy), server.whole, told(toy)) == (second, 2, [])


def test_an_address_says_how_it_is_trusted(toy: Toy, server: Server) -> None:
    for said, wrong in (
        ("set: train", "either its sha256 or `unpinned`"),
        ("sha256: aa, unpinned: true", "either its sha256 or `unpinned`"),
    ):
        declare(toy, server, said)
        with pytest.raises(ConfigError, match=wrong):
            load(toy.root)
    text = (toy.root / "cdl.yaml").read_text()
    for source, wrong in (
        ("url: http://example.org/a, unpinned: true", "by http"),
        ("path: a, unpinned: true", "only a"),
    ):
        with pytest.raises(ConfigError, match=wrong):
            parse(text.replace(f'url: "{server.url}", sha256: aa, unpinned: true', source).encode(), where="cdl.yaml")


def test_a_download_that_is_cut_is_found_and_leaves_nothing(toy: Toy, server: Server) -> None:
    server.give(30)
    for said in ("unpinned: true", f"sha256: {hashlib.sha256(server.data[:-1]).hexdigest()}"):
        server.short = 1
        declare(toy, server, said)
        size = len(server.data)
        with pytest.raises(Unavailable, match=f"points.csv: it broke off after {size - 1} of {size} bytes"):
            make(toy)
        assert not [*(toy.root / ".cdl/fetched").iterdir()]
    server.short = 0
    declare(toy, server, "unpinned: true")
    assert make(toy) and not [*(toy.root / ".cdl/fetched").iterdir()]


def test_a_download_goes_to_a_file_as_it_comes_within_its_limit(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    server.data = bytes(50_000)
    monkeypatch.setattr(downloads, "BLOCK", 1000)
    monkeypatch.setattr(downloads, "SAY_SECONDS", -1.0)
    answer = downloads.download(server.url, tmp_path / "file", tell=said.append)
    assert (tmp_path / "file").read_bytes() == server.data and answer.size == 50_000
    assert answer.sha256 == hashlib.sha256(server.data).hexdigest()
    assert len(said) == 50 and said[9] == f"{server.url}: 0.0 of 0.1 MB came"
    monkeypatch.setattr(downloads, "LARGEST", 20_000)
    with pytest.raises(ConfigError, match="more than 20000 bytes"):
        downloads.download(server.url, tmp_path / "second", tell=said.append)
    assert (tmp_path / "second").stat().st_size <= 20_000
