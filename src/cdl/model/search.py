"""Asynchronous successive halving, promotion form, as ask and tell; random and grid search are its single rung.

    search = Halving(space, rungs=[1, 3, 9, 27], eta=3, max_trials=16, seed=0)
    while (task := search.ask()) is not None:        Task(trial=4, hyperparameters={...}, until=3)
        search.tell(task, value)                     None for a trial that failed

A worker that asks gets the best paused trial among the top 1/eta of a rung that was not promoted yet, else a new trial. Nobody
waits for a rung to fill (Li et al., "A System for Massively Parallel Hyperparameter Tuning", 2020). Higher values are
better; the caller negates. `ask` gives None when nothing can be started now.
"""

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from cdl.config.schema import Range, Search
from cdl.errors import ConfigError


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """Train trial number `trial` up to `until` epochs."""

    trial: int
    hyperparameters: Mapping[str, Any]
    until: int


class Halving:
    """The state of a search: which trials stand on which rung with which value."""

    def __init__(self, configurations: Sequence[Mapping[str, Any]], *, rungs: Sequence[int], eta: int) -> None:
        self.rungs = tuple(rungs)
        self.eta = eta
        self._configurations = list(configurations)
        self._started = 0
        self._running: set[int] = set()
        self._results: list[dict[int, float | None]] = [{} for _ in self.rungs]
        self._promoted: list[set[int]] = [set() for _ in self.rungs]

    def ask(self) -> Task | None:
        """The next piece of work; None while all depends on what runs, and at the end."""
        for rung in range(len(self.rungs) - 2, -1, -1):
            trial = self._promotable(rung)
            if trial is not None:
                self._promoted[rung].add(trial)
                return self._task(trial, self.rungs[rung + 1])
        if self._started < len(self._configurations):
            self._started += 1
            return self._task(self._started - 1, self.rungs[0])
        return None

    def tell(self, task: Task, value: float | None) -> None:
        """The value that a task reached; None or not a finite number when it failed."""
        good = value is not None and math.isfinite(value)
        self._results[self.rungs.index(task.until)][task.trial] = value if good else None
        self._running.discard(task.trial)

    @property
    def done(self) -> bool:
        """Nothing runs and nothing can be started."""
        waiting = any(self._promotable(r) is not None for r in range(len(self.rungs) - 1))
        return not self._running and self._started == len(self._configurations) and not waiting

    def best(self) -> int | None:
        """The trial with the best value on the highest rung that has one."""
        for results in reversed(self._results):
            ranked = _ranked(results)
            if ranked:
                return ranked[0]
        return None

    def epochs(self, trial: int) -> int:
        """How far a trial was trained."""
        reached = [self.rungs[i] for i, results in enumerate(self._results) if trial in results]
        return max(reached, default=0)

    def _promotable(self, rung: int) -> int | None:
        ranked = _ranked(self._results[rung])
        top = ranked[: len(self._results[rung]) // self.eta]
        return next((t for t in top if t not in self._promoted[rung]), None)

    def _task(self, trial: int, until: int) -> Task:
        self._running.add(trial)
        return Task(trial=trial, hyperparameters=self._configurations[trial], until=until)


def rungs(first: int, last: int, eta: int) -> list[int]:
    """Epochs of the rungs from first to last: 1, 3, 9, 27."""
    found = []
    epochs = first
    while epochs < last:
        found.append(epochs)
        epochs *= eta
    return [*found, last]


def expected_epochs(config: Search) -> int:
    """Epochs that a search trains if one in eta is promoted at each rung."""
    if config.method != "asha":
        return config.max_trials * config.max_epochs
    steps = rungs(config.min_epochs, config.max_epochs, config.eta)
    before = 0
    total = 0
    for number, epochs in enumerate(steps):
        total += config.max_trials // config.eta**number * (epochs - before)
        before = epochs
    return total


def from_config(config: Search, base: Mapping[str, Any]) -> Halving:
    """The search that cdl.yaml describes, over hyperparameters that begin with `base`."""
    if config.method == "asha":
        steps = rungs(config.min_epochs, config.max_epochs, config.eta)
    else:
        steps = [config.max_epochs]
    if config.method == "grid":
        drawn = _grid(config.space)[: config.max_trials]
    else:
        drawn = [draw(config.space, config.seed, number) for number in range(config.max_trials)]
    return Halving([{**base, **d} for d in drawn], rungs=steps, eta=config.eta)


def draw(space: Mapping[str, Range], seed: int, number: int) -> dict[str, Any]:
    """The hyperparameters of trial `number`: a function of the seed and the number alone."""
    generator = random.Random(f"{seed}:{number}")
    return {name: _drawn(name, space[name], generator) for name in sorted(space)}


def _drawn(name: str, values: Range, generator: random.Random) -> Any:
    if values.choice is not None:
        return generator.choice(values.choice)
    low, high = _bounds(name, values)
    at = generator.random()
    if values.log:
        found = math.exp(math.log(low) + at * (math.log(high) - math.log(low)))
    else:
        found = low + at * (high - low)
    return round(found) if values.int else float(f"{found:.6g}")


def _bounds(name: str, values: Range) -> tuple[float, float]:
    low, high = values.min, values.max
    if low is None or high is None or low > high or (values.log and low <= 0):
        raise ConfigError(
            "a range needs min <= max (above 0 with log), or a choice",
            where=f"cdl.yaml: search.space.{name}",
            remedy="{min: 0.0001, max: 0.1, log: true}",
        )
    return low, high


def _grid(space: Mapping[str, Range]) -> list[dict[str, Any]]:
    names = sorted(space)
    for name in names:
        if space[name].choice is None:
            raise ConfigError(
                "a grid needs choices", where=f"cdl.yaml: search.space.{name}", remedy="{choice: [32, 64]}"
            )
    return [dict(zip(names, v, strict=True)) for v in itertools.product(*(space[n].choice or [] for n in names))]


def _ranked(results: Mapping[int, float | None]) -> list[int]:
    """Trials with a value, best first; ties to the earlier one."""
    good = [(t, v) for t, v in results.items() if v is not None]
    return [t for t, _ in sorted(good, key=lambda pair: (-pair[1], pair[0]))]
