"""Reading runs nothing of the project: with every module, command and hook set to leave a trace, no trace is left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cdl.model import trials
from cdl.registry.records import short
from tests.projects import DATA, REVIEW, YAML, make_toy, table

CDL = Path(sys.executable).with_name("cdl")


def test_every_reading_command_leaves_hostile_code_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = make_toy(tmp_path / "toy", monkeypatch, tmp_path / "keyring", roles=True)
    toy.data(table(120))
    model = toy.promote()
    toy.package()
    toy.submit(toy.model("exp/second", seed=3))  # a review is open
    workspace = toy.become(REVIEW)
    first = trials.trials(workspace)[0]
    trial, dataset, other = (
        first.id,
        workspace.registry.get(first.data["dataset"]).id,
        workspace.registry.get(first.data["labels"]).id,
    )
    trace = tmp_path / "trace"
    poison = f"import pathlib\npathlib.Path({str(trace)!r}).touch()\nraise SystemExit(13)\n"
    for path in toy.root.rglob("*.py"):
        path.write_text(poison)
    for name in ("sitecustomize.py", "usercustomize.py", "conftest.py", "cdl.py", "numpy.py", "msgspec.py"):
        toy.write(name, poison)
    yaml = YAML.replace("source: {path: incoming}", f"source: {{command: [touch, {trace}]}}")
    yaml = yaml.replace("    require:", "    steps: [{bad: {run: 'nowhere:nothing'}}]\n    require:")
    toy.write("cdl.yaml", yaml + f'notify: "touch {trace}"\n')
    hooks = toy.root / ".git/hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("pre-commit", "post-checkout", "post-index-change", "reference-transaction", "fsmonitor-watchman"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {trace}\n")
        (hooks / name).chmod(0o755)
    workspace.git.run("config", "core.fsmonitor", str(hooks / "fsmonitor-watchman"))
    commands = [
        ["status"],
        ["status", "--json"],
        ["log"],
        ["show", model],
        ["diff", dataset, dataset],
        ["lineage", model],
        ["lineage", other, "--down"],
        ["events"],
        ["request", "list"],
        ["data", "list"],
        ["data", "status"],
        ["data", "show"],
        ["data", "rejected"],
        ["data", "analyze"],
        ["trial", "list"],
        ["trial", "show", trial],
        ["trial", "logs", trial],
        ["trial", "compare", trial],
        ["experiment", "list"],
        ["model", "list"],
        ["deploy", "status"],
        ["report", "points"],
        ["report", short(model)],
        ["report", "first"],
        ["report", "--markdown"],
        ["report", "side", "--print"],
        ["report"],
        ["store", "verify"],
        ["doctor", "--full"],
        ["gc"],
        ["ci", "check"],
        ["label", "next", "--json"],
        ["--help"],
        ["run", "--help"],
    ]
    around = os.environ | {"GIT_AUTHOR_EMAIL": DATA}
    for command in commands:
        done = subprocess.run([str(CDL), *command], cwd=toy.root, env=around, capture_output=True, text=True)
        assert done.returncode == 0, (command, done.stderr)
        assert not trace.exists(), command
    subprocess.run([str(CDL), "train"], cwd=toy.root, env=around, capture_output=True)
    assert trace.exists()  # the poison works: what executes does find it
