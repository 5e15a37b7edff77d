"""Contents that stay where they lie, in a folder of the project that is too large to be copied (`copy: false`).

    cdl-outside-1\\n{"path":"photos"}

is the object that a row of a tree then points to, with OUTSIDE in its column `at`; hash and size of the row pin it. Which
file has it is nobody's to know here: whoever reads finds one by its hash, and holds the bytes against it.
"""

import json
from collections.abc import Callable

from blake3 import blake3

from cdl import document
from cdl.errors import Corrupt, Unavailable
from cdl.store import chunk

OUTSIDE = (1 << 64) - 2  # in column `at` of a tree
MAGIC = b"cdl-outside-1\n"
Reader = Callable[[str, bytes, int], memoryview]  # the content with a hash and size that lies in a folder


def place(path: str) -> bytes:
    """The object that names a folder, relative to cdl.yaml."""
    return MAGIC + document.canonical({"path": path})


def path_of(data: bytes | memoryview, *, where: str) -> str:
    """The folder that such an object names. Corrupt."""
    whole = bytes(data)
    try:
        if whole.startswith(MAGIC):
            return str(json.loads(whole[len(MAGIC) :])["path"])
    except (ValueError, KeyError, TypeError):
        pass
    raise Corrupt("names no place outside of the store", where=where[:14], remedy="cdl store verify")


def hash_of(data: memoryview) -> bytes:
    """The hash that a tree has of a content: that of its chunks where it is large."""
    return chunk.cuts(data).hash if len(data) >= chunk.CHUNKED_BYTES else blake3(data).digest()


def nowhere(path: str, hash_: bytes, size: int) -> memoryview:
    """A reader outside of a project. Unavailable."""
    raise Unavailable("a content lies outside of the store", where=path, remedy="the command again, in its project")
