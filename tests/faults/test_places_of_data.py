"""A full disk while data are ingested, and a place to share that fails while they are sent: clear errors, and it goes on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import around, points
from tests.faults.content import faults
from tests.faults.data_world import BIG, FIRST, DataWorld, begin, model
from tests.faults.disk import Disk, small_disk
from tests.faults.points import fill, held
from tests.s3 import Unreliable, of_server, s3_server
from tests.team import CDL, Person

pytestmark = pytest.mark.xdist_group("faults")
PLACE = "s3://team/toy"
SMALL = {f"a/{n}.txt": b"%040d" % n * 100 for n in range(3_000)}  # 12 MB in packs


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk that holds a project, its sources, and not much more."""
    with small_disk(tmp_path / "disk", "400m") as found:
        yield found


@pytest.mark.long
@pytest.mark.parametrize(("wanted", "rooms"), [(BIG, (300_000, 20_000_000)), (SMALL, (100_000, 4_000_000))])
def test_a_full_disk_while_files_are_ingested(disk: Disk, wanted: points.Files, rooms: tuple[int, int]) -> None:
    data = begin(disk.root / "world")
    a = data.world.a
    data.run(FIRST)
    everything = {**FIRST, **wanted}
    fill(a.root, everything)
    for room in rooms:
        disk.leave(room)
        code, said = _run(a)
        assert code != 0 and "Traceback" not in said, said
        assert "the command again" in said and str(disk.root) in said, said
        disk.empty()
        holds(data)
    assert _run(a)[0] == 0
    holds(data, everything)
    assert faults(a) == [] and " 0 faults" in a.cdl("data", "verify")


def _run(a: Person) -> tuple[int, str]:
    done = a.run(str(CDL), "data", "run", "points")
    return done.returncode, done.stdout + done.stderr


def holds(data: DataWorld, wanted: points.Files | None = None) -> None:
    """Every acknowledged version holds what it held, and the current one the files that are wanted."""
    with around.opened(data.world.a) as workspace:
        for version, files in data.versions.items():
            assert held(workspace, version) == model(files)
        if wanted is not None:
            assert held(workspace) == model(wanted)


@pytest.mark.long
def test_a_bucket_that_fails_while_chunks_are_sent(tmp_path: Path) -> None:
    """One request in ten fails; then the bucket is gone in the middle of sending; then it is back."""
    with s3_server() as address:
        bucket = Unreliable(address, 10)
        try:
            data = begin(tmp_path / "world", store=PLACE, around=tuple(of_server(bucket.address).items()))
            a, b = data.world.a, data.world.b
            everything = {**FIRST, **BIG}
            data.run(everything)
            bucket.lasts = 25
            said = a.cdl("sync", code=7)
            assert PLACE in said and "the command again" in said and "Traceback" not in said
            holds(data, everything)
            bucket.lasts, bucket.gone = None, False
            a.cdl("sync")
            b.root.mkdir()
            b.cdl("clone", "--yes", "../origin.git", ".")
            b.git("remote", "set-url", "origin", "../origin.git")
            b.cdl("sync")
            assert " 0 faults" in b.cdl("data", "verify") and faults(b) == [] == faults(a)
            with around.opened(b) as workspace:
                assert held(workspace) == model(everything)
            sent = [count for path, count in bucket.written.items() if "/objects/" in path and count]
            assert len(sent) > 100 and set(sent) == {1}, "nothing is sent twice"
            assert bucket.failed > 5
        finally:
            bucket.close()
