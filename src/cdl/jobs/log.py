"""What a process prints, read as it comes, in memory only, up to LOG_BYTES."""

import threading

LOG_BYTES = 4_000_000  # the most that is kept of one job's output
END_SECONDS = 10.0  # for the pipe to close once its process has ended


class Log:
    """Reads a pipe to its end and closes it, in a thread of its own."""

    def __init__(self, handle: int) -> None:
        self._kept = bytearray()
        self._thread = threading.Thread(target=self._read, args=(handle,), daemon=True)
        self._thread.start()

    def end(self) -> bytes:
        """All of it, once the pipe is closed (a child of the process may hold it open: then what came so far)."""
        self._thread.join(END_SECONDS)
        return bytes(self._kept)

    def _read(self, handle: int) -> None:
        with open(handle, "rb", buffering=0) as stream:
            while data := stream.read(1 << 16):
                self._kept += data[: max(0, LOG_BYTES - len(self._kept))]
