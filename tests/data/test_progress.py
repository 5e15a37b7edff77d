"""How far long work is, said now and then; and what a record says of many reasons."""

from collections.abc import Iterator

import pytest

from cdl.data.pipeline.progress import counted


def test_long_work_is_told_of_ever_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(1000))
    monkeypatch.setattr("cdl.data.pipeline.progress.time.monotonic", lambda: float(next(seconds)))
    said: list[str] = []
    assert list(counted(iter("x" * 100), 100, "clean", said.append)) == ["x"] * 100
    assert said == [f"clean     {number} of 100 ..." for number in (1, 5, 13, 29, 61)]


def test_quick_work_is_not_told_of_and_ends_with_what_it_takes() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("gone")

    said: list[str] = []
    with pytest.raises(ValueError, match="gone"):
        list(counted(broken(), 2, "clean", said.append))
    assert said == []
