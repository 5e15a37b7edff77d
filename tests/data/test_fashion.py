"""Fashion-MNIST as it comes, four gzipped IDX files; the test files are declared as the test set."""

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import cdl
from cdl.data import versions
from cdl.data.dataset import Dataset, dataset_record, sealed_test
from cdl.data.ready import released
from tests.articles import ZIP
from tests.projects import DATA, make_toy

FOLDER = ZIP.parent / "fashion-mnist"
YAML = f"""\
cdl: 1
project: toy
data:
  fashion:
    source: [{{path: incoming/train, set: train}}, {{path: incoming/test, set: test}}]
    items: {{arrays: {{data: "*-images-idx3-ubyte.gz", labels: "*-labels-idx1-ubyte.gz"}}}}
    labels: {{classes: {[str(number) for number in range(10)]}, origin: {{source: true}}}}
"""


def values(name: str, start: int) -> NDArray[np.uint8]:
    """The values of one of the files, read without the product."""
    return np.frombuffer(gzip.decompress((FOLDER / f"{name}-ubyte.gz").read_bytes()), np.uint8, offset=start)


def pairs(images: NDArray[np.uint8], labels: NDArray[np.int64] | NDArray[np.uint8]) -> list[tuple[bytes, int]]:
    """Each image with its label, in an order of their own."""
    return sorted(zip([image.tobytes() for image in images], labels.tolist(), strict=True))


@pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"no {FOLDER.name} in {FOLDER.parent}; CDL_TEST_DATA names another folder"
)
def test_it_opens_as_images_with_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", yaml=YAML)
    for part, named in (("train", "train"), ("test", "t10k")):
        (toy.root / "incoming" / part).mkdir(parents=True)
        for file in FOLDER.glob(f"{named}-*.gz"):
            shutil.copy(file, toy.root / "incoming" / part)
    record = dataset_record(toy.become(DATA), versions.make(toy.become(DATA), "fashion"))
    assert record.items == {"train": 60_000, "test": 10_000} and record.split.set_aside["count"] == 0
    assert any("(14.3%, as declared), 0 set aside" in line for line in toy.said)
    toy.approve(DATA, "data")
    workspace = toy.become(DATA)
    given: Dataset = cdl.open(toy.root).data["fashion"]
    sealed = sealed_test(workspace, *released(workspace, "fashion"), workspace.vault("fashion", by="test"))
    for data, named, count in ((given, "train", 60_000), (sealed, "t10k", 10_000)):
        images = data.arrays()
        assert images.shape == (count, 28, 28) and images.dtype == np.uint8
        there = values(f"{named}-images-idx3", 16).reshape(-1, 28, 28)
        assert pairs(images, data.targets()) == pairs(there, values(f"{named}-labels-idx1", 8))
    raw = [workspace.vault("fashion", by="test").tree(source.raw) for source in record.sources]
    kept = {name: tree.get(name) for tree in raw for name in tree.names}
    assert kept == {file.name: file.read_bytes() for file in FOLDER.glob("*.gz")}, "stored as they come"
