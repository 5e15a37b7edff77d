import random

import pytest

from cdl.config.schema import Range, Search
from cdl.errors import ConfigError
from cdl.model.search import Halving, Task, draw, from_config, rungs


def play(halving: Halving, quality: list[float], workers: int = 1, seed: int = 0) -> list[Task]:
    """Runs a search in which a trial's value is its quality plus a little for each epoch."""
    done: list[Task] = []
    running: list[Task] = []
    order = random.Random(seed)
    while not halving.done:
        while len(running) < workers and (task := halving.ask()) is not None:
            running.append(task)
        task = running.pop(order.randrange(len(running)))
        halving.tell(task, quality[task.trial] + task.until / 1000)
        done.append(task)
    return done


def test_one_worker_trains_what_successive_halving_plans() -> None:
    quality = [i / 27 for i in range(27)]
    random.Random(1).shuffle(quality)
    halving = Halving([{}] * 27, rungs=[1, 3, 9, 27], eta=3)
    done = play(halving, quality)
    per_rung = {r: sum(t.until == r for t in done) for r in (1, 3, 9, 27)}
    assert per_rung[1] == 27 and per_rung[3] >= 9 and per_rung[9] >= 3 and per_rung[27] >= 1
    assert halving.best() == quality.index(max(quality))
    for trial in range(27):  # a trial climbs rung by rung, never the same twice
        climbed = [t.until for t in done if t.trial == trial]
        assert climbed == [1, 3, 9, 27][: len(climbed)] and halving.epochs(trial) == climbed[-1]


@pytest.mark.parametrize("seed", range(5))
def test_many_workers_never_promote_more_than_one_in_eta(seed: int) -> None:
    generator = random.Random(seed)
    halving = Halving([{}] * 40, rungs=[1, 2, 4, 8], eta=2)
    done = play(halving, [generator.random() for _ in range(40)], workers=4, seed=seed)
    counts = [len({t.trial for t in done if t.until == r}) for r in (1, 2, 4, 8)]
    assert counts[0] == 40 and all(2 * b <= a + 1 + a // 2 for a, b in zip(counts, counts[1:], strict=False))
    assert len(done) == len({(t.trial, t.until) for t in done})


def test_failed_trials_are_never_promoted_and_never_the_best() -> None:
    halving = Halving([{}] * 4, rungs=[1, 2], eta=2)
    while (task := halving.ask()) is not None:
        halving.tell(task, None if task.trial % 2 else float("nan") if task.trial == 0 else 0.5)
    assert halving.best() == 2 and halving.epochs(1) == 1 and halving.done


def test_nothing_is_ready_while_all_depends_on_what_runs() -> None:
    halving = Halving([{}], rungs=[1, 3], eta=1)
    first = halving.ask()
    assert first is not None and halving.ask() is None and not halving.done
    halving.tell(first, 1.0)
    assert halving.ask() == Task(trial=0, hyperparameters={}, until=3)


def test_draws_depend_on_seed_and_number_alone_and_keep_their_bounds() -> None:
    space = {
        "rate": Range(min=1e-4, max=1e-1, log=True),
        "width": Range(min=8, max=64, int=True),
        "act": Range(choice=["a", "b"]),
    }
    drawn = [draw(space, 7, n) for n in range(200)]
    assert drawn == [draw(space, 7, n) for n in range(200)] != [draw(space, 8, n) for n in range(200)]
    assert all(1e-4 <= d["rate"] <= 1e-1 and 8 <= d["width"] <= 64 and isinstance(d["width"], int) for d in drawn)
    assert {d["act"] for d in drawn} == {"a", "b"}
    assert 60 < sum(d["rate"] < 10**-2.5 for d in drawn) < 140  # half of it by magnitude


def test_rungs_and_plain_searches() -> None:
    assert rungs(1, 27, 3) == [1, 3, 9, 27] and rungs(2, 10, 2) == [2, 4, 8, 10] and rungs(5, 5, 3) == [5]
    grid = from_config(
        Search(method="grid", space={"a": Range(choice=[1, 2]), "b": Range(choice=[3, 4])}, max_epochs=5), {"c": 0}
    )
    tasks = [grid.ask() for _ in range(4)]
    assert [t.hyperparameters for t in tasks if t] == [{"c": 0, "a": a, "b": b} for a in (1, 2) for b in (3, 4)]
    assert {t.until for t in tasks if t} == {5}
    with pytest.raises(ConfigError, match="a grid needs choices"):
        from_config(Search(method="grid", space={"a": Range(min=0, max=1)}), {})
    with pytest.raises(ConfigError, match="a range needs"):
        draw({"a": Range(min=0, max=1, log=True)}, 0, 0)
