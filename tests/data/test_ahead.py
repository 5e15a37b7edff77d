"""Reading ahead in threads: only where reading was seen to be slow, never too far, and with the same outcome."""

import threading
import time
from pathlib import Path

import pytest

from cdl.config.schema import Source
from cdl.data.sources import ahead
from cdl.data.sources.fetch import fetched
from cdl.data.sources.files import Folder
from cdl.errors import ConfigError

HELD = {f"{n:03d}": b"content %d" % n for n in range(120)}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Each file that was read, and whether by the thread that asks."""
    found: list[tuple[str, bool]] = []
    real, asking = Folder._read, threading.current_thread()

    def read(folder: Folder, name: str, place: int) -> bytes:
        found.append((name, threading.current_thread() is asking))
        return real(folder, name, place)

    monkeypatch.setattr(Folder, "_read", read)
    monkeypatch.setattr(ahead, "TRIED", 10)
    monkeypatch.setattr(ahead, "AHEAD", 20)
    monkeypatch.setattr(ahead, "SLOW_SECONDS", -1.0)  # so that every disk is slow
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for name, data in HELD.items():
        (tmp_path / "in" / name).write_bytes(data)
    return tmp_path


def test_where_it_is_quick_no_thread_reads(
    root: Path, reads: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "SLOW_SECONDS", 3600.0)
    with fetched(Source(path="in"), root) as files:
        files.expect(files)
        assert dict(files) == HELD
    assert reads == [(name, True) for name in HELD]


def test_where_it_is_slow_each_file_is_read_once_by_others(root: Path, reads: list[tuple[str, bool]]) -> None:
    with fetched(Source(path="in"), root) as files:
        files.expect(name for name in files if name != "050")
        assert dict(files) == HELD
        assert not [
            thread for thread in threading.enumerate() if thread.name.startswith("read")
        ]  # they ended with the last
    assert sorted(name for name, _ in reads) == [*HELD]
    assert [name for name, own in reads if own] == [*[*HELD][:10], "050"]  # those that were timed, and one not expected


def test_several_are_read_at_once_and_never_too_far(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "TRIED", 10)
    monkeypatch.setattr(ahead, "AHEAD", 20)
    monkeypatch.setattr(ahead, "SLOW_SECONDS", -1.0)
    monkeypatch.setattr(ahead, "SMALL_BYTES", 100)
    (root / "in/012").write_bytes(bytes(101))
    together = threading.Barrier(5, timeout=60)  # broken unless five are read at once
    begun: list[str] = []
    real = Folder._read

    def read(folder: Folder, name: str, place: int) -> bytes:
        begun.append(name)
        if name in [*HELD][13:18]:
            together.wait()
        return real(folder, name, place)

    monkeypatch.setattr(Folder, "_read", read)
    with fetched(Source(path="in"), root) as files:
        files.expect(files)
        assert [files[name] for name in [*HELD][:10]] == [*HELD.values()][:10]
        assert files["013"] == HELD["013"]  # which passes over others
        for _ in range(600):
            if len(begun) >= 33:
                break
            time.sleep(0.1)
        assert sorted(begun) == [name for name in [*HELD][:34] if name != "012"]


def test_a_file_that_changes_is_told_when_it_is_asked_for(root: Path, reads: list[tuple[str, bool]]) -> None:
    with fetched(Source(path="in"), root) as files:
        files.expect(files)
        (root / "in/015").write_bytes(b"another")
        (root / "in/016").unlink()
        for name in HELD:
            if name in ("015", "016"):
                with pytest.raises(ConfigError, match="while the source was read"):
                    files[name]
            else:
                assert files[name] == HELD[name]
