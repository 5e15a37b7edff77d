import pytest

from cdl.errors import ConfigError
from cdl.registry.diff import ABSENT, Inside, diff, inside
from cdl.registry.records import Made, Model, Transformation
from tests.registry.made import Kept

MADE = Made(who="a@example.org", when="2026-01-01T00:00:00Z")
TRANSFORMATION = Transformation(call="m:T", code="c", parameters={}, fitted_on={}, state="s")


def model(seed: int, metrics: dict[str, float] | None = None) -> Model:
    return Model(
        name="toy", made=MADE, code={"commit": "0"}, data={}, transformation=None, environment={}, trial={"seed": seed},
        weights="w", metrics=metrics or {}, output={},
    )  # fmt: skip


def test_diff_names_the_fields() -> None:
    found = diff(model(1), model(2, metrics={"validation.accuracy": 0.5}))
    assert [(d.field, d.first, d.second) for d in found] == [
        ("metrics", {}, ABSENT),
        ("metrics.validation.accuracy", ABSENT, 0.5),
        ("trial.seed", 1, 2),
    ]
    assert diff(model(1), model(1)) == []
    with pytest.raises(ConfigError, match="not compared"):
        diff(model(1), TRANSFORMATION)


def between(kept: Kept, first: str, second: str) -> Inside | None:
    one, two = (kept.registry.get(i).record for i in (first, second))
    return inside(kept.store, one, two)


def test_training_items_are_counted_without_a_key(kept: Kept) -> None:
    first = kept.dataset({"a": "1", "b": "2", "c": "3"})
    second = kept.dataset({"b": "2", "c": "other", "d": "4", "e": "5"})
    assert between(kept, first, second) == Inside(what="training items", added=2, removed=1, changed=1)
    assert between(kept, second, first) == Inside(what="training items", added=1, removed=2, changed=1)
    assert between(kept, first, first) == Inside(what="training items", added=0, removed=0, changed=0)


def test_labels_differ_by_what_was_said_and_who_said_it(kept: Kept) -> None:
    data = kept.dataset({"a": "1", "b": "2", "c": "3"})
    first = kept.labels(data, {"a": ("left", "x@example.org"), "b": ("left", "x@example.org")})
    second = kept.labels(data, {"a": ("left", "x@example.org"), "b": ("left", "y@example.org"), "c": ("left", "")})
    assert between(kept, first, second) == Inside(what="labels of training items", added=1, removed=0, changed=1)


def test_files_of_packages_and_states(kept: Kept) -> None:
    one, two = (kept.package("m-" + "0" * 32, files=text) for text in "12")
    assert between(kept, one, two) == Inside(what="files", added=0, removed=0, changed=1)
    data = kept.dataset({"a": "1"})
    one, two = (kept.transformation(data, state=text) for text in "12")
    assert between(kept, one, two) == Inside(what="files of the state", added=0, removed=0, changed=1)


def test_without_the_store_only_the_fields_differ(kept: Kept) -> None:
    first, second = kept.dataset({"a": "1"}), kept.dataset({"a": "2"})
    record = kept.registry.get(second).record
    kept.store.path(record.train).unlink()  # type: ignore[union-attr]
    assert between(kept, first, second) is None
    assert "steps[0].train" in {d.field for d in diff(kept.registry.get(first).record, record)}
    assert inside(kept.store, model(1), model(2)) is None
