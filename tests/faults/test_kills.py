"""The kill campaign: commands ended with SIGKILL at random points; the next command goes on and ends with the same content.

CDL_KILLS=4711 .venv/bin/python -m pytest -q -s tests/faults/test_kills.py -k hundred       repeats one by its seed
"""

import os
import random

import pytest

from tests.faults.campaign import Campaign, Clock
from tests.faults.cases import CASES, Case
from tests.faults.killing import Stop

pytestmark = pytest.mark.xdist_group("faults")
POINTS = 100
ALONE, AGAIN, BY_TIME = 0.3, 0.2, 0.3  # shares: the process alone, killed again while it goes on, by the clock
QUICK = tuple(case for case in CASES if case.name in ("data run", "label import", "train", "sync sends"))


def test_a_few_kills(campaign: Campaign) -> None:
    play(campaign, QUICK, 8, seed=1)


@pytest.mark.long
def test_a_hundred_kills(campaign: Campaign) -> None:
    seed = int(os.environ.get("CDL_KILLS", random.SystemRandom().randrange(1 << 32)))
    play(campaign, CASES, POINTS, seed)


def play(campaign: Campaign, cases: tuple[Case, ...], count: int, seed: int) -> None:
    """Plays a campaign; fails with all that was found."""
    found, clock = [], Clock()
    print(f"seed {seed}, {count} points")
    for number, (case, stops) in enumerate(drawn(campaign, cases, count, seed)):
        wrong = campaign.point(case, stops)
        told = f"point {number}: {case.name} killed after {', then '.join(map(str, stops))}"
        print(f"{clock}, {told}: {len(wrong)} faults")
        found += [f"{told}: {line}" for line in wrong]
    print("locks of git removed by hand:", campaign.removed or "none")
    assert not found, f"seed {seed}\n" + "\n".join(found)


def drawn(campaign: Campaign, cases: tuple[Case, ...], count: int, seed: int) -> list[tuple[Case, tuple[Stop, ...]]]:
    """Points: each command once, the others by the share of its time in that of all."""
    generator = random.Random(seed)
    weights = [campaign.undisturbed(case)[0].seconds for case in cases]
    chosen = [*cases, *generator.choices(cases, weights, k=max(0, count - len(cases)))][:count]
    return [(case, _stops(campaign, case, generator)) for case in chosen]


def _stops(campaign: Campaign, case: Case, generator: random.Random) -> tuple[Stop, ...]:
    times = 2 if generator.random() < AGAIN else 1
    return tuple(_stop(campaign, case, generator) for _ in range(times))


def _stop(campaign: Campaign, case: Case, generator: random.Random) -> Stop:
    ran, alone = campaign.undisturbed(case)[0], generator.random() < ALONE
    if generator.random() < BY_TIME:
        return Stop(seconds=generator.uniform(0, ran.seconds), alone=alone)
    return Stop(changes=generator.randint(1, ran.changes), alone=alone)
