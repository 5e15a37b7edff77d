"""Records of every kind by hand, in a repository of their own."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cdl.git.repository import Git
from cdl.journal import batch
from cdl.journal.journal import Journal
from cdl.registry.records import (
    Dataset,
    DatasetHead,
    Labels,
    LabelsHead,
    Made,
    Model,
    ModelHead,
    Package,
    Split,
    Stage,
    Transformation,
    encode,
)
from cdl.registry.registry import Registry
from cdl.store.store import Store

WHO = "a@example.org"


class Kept:
    """A repository with a registry and a store; its clock is set by hand, so that order never depends on speed."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, *, production: str | None = None) -> None:
        for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
            monkeypatch.setenv(name, os.devnull)
        self.root, self.patch, self.minute, self.production = root, monkeypatch, 0, production
        root.mkdir()
        self.become(WHO)
        git = Git.init(root)
        (root / ".gitignore").write_text(".cdl/\n")
        git.run("add", ".gitignore")
        git.run("commit", "--quiet", "--message", "start")
        self.store = Store(root / ".cdl" / "store")
        self.registry = self.opened()

    def opened(self) -> Registry:
        """The registry as another command opens it."""
        folder = self.root / ".cdl"
        return Registry(Git(self.root), Journal(folder), folder, integration="main", production=self.production)

    def become(self, who: str) -> None:
        """Who acts from now on."""
        for role in ("AUTHOR", "COMMITTER"):
            self.patch.setenv(f"GIT_{role}_NAME", who.partition("@")[0])
            self.patch.setenv(f"GIT_{role}_EMAIL", who)
        self.tick()

    def tick(self) -> str:
        """A minute passes; the time."""
        self.minute += 1
        now = f"2026-01-01T{self.minute // 60:02d}:{self.minute % 60:02d}:00Z"
        for role in ("AUTHOR", "COMMITTER"):
            self.patch.setenv(f"GIT_{role}_DATE", now)
        return now

    def switch(self, branch: str, start: str = "main") -> None:
        """Makes a branch and checks it out."""
        self.registry.git.run("switch", "--quiet", "-C", branch, start)

    def commit(self, *records: Any, command: str = "make", line: str = "it", **more: Any) -> str:
        """A commit of the registry, a minute later; the first record's id."""
        self.tick()
        ids = self.registry.commit(*records, command=command, line=line, **more).ids
        return ids[0] if ids else ""

    def dataset(self, items: Mapping[str, str], *, name: str = "points", head: bool = True) -> str:
        """A version of a dataset with these training items, after the one that stands."""
        before = self.registry.head(DatasetHead, name)
        train = self.store.put_tree({i: text.encode() for i, text in items.items()})
        record = Dataset(
            name=name,
            parent=before.version if before else None,
            sources=[],
            split=Split(test=0.5, ledger="s:" + "0" * 64, set_aside={"count": 0, "tree": None}),
            steps=[Stage(name="ingest", train=train, test="s:" + "1" * 64)],
            items={"train": len(items), "test": 7},
            data_key="k-1",
            rejected={"reasons": {}, "tree": None},
        )
        new = DatasetHead(version=encode(record)[0], before=before.version if before else None)
        return self.commit(record, heads=[(name, new)] if head else [], command="data run", line=name)

    def labels(self, dataset: str, rows: Mapping[str, tuple[str, str]], *, name: str = "points") -> str:
        """A snapshot of labels of training items: item -> (value, who)."""
        before = self.registry.head(LabelsHead, name)
        columns = {
            "item": list(rows),
            "value": [value for value, _ in rows.values()],
            "who": [who for _, who in rows.values()],
            "when": ["2026-01-01T00:00:00Z"] * len(rows),
            "dataset": [dataset] * len(rows),
        }
        record = Labels(
            name=name,
            dataset=dataset,
            resolve="latest",
            coverage={"train": 1.0, "test": 1.0},
            values={"kind": "choice", "classes": ["left", "right"]},
            rows={"train": self.store.put(batch.write(columns)), "test": "s:" + "2" * 64},
        )
        head = LabelsHead(version=encode(record)[0], before=before.version if before else None)
        return self.commit(record, heads=[(name, head)], command="label release", line=name)

    def transformation(self, dataset: str, state: str = "scale") -> str:
        """A transformation that was fitted on a dataset."""
        tree = self.store.put_tree({"state.json": state.encode()})
        return self.commit(
            Transformation(call="m:T", code="c", parameters={}, fitted_on={"dataset": dataset}, state=tree)
        )

    def model(
        self,
        seed: int = 0,
        *,
        name: str = "side",
        data: tuple[str, str] = ("", ""),
        transformation: str | None = None,
        origin: dict[str, Any] | None = None,
    ) -> str:
        """A registered model, made now by whoever acts."""
        record = Model(
            name=name,
            made=Made(who=os.environ["GIT_AUTHOR_EMAIL"], when=self.tick()),
            origin=origin,
            code={"commit": "0" * 40},
            data={"dataset": data[0], "labels": data[1]},
            transformation=transformation,
            environment={},
            trial={"seed": seed},
            weights="w",
            metrics={},
            output={"classes": ["left", "right"]},
        )
        return self.commit(record, command="model register", line=f"{name} {seed}")

    def package(self, model: str, transformation: str | None = None, files: str = "x") -> str:
        """A package of a model."""
        tree = self.store.put_tree({"weights": files.encode()})
        return self.commit(Package(model=model, transformation=transformation, tree=tree, wrapper="w", environment={}))

    def promote(self, model: str, name: str = "side") -> None:
        """Moves the head of a model on the integration branch."""
        before = self.registry.head(ModelHead, name, at=self.registry.tip())
        head = ModelHead(promoted=model, before=before.promoted if before else None)
        self.commit(heads=[(name, head)], command="promote", line=name, branch="main")
