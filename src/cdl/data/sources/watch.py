"""Watching a dataset's sources: when a version is due, and when to look again.

Looking means listing what lies there (walk.py), again and again. Notices of the kernel would save that, but there are none of
network disks, of buckets, or of what happened while nobody watched, so a listing would be needed beside them. What a look costs
decides how often there is one: it takes one part in SHARE of the time.
"""

import time
from collections.abc import Mapping
from typing import Any

from cdl.config.schema import Source
from cdl.data.sources.arrivals import arrivals
from cdl.data.sources.fetch import glanced, watchable
from cdl.errors import CdlError, ConfigError
from cdl.workflow.policy import require_role
from cdl.workflow.workspace import Workspace

COMMAND = "data watch"
ITEMS = 1000  # files that make a version
SECONDS = 60.0  # after the first of them
SHARE = 20  # a look takes at most this part of the time
SHORTEST, OF_BUCKET = 0.5, 5.0  # seconds from one look to the next, at least; listing a bucket is paid for
AGAIN_SECONDS = 10.0  # after an error


class Watch:
    """The watched sources of one dataset. One thread uses it."""

    def __init__(self, workspace: Workspace, name: str, *, items: int = ITEMS, seconds: float = SECONDS) -> None:
        """Refused for another role, Unavailable without the key; ConfigError where no source can be watched."""
        require_role(workspace, ("data_engineer",), COMMAND)
        self._workspace = workspace
        self._name = name
        self._items = items
        self._seconds = seconds
        self._arrivals = arrivals(workspace, name)
        self._first: float | None = None  # when the first new file was seen
        self._not_before = 0.0
        self._cost = 0.0
        self._told = ""
        self.count = 0
        if not self.watched:
            where = f"cdl.yaml: data.{name}.source"
            raise ConfigError("no folder or bucket to watch", where=where, remedy=f"cdl data run {name}, from a timer")

    @property
    def watched(self) -> list[str]:
        """The sources that are watched, as cdl.yaml calls them."""
        return [watchable(source) or "" for source in self._sources]

    @property
    def _sources(self) -> list[Source]:
        every = self._workspace.config.data[self._name].sources()
        return [source for source in every if watchable(source) is not None]

    @property
    def options(self) -> Mapping[str, Any]:
        """What the pipeline is told, so that it takes no file that is being written."""
        return {"sift": self._arrivals.take}

    def look(self) -> bool:
        """Looks at the sources; whether a version is due. `count` is how many files are new, changed or gone."""
        began = time.perf_counter()
        root = self._workspace.root
        found = [self._arrivals.look(watchable(s) or "", glanced(s, root)) for s in self._sources]
        self._cost, now = time.perf_counter() - began, time.monotonic()
        self.count = sum(news.count for news in found)
        blocked = next((news.blocked for news in found if news.blocked is not None), None)
        if not self.count and not any(news.writing for news in found):
            self._first = None
            return False
        self._first = self._first or now
        enough = self.count >= self._items or (self.count > 0 and now - self._first >= self._seconds)
        if enough and blocked is not None:
            self._say(f"waits: {blocked} is being written")
        return enough and blocked is None and now >= self._not_before

    def took(self, workspace: Workspace) -> None:
        """Notes that a version was made; `workspace` is the project as it was opened for it."""
        self._arrivals.took()
        self._workspace, self._first, self._told = workspace, None, ""

    def failed(self, error: CdlError) -> None:
        """Notes that none could be made: it is said once, and tried again after a while."""
        self._say(f"error: {error}")
        self._not_before = time.monotonic() + AGAIN_SECONDS

    def pause(self) -> float:
        """Seconds until the next look."""
        bucket = any(source.bucket for source in self._sources)
        return max(OF_BUCKET if bucket else SHORTEST, SHARE * self._cost)

    def _say(self, line: str) -> None:
        if line != self._told:
            self._workspace.tell(line)
            self._told = line
