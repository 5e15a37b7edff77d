from pathlib import Path

import pytest

from cdl.errors import ConfigError
from cdl.git.repository import Git
from cdl.journal.journal import Journal
from cdl.registry.diff import ABSENT, diff
from cdl.registry.lineage import down, up
from cdl.registry.records import Made, Model, Request, Transformation, encode
from cdl.registry.registry import Registry

MADE = Made(who="a@example.org", when="2026-01-01T00:00:00Z")
TRANSFORMATION = Transformation(call="m:T", code="c", parameters={}, fitted_on={}, state="s")


def model(seed: int, origin: str | None = None, metrics: dict[str, float] | None = None) -> Model:
    return Model(
        name="toy", made=MADE, origin={"model": origin, "by": "retraining"} if origin else None, code={"commit": "0"},
        data={}, transformation=encode(TRANSFORMATION)[0], environment={}, trial={"seed": seed}, weights="w",
        metrics=metrics or {}, output={},
    )  # fmt: skip


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, "/dev/null")
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "a")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@example.org")
    return Registry(Git.init(tmp_path), Journal(tmp_path / ".cdl"), tmp_path / ".cdl", integration="main")


def test_lineage_goes_both_ways(registry: Registry) -> None:
    first = model(1)
    (t, one) = registry.commit(TRANSFORMATION, first, command="x", line="x").ids
    two = registry.commit(model(2, origin=one), command="x", line="x").ids[0]
    request = Request(to={"step": "s", "role": "r"}, subject=two, made=MADE, because="x")
    sent_back = registry.commit(request, command="x", line="x").ids[0]
    above = [(e.source, e.field, e.target) for e in up(registry, two)]
    assert sorted(above) == sorted([(two, "from.model", one), (two, "transformation", t), (one, "transformation", t)])
    assert {e.source for e in down(registry, t)} == {one, two, sent_back}
    assert down(registry, sent_back) == [] and up(registry, t) == []


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
