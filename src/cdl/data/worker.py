"""The worker's side of a data step: one function or command, many items.

    {op: open, run: "module:function" | [program, ...]}        -> {ready: true}
    {op: items, items: [[content, fields], ...]}               -> {results: [[content, fields] | {reject: reason}, ...]}
    {op: values, items: [content, ...]}                        -> {values: [bytes, ...]}      for `split.by`

A function takes (content, fields) and gives bytes, or (bytes, fields), or raises Reject. A command gets an item on standard
input and answers on standard output; exit code 3 rejects with the first line of its standard error.
"""

import json
import subprocess
from collections.abc import Callable
from importlib import import_module
from typing import Any

from cdl.data.reject import Reject
from cdl.jobs.channel import Channel
from cdl.jobs.worker import ends_with_this

REJECTED = 3  # exit code of a command that sets an item aside
Outcome = Any


def serve(channel: Channel) -> None:
    """Answers until told to stop."""
    step = _opened(channel.receive()["run"])
    channel.send({"ready": True})
    while (message := channel.receive())["op"] != "stop":
        if message["op"] == "values":
            channel.send({"values": [_value(step(item, {})) for item in message["items"]]})
        else:
            channel.send({"results": [_outcome(step, content, fields) for content, fields in message["items"]]})


def _outcome(step: Callable[[bytes, dict[str, Any]], Any], content: bytes, fields: dict[str, Any]) -> Outcome:
    try:
        found = step(content, dict(fields))
    except Reject as rejected:
        return {"reject": rejected.reason}
    if isinstance(found, tuple):
        content, fields = found
    else:
        content = found
    if not isinstance(content, bytes) or not isinstance(fields, dict):
        raise TypeError("a step gives bytes, or (bytes, dict)")
    return [content, fields]


def _opened(run: Any) -> Callable[..., Any]:
    if isinstance(run, list):
        return _Command(run)
    module, _, name = run.partition(":")
    function = getattr(import_module(module), name)
    if not callable(function):
        raise TypeError(f"{run} is not a function")
    return _by_arguments(function)


def _by_arguments(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of (content, fields) or of (content) alone."""
    code = getattr(function, "__code__", None)
    if code is not None and code.co_argcount == 1:
        return lambda content, fields: function(content)
    return function


class _Command:
    def __init__(self, command: list[str]) -> None:
        self.command = command

    def __call__(self, content: bytes, fields: dict[str, Any]) -> bytes:
        done = subprocess.run(
            self.command, input=content, capture_output=True, check=False, preexec_fn=ends_with_this()
        )
        if done.returncode == REJECTED:
            raise Reject((done.stderr.decode("utf-8", "replace").splitlines() or ["rejected"])[0])
        if done.returncode != 0:
            raise RuntimeError(
                f"{self.command[0]}: exit code {done.returncode}: {done.stderr[-500:].decode('utf-8', 'replace')}"
            )
        return done.stdout


def _value(found: Any) -> bytes:
    """A value that items are compared by, as bytes."""
    if isinstance(found, bytes):
        return found
    if isinstance(found, str):
        return found.encode()
    return json.dumps(found, sort_keys=True).encode()
