"""Files that are there whole or not at all: written beside their place under a name that nobody takes for theirs, then moved."""

import os
import tempfile
from pathlib import Path

HALF = ".tmp-"  # what is being written begins so


def write(path: Path, data: bytes | memoryview, *, mode: int) -> None:
    """Writes a file, over what was there. OSError names the folder."""
    temporary = half(path, data)
    os.chmod(temporary, mode)
    os.replace(temporary, path)


def create(path: Path, data: bytes, *, mode: int = 0o600) -> bool:
    """Writes a file where there is none; False, with nothing changed, where there is one. OSError names the folder."""
    temporary = half(path, data)
    os.chmod(temporary, mode)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        os.unlink(temporary)
    return True


def half(path: Path, data: bytes | memoryview) -> str:
    """A new file beside a place; its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=HALF)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
    except OSError as error:
        os.unlink(temporary)
        raise OSError(error.errno, error.strerror, str(path.parent)) from error  # a full disk does not say which
    return temporary
