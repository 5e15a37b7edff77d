"""What is of a model's source and what is not."""

from pathlib import Path

import pytest

from cdl.model.code import model_code
from tests.projects import SCIENCE, YAML, make_toy


def test_what_a_model_is_for_is_not_of_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring")
    before = model_code(toy.become(SCIENCE), "side").closure.id
    toy.write("cdl.yaml", YAML.replace("  side:\n", "  side:\n    use: tells left from right\n"))
    assert model_code(toy.become(SCIENCE), "side").closure.id == before
    toy.write("cdl.yaml", YAML.replace("  side:\n", "  side:\n    files: [requirements.lock]\n"))
    assert model_code(toy.become(SCIENCE), "side").closure.id != before
