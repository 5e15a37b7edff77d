import pytest

from cdl.jobs.told import ELSEWHERE, error

CODE = {
    "data/clean.py": b"class Odd(Exception):\n    pass\n\ndef clean(content):\n    raise Odd(content)\n",
    "x.sh": b"exit 1",
}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ValueError", "ValueError"),
        ("JSONDecodeError", "JSONDecodeError"),
        ("Odd", "Odd"),
        ("print", ELSEWHERE),  # no class of an error
        ("NOTE-012", ELSEWHERE),
        ("NOTE_012", ELSEWHERE),
        ("Od", ELSEWHERE),
        ("", ELSEWHERE),
        ("Odd ValueError", ELSEWHERE),
    ],
)
def test_a_class_is_told_when_the_items_cannot_have_named_it(name: str, told: str) -> None:
    assert error({"class": name, "text": "the item", "at": "?"}, CODE) == (told, None)


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("data/clean.py:5", True),
        ("data/clean.py:6", False),  # there is no such line
        ("data/clean.py:0", False),
        ("data/clean.py:99999999999999999999", False),
        ("data/clean.py:-1", False),
        ("data/clean.py:²", False),
        ("data/clean.py", False),
        ("the item:1", False),
        ("data/clean.py:1:the item", False),
        ("", False),
    ],
)
def test_a_place_is_told_when_it_is_a_line_of_the_code(place: str, told: bool) -> None:
    assert error({"class": "ValueError", "at": place}, CODE) == ("ValueError", place if told else None)


def test_a_message_without_what_is_wanted_tells_nothing() -> None:
    assert error({}, CODE) == (ELSEWHERE, None) and error({"class": ["x"], "at": {}}, {}) == (ELSEWHERE, None)
