"""The demo notices what is spoilt: ten planted faults, each ends it with exit code 1 and says what did not happen."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FAULTS = {
    "author-approves": "approve m-.* exit code 3",
    "broken-model": "cdl search --yes: exit code",
    "useless-model": "exit code 3|test.accuracy",
    "wrong-hash": "cdl store verify: exit code",
    "service-gone": "ask.py|the service answers",
    "lost-key": "the model is evaluated once|cdl run --yes",
    "tampered-record": "cdl (status|ci check): exit code",
    "scoring-lost": "windows are measured|monitor run",
    "bad-labels": "the trigger ran|cdl approve: exit code",
    "cleaning-fails": "cdl run data --yes: exit code|four broken files",
}


def test_every_fault_is_played() -> None:
    said = subprocess.run([sys.executable, "scripts/play.py", "--help"], cwd=ROOT, capture_output=True, text=True)
    listed = re.search(r"--plant \{([^}]*)\}", said.stdout)
    assert listed and sorted(re.sub(r"\s", "", listed[1]).split(",")) == sorted(FAULTS) and len(FAULTS) == 10


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_ends_the_demo(fault: str, tmp_path: Path) -> None:
    command = [sys.executable, "scripts/play.py", "--quick", "--plant", fault]
    around = os.environ | {"TMPDIR": str(tmp_path)}
    found = subprocess.run(command, cwd=ROOT, env=around, capture_output=True, text=True, timeout=500)
    assert found.returncode == 1, found.stdout[-2000:] + found.stderr[-2000:]
    last = re.search(r"DID NOT HAPPEN: (.*)", found.stdout, re.DOTALL)
    assert last and re.search(FAULTS[fault], last[1]), found.stdout[-3000:] + found.stderr[-2000:]
