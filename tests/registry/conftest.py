from pathlib import Path

import pytest

from tests.registry.made import Kept


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    return Kept(tmp_path / "kept", monkeypatch)
