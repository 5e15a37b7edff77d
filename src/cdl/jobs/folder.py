"""Temporary folders: outside the project, so that `..` leads nowhere, and gone with what uses them.

    <temporary folder>/cdl-job-k3x9/held     locked by the process that made it, as long as it lives
                                    code     the job's closure
                                    home

A killed command leaves its folder, with whatever lay there. The next one that makes such a folder removes those that nobody
holds.
"""

import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HELD = "held"
YOUNG_SECONDS = 60.0  # one that is being made is not held yet


@contextmanager
def held_folder(kind: str, *, within: Path | None = None) -> Iterator[Path]:
    """A new folder `cdl-<kind>-...`, held while it is used; `within` another folder than the temporary one."""
    if within is not None:
        within.mkdir(parents=True, exist_ok=True)
    _sweep(within or Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=f"cdl-{kind}-", dir=within) as name:
        folder = Path(name)
        with open(folder / HELD, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder


def _sweep(place: Path) -> None:
    """Removes the folders of killed commands, as far as this person may."""
    before = time.time() - YOUNG_SECONDS
    for held in place.glob(f"cdl-*/{HELD}"):
        try:
            if held.stat().st_mtime > before:
                continue
            with open(held, "r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(held.parent, ignore_errors=True)
        except OSError:
            continue  # held, somebody else's, or gone meanwhile
