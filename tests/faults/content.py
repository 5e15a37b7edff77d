"""What a clone holds, without who, when, and the ids that contain these: two ways to the same work give the same content."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from cdl.cycle import CYCLE
from cdl.data.labels import rows
from cdl.model.results import evaluated
from cdl.model.trials import trials
from cdl.registry.check import check_registry
from cdl.registry.records import Dataset, Model, Package
from cdl.store import reach
from cdl.workflow.check import check_decisions
from cdl.workflow.workspace import Workspace
from tests.faults.around import opened
from tests.team import Person

RETRAINED = re.compile("retrain-[0-9a-f]{8}")
PERSONAL = re.compile(r"\b([mxrp]-)[0-9a-f]{32}\b")
DROPPED = {"made", "commit", "source", "id", "evaluation", "revision", "deployed", "promoted_evaluation", "manifest"}
FACTS = (
    "dataset.versioned", "labels.released", "transformation.fitted", "model.registered", "model.promoted", "package.built",
    "decision.made", "request.opened", "deployment.applied",
)  # fmt: skip


@dataclass(frozen=True)
class Content:
    """Records and heads by branch, events, labels, trials, evaluations; and what is in the stores."""

    branches: dict[str, Counter[str]]
    facts: Counter[str]
    kinds: frozenset[str]
    labels: Counter[str]
    trials: frozenset[str]
    evaluated: Counter[str]
    objects: frozenset[str]

    def once(self) -> "Content":
        """The same with everything that stands several times standing once: for commands that, typed twice, do it twice."""
        return replace(
            self,
            branches={name: Counter(set(found)) for name, found in self.branches.items()},
            facts=Counter(set(self.facts)),
            labels=Counter(set(self.labels)),
            evaluated=Counter(set(self.evaluated)),
        )


def content(person: Person) -> Content:
    """The content of a clone."""
    with opened(person) as workspace:
        workspace.registry.observe()
        kinds = Counter(event.kind for event in workspace.journal.events())
        return Content(
            branches={
                RETRAINED.sub("retrain", branch): Counter(_files(workspace, commit))
                for branch, commit in workspace.git.refs("refs/heads/").items()
            },
            facts=Counter({kind: kinds[kind] for kind in FACTS}),
            kinds=frozenset(kinds) - {"decision.refused"},  # typed again after it was decided
            labels=Counter(_labels(workspace)),
            trials=frozenset(_trial(msgspec.to_builtins(t)) for t in trials(workspace)),
            evaluated=Counter(_evaluations(workspace)),
            objects=frozenset([*workspace.store.names(), *_shared(person)]),
        )


def faults(person: Person) -> list[str]:
    """What is not whole in a clone: work tree, git, store, registry, index."""
    found = []
    if said := person.git("status", "--porcelain"):
        found.append(f"git status: {said}")
    fsck = person.run("git", "fsck", "--strict", "--no-dangling", "--no-progress")
    if fsck.returncode or fsck.stderr.strip():
        found.append(f"git fsck: {fsck.stdout}{fsck.stderr}")
    with opened(person) as workspace:
        git, head = workspace.git, workspace.git.head()
        found += [f"store: {f}" for f in workspace.store.verify()]
        found += [f"registry: {f}" for f in [*check_registry(git, head), *check_decisions(git, CYCLE, head)]]
        roots = {n for event in workspace.journal.events() for n in reach.names(msgspec.json.encode(event))}
        found += [f"missing: {name} of {of}" for name, of in reach.missing(workspace.store, roots).items()]
        workspace.registry.observe()
        before = workspace.journal.index.rows()
        workspace.journal.index.close()
    for path in [*(person.root / ".cdl").glob("index.sqlite*"), person.root / ".cdl/observed.json"]:
        path.unlink()
    with opened(person) as workspace:
        workspace.registry.observe()
        if workspace.journal.index.rows() != before:
            found.append("the index rebuilt from nothing gives other events")
    return found


def _shared(person: Person) -> Iterable[str]:
    """The files below the shared folder's objects."""
    return (path.name for path in (person.root.parent / "shared/objects").glob("*/*"))


def _files(workspace: Workspace, commit: str) -> Iterable[str]:
    """Each record and head of a branch in one line."""
    blobs = workspace.git.files(commit, "registry/")
    data = workspace.git.cat(blobs.values())
    for kind in (Dataset, Model, Package):
        for _, record in workspace.registry.all(kind, at=commit):
            yield f"{kind.__name__} {_line(msgspec.to_builtins(record), workspace)}"
    for path, blob in blobs.items():
        if path.count("/") == 2 and not path.startswith("registry/deployments/"):
            yield f"{path} {_public(data[blob].decode())}"
        elif path.startswith(("registry/labels/", "registry/transformations/")):
            yield path
        elif path.startswith("registry/decisions/"):
            text = data[blob].decode()
            yield " ".join(_public(line) for line in text.splitlines()[:4])


def _line(value: Any, workspace: Workspace) -> str:
    if "tree" in value and value.get("kind") == "package":
        names = [(e.name, e.size) for e in workspace.store.tree(value["tree"]).entries]
        value = {**value, "tree": [n for n, _ in names]}
    return _public(json.dumps(_plain(value), sort_keys=True))


def _public(text: str) -> str:
    """A text without the ids that contain who or when."""
    return PERSONAL.sub(r"\1", text)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if k not in DROPPED}
    return [_plain(v) for v in value] if isinstance(value, list) else value


def _labels(workspace: Workspace) -> Iterable[str]:
    for name in workspace.config.data:
        if not workspace.registry.all(Dataset, name):
            continue
        for side in ("train", "test"):
            for row in rows(workspace, name, side):
                yield f"{side} {row.item} {row.value} {row.dataset}"


def _trial(value: dict[str, Any]) -> str:
    kept = ("status", "hyperparameters", "epochs", "trained", "seed", "metrics", "points", "weights", "transformation")
    return json.dumps({name: value[name] for name in kept}, sort_keys=True)


def _evaluations(workspace: Workspace) -> Iterable[str]:
    for identity, model in workspace.registry.all(Model):
        found = evaluated(workspace, identity)
        yield f"{model.weights} {None if found is None else found.measures()['test.accuracy']}"
