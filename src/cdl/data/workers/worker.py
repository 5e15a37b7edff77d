"""The worker's side of a data step: one function or command, many items.

    {op: open, run: "module:function" | [program, ...], parameters: {...}, io: stdio | folders, per: ...,
     memory: bytes} -> {ready: true}
    {op: items, items: [[content, fields], ...]}   -> {results: [[content, fields] | {reject: reason} | {failed: error}, ...]}
                                                    | {broken: error}             where nobody knows whose fault it was
    {op: items, items: [...], more: true}          -> {ready: true}               the next message holds more of them
    {op: rest}                                     -> {results: [...]}            what an answer with `more: true` left
    {op: open, run: "module:function", values: true}, then {op: items, items: [content, ...]}   -> {values: [bytes, ...]}
                                                                                              for `split.by`

A function takes (content, fields) and its parameters by name and gives bytes, or (bytes, fields), or raises Reject; with
`per: group` or `all` it takes a list of (content, fields) and gives as many of these, or Reject(reason) in the place of one. A
command gets an item on standard input and answers on standard output; exit code 3 rejects with the first line of its standard
error. One with folders gets many at a time (folders.py). What an item raises is told of it alone and stands whole in the log.
"""

import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from cdl.data.reject import LONGEST_REASON, Reject
from cdl.data.workers.folders import Folders, Unfit, failure, run_program
from cdl.jobs.channel import Channel
from cdl.jobs.walls import limit_memory

LONGEST_SAID = 500  # bytes of what a program said last, in the log
REJECTED = 3  # exit code of a command that sets an item aside
PART_BYTES = 64_000_000  # of outcomes in one message
LARGEST = 1_000_000_000  # bytes of one content: a message holds little more
PARAMETERS = "parameters.json"  # beside the folder that the code lies in
Outcome = Any
Works = Callable[[Sequence[Any]], dict[str, Any]]


def serve(channel: Channel) -> None:
    """Answers until told to stop."""
    message = channel.receive()
    try:
        works = _opened(message)
    except Unfit as error:
        channel.send({"broken": failure(error)})
        return
    if message.get("memory"):
        limit_memory(message["memory"])
    channel.send({"ready": True})
    while (message := channel.receive())["op"] != "stop":
        channel.send(works(message))


class _Parts:
    """Items and outcomes that come in several messages, since one can hold so many bytes only."""

    def __init__(self, works: Works) -> None:
        self._works = works
        self._items: list[Any] = []
        self._left: list[Any] = []  # outcomes that were not asked for yet, the last one first

    def __call__(self, message: Mapping[str, Any]) -> dict[str, Any]:
        if message["op"] == "items":
            self._items += message["items"]
            if message.get("more"):
                return {"ready": True}
            items, self._items = self._items, []
            answer = self._works(items)
            if "broken" in answer:
                return answer
            self._left = answer["results"][::-1]
        part: list[Any] = []
        size = 0
        while self._left and size < PART_BYTES:
            part.append(_sendable(self._left.pop()))
            size += len(part[-1][0]) if isinstance(part[-1], list) else 0
        return {"results": part, "more": bool(self._left)}


def _sendable(outcome: Outcome) -> Outcome:
    """An outcome, or that it fits no message."""
    if isinstance(outcome, list) and len(outcome[0]) > LARGEST:
        return {"failed": failure(Unfit("large", f"{len(outcome[0])} bytes"))}
    return outcome


def _opened(message: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """What answers messages of items."""
    run, parameters = message["run"], message.get("parameters", {})
    if message.get("values"):
        function = _function(run, {})
        return lambda said: {"values": [_value(function(item, {})) for item in said["items"]]}
    if isinstance(run, str) and message.get("per") in ("group", "all"):
        return _Parts(partial(_together, partial(_named(run), **parameters)))
    if isinstance(run, str):
        return _Parts(partial(_each, _function(run, parameters)))
    place = Path.cwd().parent / PARAMETERS
    place.write_text(json.dumps(parameters, ensure_ascii=False))
    os.environ["CDL_PARAMETERS"] = str(place)
    return _Parts(
        Folders(run, place.parent) if message.get("io") == "folders" else partial(_each, _Command(run, place.parent))
    )


def _each(step: Callable[..., Any], items: Sequence[Any]) -> dict[str, Any]:
    return {"results": [_outcome(step, content, fields) for content, fields in items]}


def _together(step: Callable[..., Any], items: Sequence[Any]) -> dict[str, Any]:
    """What a function makes of all items of a set at once."""
    try:
        found = list(step([(content, dict(fields)) for content, fields in items]))
        if len(found) != len(items):
            raise Unfit("count", f"{len(found)} for {len(items)}")
        kept = zip(found, items, strict=True)
        return {"results": [{"reject": x.reason} if isinstance(x, Reject) else _result(x, i[1]) for x, i in kept]}
    except Exception as error:  # noqa: BLE001 the user's code may raise anything: the log says how
        return {"broken": failure(error)}


def _outcome(step: Callable[..., Any], content: bytes, fields: dict[str, Any]) -> Outcome:
    try:
        return _result(step(content, dict(fields)), fields)
    except Reject as rejected:
        return {"reject": rejected.reason}
    except Exception as error:  # noqa: BLE001 the user's code may raise anything: this item failed, the log says how
        return {"failed": failure(error)}


def _result(found: Any, fields: dict[str, Any]) -> Outcome:
    content, fields = found if isinstance(found, tuple) else (found, fields)
    if not isinstance(content, bytes) or not isinstance(fields, dict):
        raise Unfit("bytes", type(found).__name__)
    return [content, fields]


def _function(run: str, parameters: Mapping[str, Any]) -> Callable[..., Any]:
    """A function of (content, fields) or of (content) alone, called with its parameters. Unfit where it takes others."""
    function = _named(run)
    alone = _takes_content_alone(function, parameters)
    if parameters:
        try:
            inspect.signature(function).bind(*([b""] if alone else [b"", {}]), **parameters)
        except (TypeError, ValueError) as error:
            raise Unfit("open", f"{run}: {error}") from error
    if alone:
        return lambda content, fields: function(content, **parameters)
    return partial(function, **parameters) if parameters else function


def _named(run: str) -> Callable[..., Any]:
    module, _, name = run.partition(":")
    function = getattr(import_module(module), name, None)
    if not callable(function):
        raise Unfit("open", f"{run} is {type(function).__name__}")
    return function  # type: ignore[no-any-return]


def _takes_content_alone(function: Callable[..., Any], parameters: Mapping[str, Any]) -> bool:
    """Whether it has one place for an argument, beside those of its parameters."""
    code = getattr(function, "__code__", None)
    if code is None:
        return False
    places = code.co_varnames[: code.co_argcount]
    return len([name for name in places if name not in parameters]) == 1


class _Command:
    """A program that gets one item on standard input."""

    def __init__(self, command: list[str], place: Path) -> None:
        self._command = command
        self._place = place

    def __call__(self, content: bytes, fields: dict[str, Any]) -> bytes:
        with ExitStack() as held:
            given, found, said = (held.enter_context(TemporaryFile(dir=self._place)) for _ in range(3))
            given.write(content)
            given.seek(0)
            code = run_program(self._command, stdin=given, stdout=found, stderr=said)
            if code == REJECTED:
                said.seek(0)
                lines = said.read(4 * LONGEST_REASON).decode("utf-8", "replace").splitlines()
                raise Reject((lines or ["rejected"])[0])
            if code != 0:
                said.seek(-min(LONGEST_SAID, said.seek(0, os.SEEK_END)), os.SEEK_END)
                raise Unfit("exit", f"{self._command[0]}: exit code {code}: {said.read().decode('utf-8', 'replace')}")
            found.seek(0)
            return found.read()


def _value(found: Any) -> bytes:
    """A value that items are compared by, as bytes."""
    if isinstance(found, bytes):
        return found
    if isinstance(found, str):
        return found.encode()
    return json.dumps(found, sort_keys=True).encode()
