import gzip
import io
import struct

import numpy as np
import pytest

from cdl.config.schema import Arrays, Items, Rows
from cdl.data.formats import Raw, read_array, read_items
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


def test_files_by_pattern_with_the_folder_as_label() -> None:
    files = {"b/sport/2.txt": b"two", "b/tech/1.txt": b"one", "b/README": b""}
    found = read_items(files, Items(files="*/*.txt"), folder_is_label=True)
    assert [(r.name, r.label, r.content) for r in found] == [
        ("b/sport/2.txt", "sport", b"two"),
        ("b/tech/1.txt", "tech", b"one"),
    ]
    assert read_items(files, Items(files="*/*.txt"))[0].label is None


def test_rows_keep_the_label_out_of_the_content() -> None:
    found = read_items({"t.csv": b'id,body,class,year\n2,"a, b",x,2004\n1,c,,2005\n'}, CSV)
    assert found == [
        Raw(name="1", content=b"c", fields={"year": "2005"}),
        Raw(name="2", content=b"a, b", fields={"year": "2004"}, label="x"),
    ]
    lines = b'{"id": 7, "class": "y", "n": 1}\n'
    whole = read_items({"t.jsonl": lines}, Items(rows=Rows(format="jsonl", id="id", label="class")))
    assert whole == [Raw(name="7", content=b'{"n": 1}', label="y")]
    separated = '{"id": 7, "class": "y", "n": "a\u2028b\x85c"}\r\n'.encode()  # these end no line of JSON lines
    (one,) = read_items({"t.jsonl": separated}, Items(rows=Rows(format="jsonl", id="id", label="class", text="n")))
    assert one.content.decode() == "a\u2028b\x85c"


@pytest.mark.parametrize("pack", [lambda b: b, gzip.compress], ids=["plain", "gzip"])
def test_arrays_of_every_form_give_the_same_items(pack: "type[bytes]") -> None:
    zipped = io.BytesIO()
    np.savez(zipped, images=IMAGES)
    for data in (idx(IMAGES), npy(IMAGES), zipped.getvalue()):
        files = {"i": pack(data), "l": pack(idx(np.array([4, 9], dtype=np.uint8)))}
        found = read_items(files, Items(arrays=Arrays(data="i", labels="l")))
        assert [r.label for r in found] == ["4", "9"]
        assert np.array_equal(np.load(io.BytesIO(found[1].content)), IMAGES[1])


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
