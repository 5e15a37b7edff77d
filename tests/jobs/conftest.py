from pathlib import Path

import pytest

from cdl.jobs.local import Jobs
from tests.jobs.steps import lay_out, open_jobs


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, "/dev/null")
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "a")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@example.org")
    lay_out(tmp_path)
    return tmp_path


@pytest.fixture
def jobs(root: Path) -> Jobs:
    return open_jobs(root)
