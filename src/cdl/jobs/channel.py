"""Messages between a job and its worker: length-prefixed msgpack over two pipes.

    00 00 00 0e | {"op": "stop"}          4 bytes of length, big-endian, then the message: a map

A peer that went away is an error, never a wait without end.
"""

import os
from collections.abc import Mapping
from typing import Any

import msgspec

LENGTH_BYTES = 4
LARGEST = 1 << 30  # bytes of one message


class Closed(Exception):
    """The other side went away."""


class Channel:
    """One side of the two pipes; one thread at a time."""

    def __init__(self, read: int, write: int) -> None:
        self._read = read
        self._write = write
        self._encoder = msgspec.msgpack.Encoder()

    def send(self, message: Mapping[str, Any]) -> None:
        """Sends a message. Closed when nobody reads; ValueError when it is too large."""
        data = self._encoder.encode(message)
        if len(data) > LARGEST:
            raise ValueError(f"a message of {len(data)} bytes; at most {LARGEST}")
        view = memoryview(len(data).to_bytes(LENGTH_BYTES, "big") + data)
        try:
            while view:
                view = view[os.write(self._write, view) :]
        except BrokenPipeError as error:
            raise Closed("nobody reads any more") from error

    def receive(self) -> dict[str, Any]:
        """The next message. Closed at the end, or when what comes is no message."""
        size = int.from_bytes(self._exactly(LENGTH_BYTES), "big")
        if size > LARGEST:
            raise Closed(f"a message of {size} bytes was announced; at most {LARGEST}")
        try:
            found = msgspec.msgpack.decode(self._exactly(size))
        except msgspec.DecodeError as error:
            raise Closed(f"not a message: {error}") from error
        if not isinstance(found, dict):
            raise Closed("not a message: no map")
        return found

    def close(self) -> None:
        """Closes both pipes."""
        for handle in (self._read, self._write):
            os.close(handle)

    def _exactly(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            part = os.read(self._read, min(size - len(parts), 1 << 20))
            if not part:
                raise Closed("the other side ended")
            parts += part
        return bytes(parts)
