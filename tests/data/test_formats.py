import datetime
import gzip
import io
import json
import struct
from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cdl.config.schema import Arrays, Items, Rows
from cdl.data.items.arrays import array_or_bytes, read_array, stacked
from cdl.data.items.formats import read_items
from cdl.data.items.listed import Listed
from cdl.errors import ConfigError

CSV = Items(rows=Rows(format="csv", id="id", text="body", label="class"))
IMAGES = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


def idx(values: np.ndarray, magic: int = 0x08) -> bytes:
    shape = struct.pack(f">{values.ndim}I", *values.shape)
    return bytes([0, 0, magic, values.ndim]) + shape + values.tobytes()


def npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def parquet(columns: Mapping[str, object]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def told(listed: Listed) -> list[tuple[str, bytes, Mapping[str, object], str | None]]:
    """Each item: name, content, fields, label."""
    places = range(len(listed))
    return [(listed.names[i], listed.content(i), listed.fields(i), listed.labels[i]) for i in places]


class Watched(Mapping[str, bytes]):
    """Files that are read when asked for; which were."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files, self.read = files, list[str]()

    def __getitem__(self, name: str) -> bytes:
        self.read.append(name)
        return self._files[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def test_a_file_is_read_when_its_content_is_asked_for_and_no_sooner() -> None:
    files = Watched({"b.txt": b"two", "a.txt": b"one", "c.md": b""})
    found = read_items(files, Items(files="*.txt"))
    assert found.names == ["a.txt", "b.txt"] and len(found) == 2 and files.read == []
    assert found.content(1) == found.content(1) == b"two" and files.read == ["b.txt", "b.txt"]
    table = Watched({"t.csv": b"id,body,class\n1,a,x\n2,b,y\n"})
    rows = read_items(table, CSV)
    assert [rows.content(0), rows.content(1)] == [b"a", b"b"] and table.read == ["t.csv"]
    array = Watched({"i": npy(IMAGES)})
    entries = read_items(array, Items(arrays=Arrays(data="i")))
    assert entries.content(1) == npy(IMAGES[1]) and entries.content(0) == npy(IMAGES[0]) and array.read == ["i"]


@pytest.mark.parametrize("kind", ["u1", ">i2", "<f4", "?"])
@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 3, 4)])
def test_an_entry_is_what_numpy_saves_of_it(kind: str, shape: tuple[int, ...]) -> None:
    values = np.asfortranarray(np.arange(int(np.prod(shape))).reshape(shape).astype(kind))
    found = read_items({"a": npy(values)}, Items(arrays=Arrays(data="a")))
    assert [found.content(i) for i in range(len(found))] == [npy(np.ascontiguousarray(v)) for v in values]


def test_items_that_are_arrays_are_stacked() -> None:
    for kind in ("u1", ">f8", "<i4"):
        for values in (IMAGES.astype(kind), np.asfortranarray(IMAGES).astype(kind).swapaxes(1, 2)):
            items = [memoryview(npy(value)) for value in values]
            found = stacked(items)
            assert found.tolist() == values.tolist() and found.dtype.isnative and found.flags.writeable
            one = array_or_bytes(items[1])
            assert one.tolist() == values[1].tolist() and one.dtype.isnative and one.flags.writeable
    assert array_or_bytes(memoryview(b"words")) == b"words"
    for others, says in (
        ([npy(IMAGES[0]), npy(IMAGES[0].astype("i2"))], "2 shapes or dtypes"),
        ([npy(IMAGES[0]), b"words"], "no npy array"),
        ([b"\x93NUMPY\1\0\4\0(3,)"], "not an array"),
        ([npy(np.array([{}], dtype=object))], "objects"),
        ([npy(IMAGES[0])[:-1]], "not whole"),
        ([], "no item"),
    ):
        with pytest.raises(ConfigError, match=says):
            stacked([memoryview(other) for other in others])


def test_files_by_pattern_with_the_folder_as_label() -> None:
    files = {"b/sport/2.txt": b"two", "b/tech/1.txt": b"one", "b/README": b""}
    found = read_items(files, Items(files="*/*.txt"), folder_is_label=True)
    assert told(found) == [("b/sport/2.txt", b"two", {}, "sport"), ("b/tech/1.txt", b"one", {}, "tech")]
    assert read_items(files, Items(files="*/*.txt")).labels == [None, None]


def test_rows_keep_the_label_out_of_the_content() -> None:
    found = read_items({"t.csv": b'id,body,class,year\n2,"a, b",x,2004\n1,c,,2005\n'}, CSV)
    assert told(found) == [("1", b"c", {"year": "2005"}, None), ("2", b"a, b", {"year": "2004"}, "x")]
    lines = b'{"id": 7, "class": "y", "n": 1}\n'
    whole = read_items({"t.jsonl": lines}, Items(rows=Rows(format="jsonl", id="id", label="class")))
    assert told(whole) == [("7", b'{"n": 1}', {}, "y")]
    separated = '{"id": 7, "class": "y", "n": "a\u2028b\x85c"}\r\n'.encode()  # these end no line of JSON lines
    one = read_items({"t.jsonl": separated}, Items(rows=Rows(format="jsonl", id="id", label="class", text="n")))
    assert one.content(0).decode() == "a\u2028b\x85c"


def test_rows_of_parquet_have_the_types_of_their_columns() -> None:
    data = parquet(
        {
            "id": [12, 7],
            "n": [1.5, float("nan")],
            "when": pa.array([0, 1], pa.timestamp("ns")),
            "day": [datetime.date(2026, 1, 2), None],
            "tags": [["a", "b"], []],
            "box": [{"x": 1, "when": datetime.datetime(2026, 1, 2)}, None],
            "class": pa.array(["l", None]).dictionary_encode(),
        }
    )
    found = read_items({"t.parquet": data}, Items(rows=Rows(format="parquet", id="id", label="class")))
    assert found.names == ["12", "7"] and found.labels == ["l", None]
    first, second = (json.loads(found.content(i)) for i in range(2))
    assert first == {
        "n": 1.5, "when": "1970-01-01 00:00:00.000000000", "day": "2026-01-02", "tags": ["a", "b"],
        "box": {"x": 1, "when": "2026-01-02T00:00:00"},
    }  # fmt: skip
    assert second == {"n": None, "when": "1970-01-01 00:00:00.000000001", "day": None, "tags": [], "box": None}


def test_a_column_of_bytes_is_the_content_or_an_error() -> None:
    plain = parquet({"id": ["a", "b"], "image": [b"\x89P", None], "n": [1, 2]})
    found = read_items({"t": plain}, Items(rows=Rows(format="parquet", id="id", text="image")))
    assert [each[1:3] for each in told(found)] == [(b"\x89P", {"n": 1}), (b"", {"n": 2})]
    structs = parquet({"id": ["a"], "image": [{"bytes": b"\xff", "path": "a.png"}]})
    nested = Items(rows=Rows(format="parquet", id="id", text="image"))
    assert read_items({"t": structs}, nested).content(0) == b"\xff"
    for data in (plain, structs):
        with pytest.raises(ConfigError, match="t: column 'image' holds bytes .*\n.*text: image"):
            read_items({"t": data}, Items(rows=Rows(format="parquet", id="id")))


def test_an_array_of_several_is_named() -> None:
    zipped = io.BytesIO()
    np.savez_compressed(zipped, images=IMAGES, labels=np.array([4, 9]))
    files = {"p.npz": zipped.getvalue(), "x#y": npy(IMAGES)}
    found = read_items(files, Items(arrays=Arrays(data="p.npz#images", labels="p.npz#labels")))
    assert found.names[1] == "p.npz#images#000000001" and found.labels == ["4", "9"]
    assert found.content(1) == npy(IMAGES[1])
    assert len(read_items(files, Items(arrays=Arrays(data="x#y")))) == 2
    fitting = read_items(files, Items(arrays=Arrays(data="*.npz#images", labels="p.*#labels")))
    assert (fitting.names, fitting.labels) == (found.names, found.labels)
    assert read_items(files, Items(arrays=Arrays(data="x*"))).names[1] == "x#y#000000001"
    for named, says in (
        ("p.npz", '2 arrays: images, labels\n  name one: "p.npz#images"'),
        ("p.npz#none", "no array 'none'\n  there are: images, labels"),
        ("none.npz#images", "no such file"),
        ("*", r"\*: 2 files fit: p\.npz, x#y\n  name one"),
    ):
        with pytest.raises(ConfigError, match=says):
            read_items(files, Items(arrays=Arrays(data=named)))


@pytest.mark.parametrize("pack", [lambda b: b, gzip.compress], ids=["plain", "gzip"])
def test_arrays_of_every_form_give_the_same_items(pack: "type[bytes]") -> None:
    zipped = io.BytesIO()
    np.savez(zipped, images=IMAGES)
    for data in (idx(IMAGES), npy(IMAGES), zipped.getvalue()):
        files = {"i": pack(data), "l": pack(idx(np.array([4, 9], dtype=np.uint8)))}
        found = read_items(files, Items(arrays=Arrays(data="i", labels="l")))
        assert found.labels == ["4", "9"]
        assert np.array_equal(np.load(io.BytesIO(found.content(1))), IMAGES[1])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (idx(IMAGES, magic=0x07), "magic"),
        (idx(IMAGES)[:-1], "17 bytes of values, 18 announced"),
        (b"", "magic"),
        (gzip.compress(idx(IMAGES), mtime=0)[:-9], "not gzip"),
        (npy(IMAGES)[:-3], "not an array"),
        (npy(np.array([{}], dtype=object)), "not an array"),
    ],
)
def test_what_is_no_array_is_named(data: bytes, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        read_array("images.gz", data)
    assert caught.value.where == "images.gz" and caught.value.remedy


@pytest.mark.parametrize(
    ("data", "where", "says"),
    [
        (b"id,body\n1,x\n", "t.csv: row 1", "no column 'class'"),
        (b"id,body,class\n1,x\n", "t.csv: line 2", "number of columns"),
        (b"id,body,class\n1,\xff,x\n", "t.csv: byte 16", "UTF-8"),
        (b"id,body,class\n1,a,x\n1,b,x\n", "1", "stands twice"),
    ],
)
def test_what_is_no_table_is_named(data: bytes, where: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        read_items({"t.csv": data}, CSV)
    assert caught.value.where == where


def test_labels_must_fit_the_items() -> None:
    files = {"i": idx(IMAGES), "l": idx(np.array([1], dtype=np.uint8))}
    with pytest.raises(ConfigError, match="1 labels for 2 items"):
        read_items(files, Items(arrays=Arrays(data="i", labels="l")))
    with pytest.raises(ConfigError, match="no such file"):
        read_items(files, Items(arrays=Arrays(data="x")))
