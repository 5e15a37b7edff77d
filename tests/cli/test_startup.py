"""Start-up budgets are held by what gets imported; the milliseconds are a benchmark."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"numpy", "yaml", "cryptography", "rich", "PIL", "torch", "onnxruntime", "scipy", "sqlite3", "asyncio"}


def imported(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(' '.join(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="no /proc: threads cannot be counted")
def test_numpy_starts_no_threads_in_a_command() -> None:
    code = "import os, sys\nfrom cdl.cli.main import main\nsys.argv = ['cdl', '--help']\nmain()\nimport numpy\n"
    around = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", code + "print(len(os.listdir('/proc/self/task')))"],
        capture_output=True,
        text=True,
        check=True,
        env=around,
    )
    assert done.stdout.splitlines()[-1] == "1"


def test_import_cdl_is_light() -> None:
    assert not imported("import cdl") & (HEAVY | {"msgspec", "click", "blake3"})


def test_help_imports_no_command() -> None:
    found = imported(
        "from click.testing import CliRunner\nfrom cdl.cli.main import cli\nCliRunner().invoke(cli, ['--help'])"
    )
    assert "click" in found and not found & {"numpy", "yaml", "cryptography", "torch", "blake3", "sqlite3"}


@pytest.mark.parametrize("module", ["start", "workflow", "registry", "keeping", "data"])
def test_commands_import_nothing_heavy(module: str) -> None:
    assert not imported(f"import cdl.cli.{module}") & {
        "numpy",
        "cryptography",
        "torch",
        "PIL",
        "scipy",
        "rich",
        "onnxruntime",
    }
