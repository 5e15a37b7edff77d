"""States before each command, made once for all tests of faults."""

import os

import pytest

from tests.faults.campaign import Campaign
from tests.faults.cases import States


@pytest.fixture(scope="session")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """A campaign over a git remote and a shared folder."""
    if not os.path.isdir("/proc/self"):
        pytest.skip("no /proc here: what a killed command leaves running cannot be seen")
    folder = tmp_path_factory.mktemp("faults")
    return Campaign(States(folder / "states"), folder)
