"""A full disk: a clear error that names the place, nothing acknowledged is lost, and with room the same command goes on."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.campaign import Campaign
from tests.faults.cases import CASES, Case, typed
from tests.faults.disk import Disk, small_disk
from tests.faults.killing import run
from tests.faults.world import World

pytestmark = pytest.mark.xdist_group("faults")
BY_NAME = {case.name: case for case in CASES}
ROOMS = (0, 4_096, 12_000, 30_000, 60_000, 100_000, 150_000)  # bytes; all of them too few for some of the commands


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of a few MB."""
    with small_disk(tmp_path / "disk", "24m") as found:
        yield found


@pytest.mark.parametrize(("name", "room"), [("data run", 30_000), ("train", 60_000), ("sync sends", 30_000)])
def test_a_full_disk(campaign: Campaign, disk: Disk, name: str, room: int) -> None:
    case = BY_NAME[name]
    fills(campaign, case, disk, campaign.copy(case, disk.root / "world"), room)


@pytest.mark.long
@pytest.mark.parametrize("name", ["data run", "label import", "train", "search", "approve model", "sync fetches"])
def test_a_disk_with_little_room(campaign: Campaign, disk: Disk, name: str) -> None:
    case = BY_NAME[name]
    failed = 0
    for room in ROOMS:
        world = campaign.copy(case, disk.root / "world")
        failed += fills(campaign, case, disk, world, room, surely=False)
        shutil.rmtree(world.folder)
    assert failed > 1


def test_a_full_shared_folder(campaign: Campaign, disk: Disk) -> None:
    case = BY_NAME["sync sends"]
    world = campaign.copy(case)
    elsewhere(world, "shared", disk)
    fills(campaign, case, disk, world, 12_000, code=7)
    shutil.rmtree(world.folder)


def test_no_room_for_jobs(campaign: Campaign, disk: Disk) -> None:
    case = BY_NAME["train"]
    world = campaign.copy(case)
    elsewhere(world, "tmp", disk)
    fills(campaign, case, disk, world, 4_096)
    shutil.rmtree(world.folder)


def elsewhere(world: World, name: str, disk: Disk) -> None:
    """Puts a folder of a world on a disk."""
    shutil.copytree(world.folder / name, disk.root, dirs_exist_ok=True)
    shutil.rmtree(world.folder / name)
    (world.folder / name).symlink_to(disk.root)


def fills(
    campaign: Campaign, case: Case, disk: Disk, world: World, room: int, *, code: int = 0, surely: bool = True
) -> bool:
    """Types a command with so much room left, and again with enough of it; whether it failed the first time.

    With `surely` it must; `code` is the exit code that is wanted then, 0 for any.
    """
    before = acknowledged(world)
    disk.leave(room)
    ran = run(case.person(world), typed(world, case), world.folder)
    disk.empty()
    assert before <= acknowledged(world)
    if surely or ran.code:
        assert ran.code == code or (ran.code and not code), ran.said
        assert "Traceback" not in ran.said and "the command again" in ran.said, ran.said
        assert str(disk.root) in ran.said or str(world.folder) in ran.said, ran.said
    assert campaign.goes_on(case, world) == []
    return ran.code != 0


def acknowledged(world: World) -> set[bytes]:
    """The lines of the journal of the first clone."""
    return {
        line for path in (world.a.root / ".cdl/journal").glob("c-*/[0-9]*") for line in path.read_bytes().splitlines()
    }
