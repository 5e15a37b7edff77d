"""How far long work is, said now and then: after 2 seconds, then ever more rarely, at last once a minute."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

FIRST, LONGEST = 2.0, 60.0  # seconds from one line to the next
T = TypeVar("T")


def counted(each: Iterable[T], of: int, what: str, tell: Callable[[str], None]) -> Iterator[T]:
    """The same things, of which there are `of`; `tell` hears how many were taken."""
    pause, due = FIRST, time.monotonic() + FIRST
    for number, one in enumerate(each):
        if (now := time.monotonic()) >= due:
            tell(f"{what:<9} {number:,} of {of:,} ...")
            pause = min(LONGEST, 2 * pause)
            due = now + pause
        yield one
