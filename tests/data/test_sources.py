import hashlib
import io
import os
import random
import sys
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from cdl.config.schema import Source
from cdl.data.sources.archive import FREE, RATIO, unpacked
from cdl.data.sources.fetch import check_names, fetched
from cdl.errors import ConfigError, JobFailed, Unavailable
from cdl.store import chunk
from tests.data.archives import read_archive


def fetch(source: Source, root: Path) -> dict[str, bytes]:
    """The files of a source, all read."""
    with fetched(source, root) as files:
        check_names(source, files)
        return dict(files)


def zipped(members: dict[str, bytes], link: str | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, data in members.items():
            pack.writestr(name, data)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = 0o120777 << 16
            pack.writestr(info, "/etc/passwd")
    return buffer.getvalue()


def test_a_folder_a_file_an_archive_and_a_command_give_files_by_name(tmp_path: Path) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "sub" / "a.txt").write_bytes(b"one")
    (tmp_path / "in" / ".hidden").write_bytes(b"no")
    assert fetch(Source(path="in"), tmp_path) == {"sub/a.txt": b"one"}
    (tmp_path / "t.csv").write_bytes(b"x")
    assert fetch(Source(path="t.csv"), tmp_path) == {"t.csv": b"x"}
    (tmp_path / "p.zip").write_bytes(zipped({"a/b.txt": b"two"}))
    assert fetch(Source(path="p.zip"), tmp_path) == {"a/b.txt": b"two"}
    with tarfile.open(tmp_path / "p.tar.gz", "w:gz") as tape:
        tape.add(tmp_path / "in", arcname=".")
    assert fetch(Source(path="p.tar.gz"), tmp_path) == {"sub/a.txt": b"one", ".hidden": b"no"}
    code = "import os, pathlib; pathlib.Path(os.environ['CDL_OUT'], 'x').write_text('three')"
    assert fetch(Source(command=[sys.executable, "-c", code]), tmp_path) == {"x": b"three"}


def test_an_address_must_have_its_hash(tmp_path: Path) -> None:
    (tmp_path / "d.bin").write_bytes(b"data")
    url, good = (tmp_path / "d.bin").as_uri(), hashlib.sha256(b"data").hexdigest()
    assert fetch(Source(url=url, sha256=good), tmp_path) == {"d.bin": b"data"}
    with pytest.raises(ConfigError, match=good):
        fetch(Source(url=url, sha256="0" * 64), tmp_path)
    with pytest.raises(Unavailable, match="not fetched"):
        fetch(Source(url=url + "x", sha256=good), tmp_path)
    with pytest.raises(ConfigError, match="neither http"):
        fetch(Source(url="gopher://x", sha256=good), tmp_path)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "a//b", "a\\..\\x/../y"])
def test_a_member_that_escapes_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match="escapes"):
        read_archive("p.zip", zipped({"ok": b"", name: b"x"}))


def test_links_bombs_and_broken_archives_are_refused() -> None:
    with pytest.raises(ConfigError, match="no regular file"):
        read_archive("p.zip", zipped({}, link="l"))
    with pytest.raises(ConfigError, match="too much"):
        read_archive("p.zip", zipped({f"{i}": bytes(9_000_000) for i in range(3)}))
    with pytest.raises(ConfigError, match="not a readable archive"):
        read_archive("p.zip", zipped({"a": b"x" * 99})[:-30])
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tape:
        info = tarfile.TarInfo("dev")
        info.type = tarfile.CHRTYPE
        tape.addfile(info)
    with pytest.raises(ConfigError, match="no regular file"):
        read_archive("p.tar", buffer.getvalue())


def test_an_archive_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    drawn = random.Random(5)
    members = {f"{number:02d}": drawn.randbytes(2_000_000) for number in range(15)}
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as pack:
        for name, data in members.items():
            pack.writestr(name, data)
    with tarfile.open(tmp_path / "p.tar.gz", "w:gz", compresslevel=1) as tape:
        for name, data in sorted(members.items(), reverse=True):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tape.addfile(info, io.BytesIO(data))
    digests = {name: hashlib.sha256(data).digest() for name, data in members.items()}
    del members
    for name in ("p.zip", "p.tar.gz"):
        sha = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        for source in (Source(path=name), Source(url=(tmp_path / name).as_uri(), sha256=sha)):
            tracemalloc.start()
            with fetched(source, tmp_path, folder=tmp_path / ".cdl") as files:
                assert {each: hashlib.sha256(files[each]).digest() for each in files} == digests
                assert [*files] == sorted(digests)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < 12_000_000
            assert not [*(tmp_path / ".cdl/fetched").iterdir()]


def test_what_a_killed_run_left_goes(tmp_path: Path) -> None:
    left = tmp_path / ".cdl/fetched/cdl-source-killed"
    left.mkdir(parents=True)
    for name in ("held", "download"):
        (left / name).write_bytes(b"x")
        os.utime(left / name, (1, 1))
    (tmp_path / "p.zip").write_bytes(zipped({"a": b"x"}))
    with fetched(Source(path="p.zip"), tmp_path, folder=tmp_path / ".cdl") as files:
        assert dict(files) == {"a": b"x"} and not left.exists()


def test_a_bomb_is_stopped_before_it_takes_the_disk(tmp_path: Path) -> None:
    bomb = io.BytesIO()
    with tarfile.open(fileobj=bomb, mode="w:gz") as tape:
        for number in range(30):
            info = tarfile.TarInfo(str(number))
            info.size = 4_000_000
            tape.addfile(info, io.BytesIO(bytes(info.size)))
    with pytest.raises(ConfigError, match="unpacks to too much"):
        unpacked("p.tar.gz", bomb, tmp_path / "unpacked")
    assert (tmp_path / "unpacked").stat().st_size <= FREE + RATIO * len(bomb.getvalue())


def test_a_large_member_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk, "CHUNKED_BYTES", 5_000_000)
    data = random.Random(7).randbytes(12_000_000)
    (tmp_path / "p.zip").write_bytes(zipped({"a": b"a" * 1000, "large": data, "z": b"z"}))
    with fetched(Source(path="p.zip"), tmp_path, folder=tmp_path / ".cdl") as files:
        large = files.large("large")
        assert large is not None and files.large("a") is None
        assert large.cuts().hash == chunk.cuts(memoryview(data)).hash
        assert large.read(11_999_990, 100) == data[-10:] and large.read(5, 3) == data[5:8]
        assert files["large"] == data and files["z"] == b"z" and files.size("large") == len(data)


def test_missing_empty_and_links_out_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file or folder"):
        fetch(Source(path="none"), tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="empty"):
        fetch(Source(path="empty"), tmp_path)
    (tmp_path / "empty" / "l").symlink_to("/etc/passwd")
    with pytest.raises(ConfigError, match="leads out"):
        fetch(Source(path="empty"), tmp_path)


def test_a_command_that_fails_says_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="no luck"):
        fetch(Source(command=[sys.executable, "-c", "import sys; sys.exit('so\\nno luck')"]), tmp_path)
    with pytest.raises(ConfigError, match="no such program"):
        fetch(Source(command=["no-such-program-here"]), tmp_path)


def test_a_name_that_no_text_can_hold_is_named(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/in/caf\xe9.txt"))).write_bytes(b"x")
    with pytest.raises(ConfigError, match="not UTF-8") as caught:
        fetch(Source(path="in"), tmp_path)
    assert "caf" in (caught.value.where or "") and (caught.value.where or "").isascii()
