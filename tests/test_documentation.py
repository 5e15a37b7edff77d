"""The documentation says what the code does."""

import ast
import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from cdl.cli.reference import reference
from cdl.cycle import CYCLE
from tests.projects import DATA, make_toy, table

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "cdl"
LONGEST_FILE = 600
LONGEST_FUNCTION = 60


def architecture() -> dict[str, str]:
    """Package -> what it holds, in the page's order; of `data` the rooms too."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| ([\w.]+) \| (.+) \|$", text, re.MULTILINE)
    return {name: holds for name, holds in rows if name not in ("package", "room")}


def test_the_page_of_the_commands_is_generated() -> None:
    page = ROOT / "docs" / "reference" / "commands.md"
    assert page.read_text() == reference(), "python -m cdl.cli.reference > docs/reference/commands.md"


def test_each_package_begins_with_its_row() -> None:
    for name, holds in architecture().items():
        if (SOURCE / name.replace(".", "/") / "__init__.py").exists():
            first = (import_module(f"cdl.{name}").__doc__ or "").splitlines()[0]
            assert first.rstrip(".") == holds.rstrip("."), name


def test_the_layers_stand_in_the_order_of_the_page() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages, rooms = (contract["layers"] for contract in settings["tool"]["importlinter"]["contracts"][:2])
    written = [name.strip(" ()") for row in packages for name in row.split("|")]
    beside = [
        name for name in (room.removeprefix("cdl.") for room in rooms) if (SOURCE / name.replace(".", "/")).is_dir()
    ]
    assert written + beside == list(architecture())


def test_every_step_of_the_cycle_stands_on_its_page() -> None:
    page = (ROOT / "docs" / "workflow.md").read_text()
    for step in CYCLE.steps:
        row = f"| {step.name} | {', '.join(step.roles)} | {step.reads} | {step.writes} | `{step.command}` | `{step.function}` |"
        assert row in page, row
    assert page.count("` | `cdl.") == len(CYCLE.steps)
    for gate in CYCLE.gates.values():
        found = re.search(rf"^\| {gate.name} \| {gate.role} \| .+ \| (.+) \|$", page, re.MULTILINE)
        assert found is not None and found[1] in (", ".join(gate.back_to), "the step that the request names"), gate.name


def test_files_and_functions_stay_short() -> None:
    for path in SOURCE.rglob("*.py"):
        text = path.read_text()
        assert len(text.splitlines()) <= LONGEST_FILE, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.body[0].lineno + 1
                assert length <= LONGEST_FUNCTION, f"{path}: {node.name}"


def test_every_call_on_the_python_page_is_there() -> None:
    text = (ROOT / "docs" / "python.md").read_text()
    table = text[text.index("| for | call |") :]
    found = set(re.findall(r"`(cdl(?:\.\w+)+)", table))
    assert len(found) > 12
    for call in found:
        module, _, name = call.rpartition(".")
        owner, _, maybe_class = module.rpartition(".")
        if maybe_class[:1].isupper():
            assert hasattr(getattr(import_module(owner), maybe_class), name), call
        else:
            assert hasattr(import_module(module), name), call


def test_the_example_on_the_python_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring")
    toy.data(table(80))
    toy.become(DATA)
    monkeypatch.chdir(toy.root)
    text = (ROOT / "docs" / "python.md").read_text()
    block = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert block
    code = block[1].replace("digits", "points").replace("reader", "side").replace('{"width": 16}', '{"rate": 1.0}')
    names: dict[str, object] = {}
    exec(compile(code, "docs/python.md", "exec"), names)
    assert str(names["model"]).startswith("m-") and len(names["batch"]) == 2  # type: ignore[arg-type]
