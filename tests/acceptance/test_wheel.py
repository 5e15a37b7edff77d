"""The wheel: built without the network, installed into an empty environment, and a project made with it."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def done(*command: str, where: Path, **around: str) -> str:
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")} | around
    found = subprocess.run(command, cwd=where, env=env, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def test_a_project_is_made_with_the_installed_wheel(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    done(*build, "--wheel-dir", str(tmp_path / "dist"), str(ROOT), where=tmp_path)
    [wheel] = (tmp_path / "dist").glob("continuous_deep_learning-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "cdl/examples/digits/cdl.yaml" in names and not [n for n in names if n.startswith("tests") or ".pyc" in n]
    assert "cdl/examples/news/cdl.yaml" in names and not [n for n in names if n.endswith(".zip")]  # its terms forbid it
    done(sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env"), where=tmp_path)
    python = tmp_path / "env/bin/python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    done(*pip, str(wheel), where=tmp_path)
    installed = Path(
        done(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", where=tmp_path).strip()
    )
    (installed / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")  # what it depends on; no .pth of theirs
    told = done(str(python), "-c", "import cdl; print(cdl.__file__)", where=tmp_path)
    assert Path(told.strip()).is_relative_to(installed)
    me = {
        **{f"GIT_{role}_NAME": "A" for role in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{role}_EMAIL": "a@example.org" for role in ("AUTHOR", "COMMITTER")},
        "GIT_CONFIG_GLOBAL": os.devnull,
        "CDL_KEYRING": str(tmp_path / "keyring"),
    }
    cdl = str(tmp_path / "env/bin/cdl")
    made = json.loads(done(cdl, "init", "--example", "digits", "digits", "--json", where=tmp_path, **me))
    example = {p.relative_to(ROOT / "examples/digits").as_posix() for p in (ROOT / "examples/digits").rglob("*.*")}
    assert {n for n in example if "__pycache__" not in n and not n.startswith(".")} <= set(made["written"])
    project = tmp_path / "digits"
    done(str(python), "make_data.py", "--part", "later", where=project, **me)
    assert "nothing waits for a decision" in done(cdl, "status", where=project, **me)
    done(cdl, "run", "data", "--yes", where=project, **me)
    [listed] = json.loads(done(cdl, "data", "list", "--json", where=project, **me))
    assert listed["items"] + listed["rejected"] == 359
