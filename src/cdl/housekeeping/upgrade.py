"""The version of a clone's `.cdl`, and what is done once to one that an earlier version left. Nothing of it is lost.

    .cdl/version        3

1 (no such file): `counted/<test>/000001` claims held the result that was counted; now the result names the claim and the number
is what it holds, so that two clones count without meeting. Who worked there had run the project's code: the clone stays allowed
to. 2: trees were lines of JSON, each item an object of its own; they stay as they are and are read (store/earlier.py), new ones
are tables. Indexes and caches of another version are made anew by themselves. Each step may be done twice, and a
kill does no harm.
"""

import os
import re
from pathlib import Path

from cdl.errors import CdlError, ConfigError, Corrupt
from cdl.git.repository import Git
from cdl.journal import stream
from cdl.sharing.trust import Trusted, note, refuse_tracked, trusted
from cdl.store.store import NAME, Store

VERSION = 3
FILE = "version"
COUNTED = "counted/"
NUMBERED = re.compile(r"\d{6,}")  # a claim of version 1: which evaluation of its test it was
RAN = b'"kind":"job.finished"'


def upgrade(git: Git, folder: Path) -> bool:
    """Brings `.cdl` to this version where it is of an earlier one; whether it was. ConfigError for a later one."""
    found = version(folder)
    if found == VERSION:
        return False
    if found is not None and found > VERSION:
        raise ConfigError(
            f"written by a later version (format {found}, this one knows {VERSION})",
            where=str(folder),
            remedy="pip install --upgrade continuous-deep-learning",
        )
    old = folder.is_dir() and any(folder.iterdir())
    if old and found is None:
        with stream.writing(folder):
            _recount(Store(folder / "store"))
            _trust(git, folder)
    _write(folder)
    return old


def version(folder: Path) -> int | None:
    """The version that a `.cdl` says it is of; None where it says none."""
    try:
        text = (folder / FILE).read_text().strip()
    except FileNotFoundError:
        return None
    if not text.isdigit():
        raise Corrupt("not a version", where=str(folder / FILE), remedy=f"echo {VERSION} > {folder / FILE}")
    return int(text)


def _recount(store: Store) -> None:
    """Turns the claims of counted evaluations round."""
    for claim in store.claims(COUNTED):
        test, _, number = claim.rpartition("/")
        result = (store.claimed(claim) or b"").decode("utf-8", "replace").strip()
        if NUMBERED.fullmatch(number) and NAME.fullmatch(result):
            store.claim(f"{test}/{result}", str(int(number)).encode())
            store.unclaim(claim)


def _trust(git: Git, folder: Path) -> None:
    """Notes that code may run where it did: this clone's own stream tells of a job, and no commit brought it."""
    try:
        refuse_tracked(git)
    except CdlError:
        return
    if trusted(git) != Trusted() or not (folder / "stream").exists():
        return
    own = stream.own_stream(folder)
    ran = any(RAN in stream.segment_path(folder, own, n).read_bytes() for n in stream.segments(folder, own))
    if ran:
        note(git, Trusted(code=True))


def _write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{FILE}.{os.getpid()}.tmp"
    temporary.write_text(f"{VERSION}\n")
    temporary.replace(folder / FILE)
