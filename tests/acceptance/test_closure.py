"""A job sees its closure and nothing else of the project: what works is complete, and what it reads makes it run again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cdl.registry.records import Dataset, DatasetHead
from tests.projects import DATA, SIDE, YAML, Toy, make_toy, table

CDL = Path(sys.executable).with_name("cdl")
STEP = """
from pathlib import Path

def clean(content):
    words = Path("PLACE").read_text().split()
    return content.replace(b"}", b', "words": ' + str(len(words)).encode() + b"}")
"""
READING = SIDE.replace("def train(context):\n", 'def train(context):\n    rate = float(Path("PLACE").read_text())\n')
READING = READING.replace('np.float32(context.hyperparameters["rate"])', "np.float32(rate)")
READING = READING.replace("import numpy as np\n", "from pathlib import Path\n\nimport numpy as np\n", 1)
WITH_STEP = YAML.replace("    require: [items >= 10]\n", '    steps:\n    - clean: {run: "data.clean:clean"}\n')


def project(tmp_path: Path, patch: pytest.MonkeyPatch, files: dict[str, str]) -> Toy:
    toy = make_toy(tmp_path / "toy", patch, tmp_path / "keyring", yaml=WITH_STEP, files=files)
    toy.write("incoming/points.csv", table(60))
    toy.become(DATA)
    return toy


def run(toy: Toy, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [str(CDL), *arguments], cwd=toy.root, env=dict(os.environ), capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def change(toy: Toy, path: str, old: str, new: str) -> None:
    text = (toy.root / path).read_text()
    assert old in text
    toy.write(path, text.replace(old, new))


def version(toy: Toy) -> tuple[str, Dataset]:
    registry = toy.become(DATA).registry
    head = registry.head(DatasetHead, "points")
    assert head is not None
    record = registry.get(head.version).record
    assert isinstance(record, Dataset)
    return head.version, record


def first_item(toy: Toy) -> dict[str, object]:
    store = toy.become(DATA).store
    found: dict[str, object] = json.loads(bytes(store.tree(version(toy)[1].train).view(0)))
    return found


@pytest.mark.parametrize("place", ["words.txt", "../toy/words.txt", "data/words.txt"])
def test_a_data_step_reads_what_is_declared_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    plain = {
        "data/clean.py": "def clean(content):\n    return content\n",
        "words.txt": "a b c",
        "data/words.txt": "a b c",
    }
    toy = project(tmp_path, monkeypatch, plain)
    assert run(toy, "run", "data", "--yes")[0] == 0
    before = version(toy)
    toy.write("data/clean.py", STEP.replace("PLACE", place))
    code, _, said = run(toy, "run", "data", "--yes")
    assert code == 1 and said.splitlines()[-2].startswith("error: data/clean.py:5: FileNotFoundError"), said
    assert version(toy) == before and "Traceback" not in said
    if place.startswith(".."):
        return
    change(toy, "cdl.yaml", '"data.clean:clean"', f'"data.clean:clean", files: [{place}]')
    assert run(toy, "run", "data", "--yes")[0] == 0 and first_item(toy)["words"] == 3
    after = version(toy)
    assert after[0] != before[0] and "nothing to do" in run(toy, "run", "data", "--yes")[1]
    toy.write(place, "a b c d")
    code, said, _ = run(toy, "run", "data", "--yes")
    assert code == 0 and "nothing to do" not in said
    assert first_item(toy)["words"] == 4 and version(toy)[0] != after[0]
    toy.write("other.txt", "of no step")
    assert "nothing to do" in run(toy, "run", "data", "--yes")[1]


def test_a_training_reads_what_is_declared_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = {
        "data/clean.py": "def clean(content):\n    return content\n",
        "model/side.py": READING.replace("PLACE", "rate.txt"),
        "rate.txt": "4.0",
    }
    toy = project(tmp_path, monkeypatch, source)
    toy.data(table(60))
    toy.become(DATA)
    code, _, said = run(toy, "train")
    assert code == 1 and "error: model/side.py:" in said and "FileNotFoundError" in said and "cdl trial logs e1" in said
    change(toy, "cdl.yaml", "    validation: 0.25\n", "    validation: 0.25\n    files: [rate.txt]\n")
    first = trained(toy)
    assert trained(toy) == first and jobs(toy, first) == 1, "equal work is not done again"
    toy.write("rate.txt", "0.5")
    second = trained(toy)
    assert second != first and jobs(toy, second) == 1
    change(toy, "cdl.yaml", "max_trials: 6", "max_trials: 1")
    assert run(toy, "run", "model", "--yes")[0] == 0
    assert "nothing to do" in run(toy, "run", "model", "--yes")[1]
    toy.write("rate.txt", "0.25")
    code, said, plan = run(toy, "run", "model", "--yes")
    assert code == 0 and "plan: training: side" in plan and "nothing to do" not in said


def trained(toy: Toy) -> tuple[str, str]:
    """Weights and job of a training."""
    code, said, hint = run(toy, "train", "--json")
    assert code == 0, hint
    [trial] = json.loads(said)
    return trial["weights"], trial["job"]


def jobs(toy: Toy, done: tuple[str, str]) -> int:
    """How often the job of a training ran."""
    return sum(e.fields["job"] == done[1] for e in toy.become(DATA).journal.events("job.finished"))
