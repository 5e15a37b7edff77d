from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdl import document
from cdl.errors import ConfigError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PLAIN = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=20
)


@given(st.dictionaries(TEXT, VALUES, max_size=5))
def test_what_is_written_reads_back(value: dict[str, Any]) -> None:
    data = document.write(value)
    assert document.read(data, where="x").value == value
    assert document.write(document.read(data, where="x").value) == data


@pytest.mark.parametrize(
    "word", ["no", "on", "yes", "off", "0777123", "1_000", "2026-11-24", "0x1f", ".5", "NaN", "True"]
)
def test_words_that_yaml_would_convert_stay_text(word: str) -> None:
    assert document.read(f"a: {word}\n{word}: 1".encode(), where="x").value == {"a": word, word: 1}


def test_json_forms_are_values() -> None:
    found = document.read(b"a: null\nb: true\nc: -1.5e3\nd: 7\ne: '7'\nf:", where="x").value
    assert found == {"a": None, "b": True, "c": -1500.0, "d": 7, "e": "7", "f": None}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: &x 1\nb: *x", "anchor"),
        ("a: *x", "alias"),
        ("a: !!python/object:os.system 1", "tag"),
        ("a: 1\na: 2", "second time"),
        ("a: 1\n---\nb: 2", "second document"),
        ("a: [1, 2", "not YAML"),
        ("? [a]\n: 1", "key"),
        ("[" * 40 + "]" * 40, "deeper"),
    ],
)
def test_what_surprises_is_refused_with_its_line(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        document.read(text.encode(), where="cdl.yaml")
    assert caught.value.where is not None and caught.value.where.startswith("cdl.yaml:")


def test_too_large_and_not_utf8_are_refused() -> None:
    with pytest.raises(ConfigError, match="more than"):
        document.read(b"a" * 1_000_001, where="x")
    with pytest.raises(ConfigError, match="UTF-8"):
        document.read(b"a: \xff", where="x")


def test_lines_name_keys() -> None:
    node = document.read(b"a:\n  b: 1\n  c:\n  - 2\n", where="x")
    assert (node.line(("a", "b")), node.line(("a", "c", 0)), node.line(("a", "c", 5))) == (2, 4, 3)


def test_canonical_is_one_form() -> None:
    assert document.canonical({"b": [1, "é"], "a": None}) == '{"a":null,"b":[1,"é"]}'.encode()
    with pytest.raises(ValueError, match="JSON"):
        document.canonical(float("nan"))


@pytest.mark.parametrize("number", ["1" * 5000, "1e999", "-1e999"])
def test_a_number_that_is_too_large_is_named(number: str) -> None:
    with pytest.raises(ConfigError, match=r"x:2: a number of"):
        document.read(f"a: 1\nb: {number}\n".encode(), where="x")
    assert document.read(f'b: "{number}"\n'.encode(), where="x").value == {"b": number}
