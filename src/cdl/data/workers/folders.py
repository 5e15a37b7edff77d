"""A command that works many items in one process: files in, files out.

    CDL_IN/000000  000001 ...        the items' contents, numbered anew in each process; no id, no name
    CDL_IN/items.jsonl               {"file": "000000", "fields": {...}}                one line an item
    CDL_OUT/000000                   the new content: the command writes one file for each item,
    CDL_OUT/000001.reject            or this one, which sets it aside; the reason is its first line
    CDL_OUT/items.jsonl              {"file": "000000", "fields": {...}}                only for items whose fields change
    CDL_PARAMETERS                   the file with the step's `parameters` as JSON

It runs in the folder of the step's code. An exit code other than 0, or other files than these, is an error of the whole batch;
which item's it is shows when each is tried alone.
"""

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cdl.data.reject import LONGEST_REASON, Reject
from cdl.jobs.worker import ends_with_this, raised

FIELDS = "items.jsonl"
REJECT = ".reject"
FAULTS = {  # what is told of a step: fixed words, since the items could have written any other
    "start": "the program could not be started: it must be executable, and what its first line names must be there",
    "exit": "the program ended with an exit code that means an error",
    "large": "what it made of an item is larger than 1 GB",
    "open": "there is no such function, or it does not take these parameters",
    "bytes": "the function gave neither bytes nor (bytes, fields)",
    "count": "the function gave another number of outcomes than it got items",
    "kind": "the command left something in CDL_OUT that is no plain file",
    "none": "the command left neither a result nor a rejection of an item in CDL_OUT",
    "both": "the command left a result and a rejection of the same item in CDL_OUT",
    "extra": "the command left a file in CDL_OUT that is named like no item",
    "fields": 'CDL_OUT/items.jsonl is not lines of {"file": NAME, "fields": {...}}, one an item',
}


class Unfit(RuntimeError):
    """A step does not do what was agreed: `fault` is a key of FAULTS."""

    def __init__(self, fault: str, name: str) -> None:
        super().__init__(f"{FAULTS[fault]}: {name}")
        self.fault = fault


def failure(error: Exception) -> dict[str, Any]:
    """An error as the parent is told of it; the log has it whole."""
    traceback.print_exception(error)
    sys.stderr.flush()
    return raised(error) | ({"fault": error.fault} if isinstance(error, Unfit) else {})


def run_program(command: Sequence[str], **how: Any) -> int:
    """Runs a program to its end, not to that of what it left behind; its exit code. Unfit where it cannot be started.

    Its streams are files, or those of this process: a pipe would be read until all that holds it has ended.
    """
    try:
        return subprocess.run(command, check=False, preexec_fn=ends_with_this(), **how).returncode
    except OSError as error:
        raise Unfit("start", f"{command[0]}: {error.strerror}") from error


class Folders:
    """Answers items with what a command makes of them."""

    def __init__(self, command: Sequence[str], place: Path) -> None:
        self._command = command
        self._place = place

    def __call__(self, items: Sequence[Any]) -> dict[str, Any]:
        """{results: [...]}, or {broken: error}."""
        try:
            with TemporaryDirectory(prefix="batch-", dir=self._place, ignore_cleanup_errors=True) as folder:
                return {"results": self._worked(items, Path(folder))}
        except (OSError, RuntimeError) as error:
            return {"broken": failure(error)}

    def _worked(self, items: Sequence[Any], folder: Path) -> list[Any]:
        into, out = folder / "in", folder / "out"
        into.mkdir()
        out.mkdir()
        names = [f"{number:06d}" for number in range(len(items))]
        for name, (content, _) in zip(names, items, strict=True):
            (into / name).write_bytes(content)
        lines = [json.dumps({"file": n, "fields": fields}) for n, (_, fields) in zip(names, items, strict=True)]
        (into / FIELDS).write_text("\n".join(lines) + "\n")
        around = {**os.environ, "CDL_IN": str(into), "CDL_OUT": str(out)}
        code = run_program(self._command, stdin=subprocess.DEVNULL, env=around)
        if code != 0:
            raise Unfit("exit", f"{self._command[0]}: exit code {code}")
        return _collected(out, dict(zip(names, (fields for _, fields in items), strict=True)))


def _collected(out: Path, fields: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """The outcome of each item. `fields` are those it had, by the name of its file."""
    found = set()
    for entry in os.scandir(out):
        if not entry.is_file(follow_symlinks=False):
            raise Unfit("kind", entry.name)
        if entry.name != FIELDS and entry.name.removesuffix(REJECT) not in fields:
            raise Unfit("extra", entry.name)
        found.add(entry.name)
    changed = _changed(out / FIELDS, fields) if FIELDS in found else {}
    return [
        _outcome(out, name, found, {**had} if (new := changed.get(name)) is None else new)
        for name, had in fields.items()
    ]


def _outcome(out: Path, name: str, found: set[str], fields: dict[str, Any]) -> Any:
    rejected = name + REJECT in found
    if rejected == (name in found):
        raise Unfit("both" if rejected else "none", name)
    if not rejected:
        return [(out / name).read_bytes(), fields]
    with (out / (name + REJECT)).open("rb") as file:
        lines = file.read(4 * LONGEST_REASON).decode("utf-8", "replace").splitlines()
    return {"reject": Reject((lines or ["rejected"])[0]).reason}


def _changed(path: Path, names: Mapping[str, object]) -> dict[str, dict[str, Any]]:
    """The new fields of items, by the name of their file."""
    changed: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            said = json.loads(line)
        except ValueError as error:
            raise Unfit("fields", f"line {number}") from error
        if not isinstance(said, dict) or said.keys() != {"file", "fields"} or not isinstance(said["fields"], dict):
            raise Unfit("fields", f"line {number}")
        if not isinstance(said["file"], str) or said["file"] not in names or said["file"] in changed:
            raise Unfit("fields", f"line {number}")
        changed[said["file"]] = said["fields"]
    return changed
