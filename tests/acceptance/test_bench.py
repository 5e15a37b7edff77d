"""`scripts/bench data` on little data: every work is measured, counts are right, and the section of the page is replaced."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = "# Benchmarks\n\n## Sharing\nas it was\n\n## Data\nolder figures\n\n## Last\nas it was\n"


@pytest.mark.long
def test_little_data_are_measured(tmp_path: Path) -> None:
    docs, written = tmp_path / "benchmarks.md", tmp_path / "found.json"
    docs.write_text(PAGE)
    command = [sys.executable, "benchmarks/run.py", "data", "--scale", "0.002", "--full"]
    done = subprocess.run(
        [*command, "--json", str(written), "--docs", str(docs)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = {(row["work"], row["system"], row["unit"]): row["median"] for row in json.loads(written.read_text())}
    for work in ("add", "recheck", "append", "change_byte", "rows: add", "one array: add", "2,000 files: append"):
        assert (
            found[work, "cdl", "s cpu"] > 0 and found[work, "cdl", "s wall"] > 0 and found[work, "cdl", "MB peak"] > 10
        )
    for system in ("git", "cp"):
        assert found["add", system, "s wall"] >= 0 and found["add", system, "MB peak"] < found["add", "cdl", "MB peak"]
    assert found["read_batches", "cdl", "items/s of CPU"] > 1
    assert 1 <= found["change_byte", "cdl", "chunks stored"] <= 2
    for kind in ("python", "shell"):
        worked = [
            found[f"{kind} step: {run}", "cdl", "pieces worked"]
            for run in ("first run", "nothing changed", "one changed")
        ]
        assert worked == [200, 0, 1]
    text = docs.read_text()
    assert text.startswith("# Benchmarks\n\n## Sharing\nas it was\n\n## Data\n`scripts/bench data`: 140 files")
    assert "older figures" not in text and text.endswith("\n\n## Last\nas it was\n")
