"""Small projects for tests: a toy model of ten lines on rows of numbers, and people who work on it."""

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cdl.cli.main import cli
from cdl.config.load import load
from cdl.cycle import CYCLE
from cdl.data import versions
from cdl.errors import CdlError
from cdl.git.repository import Git
from cdl.keys import Keyring
from cdl.model.evaluate import evaluate
from cdl.model.register import register
from cdl.model.submit import offer
from cdl.model.train import train
from cdl.project import open_workspace
from cdl.registry.records import Package
from cdl.sharing.trust import Trusted, note
from cdl.workflow import start
from cdl.workflow.decide import decide, meant
from cdl.workflow.run import run
from cdl.workflow.workspace import Workspace

Person = Callable[[str], Workspace]
DATA, SCIENCE, REVIEW, OPS = (f"{name}@example.org" for name in ("data", "science", "review", "ops"))
ROLES = f"""\
roles:
  data_engineer: [{DATA}]
  data_labeler: [{DATA}]
  data_scientist: [{SCIENCE}]
  model_validator: [{REVIEW}]
  software_engineer: [{OPS}]
  devops: [{OPS}]
"""
YAML = """\
cdl: 1
project: toy
requirements: [test.accuracy >= 0.60]
data:
  points:
    source: {path: incoming}
    items: {rows: {format: csv, id: id, label: side}}
    split: {test: 0.3}
    require: [items >= 10]
    labels: {classes: [left, right], origin: {source: true}}
model:
  side:
    data: points
    train: "model.side:train"
    predict: "model.side:predict"
    transform: "model.features:Columns"
    validation: 0.25
    hyperparameters: {rate: 4.0}
    epochs: 4
    search: {space: {rate: {min: 0.05, max: 8.0, log: true}}, max_trials: 6, min_epochs: 1, max_epochs: 4, eta: 2}
deploy:
  toy: {model: side, stages: {staging: {}, production: {}}, window: 20}
"""
FILES = YAML.replace("{rows: {format: csv, id: id, label: side}}", '{files: "*.json"}').replace(
    "origin: {source: true}", "origin: {csv: {path: sides.csv, item: item, label: side}}"
)  # the same points, a file each
SIDE = '''
"""Logistic regression by plain gradient steps."""

import numpy as np


def train(context):
    x, y = context.training.inputs, context.training.labels
    model = {"w": np.zeros(x.shape[1], dtype=np.float32), "b": np.zeros(1, dtype=np.float32)}
    for _ in context.loop(model=model):
        order = np.random.permutation(len(x))
        p = 1 / (1 + np.exp(-(x[order] @ model["w"] + model["b"])))
        error = (p - y[order]).astype(np.float32)
        model["w"] = model["w"] - np.float32(context.hyperparameters["rate"]) * (x[order].T @ error / len(x))
        model["b"] = model["b"] - np.float32(context.hyperparameters["rate"]) * error.mean(keepdims=True)
        found = predict(model, context.validation.inputs).argmax(axis=1)
        context.report(accuracy=float((found == context.validation.labels).mean()))


def predict(weights, inputs):
    p = 1 / (1 + np.exp(-(inputs @ weights["w"] + weights["b"])))
    return np.stack([1 - p, p], axis=1)
'''
FEATURES = '''
"""Two columns, scaled by what the training part shows."""

import json

import numpy as np


class Columns:
    def __init__(self, scale):
        self.scale = scale

    @classmethod
    def fit(cls, items):
        return cls(np.abs(read(items)).max(axis=0))

    def __call__(self, items):
        return read(items) / self.scale

    def state(self):
        return {"scale": self.scale}

    @classmethod
    def from_state(cls, state):
        return cls(state["scale"])


def read(items):
    rows = [json.loads(item) for item in items]
    return np.asarray([[float(row["x"]), float(row["y"])] for row in rows], dtype=np.float32)
'''


def table(count: int, *, first: int = 0, shift: float = 0.0) -> str:
    """Rows of points; the side is the sign of x - y/4, but for every 19th."""
    lines = ["id,x,y,side"]
    for i in range(first, first + count):
        x, y = ((i * 37) % 101 - 50) / 10 + shift, ((i * 53) % 97 - 48) / 10
        right = (x - shift - y / 4 > 0) != (i % 19 == 0)
        lines.append(f"p{i},{x:.3f},{y:.3f},{'right' if right else 'left'}")
    return "\n".join(lines) + "\n"


def write_files(toy: "Toy", count: int) -> None:
    """Points as files in three folders, and a table of their sides: the sources of FILES."""
    lines = ["item,side"]
    for n, row in enumerate(table(count).splitlines()[1:]):
        _, x, y, side = row.split(",")
        toy.write(f"incoming/{n % 3}/{n:03d}.json", json.dumps({"x": x, "y": y}))
        lines.append(f"{n % 3}/{n:03d}.json,{side}")
    toy.write("sides.csv", "\n".join(lines) + "\n")


class Toy:
    """A toy project in a folder, opened as whoever acts."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, *, keyring: Path | None = None) -> None:
        self.root = root
        self._keyring = keyring  # whose keys are used from here; None: as it is set already
        self.said: list[str] = []  # progress lines, whoever watched
        self._patch = monkeypatch

    def become(self, email: str) -> Workspace:
        """The project as somebody opens it."""
        self.sign(email)
        return open_workspace(self.root, tell=self.said.append)

    def cdl(self, email: str, *arguments: str, given: str = "") -> str:
        """A command as somebody types it, in this process; what it prints. Its errors are raised."""
        self.sign(email)
        self._patch.chdir(self.root)
        done = CliRunner().invoke(cli, arguments, input=given, catch_exceptions=False, standalone_mode=False)
        return done.stdout

    def refused(self, email: str, *arguments: str) -> tuple[str, CdlError]:
        """A command that ends with an error: what it prints, and the error."""
        self.sign(email)
        self._patch.chdir(self.root)
        done = CliRunner().invoke(cli, arguments, standalone_mode=False)
        assert isinstance(done.exception, CdlError), done.output
        return done.stdout, done.exception

    def sign(self, email: str) -> None:
        """What follows is done by somebody."""
        if self._keyring is not None:
            self._patch.setenv("CDL_KEYRING", str(self._keyring))
        for role in ("AUTHOR", "COMMITTER"):
            self._patch.setenv(f"GIT_{role}_NAME", email.partition("@")[0])
            self._patch.setenv(f"GIT_{role}_EMAIL", email)

    def write(self, path: str, text: str) -> None:
        """Writes a file of the project."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def commit(self, workspace: Workspace, message: str) -> None:
        """Commits everything, as a person would."""
        workspace.git.run("add", "--all")
        workspace.git.run("commit", "--quiet", "--message", message)

    def approve(self, email: str, what: str | None = None, *, despite: str | None = None) -> str:
        """Approves what waits; the decision's id."""
        workspace = self.become(email)
        opened = meant(workspace, CYCLE, what)
        return decide(workspace, CYCLE, opened.gate, opened.subject, "approve", despite=despite).id

    def model(self, branch: str = "exp/first", *, who: str = SCIENCE, **options: Any) -> str:
        """A trial on a branch of its own, registered; the model."""
        workspace = self.become(who)
        workspace.git.run("switch", "--quiet", "-C", branch, "main")
        return register(workspace, train(workspace, "side", **options))

    def submit(self, model: str, who: str = SCIENCE) -> None:
        """Evaluates by somebody who holds the key, and offers the commit checked out."""
        evaluate(self.become(DATA), model)
        workspace = self.become(who)
        offer(workspace, model)
        decide(workspace, CYCLE, "submission", model, "submit")

    def promote(
        self,
        branch: str = "exp/first",
        *,
        who: str = SCIENCE,
        by: str = REVIEW,
        despite: str | None = None,
        **options: Any,
    ) -> str:
        """A model all the way to the integration branch, which is checked out afterwards."""
        model = self.model(branch, who=who, **options)
        self.submit(model, who)
        run(self.become(DATA), CYCLE, None)
        self.approve(by, model, despite=despite)
        self.become(who).git.run("switch", "--quiet", "main")
        return model

    def package(self, *, by: str = REVIEW, despite: str | None = None) -> str:
        """The promoted model revised, approved and packaged; the package."""
        run(self.become(OPS), CYCLE, "deployment")
        self.approve(by, "revision", despite=despite)
        run(self.become(OPS), CYCLE, "deployment")
        workspace = self.become(OPS)
        return workspace.registry.all(Package)[-1][0]

    def copy(self, root: Path) -> "Toy":
        """The whole folder somewhere else, to work in without changing this one."""
        shutil.copytree(self.root, root, symlinks=True)
        return Toy(root, self._patch)

    def clone(self, root: Path) -> "Toy":
        """A second clone, with all refs and a copy of the store, and nothing else of `.cdl`."""
        for command in (
            ["clone", "--quiet", str(self.root), str(root)],
            ["-C", str(root), "fetch", "--quiet", "origin"],
        ):
            refs = ["refs/cdl/*:refs/cdl/*"] if "fetch" in command else []
            subprocess.run(["git", *command, *refs], check=True)
        shutil.copytree(self.root / ".cdl/store", root / ".cdl/store")
        note(Git(root), Trusted(code=True))
        return Toy(root, self._patch)

    def data(self, rows: str, email: str = DATA) -> Workspace:
        """Brings rows in through the data pipeline and its gate; ready afterwards."""
        self.write("incoming/points.csv", rows)
        versions.make(self.become(email), "points")
        self.approve(email, "data")
        return self.become(email)


def make_toy(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    keyring: Path,
    *,
    roles: bool = False,
    yaml: str = YAML,
    files: Mapping[str, str] | None = None,
) -> Toy:
    """A toy project; with `roles` its four people's policy is in force."""
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("CDL_KEYRING", str(keyring))
    monkeypatch.delenv("CDL_KEY", raising=False)
    toy = Toy(root, monkeypatch, keyring=keyring)
    source = {
        "model/side.py": SIDE,
        "model/features.py": FEATURES,
        "requirements.lock": "numpy==2.0.0\n",
        **(files or {}),
    }
    for path, text in {"cdl.yaml": yaml, **source}.items():
        toy.write(path, text)
    (root / "cdl.yaml").rename(root / "cdl.yaml.later")
    laid = start.lay_out(root, name="toy")
    (root / "cdl.yaml.later").rename(root / "cdl.yaml")
    for name in load(root).data:
        Keyring().create("toy", name, secret=b"a key of 32 bytes, always equal.")
    workspace = toy.become(DATA)
    start.first_policy(workspace, tuple(dict.fromkeys((*laid.written, *source))))
    if roles:
        toy.write("cdl.yaml", yaml + ROLES)
        toy.commit(toy.become(DATA), "roles")
        toy.approve(DATA, "policy")
    return toy
