import os
from pathlib import Path

import pytest

from cdl.jobs.channel import Channel
from cdl.model.predictor import serve


def test_which_walls_stand_is_said_before_a_line_of_the_project_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the project's code could say it."""
    (tmp_path / "boasting.py").write_text("raise LookupError('ran')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (reads, asks), (hears, answers) = os.pipe(), os.pipe()
    mine, its = Channel(hears, asks), Channel(reads, answers)
    spec: dict[str, object] = {"kind": "function", "call": "boasting:predict", "hyperparameters": {}, "transform": None}
    mine.send({"op": "load", "spec": spec, "weights": b"", "state": {}, "read": [], "walled": False})
    with pytest.raises(LookupError, match="ran"):
        serve(its)
    its.close()
    assert mine.receive() == {"walls": []}
    mine.close()
