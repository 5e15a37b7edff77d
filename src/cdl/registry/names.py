"""What a person types for a version: an id, a name, or a version of a name.

m-0c5e8b37             an id, or its first digits (at least 8)
reader                 what the head of that name names: on the branch checked out, else on the integration branch;
                       a model that was never promoted: the one registered last
reader@v2              the second version on the integration branch: of a model, the second that was promoted
reader@~1              the one before the current
reader@m-0c5e8b37      one version of that name
labels:digits          where a name is that of several things: dataset:, labels:, model:, stage:
"""

import difflib
import re
from collections.abc import Mapping, Sequence

import msgspec

from cdl.errors import Conflict, NotFound
from cdl.registry.records import HEADS, ID_PATTERN, Dataset, Head, Model, head_path, is_head, is_record, pointed, short
from cdl.registry.registry import Registry, Stored

FOLDERS = {"dataset": "datasets", "labels": "labels", "model": "models", "stage": "deployments"}
PREFIXES = {"d": "dataset", "l": "labels", "m": "model", "p": "stage"}
VERSION = re.compile(r"v[1-9][0-9]*|~[0-9]+|[a-z]-[0-9a-f]{8,32}")
TOGETHER = {"dataset", "labels"}  # these share a name by design


class Thing(msgspec.Struct, frozen=True, kw_only=True):
    """Something with a name: a dataset, its labels, a model, a stage."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"

    @property
    def path(self) -> str:
        """Where its head stands in the repository."""
        return head_path(HEADS[FOLDERS[self.kind]], self.name)


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A record that was meant. `thing` is what was named, `said` a sentence for the person about what was taken."""

    stored: Stored
    thing: Thing | None = None
    said: str | None = None


def find(registry: Registry, what: str, *, prefer_dataset: bool = False) -> Found:
    """The record that WHAT names. NotFound gives the nearest names; Conflict the choices.

    With `prefer_dataset` a name that only a dataset and its labels share is the dataset, and `said` says so.
    """
    if ID_PATTERN.match(what):
        return Found(stored=registry.get(what))
    name, at, version = what.partition("@")
    if at and not VERSION.fullmatch(version):
        raise NotFound(f"'{version}' is no version", remedy=f"{name}@v2, {name}@~1, or {name}@ and the begin of an id")
    meant = things(registry, name)
    if at and version[0] in PREFIXES and version[1] == "-":
        meant = [t for t in meant if t.kind == PREFIXES[version[0]]] or meant
    said = None
    if len(meant) > 1 and prefer_dataset and {t.kind for t in meant} == TOGETHER:
        meant = [t for t in meant if t.kind == "dataset"]
        said = f"{name} is taken as the dataset; its labels are labels:{name}"
    if len(meant) > 1:
        raise Conflict(f"'{name}' names {len(meant)} things", remedy="say which: " + ", ".join(map(str, meant)))
    identity, taken = version_of(registry, meant[0], version or "~0")
    lines = [line for line in (said, taken) if line]
    return Found(stored=registry.get(identity), thing=meant[0], said="; ".join(lines) or None)


def things(registry: Registry, what: str) -> list[Thing]:
    """What a name names, kind by kind; `kind:name` is one of them. NotFound with the nearest names."""
    registry.observe()
    kind, colon, name = what.rpartition(":")
    every = all_things(registry)
    if colon and kind not in FOLDERS:
        raise NotFound(f"'{kind}' is no kind of thing with a name", remedy=", ".join(f"{k}:{name}" for k in FOLDERS))
    found = [t for t in every if t.name == name and kind in ("", t.kind)]
    if found:
        return found
    names = sorted({t.name for t in every})
    same = [str(t) for t in every if t.name == name]
    near = difflib.get_close_matches(name, names, n=3)
    remedy = "there is: " + ", ".join(same or names) if names else "nothing has a name yet"
    if near and not same:
        remedy = f"did you mean {' or '.join(near)}?"
    raise NotFound(f"nothing is named '{what}', and it is no id", remedy=remedy)


def all_things(registry: Registry) -> list[Thing]:
    """Everything with a name on any branch, kinds in the order of the cycle."""
    kinds = {folder: kind for kind, folder in FOLDERS.items()}
    found = set()
    for path in registry.paths():
        folder, name = path.split("/")[1], path.split("/")[2].removesuffix(".yaml")
        if folder in kinds and (is_head(path) or is_record(path)):
            found.add((list(FOLDERS).index(kinds[folder]), name))
    return [Thing(kind=list(FOLDERS)[place], name=name) for place, name in sorted(found)]


def current(registry: Registry, wanted: Sequence[Thing]) -> Mapping[Thing, tuple[str, str]]:
    """What each thing names now: the id, and the branch whose head says so ('' for the model registered last).

    A stage is named by its own branch, as services are; everything else by the branch checked out first.
    """
    git = registry.git
    here = git.branch() or "HEAD"
    heads: dict[str, dict[str, Head]] = {}

    def head(branch: str, path: str) -> Head | None:
        if branch not in heads:
            commit = git.resolve(_ref(branch))
            heads[branch] = dict(registry.every_head(commit)) if commit else {}
        return heads[branch].get(path)

    found = {}
    for thing in wanted:
        own = own_branch(registry, thing)
        for branch in dict.fromkeys((own, here) if thing.kind == "stage" else (here, own)):
            now = head(branch, thing.path)
            if now is not None:
                found[thing] = (pointed(now), branch)
                break
        else:
            if thing.kind == "model" and (every := registered(registry, thing.name)):
                found[thing] = (every[-1], "")
    return found


def own_branch(registry: Registry, thing: Thing) -> str:
    """The branch that says what counts: production's for the stage of that name, else the integration branch."""
    return registry.branch_of(thing.name) if thing.kind == "stage" else registry.integration


def registered(registry: Registry, name: str) -> list[str]:
    """The models of a name, the one registered last at the end."""
    found = [(m.made.when, registry.brought(i).place, i) for i, m in registry.all(Model, name)]
    return [identity for _, _, identity in sorted(found)]


def chain(registry: Registry, thing: Thing, branch: str) -> list[str]:
    """The versions of a thing up to the one that a branch names, oldest first.

    Datasets and labels name the version before, and so on; a model's are those that were promoted on the branch's own
    line of commits, a stage's those that were deployed; without a branch, all registered models.
    """
    if not branch:
        return registered(registry, thing.name)
    moves = registry.moves(thing.path)
    if thing.kind in ("model", "stage"):
        line = registry.line(branch)
        return [m.version for m in moves if m.commit in line]
    commit = registry.git.resolve(_ref(branch))
    head = registry.every_head(commit).get(thing.path) if commit else None
    before = {m.version: m.before for m in moves}
    if thing.kind == "dataset":
        before = {i: d.parent for i, d in registry.all(Dataset, thing.name)}
    found: list[str] = []
    now = pointed(head) if head else None
    while now and now not in found:
        found.append(now)
        now = before.get(now)
    return found[::-1]


def numbers(registry: Registry, thing: Thing) -> dict[str, int]:
    """The number of each version on the integration branch (a stage: on its own); a version keeps its first."""
    found: dict[str, int] = {}
    for identity in chain(registry, thing, own_branch(registry, thing)):
        found.setdefault(identity, len(found) + 1)
    return found


def version_of(registry: Registry, thing: Thing, version: str) -> tuple[str, str | None]:
    """The id of a version of a thing, and a sentence where more than the branch checked out was asked. NotFound, Conflict."""
    if version[0] == "v":
        numbered = {f"v{number}": identity for identity, number in numbers(registry, thing).items()}
        if version not in numbered:
            raise _no_version(registry, thing, version, list(numbered))
        return numbered[version], None
    if version[0] == "~":
        return _back(registry, thing, int(version[1:]))
    known = {m.version for m in registry.moves(thing.path)} | _records(registry, thing)
    found = [i for i in known if i.startswith(version)]
    if len(found) > 1:
        raise Conflict(f"{version} is short for {len(found)} versions", remedy="type more digits: " + ", ".join(found))
    if not found:
        raise _no_version(registry, thing, version, [short(i) for i in sorted(known)])
    return found[0], None


def _back(registry: Registry, thing: Thing, steps: int) -> tuple[str, str | None]:
    now = current(registry, [thing]).get(thing)
    if now is None:
        others = [short(i) for i in sorted(_records(registry, thing))]
        remedy = "on other branches: " + ", ".join(others)
        raise NotFound(f"{thing.name} has no version on this branch or {registry.integration}", remedy=remedy)
    identity, branch = now
    said = None
    if not branch:
        said = f"no {thing.name} is promoted: the one registered last"
    elif branch != registry.git.branch():
        said = f"as {branch} names it"
    if not steps:
        return identity, said
    line = chain(registry, thing, branch)
    if steps >= len(line):
        raise _no_version(registry, thing, f"~{steps}", [f"~{i}" for i in range(len(line))])
    return line[-1 - steps], said


def _ref(branch: str) -> str:
    return branch if branch == "HEAD" else f"refs/heads/{branch}"


def _records(registry: Registry, thing: Thing) -> set[str]:
    """The versions that have a record under the thing's name."""
    folder = f"registry/{FOLDERS[thing.kind]}/{thing.name}/"
    return {p.rsplit("/", 1)[-1].removesuffix(".yaml") for p in registry.paths() if p.startswith(folder)}


def _no_version(registry: Registry, thing: Thing, version: str, there: Sequence[str]) -> NotFound:
    remedy = "there is: " + ", ".join(there) if there else f"none on {registry.integration}; cdl log {thing}"
    return NotFound(f"{thing.name} has no version {version}", remedy=remedy)
