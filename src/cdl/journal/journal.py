"""The journal: what happened, in the order it was learned. It starts nothing."""

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cdl.errors import Conflict, NotFound
from cdl.journal import stream
from cdl.journal.events import Event, check, plain_event_id
from cdl.journal.index import Index

POLL_SECONDS = 0.1


class Journal:
    """The events of a clone. `root` is `.cdl`. Safe for processes; one object a thread."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.index = Index(root)

    def append(
        self, kind: str, *, who: str, cause: str | None = None, event_id: str | None = None, **fields: Any
    ) -> Event:
        """Writes one event; acknowledged on return. An id that stands already gives the event that stands."""
        return self.append_many([(kind, event_id, fields)], who=who, cause=cause)[0]

    def append_many(
        self, events: Sequence[tuple[str, str | None, Mapping[str, Any]]], *, who: str, cause: str | None = None
    ) -> list[Event]:
        """Writes events given as (kind, id or None, fields), in one write; those whose id stands are not written again."""
        for kind, _, fields in events:
            check(kind, fields)
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        made, new = [], []
        self.index.refresh()
        with stream.writing(self.root):
            name = stream.own_stream(self.root)
            count = self.index.highest()
            for kind, given, fields in events:
                standing = self._standing(given)
                if standing is not None:
                    made.append(standing)
                    continue
                count += 1
                identity = given or plain_event_id(name, count, kind, fields)
                event = Event(
                    id=identity, kind=kind, stream=name, count=count, who=who, at=at, cause=cause, fields=dict(fields)
                )
                made.append(event)
                new.append(event)
            if new:
                stream.append(self.root, name, new)
        self.index.refresh()
        return made

    def events(self, kind: str | None = None, *, since: int = 0) -> list[Event]:
        """Events in order, of one kind or of all, with a count above `since`."""
        if kind is None:
            return self.index.select("count > ?", (since,))
        return self.index.select("kind = ? AND count > ?", (kind, since))

    def event(self, prefix: str) -> Event:
        """The event whose id begins with `prefix`. NotFound, Conflict when several do."""
        found = self.index.select("id GLOB ?", (prefix.replace("*", "").replace("?", "").replace("[", "") + "*",))
        if not found:
            raise NotFound(f"no event {prefix}", remedy="cdl events")
        if len(found) > 1:
            raise Conflict(f"{prefix} is short for {len(found)} events", remedy="type more digits")
        return found[0]

    def follow(self, *, since: int | None = None, idle: float | None = None) -> Iterator[Event]:
        """Events as they come, also from other processes; ends after `idle` seconds without one (None: never)."""
        count = self.index.highest() if since is None else since
        quiet = 0.0
        while idle is None or quiet < idle:
            new = self.events(since=count)
            if new:
                quiet, count = 0.0, new[-1].count
                yield from new
                continue
            time.sleep(POLL_SECONDS)
            quiet += POLL_SECONDS

    def leave(self, segment: int) -> str:
        """Another clone writes this stream too: takes a new one, into which goes again what stands here from a segment on.

        The events keep their ids and counts.
        """
        self.index.refresh()  # opens it: not to be done while the lock is held
        with stream.writing(self.root):
            new = stream.leave(self.root, segment)
            self.index.forget()
        return new

    def _standing(self, identity: str | None) -> Event | None:
        if identity is None:
            return None
        found = self.index.select("id = ?", (identity,))
        return found[0] if found else None
