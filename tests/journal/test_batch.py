import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdl.errors import Corrupt
from cdl.journal import batch

VALUE = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.binary() | st.text()
)


@given(
    st.integers(0, 5).flatmap(lambda n: st.dictionaries(st.text(max_size=5), st.lists(VALUE, min_size=n, max_size=n)))
)
def test_what_is_written_reads_back(columns: dict[str, list[object]]) -> None:
    data = batch.write(columns)
    assert batch.read(data, where="x") == columns
    assert batch.write(dict(reversed(columns.items()))) == data


@given(st.binary())
def test_other_bytes_are_refused_and_nothing_else_happens(data: bytes) -> None:
    with pytest.raises(Corrupt):
        batch.read(data, where="x")


def test_broken_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="unequal"):
        batch.write({"a": [1], "b": []})
    with pytest.raises(ValueError, match="another kind"):
        batch.write({"a": [[1]]})
    broken: list[dict[str, object]] = [{"a": [1]}, {"a": 3}, {"a": [[], []]}]
    for columns in broken:
        content = {"format": batch.FORMAT, "rows": 2, "columns": columns}
        with pytest.raises(Corrupt):
            batch.read(msgspec.msgpack.encode(content), where="x")
