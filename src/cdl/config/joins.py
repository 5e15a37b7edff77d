"""Joins of datasets, as cdl.yaml declares them: what one may say, that what is joined exists, and that none goes in a circle."""

import difflib
from collections.abc import Callable, Mapping

import msgspec

from cdl.config.schema import Config, DataConfig, Step
from cdl.errors import ConfigError

OF_JOINS = ("key", "matches", "prefix", "missing")
ALWAYS = ("join", "off")


def check_step(step: Step, place: Callable[[str], str]) -> None:
    """ConfigError for a key of a join where there is none, or for one of something that runs in a join."""
    said = [key for key in msgspec.to_builtins(step) if key not in ALWAYS]
    if step.join is None:
        wrong = next((key for key in said if key in OF_JOINS), None)
        if wrong is not None:
            raise ConfigError(f"only a join has `{wrong}`", where=place(wrong), remedy="leave it out")
        return
    wrong = next((key for key in said if key not in OF_JOINS), None)
    if wrong is not None:
        remedy = "a join has: " + ", ".join(OF_JOINS)
        raise ConfigError(f"a join has no `{wrong}`", where=place(wrong), remedy=remedy)
    if not step.key:
        raise ConfigError("a join needs `key`", where=place("key"), remedy="the field that both have the same value in")


def check(config: Config, place: Callable[..., str]) -> None:
    """ConfigError for a join of what is no dataset, and for datasets that join each other, or themselves."""
    for name, data in config.data.items():
        for number, named in enumerate(data.steps):
            for called, step in named.items():
                if step.join is not None and step.join not in config.data:
                    near = difflib.get_close_matches(step.join, list(config.data), n=1)
                    remedy = f"did you mean '{near[0]}'?" if near else "there are: " + ", ".join(config.data)
                    where = place("data", name, "steps", number, called, "join")
                    raise ConfigError(f"no dataset '{step.join}'", where=where, remedy=remedy)
    for name in config.data:
        circle = _circle(config.data, name, ())
        if circle:
            raise ConfigError(
                "joins in a circle: " + " joins ".join(circle),
                where=place("data", name, "steps"),
                remedy="leave one of them out, or give the rows that both need a dataset of their own",
            )


def in_order(data: Mapping[str, DataConfig]) -> list[str]:
    """The datasets as cdl.yaml lists them, but each after those that it joins."""
    found: dict[str, None] = {}

    def add(name: str) -> None:
        for other in data[name].joins():
            add(other)
        found.setdefault(name)

    for name in data:
        add(name)
    return list(found)


def _circle(data: Mapping[str, DataConfig], name: str, before: tuple[str, ...]) -> tuple[str, ...]:
    """The datasets in a circle that begins and ends with the first one; nothing where there is none."""
    if before and name == before[0]:
        return (*before, name)
    if name in before:
        return ()  # a circle of others
    return next((found for other in data[name].joins() if (found := _circle(data, other, (*before, name)))), ())
