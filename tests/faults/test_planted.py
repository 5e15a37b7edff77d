"""Broken and lost objects of a dataset, one by one: `cdl data verify` names each, and what is typed next mends it or says how."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cdl.data import versions
from cdl.errors import Corrupt, NotFound
from cdl.store.table import PAGE, Table, is_root
from cdl.store.tree import open_tree
from tests.faults import points
from tests.faults.points import fill, held, make_points, model, objects, opened, record_of, small_pieces
from tests.projects import DATA, Toy

Plant = Callable[[Path], None]
BACKUP = "from a backup"


def flip(path: Path) -> None:
    """One bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def truncate(path: Path) -> None:
    """The second half is gone."""
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def remove(path: Path) -> None:
    """It is gone."""
    path.unlink()


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """Nothing was collected yet."""
    small_pieces(monkeypatch)
    return make_points(tmp_path, monkeypatch)


FIRST = points.files(24) | points.large()
SECOND = FIRST | points.files(6, seed=2) | points.large(1)


def make(toy: Toy, *wanted: points.Files) -> list[str]:
    """A version of each of some sources."""
    found = []
    for each in wanted:
        fill(toy.root, each)
        found.append(versions.make(opened(toy), "points"))
    return found


def place(toy: Toy, name: str) -> Path:
    """The file of an object."""
    return toy.root / ".cdl/store/objects" / name[:2] / name[2:]


def named(toy: Toy) -> str:
    """What `cdl data verify` says of the current version, and what is to be typed."""
    said, error = toy.refused(DATA, "data", "verify")
    assert isinstance(error, Corrupt) and error.remedy == "cdl doctor --full --mend, then: cdl data run points"
    return said


@pytest.mark.parametrize("plant", [flip, truncate, remove])
def test_verify_names_every_fault(toy: Toy, plant: Plant) -> None:
    make(toy, FIRST, SECOND)
    workspace = opened(toy)
    everything = objects(workspace)
    kinds = {kind(workspace.store.get(name)) for name in everything}
    assert kinds == {"root", "page", "sealed", "content"} and len(everything) > 25
    for name in everything:
        path = place(toy, name)
        good = path.read_bytes()
        plant(path)
        assert name[:24] in named(toy), f"{kind(good)} {name}"
        path.unlink(missing_ok=True)
        path.write_bytes(good)
    assert " 0 faults" in toy.cdl(DATA, "data", "verify")


def kind(data: bytes) -> str:
    """What an object is."""
    if is_root(data):
        return "root"
    return "page" if data.startswith(PAGE) else "sealed" if data.startswith(b"cdl-sealed-1\0") else "content"


def chosen(toy: Toy) -> dict[str, str]:
    """An object of each kind that the first version needs."""
    workspace = opened(toy)
    record = record_of(workspace)
    vault = workspace.vault("points", by="data")
    train, test = open_tree(workspace.store, record.steps[0].train), open_tree(vault, record.steps[0].test)
    large = next(iter([*train.rows.tables, *test.rows.tables]))
    assert train.table is not None
    return {
        "root": record.train,
        "page": train.table.pages[0].name,
        "pack": train.rows.needs[0],
        "sealed root": record.test,
        "sealed pack": test.rows.needs[0],
        "chunk": Table(vault, large).rows.needs[1],
        "table of chunks": large,
        "source": record.sources[0].raw,
        "ledger": record.split.ledger,
        "ledger's page": Table(vault, record.split.ledger).pages[0].name,
        "step": open_tree(workspace.store, record.train).rows.needs[0],
    }


KINDS = (
    "root", "page", "pack", "sealed root", "sealed pack", "chunk", "table of chunks", "source", "ledger", "ledger's page", "step"
)  # fmt: skip


@pytest.mark.parametrize("which", ["pack", "sealed pack", "ledger's page"])
def test_what_was_lost_is_stored_again_by_the_next_run(toy: Toy, which: str) -> None:
    goes_on(toy, which, remove)


@pytest.mark.parametrize("which", ["page", "chunk"])
def test_what_is_broken_is_put_aside_by_the_doctor_and_stored_again(toy: Toy, which: str) -> None:
    goes_on(toy, which, flip)


@pytest.mark.long
@pytest.mark.parametrize("plant", [flip, truncate, remove])
@pytest.mark.parametrize("which", KINDS)
def test_every_kind_of_object_is_mended(toy: Toy, which: str, plant: Plant) -> None:
    goes_on(toy, which, plant)


def goes_on(toy: Toy, which: str, plant: Plant) -> None:
    """Breaks an object of the only version; the version is whole again, and the same."""
    version = make(toy, FIRST)[0]
    before = objects(opened(toy))
    name = chosen(toy)[which].removeprefix("s:")
    plant(place(toy, name))
    mend(toy, plant)
    assert versions.make(opened(toy), "points") == version
    whole(toy, FIRST)
    assert objects(opened(toy)) == before
    toy.said.clear()
    assert versions.make(opened(toy), "points") == version
    assert not any("every source is read" in line for line in toy.said)


def mend(toy: Toy, plant: Plant) -> None:
    """What `cdl data verify` says is to be typed before the pipeline runs; where the object is there and broken."""
    if plant is not remove:
        toy.refused(DATA, "doctor", "--full", "--mend")


def whole(toy: Toy, wanted: points.Files) -> None:
    """The current version is what the model says, and nothing is broken."""
    workspace = opened(toy)
    assert held(workspace) == model(wanted) and points.raw(workspace) == wanted
    assert " 0 faults" in toy.cdl(DATA, "data", "verify")


@pytest.mark.long
def test_of_a_later_version_too_or_it_is_said_what_to_type(toy: Toy) -> None:
    first, second = make(toy, FIRST, SECOND)
    mended, said, anew = 0, 0, 0
    for name in objects(opened(toy)):
        copy = toy.copy(toy.root.with_name(f"copy-{name[:8]}"))
        remove(place(copy, name))
        try:
            made = versions.make(opened(copy), "points")
        except NotFound as error:
            assert error.remedy is not None and BACKUP in error.remedy and "cdl doctor --mend" in error.remedy
            assert copy.cdl(DATA, "data", "list").count("\n") >= 1
            said += 1
            continue
        assert made != first
        mended, anew = mended + (made == second), anew + (made != second)
        whole(copy, SECOND)
    assert min(mended, said, anew) > 0, (mended, said, anew)


def test_a_lost_object_and_a_change_in_the_source_at_once(toy: Toy) -> None:
    make(toy, FIRST)
    remove(place(toy, chosen(toy)["pack"]))
    fill(toy.root, SECOND)
    versions.make(opened(toy), "points")
    whole(toy, SECOND)
