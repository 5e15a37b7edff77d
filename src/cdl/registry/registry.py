"""The registry: named versions and decisions, kept in the user's git repository.

Git is the truth. What every ref holds is found by one incremental scan of the commits not seen yet; its result,
`.cdl/observed.json`, is a cache that can be thrown away. The same scan tells the journal what happened, so a commit
that was pulled, merged or reverted speaks exactly like one made here.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from cdl.errors import Conflict, Corrupt, NotFound
from cdl.git.commit import advance, commit_files, make_commit, make_tree
from cdl.git.repository import Git
from cdl.git.scan import ScannedCommit, scan
from cdl.journal.events import Event, head_event_id, record_event_id
from cdl.journal.journal import Journal
from cdl.registry.observe import Fact, facts_of_head, facts_of_record
from cdl.registry.records import (
    ID_PATTERN,
    AnyHead,
    AnyRecord,
    Head,
    Record,
    decode,
    decode_head,
    encode,
    encode_head,
    head_path,
    is_head,
    is_record,
    short,
)

OBSERVED_VERSION = 1
MODEL_REFS = "refs/cdl/models/"
OFFER_REFS = "refs/cdl/offers/"
TRIAL_REFS = "refs/cdl/trials/"
R = TypeVar("R", bound=Record)
H = TypeVar("H", bound=Head)


@dataclass(frozen=True)
class Stored:
    """A record with its id and its place."""

    id: str
    path: str
    record: AnyRecord


@dataclass(frozen=True)
class Made:
    """What one commit added: its id and the ids of its records, in the order given."""

    commit: str
    ids: tuple[str, ...]


@dataclass
class Observed:
    """What the scans so far have found; a cache of git."""

    tips: list[str] = field(default_factory=list)
    records: dict[str, list[str]] = field(default_factory=dict)  # id -> [path, blob]
    line: dict[str, str] = field(
        default_factory=dict
    )  # event id -> commit on the integration branch's first-parent line
    line_tip: str | None = None


class Registry:
    """Reads and writes records and heads. `folder` is `.cdl`; `integration` the branch that decisions go to."""

    def __init__(self, git: Git, journal: Journal, folder: Path, *, integration: str) -> None:
        self.git = git
        self.journal = journal
        self.integration = integration
        self._file = folder / "observed.json"
        self._observed: Observed | None = None
        self._decoded: dict[str, Stored] = {}
        self._listing: tuple[str, tuple[str, ...]] = ("", ())  # the records of the commit that was asked for last

    # reading

    def get(self, what: str) -> Stored:
        """The record with an id or a unique prefix of one (at least 8 digits), from any ref. NotFound, Conflict."""
        if not ID_PATTERN.match(what):
            raise NotFound(
                f"'{what}' is not an id", remedy="an id is a letter, '-' and at least 8 hex digits: m-0c5e8b37"
            )
        found = [i for i in self._index() if i.startswith(what)]
        if not found:
            raise NotFound(
                f"no record {what} on any branch", remedy="cdl log NAME lists versions; git fetch brings others"
            )
        if len(found) > 1:
            raise Conflict(f"{what} is short for {len(found)} records", remedy="type more digits: " + ", ".join(found))
        return self._load(found)[0]

    def all(self, kind: type[R], name: str | None = None, *, at: str | None = None) -> list[tuple[str, R]]:
        """Records of a kind as (id, record), from any ref or only those in the commit `at`; in no particular order."""
        folder = f"registry/{kind.folder}/" + (f"{name}/" if name else "")
        if at is None:
            ids = [i for i, (path, _) in self._index().items() if path.startswith(folder)]
        else:
            self._index()
            ids = [_identity(p) for p in self._listed(at) if p.startswith(folder)]
        return [(s.id, s.record) for s in self._load(ids) if isinstance(s.record, kind)]

    def everything(self) -> list[Stored]:
        """Every record from any ref, in no particular order."""
        return self._load(self._index())

    def head(self, kind: type[H], name: str, *, at: str | None = None) -> H | None:
        """A head in the commit `at`, or in the work tree's HEAD."""
        path = head_path(kind, name)
        commit = at or self.git.resolve("HEAD")
        data = self.git.read(commit, path) if commit else None
        return None if data is None else decode_head(path, data)  # type: ignore[return-value]

    def heads(self, kind: type[H], *, at: str | None = None) -> dict[str, H]:
        """All heads of a kind by name."""
        commit = at or self.git.resolve("HEAD")
        if commit is None:
            return {}
        paths = [p for p in self.git.files(commit, f"registry/{kind.folder}/") if is_head(p)]
        found = self.git.read_many(commit, paths)
        return {p.split("/")[2].removesuffix(".yaml"): decode_head(p, d) for p, d in found.items()}  # type: ignore[misc]

    def tip(self) -> str | None:
        """The commit of the integration branch."""
        return self.git.resolve(f"refs/heads/{self.integration}")

    # writing

    def commit(
        self,
        *records: Record,
        heads: Iterable[tuple[str, Head]] = (),
        files: Mapping[str, bytes] | None = None,
        command: str,
        line: str,
        branch: str | None = None,
    ) -> Made:
        """One commit that adds records and moves heads; on `branch`, or on the branch checked out.

        A record that stands already is not written again; a commit that would change nothing is not made.
        Raises Conflict on a detached HEAD, in a merge or a rebase, and over a file that the person changed.
        """
        target = branch or self.git.branch()
        if target is None:
            raise Conflict(
                "HEAD is detached: a record needs a branch", remedy="git switch -c NAME, then the command again"
            )
        ids, content = contents(records, heads, files or {})
        tip = self.git.resolve(f"refs/heads/{target}")
        present = self.git.read_many(tip, list(content)) if tip else {}
        new = {path: data for path, data in content.items() if present.get(path) != data}
        if not new and tip:
            return Made(tip, ids)
        commit = commit_files(self.git, target, new, message(command, line, ids))
        self.observe()
        return Made(commit, ids)

    def chain(self, branch: str) -> "Chain":
        """Several commits that land in one move of a branch."""
        return Chain(self, branch)

    # what happened

    def observe(self) -> list[Event]:
        """Tells the journal of every commit not seen yet, from any ref; returns the events that are new."""
        observed = self._load_observed()
        tips = sorted(set(self.git.refs("refs/heads/").values()) | set(self.git.refs("refs/cdl/").values()))
        line_tip = self.tip()
        if tips == observed.tips and line_tip == observed.line_tip:
            return []
        known = [t for t in observed.tips if self.git.resolve(t)]
        events: list[Event] = []
        for commit in scan(self.git, tips, known):
            events += self._tell(commit, observed)
        self._follow_line(observed, line_tip)
        observed.tips = tips
        self._save(observed)
        return events

    def line_commit(self, event_id: str) -> str | None:
        """The commit on the integration branch's first-parent line that brought an event, or None."""
        return self._load_observed().line.get(event_id)

    def _tell(self, commit: ScannedCommit, observed: Observed) -> list[Event]:
        events = []
        for event_id, fact in self._facts(commit, observed):
            who = commit.author_email
            made = self.journal.append(fact.kind, who=who, event_id=event_id, **fact.fields)
            events.append(made)
        return events

    def _facts(self, commit: ScannedCommit, observed: Observed) -> list[tuple[str, Fact]]:
        """The facts of a commit with their event ids; notes its records on the way."""
        blobs = [c.new for c in commit.changes if c.new] + [c.old for c in commit.changes if c.old and is_head(c.path)]
        data = self.git.cat(blobs)
        found: list[tuple[str, Fact]] = []
        for change in commit.changes:
            if change.new is None:
                continue
            if is_record(change.path):
                identity = _identity(change.path)
                observed.records.setdefault(identity, [change.path, change.new])
                record = decode(change.path, data[change.new])
                found += [(record_event_id(f.kind, f.about), f) for f in facts_of_record(identity, record)]
            elif is_head(change.path):
                old = decode_head(change.path, data[change.old]) if change.old else None
                new = decode_head(change.path, data[change.new])
                for fact in facts_of_head(change.path, new):
                    identity = head_event_id(
                        fact.kind,
                        change.path,
                        _pointed(old),
                        _pointed(new) or "",
                        commit.author_email,
                        commit.author_time,
                    )
                    found.append((identity, fact))
        return found

    def _follow_line(self, observed: Observed, tip: str | None) -> None:
        """Notes which commit of the integration branch's first-parent line brought which event."""
        if tip is None or tip == observed.line_tip:
            return
        since = [observed.line_tip] if observed.line_tip and self.git.is_ancestor(observed.line_tip, tip) else []
        for commit in scan(self.git, [tip], since, first_parent=True):
            for event_id, _ in self._facts(commit, observed):
                observed.line.setdefault(event_id, commit.id)
        observed.line_tip = tip

    # the cache

    def _listed(self, commit: str) -> tuple[str, ...]:
        """The paths of the records in a commit."""
        if self._listing[0] != commit:
            paths = tuple(p for p in self.git.files(commit, "registry/") if is_record(p))
            self._listing = (commit, paths)
        return self._listing[1]

    def _index(self) -> dict[str, list[str]]:
        self.observe()
        return self._load_observed().records

    def _load(self, ids: Iterable[str]) -> list[Stored]:
        records = self._load_observed().records
        wanted = list(ids)
        missing = {i: records[i] for i in wanted if i not in self._decoded}
        data = self.git.cat([blob for _, blob in missing.values()])
        for identity, (path, blob) in missing.items():
            self._decoded[identity] = Stored(identity, path, decode(path, data[blob]))
        return [self._decoded[i] for i in wanted]

    def _load_observed(self) -> Observed:
        if self._observed is None:
            self._observed = Observed()
            try:
                kept: dict[str, Any] = json.loads(self._file.read_text())
                if kept.pop("version", None) == OBSERVED_VERSION:
                    self._observed = Observed(**kept)
            except FileNotFoundError:
                pass
            except (ValueError, TypeError) as error:
                raise Corrupt(f"not readable: {error}", where=str(self._file), remedy=f"rm {self._file}") from error
        return self._observed

    def _save(self, observed: Observed) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._file.with_name(f"observed.{os.getpid()}.tmp")
        temporary.write_text(json.dumps({"version": OBSERVED_VERSION, **vars(observed)}))
        temporary.replace(self._file)


class Chain:
    """Commits made one on the other in memory; nothing is seen before `land`, which moves the branch once."""

    def __init__(self, registry: Registry, branch: str) -> None:
        self.registry = registry
        self.branch = branch
        tip = registry.git.resolve(f"refs/heads/{branch}")
        if tip is None:
            raise NotFound(f"no branch {branch}", remedy=f"git branch {branch}")
        self.start = self.tip = tip

    def commit(
        self,
        *records: Record,
        heads: Iterable[tuple[str, Head]] = (),
        files: Mapping[str, bytes] | None = None,
        command: str,
        line: str,
        merged: str | None = None,
        tree: str | None = None,
    ) -> tuple[str, ...]:
        """Adds a commit; with `merged` a merge of that commit whose tree (before the files) is `tree`."""
        git = self.registry.git
        ids, content = contents(records, heads, files or {})
        parents = [self.tip] + ([merged] if merged else [])
        made = make_tree(git, tree or self.tip, content)
        self.tip = make_commit(git, made, parents, message(command, line, ids))
        return ids

    def added(self) -> dict[str, bytes]:
        """The files that the commits so far added or changed; a merge of `start` needs them again."""
        lines = self.registry.git.text(
            "diff-tree", "-r", "--name-only", "--diff-filter=AM", "--end-of-options", self.start, self.tip
        )
        return self.registry.git.read_many(self.tip, [p for p in lines.splitlines() if p])

    def land(self) -> str:
        """Moves the branch to the last commit; Conflict when somebody else moved it since."""
        advance(self.registry.git, self.branch, self.tip, expect=self.start)
        self.registry.observe()
        return self.tip


def contents(
    records: Iterable[Record], heads: Iterable[tuple[str, Head]], files: Mapping[str, bytes]
) -> tuple[tuple[str, ...], dict[str, bytes]]:
    """Ids of the records, and every file to write by path. `heads` are pairs of name and head."""
    ids: list[str] = []
    content = dict(files)
    for record in records:
        identity, path, data = encode(record)
        ids.append(identity)
        content[path] = data
    for name, head in heads:
        content[head_path(type(head), name)] = encode_head(head)
    return tuple(ids), content


def message(command: str, line: str, ids: Iterable[str]) -> str:
    """A commit message: `<command>: <one line>` and trailers."""
    trailers = [f"Cdl-Command: {command}", *(f"Cdl-Record: {i}" for i in ids)]
    subject = " ".join(f"{command}: {line}".split())
    return subject + "\n\n" + "\n".join(trailers) + "\n"


def _identity(path: str) -> str:
    """The id of the record at a path."""
    return path.rsplit("/", 1)[-1].removesuffix(".yaml")


def _pointed(head: AnyHead | None) -> str | None:
    if head is None:
        return None
    return getattr(head, "promoted", None) or getattr(head, "package", None) or getattr(head, "version", None)


__all__ = ["Chain", "Made", "Registry", "Stored", "short"]
