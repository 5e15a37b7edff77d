"""Micro-batching: requests that arrive while the model works are answered together; a lone one waits for nobody."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

LARGEST = 32  # requests answered together


class Batcher:
    """Runs `work` (a list in, a list of answers out) in one thread. A batch that fails is tried again one by one."""

    def __init__(self, work: Callable[[Sequence[Any]], Sequence[Any]]) -> None:
        self._work = work
        self._queue: deque[tuple[Any, asyncio.Future[Any]]] = deque()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._running = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, item: Any) -> Any:
        """The answer to one item. Raises what the work raises for it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._queue.append((item, future))
        if not self._running:
            self._running = True
            task = loop.create_task(self._drain(loop))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    async def _drain(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(LARGEST, len(self._queue)))]
            answers = await loop.run_in_executor(self._pool, self._answers, [item for item, _ in batch])
            for (_, future), answer in zip(batch, answers, strict=True):
                if future.cancelled():
                    continue
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
        self._running = False

    def _answers(self, items: Sequence[Any]) -> Sequence[Any]:
        """An answer or an exception for each."""
        try:
            return self._work(items)
        except Exception as error:  # noqa: BLE001 the model's code may raise anything; it becomes the answer of a request
            if len(items) == 1:
                return [error]
            return [self._answers([item])[0] for item in items]
