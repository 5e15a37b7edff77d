"""`cdl run --watch` works whenever something new can be done, says what fails once, and ends when told to."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.projects import DATA, Toy, make_toy, table

from cdl.registry.records import DatasetHead

CDL = Path(sys.executable).with_name("cdl")
PATIENCE_SECONDS = 120


def eventually(true: Callable[[], bool]) -> bool:
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.2)
    return False


def version(toy: Toy) -> str | None:
    head = toy.become(DATA).registry.head(DatasetHead, "points")
    return head.version if head else None


def test_new_data_are_taken_in_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", roles=True)
    toy.become(DATA)
    said: list[str] = []
    watching = subprocess.Popen([str(CDL), "run", "--watch"], cwd=toy.root, stderr=subprocess.PIPE, text=True)
    assert watching.stderr is not None
    reader = threading.Thread(target=said.extend, args=(watching.stderr,))
    reader.start()
    try:
        toy.write("incoming/points.csv", table(60))
        assert eventually(lambda: version(toy) is not None), said
        first = version(toy)
        toy.write("incoming/points.csv", "id,x,y,side\np1,2\n")
        assert eventually(lambda: any("error:" in line for line in said)), said
        toy.write("incoming/points.csv", table(70))
        assert eventually(lambda: version(toy) != first), said
    finally:
        watching.send_signal(signal.SIGINT)
        code = watching.wait(PATIENCE_SECONDS)
        reader.join()
        watching.stderr.close()
    assert code == 130 and sum("error:" in line for line in said) == 1, said
