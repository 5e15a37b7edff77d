"""The registry: named versions and decisions, kept in the user's git repository.

Git is the truth. What every ref holds is found by one incremental scan of the commits not seen yet; its result,
`.cdl/observed.json`, is a cache that can be thrown away. The same scan tells the journal what happened, so a commit
that was pulled, merged or reverted speaks exactly like one made here.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

import msgspec

from cdl.errors import ConfigError, Conflict, Corrupt, NotFound
from cdl.git.commit import commit_files
from cdl.git.repository import Git
from cdl.git.scan import ScannedChange, ScannedCommit, scan
from cdl.journal.events import Event, head_event_id, record_event_id
from cdl.journal.journal import Journal
from cdl.registry import observed as cache
from cdl.registry.observe import Fact, facts_of_head, facts_of_record
from cdl.registry.observed import Commit, Move, Observed
from cdl.registry.records import (
    ID_PATTERN,
    AnyHead,
    AnyRecord,
    DatasetHead,
    Decision,
    Head,
    LabelsHead,
    Record,
    decode,
    decode_head,
    encode,
    encode_head,
    head_path,
    is_head,
    is_record,
    pointed,
    short,
)

MODEL_REFS = "refs/cdl/models/"
TRIAL_REFS = "refs/cdl/trials/"
PRODUCTION = "production"  # the stage whose head stands on a branch of its own
COMMITS = 500  # read from one git process
Decisions = Mapping[str, Mapping[str, Sequence[tuple[str, Decision]]]]
Changed = tuple[ScannedChange, AnyHead | None, AnyRecord | AnyHead]
R = TypeVar("R", bound=Record)
H = TypeVar("H", bound=Head)


class Stored(msgspec.Struct, frozen=True):
    """A record with its id and its place."""

    id: str
    path: str
    record: AnyRecord


class Made(msgspec.Struct, frozen=True):
    """What one commit added: its id and the ids of its records, in the order given."""

    commit: str
    ids: tuple[str, ...]


class Registry:
    """Reads and writes records and heads. `folder` is `.cdl`.

    `integration` is the branch that decisions go to, `production` the one whose heads say what production runs. `at` is a commit
    that stands for the integration branch where none is checked out, as in a runner.
    """

    def __init__(
        self,
        git: Git,
        journal: Journal,
        folder: Path,
        *,
        integration: str,
        production: str | None = None,
        at: str | None = None,
    ) -> None:
        self.git = git
        self.journal = journal
        self.integration = integration
        self.production = production
        self.at = at
        self._file = folder / "observed.json"
        self._observed: Observed | None = None
        self._looked_at: tuple[Mapping[str, str], str] | None = None  # refs and integration branch of the last look
        self._decoded: dict[str, Stored] = {}
        self._listing: tuple[str, tuple[str, ...]] = ("", ())  # the records of the commit that was asked for last
        self._lines: dict[str, frozenset[str]] = {}
        self._decisions: tuple[str, Decisions] = ("", {})  # of the commit that was asked for last

    # reading

    def get(self, what: str) -> Stored:
        """The record with an id or a unique prefix of one (at least 8 digits), from any ref. NotFound, Conflict."""
        if not ID_PATTERN.match(what):
            raise NotFound(
                f"'{what}' is not an id", remedy="an id is a letter, '-' and at least 8 hex digits: m-0c5e8b37"
            )
        index = self._index()
        found = [what] if what in index else [i for i in index if i.startswith(what)]
        if len(found) > 1:
            raise Conflict(f"{what} is short for {len(found)} records", remedy="type more digits: " + ", ".join(found))
        for stored in self._load(found):
            return stored
        raise NotFound(f"no record {what} on any branch", remedy="cdl log lists versions; git fetch brings others")

    def record(self, kind: type[R], what: str) -> R:
        """The record of a kind with an id or a unique prefix of one. NotFound, also where it is of another kind."""
        found = self.get(what)
        if not isinstance(found.record, kind):
            there = type(found.record).__name__.lower()
            raise NotFound(f"{short(found.id)} is no {kind.__name__.lower()} but a {there}", remedy=f"cdl show {what}")
        return found.record

    def all(self, kind: type[R], name: str | None = None, *, at: str | None = None) -> list[tuple[str, R]]:
        """Records of a kind as (id, record), from any ref or only those in the commit `at`; in no particular order."""
        folder = f"registry/{kind.folder}/" + (f"{name}/" if name else "")
        if at is None:
            ids = [i for i, (path, _, _) in self._index().items() if path.startswith(folder)]
        else:
            known = self._index()
            paths = [p for p in self._listed(at) if p.startswith(folder)]
            self._refuse(at, [p for p in paths if _id_of(p) not in known])
            ids = [_id_of(p) for p in paths]
        return [(s.id, s.record) for s in self._load(ids) if isinstance(s.record, kind)]

    def decisions(self, at: str) -> Decisions:
        """The decisions in the commit `at` by gate and subject: asked for each of many subjects, they are sorted once."""
        if self._decisions[0] != at:
            found: dict[str, dict[str, list[tuple[str, Decision]]]] = defaultdict(lambda: defaultdict(list))
            for identity, decision in self.all(Decision, at=at):
                found[decision.gate][decision.subject].append((identity, decision))
            self._decisions = at, found
        return self._decisions[1]

    def everything(self) -> list[Stored]:
        """Every record from any ref, in no particular order."""
        return self._load(self._index())

    def some(self, ids: Iterable[str]) -> dict[str, Stored]:
        """Records by their whole ids; those that are on no branch are left out."""
        known = self._index()
        return {stored.id: stored for stored in self._load([i for i in ids if i in known])}

    # as of the last look; `observe` looks again

    def paths(self) -> list[str]:
        """The paths of all records and heads that any ref ever held."""
        return [path for path, _, _ in self._load_observed().records.values()] + list(self._load_observed().moves)

    def brought(self, identity: str) -> Commit:
        """The earliest commit that brought a record."""
        return self.commit_of(self._load_observed().records[identity][2])

    def moves(self, path: str) -> list[Move]:
        """Every move of a head, on any branch, parents first; a merge that takes one over is a move of its own."""
        return self._load_observed().moves_of(path)

    def commit_of(self, identity: str) -> Commit:
        """A commit that changed the registry."""
        return self._load_observed().commit(identity)

    def line(self, branch: str) -> frozenset[str]:
        """The commits on a branch's first-parent line; none where there is no such branch."""
        tip = self.tip() if branch == self.integration else self.git.resolve(_ref(branch))
        if tip is None:
            return frozenset()
        if tip not in self._lines:
            found = self.git.text("rev-list", "--first-parent", "--end-of-options", tip, "--")
            self._lines[tip] = frozenset(found.split())
        return self._lines[tip]

    # heads

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
        found = self._heads(commit, f"registry/{kind.folder}/")
        return {p.split("/")[2].removesuffix(".yaml"): head for p, head in found.items()}  # type: ignore[misc]

    def every_head(self, at: str) -> dict[str, AnyHead]:
        """All heads in a commit by path."""
        return self._heads(at, "registry/")

    def _heads(self, commit: str, folder: str) -> dict[str, AnyHead]:
        blobs = {p: blob for p, blob in self.git.files(commit, folder).items() if is_head(p)}
        data = self.git.cat(blobs.values())
        return {p: decode_head(p, data[blob]) for p, blob in blobs.items()}

    def branch_of(self, stage: str) -> str:
        """The branch whose head says what a stage runs: production's for the stage of that name, else the integration branch."""
        return (self.production if stage == PRODUCTION else None) or self.integration

    def tip(self) -> str | None:
        """The commit of the integration branch."""
        return self.at or self.git.resolve(_ref(self.integration))

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
        Raises Conflict on a detached HEAD, in a merge or a rebase, over a file that the person changed, and where somebody
        moved a head of a dataset or its labels on from the version that the new one follows.
        """
        heads = list(heads)
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
        check = (lambda at: self._still(heads, at)) if heads else None
        commit = commit_files(self.git, target, new, message(command, line, ids), check=check)
        self.observe()
        return Made(commit, ids)

    def _still(self, heads: Iterable[tuple[str, Head]], at: str | None) -> None:
        """Conflict where a head names another version by now than the one that its new one follows."""
        for name, new in heads:
            if isinstance(new, DatasetHead | LabelsHead):
                now = self.head(type(new), name, at=at) if at else None
                if now is not None and now.version not in (new.before, new.version):
                    where = head_path(type(new), name)
                    raise Conflict("changed by somebody else just now", where=where, remedy="the command again")

    # what happened

    def observe(self) -> list[Event]:
        """Tells the journal of every commit not seen yet, from any ref; returns the events that are new."""
        refs = self.git.every_ref()
        if self._looked_at is not None and refs is self._looked_at[0] and self.integration == self._looked_at[1]:
            return []
        observed = self._load_observed()
        tips = sorted({*refs.values(), *([self.at] if self.at else [])})
        line_tip = self.at or refs.get(_ref(self.integration))
        if tips == observed.tips and line_tip == observed.line_tip:
            self._looked_at = refs, self.integration
            return []
        known = self.git.present(observed.tips)
        events: list[Event] = []
        for commit, changed in self._read(scan(self.git, tips, known)):
            events += self._tell(commit, changed, observed)
        self._follow_line(observed, line_tip)
        observed.tips = tips
        cache.save(self._file, observed)
        self._looked_at = refs, self.integration
        return events

    def line_commit(self, event_id: str) -> str | None:
        """The commit on the integration branch's first-parent line that brought an event, or None."""
        return self._load_observed().line.get(event_id)

    def _tell(self, commit: ScannedCommit, changed: list[Changed], observed: Observed) -> list[Event]:
        """Tells the journal what a commit stands for; notes its records and the moves of heads."""
        observed.note(commit)
        for change, _, new in changed:
            if isinstance(new, Head):
                observed.note_move(change.path, commit.id, pointed(new), new.before)
            else:
                observed.note_record(_id_of(change.path), change.path, change.new or "", commit.id)
        who = commit.author_email
        return [
            self.journal.append(fact.kind, who=who, event_id=event_id, **fact.fields)
            for event_id, fact in _facts(commit, changed)
        ]

    def _read(self, commits: Iterable[ScannedCommit]) -> Iterator[tuple[ScannedCommit, list[Changed]]]:
        """Each commit with the records and heads that it brought, from one git process for many commits.

        What is no record or head by its content brought nothing: it is refused where it is read, not in all of history.
        """
        rest = iter(commits)
        while some := list(islice(rest, COMMITS)):
            wanted = {c: [x for x in c.changes if x.new and (is_record(x.path) or is_head(x.path))] for c in some}
            every = [x for changes in wanted.values() for x in changes]
            data = self.git.cat([x.new for x in every if x.new] + [x.old for x in every if x.old and is_head(x.path)])
            for commit, changes in wanted.items():
                yield commit, [found for x in changes if (found := _changed(x, data)) is not None]

    def _follow_line(self, observed: Observed, tip: str | None) -> None:
        """Notes which commit of the integration branch's first-parent line brought which event."""
        if tip is None or tip == observed.line_tip:
            return
        since = [observed.line_tip] if observed.line_tip and self.git.is_ancestor(observed.line_tip, tip) else []
        for commit, changed in self._read(scan(self.git, [tip], since, first_parent=True)):
            for event_id, _ in _facts(commit, changed):
                observed.line.setdefault(event_id, commit.id)
        observed.line_tip = tip

    # the cache

    def _listed(self, commit: str) -> tuple[str, ...]:
        """The paths of the records in a commit."""
        if self._listing[0] != commit:
            paths = tuple(p for p in self.git.files(commit, "registry/") if is_record(p))
            self._listing = (commit, paths)
        return self._listing[1]

    def _refuse(self, commit: str, paths: Iterable[str]) -> None:
        """Corrupt names the first of some files that is not the record that its name says."""
        for path, blob in self.git.files(commit, "registry/").items() if (wanted := set(paths)) else ():
            if path in wanted:
                decode(path, self.git.cat([blob])[blob])

    def _index(self) -> dict[str, list[str]]:
        self.observe()
        return self._load_observed().records

    def _load(self, ids: Iterable[str]) -> list[Stored]:
        wanted = list(ids)
        try:
            return self._decode(wanted)
        except NotFound:  # a branch is gone and its objects with it: what is left is found again
            self._observed, self._looked_at = Observed(), None
            left = self._index()
            return self._decode([i for i in wanted if i in left])

    def _decode(self, ids: list[str]) -> list[Stored]:
        records = self._load_observed().records
        missing = {i: records[i] for i in ids if i not in self._decoded}
        data = self.git.cat([blob for _, blob, _ in missing.values()])
        for identity, (path, blob, _) in missing.items():
            self._decoded[identity] = Stored(identity, path, decode(path, data[blob]))
        return [self._decoded[i] for i in ids]

    def _load_observed(self) -> Observed:
        if self._observed is None:
            self._observed = cache.load(self._file)
        return self._observed


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


def _ref(branch: str) -> str:
    return branch if branch == "HEAD" else f"refs/heads/{branch}"


def _id_of(path: str) -> str:
    return path.rsplit("/", 1)[-1].removesuffix(".yaml")


def _changed(change: ScannedChange, data: Mapping[str, bytes]) -> Changed | None:
    """A change of a record or a head, with the head before and what stands there now; None where that is neither."""
    try:
        new = data[change.new or ""]
        found = decode(change.path, new) if is_record(change.path) else decode_head(change.path, new)
    except (Corrupt, ConfigError):
        return None
    try:
        old = decode_head(change.path, data[change.old]) if change.old and is_head(change.path) else None
    except (Corrupt, ConfigError):
        old = None
    return change, old, found


def _facts(commit: ScannedCommit, changed: list[Changed]) -> list[tuple[str, Fact]]:
    """The facts of a commit with their event ids."""
    found: list[tuple[str, Fact]] = []
    for change, old, new in changed:
        path = change.path
        if not isinstance(new, Head):
            found += [(record_event_id(f.kind, f.about), f) for f in facts_of_record(_id_of(path), new)]
            continue
        before, now = pointed(old) if old else None, pointed(new)
        made = commit.author_email, commit.author_time
        found += [(head_event_id(f.kind, path, before, now, *made), f) for f in facts_of_head(path, new)]
    return found
