"""What work under way holds: names that are not written anywhere else yet, and that it will need again.

    .cdl/holds/1795537518-4711-9f0c      one name a line; its maker holds a lock on it

The lock is the kernel's: whoever was killed holds nothing, and its file is removed by the next who looks.
"""

import fcntl
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = "holds"  # below `.cdl`
BEING_MADE = ".new"  # ends a file whose lock is not taken yet


@contextmanager
def holding(root: Path, names: Iterable[str] = ()) -> Iterator[Callable[[Iterable[str]], None]]:
    """Holds some names while something works, and those that are added meanwhile. `root` is `.cdl`."""
    folder = root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{os.getpid()}-{secrets.token_hex(4)}"
    made = path.with_name(path.name + BEING_MADE)
    with made.open("w") as file:

        def add(more: Iterable[str]) -> None:
            file.write("".join(name + "\n" for name in sorted(set(more))))
            file.flush()

        add(names)
        fcntl.flock(file, fcntl.LOCK_EX)
        made.rename(path)
        try:
            yield add
        finally:
            path.unlink(missing_ok=True)


def held(root: Path) -> dict[str, frozenset[str]]:
    """What is held, by its holder's process. Files whose holder is gone are removed."""
    found: dict[str, frozenset[str]] = {}
    folder = root / FOLDER
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.endswith(BEING_MADE):
            continue
        try:
            with path.open() as file:
                names = frozenset(file.read().split("\n")[:-1])
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
        except BlockingIOError:
            process = path.name.partition("-")[0]
            found[process] = found.get(process, frozenset()) | names
        except FileNotFoundError:
            continue  # it ended meanwhile
    return found
