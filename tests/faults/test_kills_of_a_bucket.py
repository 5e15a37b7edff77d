"""The kill campaign of `cdl sync` over a bucket: before each kill the bucket is put back to what it held."""

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cdl.store.bucket import Bucket
from cdl.store.remote import Remote
from tests.faults.campaign import Campaign
from tests.faults.cases import CASES, States
from tests.faults.test_kills import play
from tests.faults.world import World
from tests.s3 import of_server, s3_server

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("faults")]
POINTS = 20
PLACE = "s3://team/toy"
SYNCS = tuple(case for case in CASES if case.name.startswith("sync"))


@dataclass
class Bucketed(States):
    """States whose shared store is a bucket: with the folder goes what the bucket held."""

    buckets: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def state(self, name: str) -> World:
        """A state by its name; the bucket holds what it held then."""
        found, remote = super().state(name), Bucket(PLACE)
        if name in self.buckets:
            put_back(remote, self.buckets[name])
        else:
            self.buckets[name] = held(remote)
        return found


@pytest.fixture
def over_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Campaign]:
    """A campaign over a git remote and a bucket."""
    with s3_server() as address:
        around = of_server(address)
        for name, value in around.items():
            monkeypatch.setenv(name, value)
        yield Campaign(Bucketed(tmp_path / "states", PLACE, tuple(around.items())), tmp_path)


def test_kills_of_sync(over_a_bucket: Campaign) -> None:
    seed = int(os.environ.get("CDL_KILLS", random.SystemRandom().randrange(1 << 32)))
    play(over_a_bucket, SYNCS, POINTS, seed)


def held(remote: Remote) -> dict[str, bytes]:
    """What a remote holds."""
    return {found.name: remote.get(found.name) or b"" for found in remote.held("")}


def put_back(remote: Remote, wanted: dict[str, bytes]) -> None:
    """Makes a remote hold that and nothing else."""
    there = {found.name for found in remote.held("")}
    for name in there - wanted.keys():
        remote.delete(name)
    for name in wanted.keys() - there:
        remote.put(name, wanted[name])
