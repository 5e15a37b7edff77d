"""Reading ahead in threads, where the disk makes each small file wait (a network disk, a cold one).

The first reads are timed; where they are quick, nothing else happens: threads would cost more than they save.
"""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

TRIED = 64  # reads that are timed
SLOW_SECONDS = 0.0005  # of one read, on average, beyond which it is worth it
READERS = 16  # files that are read at a time
AHEAD = 64  # files that are read before they are asked for, at most
SMALL_BYTES = 1_000_000  # a larger one is not read ahead


class Ahead:
    """Reads files that are asked for in the order of `names`, or nearly so. One thread asks; `read` is called by any."""

    def __init__(self, names: Iterable[str], read: Callable[[str], bytes], size: Callable[[str], int]) -> None:
        self._names = iter(names)
        self._read = read
        self._size = size
        self._tried = 0
        self._waited = 0.0
        self._pool: ThreadPoolExecutor | None = None
        self._coming: dict[str, Future[bytes]] = {}

    @property
    def quick(self) -> bool:
        """Whether it is known that nothing is to be read ahead."""
        return self._tried == TRIED and self._pool is None

    def __call__(self, name: str) -> bytes:
        """A file's bytes. Raises what reading it raises."""
        if self._pool is not None:
            return self._awaited(name, self._pool)
        if self.quick:
            return self._read(name)
        began = time.perf_counter()
        data = self._read(name)
        self._waited += time.perf_counter() - began
        self._tried += 1
        if self._tried == TRIED and self._waited > TRIED * SLOW_SECONDS:
            self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="read")
            any(each == name for each in self._names)  # what comes after it is left
            self._begin(self._pool)
        return data

    def close(self) -> None:
        """Ends what is under way."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _awaited(self, name: str, pool: ThreadPoolExecutor) -> bytes:
        if name not in self._coming:
            return self._read(name)
        while (first := next(iter(self._coming))) != name:
            self._coming.pop(first).cancel()  # it was passed over
        future = self._coming.pop(name)
        self._begin(pool)
        data = future.result()
        if not self._coming:
            self.close()
        return data

    def _begin(self, pool: ThreadPoolExecutor) -> None:
        """Has as many read as may be ahead."""
        while len(self._coming) < AHEAD and (name := next(self._names, None)) is not None:
            if self._size(name) <= SMALL_BYTES:
                self._coming[name] = pool.submit(self._read, name)
