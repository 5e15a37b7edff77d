"""What may be told of an error in a job that saw sealed items: nothing that the items could have written.

The worker says class and place of an exception, and its code may say anything there: a class named like an item, a file
called like one. So a class is told when Python, a common library or the job's own code has that name, and a place when it is a
line of the job's own code.
"""

import builtins
import re
from collections.abc import Mapping
from typing import Any

ELSEWHERE = "an error of its own"
WORD = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")
LIBRARIES = frozenset(
    {
        "BadZipFile", "DecodeError", "EncodeError", "JSONDecodeError", "LinAlgError", "OutOfMemoryError", "ParserError",
        "SafetensorError", "UnidentifiedImageError", "ValidationError", "_ArrayMemoryError", "_UFuncNoLoopError", "error",
    }
)  # fmt: skip


def error(raised: Mapping[str, Any], code: Mapping[str, bytes]) -> tuple[str, str | None]:
    """Class and place of a worker's error as they may be told; `code` is the job's closure by path."""
    name, place = str(raised.get("class")), str(raised.get("at"))
    return (name if _known(name, code) else ELSEWHERE), (place if _stands(place, code) else None)


def _known(name: str, code: Mapping[str, bytes]) -> bool:
    found = getattr(builtins, name, None)
    if name in LIBRARIES or (isinstance(found, type) and issubclass(found, BaseException)):
        return True
    return any(name.encode() in WORD.findall(text) for text in code.values())


def _stands(place: str, code: Mapping[str, bytes]) -> bool:
    path, _, line = place.rpartition(":")
    return path in code and line.isascii() and line.isdigit() and 0 < int(line[:9]) <= len(code[path].splitlines())
