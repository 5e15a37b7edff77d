"""The index: a database over the streams that can be thrown away. Deleted, or of another version, it is rebuilt.

Its tables depend on the set of events only: the same events in another order, or twice, give the same rows.
"""

import contextlib
import errno
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from cdl.journal import stream
from cdl.journal.events import Event

VERSION = 2
BUSY_SECONDS = 60
OF_DISK = {  # the database's errors that are those of its disk
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_CANTOPEN: errno.EIO,
    sqlite3.SQLITE_READONLY: errno.EROFS,
}
START = (stream.FIRST, 0)
CREATE = """
CREATE TABLE events (id TEXT PRIMARY KEY, kind TEXT NOT NULL, stream TEXT NOT NULL, count INTEGER NOT NULL,
                     who TEXT NOT NULL, at TEXT NOT NULL, cause TEXT, fields TEXT NOT NULL);
CREATE INDEX events_by_count ON events (count, id);
CREATE INDEX events_by_kind ON events (kind, count);
CREATE TABLE positions (stream TEXT PRIMARY KEY, segment INTEGER NOT NULL, position INTEGER NOT NULL);
"""
INSERT = """
INSERT INTO events (id, kind, stream, count, who, at, cause, fields) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET stream = excluded.stream, count = excluded.count, who = excluded.who, at = excluded.at,
  cause = excluded.cause, fields = excluded.fields
WHERE (excluded.count, excluded.stream) < (events.count, events.stream)
"""


class Index:
    """Events in sqlite, kept up to date with the streams below `root` (`.cdl`)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / "index.sqlite"
        self._connection: sqlite3.Connection | None = None

    def refresh(self) -> None:
        """Reads what the streams have gained."""
        names = stream.streams(self.root)
        known = self._positions()
        if all(self._current(n, *known.get(n, START)) for n in names):
            return
        with self._write() as connection:
            known = self._positions()
            for name in names:
                self._read(connection, name, *known.get(name, START))

    def forget(self) -> None:
        """Forgets every event, to read the streams anew: one of them was left for another."""
        with self._write() as connection:
            connection.execute("DELETE FROM events")
            connection.execute("DELETE FROM positions")

    def highest(self) -> int:
        """The highest count seen."""
        self.refresh()
        return int(self._rows("SELECT coalesce(max(count), 0) FROM events")[0][0])

    def select(self, where: str = "1", values: Iterable[Any] = ()) -> list[Event]:
        """Events by a condition on the columns of `events`, in order."""
        self.refresh()
        rows = self._rows(f"SELECT * FROM events WHERE {where} ORDER BY count, id", tuple(values))
        return [_event(row) for row in rows]

    def rows(self) -> list[tuple[Any, ...]]:
        """Every row of the events table, in order: what a rebuild must give again."""
        self.refresh()
        return self._rows("SELECT * FROM events ORDER BY id")

    def close(self) -> None:
        """Closes the database."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _positions(self) -> dict[str, tuple[int, int]]:
        """Of each stream the segment that was read last, and how far."""
        rows = self._rows("SELECT stream, segment, position FROM positions")
        return {name: (segment, position) for name, segment, position in rows}

    def _current(self, name: str, segment: int, position: int) -> bool:
        """Whether a stream holds nothing beyond a place."""
        size = stream.segment_path(self.root, name, segment).stat().st_size
        return size == position and not stream.segment_path(self.root, name, segment + 1).exists()

    def _read(self, connection: sqlite3.Connection, name: str, segment: int, position: int) -> None:
        """Takes in what a stream holds beyond a place. A segment that another follows is closed: it is read to its end."""
        for number in [n for n in stream.segments(self.root, name) if n >= segment]:
            events, end = stream.read(self.root, name, number, position if number == segment else 0)
            self._add(connection, events)
            connection.execute("INSERT OR REPLACE INTO positions VALUES (?, ?, ?)", (name, number, end))

    def _add(self, connection: sqlite3.Connection, events: Iterable[Event]) -> None:
        rows = [
            (
                e.id,
                e.kind,
                e.stream,
                e.count,
                e.who,
                e.at,
                e.cause,
                msgspec.json.encode(e.fields, order="sorted").decode(),
            )
            for e in events
        ]
        connection.executemany(INSERT, rows)

    def _rows(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        with self._named():
            return list(self._open().execute(query, values))

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        connection = self._open()
        with self._named():
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # a full disk may have ended it already
                    connection.execute("ROLLBACK")
                raise

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None:
            return self._connection
        self.root.mkdir(parents=True, exist_ok=True)
        with self._named(), stream.writing(self.root):
            if self._version() != VERSION:
                for path in self.root.glob("index.sqlite*"):
                    path.unlink()
                self._connect().executescript(CREATE + f"PRAGMA user_version = {VERSION};")
            connection = self._connect()
        self._connection = connection
        return connection

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Turns the database's errors about its disk into the system's, with the file."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in OF_DISK:
                raise OSError(OF_DISK[error.sqlite_errorcode & 0xFF], str(error), str(self.path)) from error
            raise

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    def _version(self) -> int | None:
        """The version of the file that is there; None where it is no database."""
        with contextlib.closing(sqlite3.connect(self.path, timeout=BUSY_SECONDS)) as connection:
            try:
                return int(connection.execute("PRAGMA user_version").fetchone()[0])
            except sqlite3.OperationalError:
                raise  # it is locked, or cannot be read
            except sqlite3.DatabaseError:
                return None


def _event(row: tuple[Any, ...]) -> Event:
    identity, kind, name, count, who, at, cause, fields = row
    return Event(
        id=identity,
        kind=kind,
        stream=name,
        count=count,
        who=who,
        at=at,
        cause=cause,
        fields=msgspec.json.decode(fields),
    )
