"""What the scans of the repository have found so far: a cache of git in one file, `.cdl/observed.json`.

    {"version": 3, "tips": [...], "records": {"m-0c5e...": ["registry/models/news/m-0c5e....yaml", blob, commit]},
     "moves": {"registry/models/news.yaml": {commit: ["m-0c5e...", null]}},
     "commits": {commit: ["data@example.org", 1795537518, false, "promote: news m-0c5e8b37"]}, "line": {...}, "line_tip": ...}

Thrown away, or of another version, it is found again, whatever came in which order.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import asdict

from cdl.errors import Corrupt
from cdl.git.scan import ScannedCommit

VERSION = 3
LONGEST_SUBJECT = 200  # characters of a commit's subject line


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """A commit that changed the registry: its author, when (UTC, ISO 8601), its subject line; `place` has parents first."""

    id: str
    who: str
    when: str
    line: str
    place: int


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """A head that moved in a commit, on any branch: what it names since, and what the head says of before."""

    version: str
    before: str | None
    commit: str


class Observed(msgspec.Struct):
    """The cache. `records` are [path, blob, commit that brought it]; `moves` of each head by commit [version, before]."""

    tips: list[str] = msgspec.field(default_factory=list)
    records: dict[str, list[str]] = msgspec.field(default_factory=dict)
    moves: dict[str, dict[str, list[str | None]]] = msgspec.field(default_factory=dict)
    commits: dict[str, list[Any]] = msgspec.field(default_factory=dict)
    line: dict[str, str] = msgspec.field(
        default_factory=dict
    )  # event id -> commit on the integration branch's first-parent line
    line_tip: str | None = None
    _places: dict[str, int] = msgspec.field(default_factory=dict)

    def note(self, commit: ScannedCommit) -> None:
        """Remembers who made a commit, when, and what it says."""
        self.commits[commit.id] = [
            commit.author_email,
            commit.author_time,
            commit.merge,
            commit.subject[:LONGEST_SUBJECT],
        ]

    def note_record(self, identity: str, path: str, blob: str, commit: str) -> None:
        """Remembers where a record stands, and the earliest commit that brought it; in one second, a merge comes last."""
        known = self.records.get(identity)
        if known is None or self._age(commit) < self._age(known[2]):
            self.records[identity] = [path, blob, commit]

    def _age(self, commit: str) -> tuple[int, bool, str]:
        """Orders commits that brought a record, the same in whatever order they are seen."""
        _, time, merge, _ = self.commits[commit]
        return time, merge, commit

    def note_move(self, path: str, commit: str, version: str, before: str | None) -> None:
        """Remembers that a head moved."""
        self.moves.setdefault(path, {})[commit] = [version, before]

    def moves_of(self, path: str) -> list[Move]:
        """Every move of a head, parents first."""
        found = [(self.commit(c), version, before) for c, (version, before) in self.moves.get(path, {}).items()]
        found.sort(key=lambda move: move[0].place)
        return [Move(version=str(version), before=before, commit=commit.id) for commit, version, before in found]

    def commit(self, identity: str) -> Commit:
        """A commit that was noted."""
        if len(self._places) != len(self.commits):
            self._places = {c: place for place, c in enumerate(self.commits)}
        who, time, _, line = self.commits[identity]
        when = datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return Commit(id=identity, who=who, when=when, line=line, place=self._places[identity])


def load(path: Path) -> Observed:
    """The cache in a file; an empty one where there is none, or one of another version. Corrupt."""
    try:
        kept: dict[str, Any] = json.loads(path.read_text())
        return Observed(**kept) if kept.pop("version", None) == VERSION else Observed()
    except FileNotFoundError:
        return Observed()
    except (ValueError, TypeError) as error:
        raise Corrupt(f"not readable: {error}", where=str(path), remedy=f"rm {path}") from error


def save(path: Path, observed: Observed) -> None:
    """Writes the cache, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    content = {name: value for name, value in asdict(observed).items() if not name.startswith("_")}
    temporary.write_text(json.dumps({"version": VERSION, **content}))
    temporary.replace(path)
