"""Without the extras everything that needs none of them works, and what needs one names it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cdl import optional as optionals
from cdl.errors import Unavailable
from cdl.optional import EXTRAS, optional, require
from tests.projects import DATA, YAML, Toy, make_toy, table

BLOCKED = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {set(EXTRAS)!r}:
            raise ModuleNotFoundError(f"No module named '{{name}}'", name=name)

sys.meta_path.insert(0, Blocked())
"""
STEP = f"""
import sys

def clean(content):
    there = sorted({set(EXTRAS)!r} & set(sys.modules))
    if there:
        raise RuntimeError("imported: " + ", ".join(there))
    return content
"""
WITH_STEP = YAML.replace("    require: [items >= 10]\n", '    steps:\n    - clean: {run: "data.clean:clean"}\n')


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    made = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", yaml=WITH_STEP, files={"data/clean.py": STEP})
    made.write("incoming/points.csv", table(60))
    made.become(DATA)
    return made


def blocked(toy: Toy, *arguments: str) -> tuple[int, str, str]:
    """A command in a process that cannot import any optional package."""
    code = BLOCKED + "from cdl.cli.main import main\nmain()\n"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=toy.root, env=dict(os.environ), capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def test_what_needs_no_extra_works_without_them(toy: Toy) -> None:
    assert subprocess.run([sys.executable, "-c", BLOCKED + "import cdl; cdl.open"], check=True)
    for arguments in (
        ["--help"],
        ["status"],
        ["run", "data", "--yes"],
        ["approve", "data"],
        ["data", "analyze"],
        ["report", "points"],
        ["label", "next", "--json"],
        ["reproduce"],
        ["log"],
        ["events"],
        ["status"],
        ["store", "verify"],
        ["ci", "check"],
        ["experiment", "create", "one"],
    ):
        code, _, hint = blocked(toy, *arguments)
        assert code == 0, f"{arguments}: {hint}"
    assert json.loads(blocked(toy, "data", "list", "--json")[1])[0]["items"] == 60


def test_what_needs_one_names_the_extra_to_install(toy: Toy) -> None:
    workspace = toy.data(table(60))
    code, _, hint = blocked(toy, "train")
    assert (code, hint) == (7, "error: safetensors is not installed\n  pip install 'continuous-deep-learning[serve]'\n")
    assert workspace.git.run("status", "--porcelain") == b""
    done = subprocess.run([str(Path(sys.executable).with_name("cdl")), "train"], cwd=toy.root, capture_output=True)
    assert done.returncode == 0
    code, _, hint = blocked(toy, "trial", "compare", "e2", "--plot", "validation.accuracy")
    assert code == 7 and "matplotlib is not installed\n  pip install 'continuous-deep-learning[train]'" in hint
    code, _, hint = blocked(toy, "model", "register", "e2")
    assert code == 7 and "safetensors is not installed" in hint and "Traceback" not in hint


def test_each_package_is_named_by_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pyproject = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    for package, extra in EXTRAS.items():
        line = next(line for line in pyproject.splitlines() if line.startswith(f"{extra} = ["))
        assert f'"{package}>=' in line, package
    assert optional("json.decoder").JSONDecoder is json.JSONDecoder
    monkeypatch.setitem(EXTRAS, "nowhere_to_be_found", "train")
    for ask in (optional, require):
        with pytest.raises(Unavailable, match="nowhere_to_be_found is not installed") as caught:
            ask("nowhere_to_be_found.part")
        assert caught.value.remedy == "pip install 'continuous-deep-learning[train]'"
    assert not optionals.present("nowhere_to_be_found")


def test_no_optional_package_is_imported_otherwise() -> None:
    for path in (Path(__file__).parents[1] / "src" / "cdl").rglob("*.py"):
        text = path.read_text()
        for name in EXTRAS:
            assert f'import_module("{name}' not in text, path
            if path.parent.name != "serve" or path.name not in ("__main__.py", "connection.py"):
                # those run in a process of their own; control.start asks before
                assert f"from {name}" not in text and f"\nimport {name}" not in text, path
