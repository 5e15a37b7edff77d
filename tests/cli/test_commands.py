"""Commands as a person types them: real processes, their exit codes and what they say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CDL = Path(sys.executable).with_name("cdl")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    assert run(tmp_path, "init", "toy")[0] == 0
    return tmp_path / "toy"


def run(folder: Path, *arguments: str, who: str = "a@example.org", stdin: str = "") -> tuple[int, str, str]:
    around = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "CDL_"))}
    for role in ("AUTHOR", "COMMITTER"):
        around |= {f"GIT_{role}_NAME": "A", f"GIT_{role}_EMAIL": who}
    keyring = folder if (folder / "keyring").exists() else folder.parent
    around |= {"CDL_KEYRING": str(keyring / "keyring"), "GIT_CONFIG_GLOBAL": os.devnull}
    done = subprocess.run(
        [str(CDL), *arguments], cwd=folder, env=around, capture_output=True, text=True, check=False, input=stdin
    )
    return done.returncode, done.stdout, done.stderr


def test_status_says_who_and_where(root: Path) -> None:
    code, said, _ = run(root, "status")
    assert code == 0 and "a@example.org (solo" in said and "branch main" in said
    found = json.loads(run(root / ".github", "status", "--json")[1])
    assert found["project"] == "toy" and found["waiting"] == []


def test_outside_a_project_the_remedy_is_init(tmp_path: Path) -> None:
    code, _, said = run(tmp_path, "status")
    assert code == 6 and "cdl init" in said and "Traceback" not in said


def test_what_the_system_refuses_is_named_without_a_traceback(root: Path) -> None:
    (root / ".cdl" / "integration").unlink(missing_ok=True)
    (root / ".cdl" / "integration").mkdir()
    code, _, said = run(root, "status")
    assert code == 1 and ".cdl/integration: Is a directory" in said and "Traceback" not in said


def test_init_twice_is_refused_and_changes_nothing(root: Path) -> None:
    before = (root / "cdl.yaml").read_bytes()
    code, _, said = run(root, "init", ".")
    assert code == 4 and "project already" in said and (root / "cdl.yaml").read_bytes() == before


def test_init_keeps_the_files_of_an_existing_repository(tmp_path: Path) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    around = {"cwd": folder, "check": True, "capture_output": True}
    subprocess.run(["git", "init", "-q", "-b", "main"], **around)  # type: ignore[call-overload]
    (folder / ".gitignore").write_text("mine/\n")
    (folder / "work.py").write_text("x = 1\n")
    assert run(folder, "init", ".", "--name", "old")[0] == 0
    assert (folder / ".gitignore").read_text().startswith("mine/\n.cdl/\n")
    shown = subprocess.run(["git", "status", "--porcelain"], **around).stdout  # type: ignore[call-overload]
    assert shown == b"?? work.py\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cdl: 1\nproject: toy\nrols: {}\n", "did you mean 'roles'"),
        ("a: &x 1\nb: *x\n", "anchor"),
        ("cdl: [", "not YAML"),
    ],
)
def test_a_wrong_file_is_one_message_with_line_and_remedy(root: Path, text: str, says: str) -> None:
    (root / "cdl.yaml").write_text(text)
    code, _, said = run(root, "status")
    assert code == 2 and says in said and "cdl.yaml:" in said and "Traceback" not in said


def test_a_key_goes_round(root: Path, tmp_path: Path) -> None:
    text = 'data:\n  d:\n    source: {path: in}\n    items: {files: "*"}\n    labels: {classes: [a, b]}\n'
    (root / "cdl.yaml").write_text("cdl: 1\nproject: toy\n" + text)
    code, _, said = run(root, "key", "backup")
    assert code == 7 and "d has no key yet" in said and "cdl key create d" in said
    assert run(root, "data", "run")[2] == said
    code, _, said = run(root, "key", "create")
    assert code == 0 and "cdl key backup" in said and run(root, "key", "create")[0] == 4
    code, kept, _ = run(root, "key", "backup")
    assert code == 0 and kept.startswith("cdlkey1:")
    (root.parent / "keyring").unlink()
    code, _, said = run(root, "key", "backup")
    assert code == 7 and "you hold no key of d" in said and "cdl key restore" in said
    assert run(root, "key", "restore", stdin=kept)[0] == 0 and run(root, "key", "backup")[1] == kept
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    (fresh / "cdl.yaml").write_text("cdl: 1\nproject: fresh\n" + text)
    code, said, _ = run(fresh, "init", ".")  # somebody wrote cdl.yaml before: it is taken in
    assert code == 0 and "created cdl.yaml" in said and run(fresh, "status")[0] == 0
    code, _, hint = run(fresh, "init", ".")
    assert code == 4 and "project already" in hint


def test_an_init_that_was_broken_off_is_finished(tmp_path: Path, root: Path) -> None:
    folder = tmp_path / "later"
    subprocess.run(["git", "init", "--quiet", "--initial-branch=master", str(folder)], check=True)
    subprocess.run(["git", "config", "user.useConfigOnly", "true"], cwd=folder, check=True)
    nobody = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "nobody"), "GIT_CONFIG_GLOBAL": os.devnull}
    done = subprocess.run([str(CDL), "init", "."], cwd=folder, env=nobody, capture_output=True, text=True)
    assert done.returncode == 7 and "git config user.name" in done.stderr and not (folder / "cdl.yaml").exists()
    (folder / "cdl.yaml").write_text("cdl: 1\nproject: later\n")
    code, said, hint = run(folder, "init", ".")
    assert code == 0, hint
    assert 'branches: {integration: "master"}' in (folder / "cdl.yaml").read_text()
    code, said, _ = run(folder, "status")
    assert code == 0 and "integration branch master" in said


def test_unknown_things_are_named(root: Path) -> None:
    assert run(root, "show", "m-00000000")[0] == 6
    assert run(root, "approve")[0] == 6
    assert run(root, "reopen", "collectoin", "--because", "x")[0] == 6
    code, said, _ = run(root, "log", "--json")
    assert code == 0 and [row["kind"] for row in json.loads(said)] == ["decision"]
    shown = json.loads(run(root, "show", json.loads(said)[0]["id"], "--json")[1])
    assert shown["gate"] == "policy" and shown["verdict"] == "approve"


def test_ci_check_and_verify_fail_on_damage(root: Path) -> None:
    assert run(root, "ci", "check")[0] == 0 and run(root, "store", "verify")[0] == 0
    broken = root / ".cdl" / "store" / "objects" / "00" / ("0" * 62)
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"x")
    code, said, _ = run(root, "store", "verify")
    assert code == 5 and "0" * 64 in said


def test_control_characters_do_not_reach_the_terminal(root: Path) -> None:
    assert run(root, "reopen", "initial_setup", "--because", "red \x1b[31m alert")[0] == 0
    said = run(root, "request")[1]
    assert "\x1b" not in said and "\\x1b" in said
