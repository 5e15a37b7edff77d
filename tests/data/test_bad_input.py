"""Sources as the world has them: what cannot be taken in is one error that names the place, what is wrong, and the remedy.

Each goes through the whole pipeline, and nothing is committed. Links, archives and sources that are not there are also in
test_sources.py, test_walk.py and in the acceptance tests.
"""

import gzip
import io
import lzma
import os
import re
import socket
import struct
import sys
import tarfile
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cdl.config.schema import Arrays, Items
from cdl.data import versions
from cdl.data.dataset import dataset_record
from cdl.data.items import formats
from cdl.data.items.kinds import judge
from cdl.errors import ConfigError, Unavailable
from cdl.pages.shown import brief, brief_text, picture
from cdl.registry.records import DatasetHead
from cdl.report.axis import short
from tests.data.archives import read_archive
from tests.projects import DATA, Toy, make_toy

YAML = """\
cdl: 1
project: toy
data:
  points:
    source: {path: incoming}
    items: ITEMS
    labels: {classes: [left, right]}
"""
FILES, CSV, JSONL, PARQUET = (
    "{files: '*'}",
    "{rows: {format: csv, id: id, text: body}}",
    "{rows: {format: jsonl, id: id}}",
    "{rows: {format: parquet, id: id}}",
)
ARRAYS = "{arrays: {data: images}}"
IMAGES = np.zeros((2, 3, 3), dtype=np.uint8)
IDX = struct.pack(">HBBIII", 0, 8, 3, *IMAGES.shape) + IMAGES.tobytes()


@dataclass(frozen=True)
class Case:
    """How items are declared, what is put into the folder of the source, and what is said."""

    items: str
    put: Callable[[Path], object]
    says: str


def write(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(data)


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=IMAGES, b=IMAGES)
    return buffer.getvalue()


def npy(shape: tuple[int, ...], data: bytes) -> bytes:
    """A file of numpy that announces a shape, and holds whatever it holds."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue() + data


def parquet() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"id": ["a", "b"], "n": [1, 2]}), buffer)
    return buffer.getvalue()


def broken_page() -> bytes:
    """A table whose footer is right, and whose values are not."""
    whole = parquet()
    return whole[:4] + b"\xff" * 60 + whole[64:]


def folder_named_like_bytes(folder: Path) -> None:
    os.mkdir(os.fsencode(folder) + b"/caf\xe9")
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9/a.txt")).write_bytes(b"x")


def escaping_tape(folder: Path) -> None:
    with zipfile.ZipFile(folder / "p.zip", "w") as pack:
        pack.writestr("a/../../b.txt", "x")


def unix_socket(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / "s"))


CASES = {
    "no item among the files": Case("{files: '*.png'}", write("a.txt", b"x"), r"the sources hold no item\n.*: \*\.png"),
    "a table without rows": Case(CSV, write("t.csv", b"id,body\n"), r"data\.points: the sources hold no item\n.*rows or arrays"),
    "an empty table": Case(CSV, write("t.csv", b""), r"data\.points: the sources hold no item"),
    "an array without entries": Case(ARRAYS, write("images", npy((0, 3), b"")), r"data\.points: the sources hold no item"),
    "a name that is not UTF-8": Case(FILES, write(os.fsdecode(b"caf\xe9.txt"), b"x"), r"caf.*: its name is not UTF-8\n.*rename"),
    "a folder whose name is not UTF-8": Case(FILES, folder_named_like_bytes, r"caf.*: its name is not UTF-8\n.*rename"),
    "a link that leads out": Case(
        FILES, lambda f: (f / "l").symlink_to("/etc/passwd"), r"incoming/l: a symbolic link leads out of the source\n.*remove"
    ),
    "a link to a folder out of the source": Case(
        FILES, lambda f: (f / "l").symlink_to(f.parent), r"incoming/l: a symbolic link leads out of the source\n.*remove"
    ),
    "a link to itself": Case(FILES, lambda f: (f / "l").symlink_to("l"), r"incoming/l: a symbolic link to nothing\n.*remove"),
    "a pipe": Case(FILES, lambda f: os.mkfifo(f / "p"), r"incoming/p: neither a file nor a folder\n.*remove"),
    "a socket": Case(FILES, unix_socket, r"incoming/s: neither a file nor a folder\n.*remove"),
    "a link to a device": Case(
        FILES, lambda f: (f / "l").symlink_to("/dev/null"), r"incoming/l: a symbolic link leads out of the source"
    ),
    "IDX with another magic": Case(
        ARRAYS, write("images", b"\0\0\7" + IDX[3:]), r"images: neither npy, npz nor IDX\n.*magic number"
    ),
    "IDX that ends too soon": Case(
        ARRAYS, write("images", IDX[:-1]), r"images: 17 bytes of values, 18 announced\n.*fetch the file again"
    ),
    "IDX that is too long": Case(ARRAYS, write("images", IDX + b"\0"), r"images: 19 bytes of values, 18 announced"),
    "IDX that ends in its header": Case(ARRAYS, write("images", IDX[:9]), r"images: 0 bytes of values, \d+ announced"),
    "IDX that announces more than there is memory": Case(
        ARRAYS, write("images", b"\0\0\x0e\x08" + b"\xff" * 32), r"images: 0 bytes of values, \d+ announced"
    ),
    "npy that announces more than there is memory": Case(
        ARRAYS, write("images", npy((1 << 40,), b"x")), r"images: not an array: 1099511627776 bytes of values announced"
    ),
    "two arrays and none named": Case(
        ARRAYS, write("images", npz()), r'images: 2 arrays: a, b\n  name one: "images#a"'
    ),
    "a gzip file that ends too soon": Case(ARRAYS, write("images", gzip.compress(IDX)[:-6]), r"images: not gzip: .*\n.*again"),
    "a gzip file that unpacks to too much": Case(
        ARRAYS, write("images", gzip.compress(bytes(60_000_000))), r"images: more than \d+ bytes unpacked from \d+\n.*yourself"
    ),
    "CSV with NUL bytes": Case(CSV, write("t.csv", b"id,body\n1,a\n2,\0b\n"), r"t\.csv: line 3: a NUL byte\n.*UTF-8"),
    "CSV with a row too short": Case(CSV, write("t.csv", b"id,body\n1,a\n2\n"), r"t\.csv: line 3: another number of c.*\n.*row"),
    "CSV with a row too long": Case(CSV, write("t.csv", b"id,body\n1,a,b\n"), r"t\.csv: line 2: another number of columns"),
    "CSV with a quote left open": Case(CSV, write("t.csv", b'id,body\n1,"a\n'), r"t\.csv: line 2: not CSV: .*\n.*row"),
    "CSV with a column twice": Case(CSV, write("t.csv", b"id,body,id\n1,a,2\n"), r"t\.csv: line 1: two columns 'id'\n.*name"),
    "CSV without an id": Case(CSV, write("t.csv", b"id,body\n1,a\n,b\n"), r"t\.csv: row 2: a row without an id\n.*own id"),
    "an id twice": Case(CSV, write("t.csv", b"id,body\n1,a\n1,b\n"), r"1: an item stands twice\n.*own name or id"),
    "CSV in Latin-1": Case(CSV, write("t.csv", b"id,body\n1,caf\xe9\n"), r"t\.csv: byte 13: not UTF-8\n.*UTF-8"),
    "JSONL with a broken line": Case(
        JSONL, write("t.jsonl", b'{"id": 1}\n{"id": 2,\n'), r"t\.jsonl: line 2: not JSON: .*\n.*one object a line"
    ),
    "JSONL with a list": Case(JSONL, write("t.jsonl", b"[1]\n"), r"t\.jsonl: line 1: not JSON: no object"),
    "JSONL with no number": Case(JSONL, write("t.jsonl", b'{"id": 1, "n": NaN}\n'), r"line 1: not JSON: NaN is no number"),
    "JSONL with half a character": Case(JSONL, write("t.jsonl", b'{"id": 1, "n": "\\ud800"}\n'), r"t\.jsonl: line 1: not JSON: "),
    "JSONL with a number beyond 64 bits": Case(
        JSONL, write("t.jsonl", b'{"id": 1, "n": %d}\n' % (1 << 70)), r"t\.jsonl: line 1: not JSON: a number beyond 64 bits"
    ),
    "JSONL nested without end": Case(
        JSONL, write("t.jsonl", b'{"id": 1, "n": ' + b"[" * 200_000 + b"\n"), r"t\.jsonl: line 1: not JSON: "
    ),
    "JSONL without the id": Case(JSONL, write("t.jsonl", b'{"di": 1}\n'), r"t\.jsonl: row 1: no column 'id'\n.*there are: di"),
    "JSONL with a key twice": Case(
        JSONL, write("t.jsonl", b'{"id": 1, "n": 1, "n": 2}\n'), r"t\.jsonl: line 1: not JSON: the key 'n' stands twice"
    ),
    "JSONL with a number beyond a float": Case(
        JSONL, write("t.jsonl", b'{"id": 1, "n": 1e999}\n'), r"t\.jsonl: line 1: not JSON: 1e999 is beyond what a number holds"
    ),
    "JSONL with a number of many digits": Case(
        JSONL, write("t.jsonl", b'{"id": 1, "n": %s}\n' % (b"9" * 5000)), r"t\.jsonl: line 1: not JSON: a number beyond 64 bits"
    ),
    "JSONL with a map as id": Case(
        JSONL, write("t.jsonl", b'{"id": 1}\n{"id": {"a": 1}}\n'), r"t\.jsonl: row 2: an id that is a list or a map"
    ),
    "npy of entries without a value": Case(
        ARRAYS, write("images", npy((1 << 40, 0), b"")), r"images: 1099511627776 entries without a value\n.*at least one"
    ),
    "IDX of entries without a value": Case(
        ARRAYS, write("images", b"\0\0\x08\2\xff\xff\xff\xff\0\0\0\0"), r"images: 4294967295 entries without a value"
    ),
    "no Parquet": Case(PARQUET, write("t.parquet", b"id,body\n1,a\n"), r"t\.parquet: not a readable Parquet file: .*\n.*again"),
    "Parquet with a broken footer": Case(
        PARQUET, write("t.parquet", parquet()[:-20] + b"\xff" * 12 + parquet()[-8:]), r"t\.parquet: not a readable Parquet file"
    ),
    "Parquet without its end": Case(PARQUET, write("t.parquet", parquet()[:-9]), r"t\.parquet: not a readable Parquet file"),
    "Parquet with broken values": Case(PARQUET, write("t.parquet", broken_page()), r"t\.parquet: not a readable Parquet file"),
    "an empty Parquet file": Case(PARQUET, write("t.parquet", b""), r"t\.parquet: not a readable Parquet file"),
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """A project that declares a dataset, and its key."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        return make_toy(folder / "toy", patch, folder / "keyring", yaml=YAML.replace("ITEMS", FILES))


@pytest.fixture
def toy(made: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """A copy of it, with an empty folder for the source."""
    monkeypatch.setenv("CDL_KEYRING", str(made.root.parent / "keyring"))
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, "/dev/null")
    copy = made.copy(tmp_path / "toy")
    (copy.root / "incoming").mkdir(exist_ok=True)
    return copy


@pytest.mark.parametrize("name", CASES)
def test_it_is_named_and_no_version_is_made(toy: Toy, name: str) -> None:
    case = CASES[name]
    toy.write("cdl.yaml", YAML.replace("ITEMS", case.items))
    case.put(toy.root / "incoming")
    workspace = toy.become(DATA)
    commit = workspace.git.head()
    with pytest.raises(ConfigError, match=case.says) as caught:
        versions.make(workspace, "points")
    assert caught.value.remedy and caught.value.where
    assert workspace.git.head() == commit and workspace.registry.head(DatasetHead, "points") is None


@pytest.mark.parametrize(
    "name",
    ["a\nb.txt", "n" * 255, "ä" * 127, " ", "-rf", "a\tb\r.txt", "\x1b[31m.txt", "a\\..\\b", "\u202egpj.exe", "#0", "a:b?*|<>"],
    ids=ascii,
)  # fmt: skip
def test_every_name_that_a_folder_can_hold_is_taken_in(toy: Toy, name: str) -> None:
    (toy.root / "incoming" / name).write_bytes(b"x")
    workspace = toy.become(DATA)
    record = dataset_record(workspace, versions.make(workspace, "points"))
    assert sum(record.items.values()) == 1
    raw = workspace.vault("points", by="test").tree(record.sources[0].raw)
    assert list(raw.names) == [name] and raw.get(name) == b"x"
    toy.cdl(DATA, "data", "checkout", "--to", str(toy.root / "back"))
    assert (toy.root / "back" / "incoming" / name).read_bytes() == b"x"


def test_an_archive_whose_member_leaves_the_folder_is_refused(toy: Toy) -> None:
    escaping_tape(toy.root / "incoming")
    toy.write("cdl.yaml", YAML.replace("ITEMS", FILES).replace("path: incoming", "path: incoming/p.zip"))
    with pytest.raises(
        ConfigError, match=r"incoming/p\.zip: a member's path escapes: 'a/\.\./\.\./b\.txt'\n.*relative names"
    ):
        versions.make(toy.become(DATA), "points")
    assert not (toy.root.parent / "b.txt").exists()


def tape(*members: tuple[str, bytes, bytes]) -> bytes:
    """A tar archive of members: name, type, content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as pack:
        for name, kind, content in members:
            told = tarfile.TarInfo(name)
            told.type, told.size = kind, len(content)
            pack.addfile(told, io.BytesIO(content))
    return buffer.getvalue()


def zipped(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as pack:
        pack.writestr("a", content)
    return buffer.getvalue()


ONE = tape(("a", tarfile.REGTYPE, b"x" * 600))
TAPES = {
    "not one": (b"junk" * 1000, r"t: not a readable archive: file could not be opened successfully$"),
    "a device": (tape(("d", tarfile.CHRTYPE, b"")), "t: d: a member that is no regular file$"),
    "a gzip checksum that is wrong": (
        gzip.compress(ONE)[:-8] + bytes(8),
        "t: not a readable archive: CRC check failed",
    ),
    "a gzip file without its end": (gzip.compress(ONE)[:-6], "t: not a readable archive: Compressed file ended"),
    "an xz file without its end": (lzma.compress(ONE)[:-20], "t: not a readable archive: Compressed file ended"),
    "an xz file with a flipped bit": (lzma.compress(ONE)[:-1] + b"x", "t: not a readable archive: Corrupt input"),
    "zeros behind the last member": (gzip.compress(ONE + bytes(60_000_000)), "t: unpacks to too much"),
}


@pytest.mark.parametrize("name", TAPES)
def test_an_archive_that_is_not_whole_is_named(name: str) -> None:
    data, says = TAPES[name]
    with pytest.raises(ConfigError) as caught:
        read_archive("t", data)
    assert re.match(says, str(caught.value).partition("\n")[0]) and caught.value.remedy


@pytest.mark.parametrize(
    "pack", [gzip.compress(tape(("a", tarfile.REGTYPE, bytes(60_000_000)))), zipped(bytes(60_000_000))]
)
def test_a_member_that_unpacks_to_too_much_is_not_unpacked(pack: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match="t: a: unpacks to too much"):
            read_archive("t", pack)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_an_image_of_more_pixels_than_its_library_likes_is_told_of_quietly() -> None:
    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = part(b"IHDR", struct.pack(">IIBBBBB", 10_000, 10_000, 1, 0, 0, 0, 0))
    png = b"\x89PNG\r\n\x1a\n" + head + part(b"IDAT", zlib.compress(b"x")) + part(b"IEND", b"")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert judge(png, "image").faults == ("no readable image",)
        assert picture(png) is None
    assert picture(npy((1 << 40, 2), b"")) is None


def test_a_source_may_lie_outside_of_the_project(toy: Toy) -> None:
    (toy.root.parent / "beside").mkdir()
    (toy.root.parent / "beside" / "a.txt").write_bytes(b"x")
    toy.write("cdl.yaml", YAML.replace("ITEMS", FILES).replace("path: incoming", "path: ../beside"))
    workspace = toy.become(DATA)
    assert sum(dataset_record(workspace, versions.make(workspace, "points")).items.values()) == 1


def test_a_blank_line_among_lines_of_json_is_no_row(toy: Toy) -> None:
    toy.write("cdl.yaml", YAML.replace("ITEMS", JSONL))
    (toy.root / "incoming" / "t.jsonl").write_bytes(b'{"id": 1}\n \n{"id": 2}\n\n')
    workspace = toy.become(DATA)
    assert sum(dataset_record(workspace, versions.make(workspace, "points")).items.values()) == 2


def test_a_file_that_may_not_be_read_is_named(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read everything, so opening is what fails here: the error of the system is the same."""
    place = toy.root / "incoming" / "a.txt"
    place.write_bytes(b"x")
    place.chmod(0)
    if os.access(place, os.R_OK):
        monkeypatch.setattr("cdl.data.sources.files.os.open", _closed(place, os.open))
    with pytest.raises(ConfigError, match=r"incoming/a\.txt: it may not be read\n.*chmod u\+r"):
        versions.make(toy.become(DATA), "points")


def _closed(place: Path, real: Callable[..., int]) -> Callable[..., int]:
    def opened(path: str | os.PathLike[str], *arguments: int, **named: int) -> int:
        if os.fspath(path) == str(place):
            raise PermissionError(13, "Permission denied", str(place))
        return real(path, *arguments, **named)

    return opened


def test_parquet_without_its_package_names_the_extra(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.write("cdl.yaml", YAML.replace("ITEMS", PARQUET))
    (toy.root / "incoming" / "t.parquet").write_bytes(parquet())
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(Unavailable, match=r"pyarrow is not installed\n.*\[parquet\]"):
        versions.make(toy.become(DATA), "points")


def test_what_is_unpacked_is_never_held_beyond_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = gzip.GzipFile.read

    def read(file: gzip.GzipFile, size: int | None = -1) -> bytes:
        data = real(file, size)
        seen.append(len(data))
        return data

    monkeypatch.setattr(gzip.GzipFile, "read", read)
    bomb = gzip.compress(bytes(200_000_000), compresslevel=1)
    with pytest.raises(ConfigError, match="unpacked"):
        formats.read_items({"images": bomb}, Items(arrays=Arrays(data="images")))
    assert sum(seen) < 190_000_000 and max(seen) <= 1 << 20


def test_of_a_long_value_a_page_shows_the_beginning_and_looks_at_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []

    def visible(text: str) -> str:
        looked.append(len(text))
        return text

    monkeypatch.setattr("cdl.report.axis.visible", visible)
    cut = short("a" * 5_000_000 + "z", 100)
    assert cut.startswith("aaa") and cut.endswith("z") and "…" in cut and max(looked) < 10_000
    assert brief_text(b"word " * 1_000_000).endswith("…") and len(brief_text(b"word " * 1_000_000)) == 160
    assert brief_text(b" " * 1_000_000) == "…" and brief_text(b"a\n b") == "a b" and brief(1e9) == 1e9
