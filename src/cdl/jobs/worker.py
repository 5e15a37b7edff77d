"""The worker: a process that runs the user's code in a folder with exactly its closure, and nothing else of the project.

    python -m cdl.jobs.worker MODULE:LOOP READ WRITE PARENT      LOOP is called with a Channel over the two inherited pipes

It ends with its parent: the process of `cdl`, or the template that it was forked from.

What the code prints goes to the log. An exception becomes one last message: its class, its text, and the last line of the
project's own code that it passed.
"""

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path

from cdl.jobs.channel import Channel, Closed

PR_SET_PDEATHSIG = 1  # Linux: the signal that comes when the parent ends


def main(loop: str, read: int, write: int, parent: int) -> int:
    """Runs a loop; the exit code."""
    end_with(parent)
    sys.path.insert(0, os.getcwd())
    channel = Channel(read, write)
    module, _, name = loop.partition(":")
    try:
        getattr(import_module(module), name)(channel)
    except Closed:
        return 0
    except Exception as error:  # noqa: BLE001 the user's code may raise anything; it is told to the parent, whole in the log
        traceback.print_exc()
        sys.stderr.flush()
        channel.send({"error": raised(error)})
        return 1
    return 0


def raised(error: BaseException) -> dict[str, str]:
    """An exception as the parent is told of it."""
    return {"class": type(error).__name__, "text": str(error), "at": place(error)}


def place(error: BaseException) -> str:
    """The last line of the project's code in a traceback: 'data/clean.py:12', or where else it happened."""
    frames = traceback.extract_tb(error.__traceback__)
    here = os.getcwd() + os.sep
    own = [f for f in frames if f.filename.startswith(here)]
    if own:
        return f"{own[-1].filename.removeprefix(here)}:{own[-1].lineno}"
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"


def end_with(parent: int) -> None:
    """From now on this process is killed when its parent ends (Linux), and at once when that has happened already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def ends_with_this() -> Callable[[], None]:
    """What a program that is started here does first (`preexec_fn`), so that it does not outlive this process (Linux)."""
    return partial(end_with, os.getpid())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:5])))
