"""Strict YAML: read with places, written so that equal values give equal bytes.

Read is what a person typed, minus what surprises: no anchors, aliases, tags or duplicate keys, at most 1 MB, and only
the JSON forms of null, true, false and numbers are anything but text: `no`, `on` and `0777123` stay what they say.

    write({"name": "news", "items": [1, "no: yes"]})   ->   name: news
                                                             items:
                                                             - 1
                                                             - "no: yes"
"""

import json
import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import msgspec

from cdl.errors import ConfigError

MAX_BYTES = 1_000_000
MAX_DEPTH = 32
PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./@-]*")  # written without quotes; ':' only ever quoted
RESERVED = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
WORDS = {"null": None, "true": True, "false": False}
Path = tuple[str | int, ...]


class Node(msgspec.Struct, frozen=True):
    """A document: its value in plain Python, and the line of each place in it (1 is the first)."""

    value: Any
    lines: Mapping[Path, int]

    def line(self, path: Path) -> int:
        """The line of a place, or of the nearest place around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read(data: bytes, *, where: str) -> Node:
    """The document in `data`. ConfigError names the file and line of what is not allowed."""
    if len(data) > MAX_BYTES:
        raise ConfigError(f"more than {MAX_BYTES} bytes", where=where, remedy="split the file")
    yaml = import_module("yaml")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    lines: dict[Path, int] = {}
    try:
        text = data.decode("utf-8")
        reader = _Reader(yaml, iter(yaml.parse(text, Loader=loader)), lines, where)
        value = reader.document()
    except UnicodeDecodeError as error:
        raise ConfigError("not UTF-8", where=where, remedy="save the file as UTF-8") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        place = f"{where}:{mark.line + 1}" if mark else where
        raise ConfigError(f"not YAML: {getattr(error, 'problem', error)}", where=place) from error
    return Node(value, lines)


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: what is hashed and signed."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def write(value: Any) -> bytes:
    """Block-style YAML in the order given. Keys are strings; values are JSON's."""
    if isinstance(value, Mapping | list | tuple) and value:
        return ("\n".join(_block(value, "")) + "\n").encode("utf-8")
    return (_flat(value) + "\n").encode("utf-8")


def flow(value: Any) -> str:
    """YAML in one line, as a person writes it: {path: incoming}."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_text(key)}: {flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    return _flat(value)


def _block(value: Any, indent: str) -> list[str]:
    lines = []
    pairs = [(f"{_text(k)}:", v) for k, v in value.items()] if isinstance(value, Mapping) else [("-", v) for v in value]
    for lead, item in pairs:
        if isinstance(item, Mapping | list | tuple) and item:
            lines += [f"{indent}{lead}", *_block(item, indent + "  ")]
        else:
            lines.append(f"{indent}{lead} {_flat(item)}")
    return lines


def _flat(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, list | tuple):
        return "[]"
    return json.dumps(value, allow_nan=False)


def _text(value: str) -> str:
    if PLAIN.fullmatch(value) and value.lower() not in RESERVED:
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() or c == " " else _escaped(c) for c in quoted)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


class _Reader:
    """Builds plain values from parser events."""

    def __init__(self, yaml: Any, events: Any, lines: dict[Path, int], where: str) -> None:
        self.yaml = yaml
        self.events = events
        self.lines = lines
        self.where = where

    def document(self) -> Any:
        """The value of the only document."""
        value: Any = None
        found = False
        for event in self.events:
            if isinstance(event, self.yaml.DocumentStartEvent):
                if found:
                    raise self._wrong(event, "a second document", "keep one document in a file")
                found = True
                value = self._value(next(self.events), ())
        return value

    def _value(self, event: Any, path: Path) -> Any:
        if len(path) > MAX_DEPTH:
            raise self._wrong(event, f"nested deeper than {MAX_DEPTH}", "flatten it")
        if isinstance(event, self.yaml.AliasEvent):
            raise self._wrong(event, "an alias (*)", "write the value out")
        if getattr(event, "anchor", None):
            raise self._wrong(event, "an anchor (&)", "write the value out")
        if getattr(event, "tag", None):
            raise self._wrong(event, f"a tag ({event.tag})", "leave the tag out")
        self.lines[path] = event.start_mark.line + 1
        if isinstance(event, self.yaml.MappingStartEvent):
            return self._mapping(path)
        if isinstance(event, self.yaml.SequenceStartEvent):
            return self._sequence(path)
        if event.style in ("'", '"', "|", ">"):
            return event.value
        try:
            return plain(event.value)
        except ValueError as error:
            raise self._wrong(event, f"a number of {len(event.value)} characters", "quote it, or shorten it") from error

    def _mapping(self, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(event := next(self.events), self.yaml.MappingEndEvent):
            if not isinstance(event, self.yaml.ScalarEvent) or event.anchor or event.tag:
                raise self._wrong(event, "a key that is not plain text", "keys are words")
            key = event.value
            if key in found:
                raise self._wrong(event, f"the key '{key}' a second time", "keep one of them")
            place = (*path, key)
            found[key] = self._value(next(self.events), place)
            self.lines[place] = event.start_mark.line + 1
        return found

    def _sequence(self, path: Path) -> list[Any]:
        found: list[Any] = []
        while not isinstance(event := next(self.events), self.yaml.SequenceEndEvent):
            found.append(self._value(event, (*path, len(found))))
        return found

    def _wrong(self, event: Any, what: str, remedy: str) -> ConfigError:
        return ConfigError(f"{what} is not allowed", where=f"{self.where}:{event.start_mark.line + 1}", remedy=remedy)


def plain(text: str) -> Any:
    """An unquoted scalar: JSON's words and numbers are values, everything else is text. ValueError for too large a number."""
    if text in WORDS:
        return WORDS[text]
    if text in ("", "~"):
        return None
    if NUMBER.fullmatch(text):
        number = float(text) if any(c in text for c in ".eE") else int(text)
        if number in (float("inf"), float("-inf")):
            raise ValueError("beyond what a number can be")
        return number
    return text
