"""A bucket that fails one request in ten, is gone in the middle of sending, and comes back."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.around import opened
from tests.faults.cases import States, item
from tests.faults.content import content, faults
from tests.faults.world import World
from tests.s3 import Unreliable, of_server, s3_server

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("faults")]
PLACE = "s3://team/toy"
EACH = 10
OBJECTS = "/team/toy/objects/"


@pytest.fixture
def bucket() -> Iterator[Unreliable]:
    """A way to a bucket that fails one request in ten."""
    with s3_server() as address:
        found = Unreliable(address, EACH)
        yield found
        found.close()


def test_nothing_is_lost_or_sent_twice(bucket: Unreliable, tmp_path: Path) -> None:
    states = States(tmp_path, store=PLACE, around=tuple(of_server(bucket.address).items()))
    world = states.state("packaged")
    world.b.cdl("label", "set", item(world), "right")
    world.b.cdl("label", "release")
    bucket.lasts = 30
    said = world.a.cdl("sync", code=7)
    assert PLACE in said and "the command again" in said and "Traceback" not in said
    halfway = objects(bucket)
    assert halfway and len(world.a.cdl("status").splitlines()) > 3  # what needs no bucket works without it
    world.a.cdl("sync", code=7)
    bucket.lasts, bucket.gone = None, False
    for person in (world.b, world.a, world.b, world.a):
        person.cdl("sync")
    both_alike(world)
    assert set(objects(bucket).values()) == {1} and halfway.keys() < objects(bucket).keys()
    assert bucket.failed > 10


def objects(bucket: Unreliable) -> dict[str, int]:
    """How often each object was put."""
    return {path: count for path, count in bucket.written.items() if path.startswith(OBJECTS) and count}


def both_alike(world: World) -> None:
    """Both clones hold the same, whole, and each event once."""
    assert faults(world.a) == [] and faults(world.b) == []
    first, second = content(world.a), content(world.b)
    assert first.labels == second.labels and first.evaluated == second.evaluated and first.facts == second.facts
    ids = []
    for person in (world.a, world.b):
        with opened(person) as workspace:
            ids.append([event.id for event in workspace.journal.events()])
    assert ids[0] == ids[1] and len(set(ids[0])) == len(ids[0])
