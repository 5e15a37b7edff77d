"""Reads cdl.yaml: each error names the line, the key, what was found, what is allowed, and the nearest correct spelling."""

import difflib
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

import msgspec

from cdl import document
from cdl.config import joins
from cdl.config.requirement import Requirement, parse_requirement
from cdl.config.schema import ROLES, Config, DataConfig, ModelConfig, Source, Step, TriggerConfig, WorkerResources
from cdl.errors import ConfigError, NotFound

NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
CALL = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>[^`]*)`")
ENUM = re.compile(r"Invalid enum value '(?P<value>[^']*)'")
PLACE = re.compile(r" - at (`key` in )?`\$(?P<path>[^`]*)`$")
PART = re.compile(r"\.(\w[\w-]*)|\[(\d+)\]|\[\.\.\.\]")
STARTED = {"dataset.ready": ("evaluate", "train"), "monitor.drift": ("collect",), "model.promoted": ("deployment",)}
LAST_PORT = 65535
BUCKETS = ("s3", "gs", "az")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
LONGEST_SECONDS = 1e6  # a step's timeout; what a clock can be set to
MEASURES = (  # what requirements may name, beside the metrics of models
    "test.accuracy", "test.loss",
    "revision.accuracy", "revision.difference", "revision.size", "revision.latency_p95",
    "live.error_rate", "live.latency_p95", "live.confidence", "live.accuracy",
)  # fmt: skip
FREE = ("parameters", "hyperparameters")  # whose keys are the project's own
CALLS = ("run", "by", "train", "network", "predict", "transform")


def load(root: Path) -> Config:
    """The cdl.yaml of a project's root."""
    path = root / "cdl.yaml"
    try:
        return parse(path.read_bytes(), where="cdl.yaml")
    except FileNotFoundError as error:
        raise NotFound("no cdl.yaml", where=str(root), remedy="cdl init") from error


def parse(data: bytes, *, where: str) -> Config:
    """A configuration from its bytes. ConfigError names the place and the remedy."""
    node = document.read(data, where=where)
    if not isinstance(node.value, dict):
        raise ConfigError("the file has no keys", where=where, remedy="it begins with `cdl: 1`")
    try:
        config = msgspec.convert(node.value, Config)
    except msgspec.ValidationError as error:
        raise _explained(str(error), node, where) from error
    _check(config, node, where)
    return config


def _explained(text: str, node: document.Node, where: str) -> ConfigError:
    """The library's message with line, key and nearest spelling."""
    match = PLACE.search(text)
    path = _path(match["path"], node.value) if match else ()
    text = text[: match.start()] if match else text
    unknown = UNKNOWN.match(text)
    if unknown:
        key = unknown["key"]
        path = _holding(node.value, path, key)
        known = _known_keys()
        near = difflib.get_close_matches(key, sorted(known), n=1)
        remedy = f"did you mean '{near[0]}'?" if near else "cdl reference lists the keys"
        return ConfigError(f"unknown key '{key}'", where=_place(node, (*path, key), where), remedy=remedy)
    remedy = "cdl reference says what is allowed"
    if enum := ENUM.match(text):
        choices = list(ROLES) if path[:1] == ("roles",) else _choices()
        near = difflib.get_close_matches(enum["value"], choices, n=1)
        remedy = f"did you mean '{near[0]}'?" if near else remedy
        remedy += f" roles: {', '.join(ROLES)}" if path[:1] == ("roles",) else ""
    return ConfigError(_plainly(text), where=_place(node, path, where), remedy=remedy)


def _plainly(text: str) -> str:
    return text.replace("Expected", "expected").replace("`", "").replace("Object missing required field", "missing key")


def _place(node: document.Node, path: document.Path, where: str) -> str:
    keys = ".".join(str(p) for p in path)
    return f"{where}:{node.line(path)}" + (f": {keys}" if keys else "")


def _path(text: str, value: Any) -> document.Path:
    """The library's path; an element that it leaves open ([...]) is taken where there is one key only."""
    found: list[str | int] = []
    for match in PART.finditer(text):
        if match[1]:
            found.append(match[1])
        elif match[2]:
            found.append(int(match[2]))
        else:
            inner = _inside(value, found)
            if not isinstance(inner, dict) or len(inner) != 1:
                break
            found.append(next(iter(inner)))
    return tuple(found)


def _holding(value: Any, path: document.Path, key: str) -> document.Path:
    """The place at or below `path` that has the key."""
    inner = _inside(value, list(path))
    if isinstance(inner, dict):
        if key in inner:
            return path
        below: list[tuple[str | int, Any]] = list(inner.items())
    else:
        below = list(enumerate(inner)) if isinstance(inner, list) else []
    for name, child in below:
        found = _holding(value, (*path, name), key) if isinstance(child, dict | list) else path
        if found != path and isinstance(at := _inside(value, list(found)), dict) and key in at:
            return found
    return path


def _inside(value: Any, path: list[str | int]) -> Any:
    for part in path:
        value = value[part]
    return value


def _choices() -> list[str]:
    """Every word that some key allows."""
    return sorted({word for kind in _sections() for f in msgspec.structs.fields(kind) for word in _words(f.type)})


def _words(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [word for word in get_args(annotation) if isinstance(word, str)]
    return [word for inner in get_args(annotation) for word in _words(inner)]


def _known_keys() -> set[str]:
    return {item.encode_name for kind in _sections() for item in msgspec.structs.fields(kind)}


def _sections() -> set[type[msgspec.Struct]]:
    """Every part of cdl.yaml."""
    todo: list[Any] = [Config]
    seen: set[Any] = set()
    while todo:
        kind = todo.pop()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind not in seen:
            seen.add(kind)
            for item in msgspec.structs.fields(kind):
                todo += _types(item.type)
    return seen


def _types(annotation: Any) -> list[Any]:
    inner = getattr(annotation, "__args__", ())
    return [annotation, *(t for a in inner for t in _types(a))]


def _check(config: Config, node: document.Node, where: str) -> None:
    """What the types do not say: names, calls, requirements, and that what is named exists."""

    def place(*path: str | int) -> str:
        return _place(node, path, where)

    _name(config.project, place("project"))
    for kind in ("data", "model", "deploy"):
        for name in getattr(config, kind):
            _name(name, place(kind, name))
    for i, text in enumerate(config.requirements):
        _check_measure(config, parse_requirement(text, where=place("requirements", i)), place("requirements", i))
    for name, data in config.data.items():
        _check_data(name, data, place)
    joins.check(config, place)
    for name, model in config.model.items():
        _exists(config.data, model.data, "dataset", place("model", name, "data"))
        _one_of(model, ("network", "predict"), place("model", name))
        _check_model(name, model, place)
    for name, deploy in config.deploy.items():
        _exists(config.model, deploy.model, "model", place("deploy", name, "model"))
        _within(deploy.window, 1, None, place("deploy", name, "window"))
        for stage, section in deploy.stages.items():
            _within(section.replicas, 1, None, place("deploy", name, "stages", stage, "replicas"))
            _within(section.port, 0, LAST_PORT, place("deploy", name, "stages", stage, "port"))
    for i, trigger in enumerate(config.triggers):
        _check_trigger(config, i, trigger, place)
    _calls(node.value, (), node, where)


def _check_model(name: str, model: ModelConfig, place: Callable[..., str]) -> None:
    _within(model.validation, 0, 1, place("model", name, "validation"))
    for key in ("epochs", "threads"):
        _within(getattr(model, key), 1, None, place("model", name, key))
    for key in ("max_trials", "min_epochs", "max_epochs", "workers") if model.search else ():
        _within(getattr(model.search, key), 1, None, place("model", name, "search", key))
    if model.search is not None:
        _within(model.search.eta, 2, None, place("model", name, "search", "eta"))


def _check_measure(config: Config, requirement: Requirement, where: str) -> None:
    """A requirement may name what is measured, and nothing else: a misspelt one would never be held."""
    metrics = {f"test.{call.partition(':')[2]}" for model in config.model.values() for call in model.metrics}
    known = sorted({*MEASURES, *metrics})
    if requirement.measure not in known:
        near = difflib.get_close_matches(requirement.measure, known, n=1)
        remedy = f"did you mean '{near[0]}'?" if near else "measures: " + ", ".join(known)
        raise ConfigError(f"nothing measures '{requirement.measure}'", where=where, remedy=remedy)


def _within(value: float, low: float, high: float | None, where: str) -> None:
    if value < low or (high is not None and value > high):
        allowed = f"{low} to {high}" if high is not None else f"at least {low}"
        raise ConfigError(f"{value} is not allowed", where=where, remedy=f"{allowed}")


def _check_data(name: str, data: DataConfig, place: Callable[..., str]) -> None:
    _one_of(data.items, ("files", "rows", "arrays"), place("data", name, "items"))
    if data.items.others == "rejected" and data.items.files is None:
        raise ConfigError(
            "a table has no other files", where=place("data", name, "items", "others"), remedy="leave it out"
        )
    for source in data.sources():
        _one_of(source, ("path", "url", "bucket", "command"), place("data", name, "source"))
        _check_source(source, place("data", name, "source"))
    for text in data.require:
        parse_requirement(text, where=place("data", name, "require"))
    for number, named in enumerate(data.steps):
        for called, step in named.items():
            _check_step(step, partial(place, "data", name, "steps", number, called))
    _within(data.split.test, 0, 1, place("data", name, "split", "test"))
    if data.labels is not None:
        _within(data.labels.coverage, 0, 1, place("data", name, "labels", "coverage"))


def _check_source(source: Source, where: str) -> None:
    """An address has a hash, or says that it may change; then nobody on the way may change it."""
    if source.url is None and source.unpinned:
        raise ConfigError("only a url is unpinned", where=where, remedy="leave it out")
    if source.url is not None and source.unpinned == (source.sha256 is not None):
        remedy = "sha256: ..., or where the file may change, unpinned: true"
        raise ConfigError("a url needs either its sha256 or `unpinned`", where=where, remedy=remedy)
    if not source.copy and source.path is None and source.bucket is None:
        raise ConfigError(
            "only what lies in a folder or a bucket can stay there", where=where, remedy="leave `copy` out"
        )
    if source.bucket is not None and urlsplit(source.bucket).scheme not in BUCKETS:
        said = f"'{source.bucket}' names no bucket"
        raise ConfigError(said, where=where, remedy="s3://BUCKET/FOLDER, gs:// or az://")
    parts = urlsplit(source.url or "")
    if source.unpinned and parts.scheme == "http" and parts.hostname not in LOOPBACK:
        said = "without a hash, anybody on the way could change what comes by http"
        raise ConfigError(said, where=where, remedy="https, or sha256: ...")


def _check_step(step: Step, place: Callable[[str], str]) -> None:
    _one_of(step, ("run", "join"), place("run"))
    joins.check_step(step, place)
    for key, low in (("batch", 1), ("retries", 0)):
        _within(getattr(step, key), low, None, place(key))
    if step.timeout is not None and not 0 < step.timeout <= LONGEST_SECONDS:
        raise ConfigError(
            f"{step.timeout:g} is not allowed",
            where=place("timeout"),
            remedy=f"seconds, more than 0, at most {LONGEST_SECONDS:,.0f}",
        )
    if step.resources is not None:
        _check_resources(step.resources, place("resources"))
    if step.io == "folders" and isinstance(step.run, str):
        raise ConfigError("a function has no folders", where=place("io"), remedy="leave it out, or run a program")
    if (step.per == "group") != (step.group is not None):
        remedy = "`group` names a field, with `per: group`"
        raise ConfigError("one of `per: group` and `group` is missing", where=place("group"), remedy=remedy)
    if step.batch != Step(run="").batch and (step.io != "folders" or step.per != "item"):
        remedy = "io: folders" if step.per == "item" else "leave it out"
        raise ConfigError("only a program with folders gets batches", where=place("batch"), remedy=remedy)
    if step.per != "item" and step.io == "stdio" and not isinstance(step.run, str):
        raise ConfigError("standard input holds one item", where=place("per"), remedy="io: folders")
    if step.per == "all" and step.on_error == "aside":
        raise ConfigError("it would set all aside", where=place("on_error"), remedy="leave it out")
    wrong = next((key for key in step.parameters if isinstance(step.run, str) and not key.isidentifier()), None)
    if wrong is not None:
        raise ConfigError(
            f"'{wrong}' is no name of an argument", where=place("parameters"), remedy="letters, digits, _"
        )


def _check_resources(found: WorkerResources, where: str) -> None:
    _within(found.cpus, 1, None, where)
    _within(found.gpus, 0, None if found.memory is None else 0, where)
    if found.memory is not None:
        _within(found.memory, 1, None, where)


def _check_trigger(config: Config, i: int, trigger: TriggerConfig, place: Callable[..., str]) -> None:
    allowed = STARTED[trigger.when]
    wrong = [a for a in trigger.actions if a not in allowed]
    if wrong or not trigger.actions:
        said = f"{trigger.when} does not start '{wrong[0]}'" if wrong else "nothing is started"
        raise ConfigError(said, where=place("triggers", i, "run"), remedy="it may start: " + ", ".join(allowed))
    if trigger.when == "monitor.drift":
        _exists(config.data, trigger.of, "dataset", place("triggers", i, "of"))
    else:
        _exists(config.model, trigger.of, "model", place("triggers", i, "of"))
    if trigger.name in [t.name for t in config.triggers[:i]]:
        raise ConfigError("stands twice", where=place("triggers", i), remedy="leave one out")


def _name(name: str, where: str) -> None:
    if not NAME.fullmatch(name):
        raise ConfigError(f"'{name}' is not a name", where=where, remedy="small letters, digits, - and _")


def _one_of(section: Any, keys: tuple[str, ...], where: str) -> None:
    given = [k for k in keys if getattr(section, k) is not None]
    if len(given) != 1:
        said = f"{' and '.join(given)} exclude each other" if given else "one is missing"
        raise ConfigError(said, where=where, remedy="exactly one of: " + ", ".join(keys))


def _exists(things: dict[str, Any], name: str, kind: str, where: str) -> None:
    if name in things:
        return
    near = difflib.get_close_matches(name, list(things), n=1)
    remedy = f"did you mean '{near[0]}'?" if near else "there are: " + (", ".join(things) or "none")
    raise ConfigError(f"no {kind} '{name}'", where=where, remedy=remedy)


def _calls(value: Any, path: document.Path, node: document.Node, where: str) -> None:
    """'module:function' wherever a key wants one."""
    pairs: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in pairs:
        place = (*path, key)
        wanted = key in CALLS and isinstance(child, str) and path[:1] != ("triggers",)
        if wanted and not CALL.fullmatch(child):
            raise ConfigError(
                f"'{child}' is not module:function", where=_place(node, place, where), remedy='"package.module:name"'
            )
        if isinstance(child, dict | list) and key not in FREE:
            _calls(child, place, node, where)
