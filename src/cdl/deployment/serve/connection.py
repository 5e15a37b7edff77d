"""Connections that know when a request is only half here: it is waited for when the worker drains, and not for ever."""

import time
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from cdl.optional import present

if TYPE_CHECKING or not present("httptools"):
    Plain = H11Protocol
else:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as Plain

ARRIVE_SECONDS = 30.0  # that the head of a request, and then its body, may take


class Connection(Plain):
    """One client. `since` is when it began to owe us the rest of a request, or when it came and said nothing."""

    since: float | None = None
    began = False  # whether anything was ever said

    def connection_made(self, transport: Any) -> None:
        """Somebody came."""
        super().connection_made(transport)
        self.since = time.monotonic()

    def data_received(self, data: bytes) -> None:
        """A part of a request, or several requests."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self.since = None
        elif self.since is None or not self.began:
            self.since = time.monotonic()
        self.began = True

    @property
    def half(self) -> bool:
        """Whether the head of a request has begun to arrive, and no more."""
        return self.since is not None and self.began

    def shutdown(self) -> None:
        """The worker drains: closed unless a request is in work or half here; the answer to that one closes it."""
        if not self.half:
            super().shutdown()

    def give_up_late(self, now: float) -> None:
        """Closes it where the head of a request has not arrived in time."""
        if self.since is not None and now - self.since > ARRIVE_SECONDS:
            self.transport.close()
