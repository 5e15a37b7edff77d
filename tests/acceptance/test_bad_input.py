"""What is wrong is one message that names the place and the remedy, and nothing that is stored is lost."""

import io
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cdl.registry.records import DatasetHead, LabelsHead
from tests.projects import DATA, SIDE, YAML, Toy, make_toy, table

CDL = Path(sys.executable).with_name("cdl")
CLEAN = "def clean(content):\n    return content\n"
WITH_STEP = YAML.replace("    require: [items >= 10]\n", '    steps:\n    - clean: {run: "data.clean:clean"}\n')
LETTERS = "abcdefghij"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n" for old, new in zip(LETTERS, LETTERS[1:], strict=False)
)


@dataclass(frozen=True)
class Case:
    """What is spoilt, the command that meets it, its exit code, and what it says: the place, what is wrong, the remedy."""

    spoil: Callable[[Toy], None]
    command: tuple[str, ...]
    code: int
    said: str


def text(path: str, old: str, new: str) -> Callable[[Toy], None]:
    """A change of a file."""

    def spoil(toy: Toy) -> None:
        before = (toy.root / path).read_text()
        assert old in before
        toy.write(path, before.replace(old, new, 1))

    return spoil


def write(path: str, content: str) -> Callable[[Toy], None]:
    return lambda toy: toy.write(path, content)


def missing(toy: Toy) -> None:
    (toy.root / "incoming").rename(toy.root / ".away")


def empty(toy: Toy) -> None:
    (toy.root / "incoming/points.csv").unlink()


def wrong_hash(toy: Toy) -> None:
    (toy.root / "incoming/points.csv").write_text(table(70))
    url = (toy.root / "incoming/points.csv").as_uri()
    text("cdl.yaml", "{path: incoming}", f'{{url: "{url}", sha256: "{"0" * 64}"}}')(toy)


def escaping(toy: Toy) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as pack:
        pack.writestr("points.csv", table(70))
        pack.writestr("../outside.csv", table(3))
    (toy.root / "incoming/pack.zip").write_bytes(buffer.getvalue())
    text("cdl.yaml", "{path: incoming}", "{path: incoming/pack.zip}")(toy)


def unknown_class(toy: Toy) -> None:
    toy.write("incoming/points.csv", table(66).replace(",left\n", ",lfet\n", 1))
    assert run(toy, *RUN)[0] == 0


def nothing(toy: Toy) -> None:
    """The command itself is wrong."""


RUN = ("run", "data", "--yes")
LATER = "context.report(loss=float('nan') if _ == 2 else 1.0, "
CASES = {
    "misspelt key": Case(
        text("cdl.yaml", "requirements:", "requirments:"), ("status",), 2,
        r"cdl\.yaml:3: requirments: unknown key 'requirments'\n  did you mean 'requirements'\?",
    ),
    "wrong type": Case(
        text("cdl.yaml", "validation: 0.25", "validation: much"), ("status",), 2,
        r"cdl\.yaml:\d+: model\.side\.validation: expected float, got str\n  cdl reference says what is allowed",
    ),
    "yaml trap": Case(
        text("cdl.yaml", "epochs: 4", "epochs: 0777"), ("status",), 2,
        r"cdl\.yaml:\d+: model\.side\.epochs: expected int, got str\n  cdl reference",
    ),
    "alias bomb": Case(write("cdl.yaml", BOMB), ("status",), 2, r"cdl\.yaml:1: an anchor \(&\) is not allowed"),
    "unknown step to reopen": Case(
        nothing, ("reopen", "colection", "--because", "x"), 6, r"no step 'colection'\n  steps: .*collection"
    ),
    "unknown step to reject to": Case(
        nothing, ("reject", "data", "--to", "nowhere", "--because", "x"), 3,
        r"the data gate does not send back to 'nowhere'\n  --to collection",
    ),
    "no such module": Case(
        text("cdl.yaml", "data.clean:clean", "data.claen:clean"), RUN, 2,
        r"cdl\.yaml: there is no module 'data\.claen'\n  write data/claen\.py, or correct 'data\.claen:clean'",
    ),
    "a module that does not import": Case(
        write("data/clean.py", "import nowhere_to_be_found\n" + CLEAN), RUN, 1,
        r"data/clean\.py:1: ModuleNotFoundError\n  cdl data logs s:[0-9a-f]{64}"
    ),
    "no python": Case(write("data/clean.py", "def clean(:\n"), RUN, 2, r"data/clean\.py:1: not Python: .*\n  correct the file"),
    "missing source": Case(
        missing, ("data", "run"), 2, r"incoming: there is no such file or folder\n  put it there, or correct `source\.path`"
    ),
    "empty source": Case(empty, RUN, 2, r"incoming: the source is empty\n  put files there, or correct the source"),
    "wrong hash": Case(
        wrong_hash, RUN, 2, r"file://.*points\.csv: its sha256 is [0-9a-f]{64}, not 0{64}\n  check where it came from"
    ),
    "a path that escapes": Case(
        escaping, RUN, 2, r"incoming/pack\.zip: a member's path escapes: '\.\./outside\.csv'\n  pack it with relative names"
    ),
    "a label for an unknown item": Case(
        nothing, ("label", "set", "0" * 32, "left"), 2, r"labels: no item 000000000000 in d-[0-9a-f]{8}\n  cdl data list"
    ),
    "a label of an unknown class": Case(
        unknown_class, ("approve", "data"), 2, r"label of [0-9a-f]{12}: no class 'lfet'\n  classes: left, right"
    ),
    "a loss that is no number": Case(
        text("model/side.py", "context.report(", LATER), ("train",), 1, r"validation\.loss is nan in epoch 2\n  cdl trial logs e2"
    ),
    "a trial that raises": Case(
        write("model/side.py", SIDE.replace("    for _ in", "    raise KeyError('no')\n    for _ in")), ("train",), 1,
        r"model/side\.py:10: KeyError: 'no'\n  cdl trial logs e2",
    ),
    "no such hyperparameter": Case(
        nothing, ("train", "--set", "raet=1"), 2, r"cdl\.yaml: no hyperparameter 'raet'\n  did you mean 'rate'\?"
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toy]:
    """A project with approved data, labels, a trial, and one more version that waits."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        toy = make_toy(folder / "toy", patch, folder / "keyring", yaml=WITH_STEP, files={"data/clean.py": CLEAN})
        toy.data(table(60))
        assert run(toy, "train")[0] == 0
        toy.write("incoming/points.csv", table(64))
        assert run(toy, *RUN)[0] == 0
        yield toy


def run(toy: Toy, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [str(CDL), *arguments], cwd=toy.root, env=dict(os.environ), capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def kept(toy: Toy) -> dict[str, set[str]]:
    """What must still be there: commits, records, objects, claims and events."""
    workspace = toy.become(DATA)
    return {
        "commits": set(workspace.git.text("rev-list", "--all").split()),
        "records": {s.id for s in workspace.registry.everything()},
        "objects": set(workspace.store.names()),
        "claims": set(workspace.store.claims("jobs") + workspace.store.claims("trials")),
        "events": {e.id for e in workspace.journal.events()},
    }


def heads(toy: Toy) -> tuple[DatasetHead | None, LabelsHead | None, str]:
    workspace = toy.become(DATA)
    registry = workspace.registry
    return registry.head(DatasetHead, "points"), registry.head(LabelsHead, "points"), workspace.git.head()


@pytest.mark.parametrize("name", CASES)
def test_it_is_named_with_its_place_and_remedy_and_nothing_is_lost(made: Toy, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    toy = made.copy(tmp_path / "toy")
    good = (toy.root / "cdl.yaml").read_text()
    case.spoil(toy)
    spoilt = (toy.root / "cdl.yaml").read_text()
    toy.write("cdl.yaml", good)
    before, stood = kept(toy), heads(toy)
    toy.write("cdl.yaml", spoilt)
    code, said, hint = run(toy, *case.command)
    assert code == case.code, said + hint
    assert "Traceback" not in hint and re.search(r"^(error|refused): " + case.said, hint, re.MULTILINE), hint
    toy.write("cdl.yaml", good)
    after = kept(toy)
    assert heads(toy) == stood
    assert all(before[what] <= after[what] for what in before)
    assert run(toy, "store", "verify")[0] == 0 and run(toy, "ci", "check")[0] == 0 and run(toy, "status")[0] == 0


def test_the_log_of_a_data_step_is_read_by_who_holds_the_key(made: Toy, tmp_path: Path) -> None:
    toy = made.copy(tmp_path / "toy")
    toy.write("data/clean.py", "def clean(content):\n    raise ValueError(content)\n")
    code, _, hint = run(toy, *RUN)
    command = re.search(r"cdl (data logs s:[0-9a-f]{64})", hint)
    assert code == 1 and command is not None and b"ValueError" not in every_object(toy)
    code, said, _ = run(toy, *command[1].split())
    assert code == 0 and "ValueError: b'{" in said
    done = subprocess.run(
        [str(CDL), *command[1].split()],
        cwd=toy.root,
        env=os.environ | {"CDL_KEYRING": str(tmp_path / "none")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 7 and "you hold no key of points" in done.stderr


def every_object(toy: Toy) -> bytes:
    return b"".join(path.read_bytes() for path in (toy.root / ".cdl/store/objects").rglob("*") if path.is_file())
