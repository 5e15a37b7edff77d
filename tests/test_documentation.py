"""The documentation says what the code does."""

import ast
import re
import tomllib
from importlib import import_module
from pathlib import Path

from cdl.cli.reference import reference
from cdl.cycle import CYCLE

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "cdl"
LONGEST_FILE = 600
LONGEST_FUNCTION = 60


def architecture() -> dict[str, str]:
    """Package -> what it holds, in the page's order."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| (\w+) \| (.+) \|$", text, re.MULTILINE)
    return {name: holds for name, holds in rows if name != "package"}


def test_the_page_of_the_commands_is_generated() -> None:
    page = ROOT / "docs" / "reference" / "commands.md"
    assert page.read_text() == reference(), "python -m cdl.cli.reference > docs/reference/commands.md"


def test_each_package_begins_with_its_row() -> None:
    for name, holds in architecture().items():
        if (SOURCE / name / "__init__.py").exists():
            first = (import_module(f"cdl.{name}").__doc__ or "").splitlines()[0]
            assert first.rstrip(".") == holds.rstrip("."), name


def test_the_layers_stand_in_the_order_of_the_page() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    written = [name.strip(" ()") for row in layers for name in row.split("|")]
    assert written == list(architecture())


def test_every_step_of_the_cycle_stands_on_its_page() -> None:
    page = (ROOT / "docs" / "workflow.md").read_text()
    for step in CYCLE.steps:
        row = f"| {step.name} | {', '.join(step.roles)} | {step.reads} | {step.writes} | `{step.command}` |"
        assert row in page, row


def test_files_and_functions_stay_short() -> None:
    for path in SOURCE.rglob("*.py"):
        text = path.read_text()
        assert len(text.splitlines()) <= LONGEST_FILE, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.body[0].lineno + 1
                assert length <= LONGEST_FUNCTION, f"{path}: {node.name}"
