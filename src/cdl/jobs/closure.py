"""A closure: exactly the files that a piece of code needs, found in a git tree without running anything.

What is named ('data.clean:body', 'tests/test_news.py', or a command's arguments), what that imports inside the project, and
declared `files:`. With the section of cdl.yaml it makes an id: other code, another id; a change elsewhere, the same id.
A job runs in a folder that holds these files only, so what works is complete.
"""

import ast
import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from blake3 import blake3

from cdl import document
from cdl.errors import ConfigError

Cat = Callable[[Iterable[str]], Mapping[str, bytes]]


class Closure(msgspec.Struct, frozen=True):
    """Files by path with the blake3 of their bytes, and the section of cdl.yaml that asks for them."""

    id: str
    files: Mapping[str, str]
    section: Any
    blobs: Mapping[str, str]


def closure(
    files: Mapping[str, str], cat: Cat, entries: Sequence[str | Sequence[str]], *, declared: Iterable[str], section: Any
) -> Closure:
    """The closure of entries in a tree given as {path: blob} with a reader of blobs.

    An entry is 'module:function', a file's path, or a command as a list. ConfigError names what is missing or no Python.
    """
    found: set[str] = set()
    todo = {path for entry in entries for path in _start(files, entry)}
    while todo:
        found |= todo
        read = sorted(path for path in todo if path.endswith(".py"))
        sources = cat([files[path] for path in read])  # all that one step reaches, at once
        todo = {p for path in read for p in _imported(files, path, sources[files[path]])} - found
    for pattern in declared:
        matched = [p for p in files if fnmatch.fnmatchcase(p, pattern)]
        if not matched:
            raise ConfigError(
                f"no file fits '{pattern}'", where="cdl.yaml: files", remedy="git add the file, or leave it out"
            )
        found |= set(matched)
    blobs = {path: files[path] for path in sorted(found)}
    data = cat(blobs.values())
    hashes = {path: blake3(data[blob]).hexdigest() for path, blob in blobs.items()}
    identity = blake3(document.canonical({"files": hashes, "section": section})).hexdigest()
    return Closure(identity, hashes, section, blobs)


def _start(files: Mapping[str, str], entry: str | Sequence[str]) -> list[str]:
    if not isinstance(entry, str):
        return [a for a in (part.removeprefix("./") for part in entry) if a in files]
    if entry in files:
        return [entry]
    module, colon, _ = entry.partition(":")
    if not colon:
        raise ConfigError(f"there is no file '{entry}'", where="cdl.yaml", remedy="write the file, or correct the path")
    paths = _module(files, module)
    if not paths:
        expected = module.replace(".", "/") + ".py"
        raise ConfigError(
            f"there is no module '{module}'", where="cdl.yaml", remedy=f"write {expected}, or correct '{entry}'"
        )
    return paths


def _module(files: Mapping[str, str], name: str) -> list[str]:
    """The files of a module of the project: its own and the __init__ of each package around it; none for others."""
    parts = name.split(".")
    base = "/".join(parts)
    own = next((p for p in (base + ".py", base + "/__init__.py") if p in files), None)
    if own is None:
        return []
    around = ["/".join(parts[:i]) + "/__init__.py" for i in range(1, len(parts))]
    return [own, *(p for p in around if p in files)]


def _imported(files: Mapping[str, str], path: str, data: bytes) -> list[str]:
    try:
        tree = ast.parse(data, filename=path)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise ConfigError(f"not Python: {error}", where=f"{path}:{line}", remedy="correct the file") from error
    package = path.split("/")[:-1]
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [p for alias in node.names for p in _module(files, alias.name)]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found += _module(files, base) if base else []
            found += [p for alias in node.names for p in _module(files, f"{base}.{alias.name}".lstrip("."))]
    return found
