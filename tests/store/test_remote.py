"""Remotes: a folder and a bucket give the same answers, and say so when they cannot."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cdl.errors import ConfigError, Corrupt, NotFound, Unavailable
from cdl.store.opening import open_remote
from cdl.store.remote import Remote
from tests.s3 import Unreliable, of_server, s3_server


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture(params=["folder", "bucket"])
def remote(
    request: pytest.FixtureRequest, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Remote]:
    """An empty remote of each kind."""
    if request.param == "folder":
        (tmp_path / "shared").mkdir()
        yield open_remote("shared", root=tmp_path)
    else:
        for name, value in of_server(server).items():
            monkeypatch.setenv(name, value)
        yield open_remote(f"s3://team/{tmp_path.name}", root=tmp_path)


def test_what_is_put_is_there_whole_and_again_over_what_was(remote: Remote) -> None:
    assert remote.get("objects/3f/2a") is None
    remote.put("objects/3f/2a", b"one")
    remote.put("objects/3f/2a", b"two")
    remote.put("objects/91/c0", memoryview(bytes(6_000_000)))
    assert remote.get("objects/3f/2a") == b"two" and remote.get("objects/91/c0") == bytes(6_000_000)
    assert {(h.name, h.size) for h in remote.held("objects/")} == {("objects/3f/2a", 3), ("objects/91/c0", 6_000_000)}
    assert remote.folders("objects/") == ["3f", "91"] and remote.folders("nothing/") == []
    assert list(remote.held("nothing/")) == []


def test_a_name_is_taken_once(remote: Remote) -> None:
    with ThreadPoolExecutor(8) as threads:
        got = list(threads.map(lambda n: remote.create("claims/t/1", f"clone {n}".encode()), range(8)))
    assert got.count(True) == 1
    assert remote.get("claims/t/1") == f"clone {got.index(True)}".encode()
    assert not remote.create("claims/t/1", b"another")


def test_what_is_deleted_is_gone_and_may_be_deleted_twice(remote: Remote) -> None:
    remote.put("objects/3f/2a", b"one")
    remote.delete("objects/3f/2a")
    remote.delete("objects/3f/2a")
    assert remote.get("objects/3f/2a") is None and list(remote.held("objects/")) == []


def test_reading_beside_writing_gives_whole_bytes(remote: Remote) -> None:
    values = [bytes([n]) * 40_000 for n in (1, 2)]
    remote.put("claims/x", values[0])
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for value in values:
                remote.put("claims/x", value)

    with ThreadPoolExecutor(1) as threads:
        writer = threads.submit(write)
        try:
            assert all(remote.get("claims/x") in values for _ in range(40))
        finally:
            stop.set()
            writer.result()


def test_a_folder_refuses_a_name_that_leads_out(tmp_path: Path) -> None:
    remote = open_remote(str(tmp_path), root=tmp_path)
    for name in ("../x", "/etc/x", "a/../../x", "a//b"):
        with pytest.raises(Corrupt, match="not a normalized relative path"):
            remote.put(name, b"")


def test_a_bucket_that_fails_some_requests_loses_nothing_and_one_that_is_gone_is_named(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = Unreliable(server, each=3)
    try:
        for name, value in of_server(way.address).items():
            monkeypatch.setenv(name, value)
        remote = open_remote("s3://team/unreliable", root=tmp_path)
        for number in range(30):
            remote.put(f"objects/aa/{number}", str(number).encode())
            assert remote.create(f"claims/{number}", b"mine")
        assert [remote.get(f"objects/aa/{n}") for n in range(30)] == [str(n).encode() for n in range(30)]
        assert way.failed >= 30
        way.gone = True
        monkeypatch.setattr("cdl.store.client.RETRIES", 2)
        with pytest.raises(Unavailable, match="cannot be reached") as error:
            open_remote("s3://team/unreliable", root=tmp_path).get("objects/aa/1")
        assert error.value.where == "s3://team/unreliable"
        way.gone = False
        assert remote.get("objects/aa/1") == b"1"
    finally:
        way.close()


def test_credentials_come_from_the_usual_files_too(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "credentials").write_text("[team]\naws_access_key_id = test\naws_secret_access_key = test\n")
    (tmp_path / "config").write_text(f"[profile team]\nregion = us-east-1\nendpoint_url = {server}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "team")
    remote = open_remote("s3://team/files", root=tmp_path)
    remote.put("objects/x", b"1")
    assert remote.get("objects/x") == b"1"
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(NotFound, match="no profile 'nobody'"):
        open_remote("s3://team/files", root=tmp_path).get("objects/x")


@pytest.mark.parametrize("place", ["ftp://x/y", "s3://", "s3://key@bucket/x", "file://host/x"])
def test_a_place_that_is_none_is_named(place: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="place|bucket"):
        open_remote(place, root=tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="not there"):
        open_remote("nowhere", root=tmp_path)
