import math

import pytest

from kerasemo.config.schema import StageConfig
from kerasemo.training.trainer import learning_rate


def rates(steps=20, **settings):
    schedule = learning_rate(
        StageConfig("a", "supervised", ("x/audio",), learning_rate=0.4, **settings), steps
    )
    return [float(schedule(step)) for step in range(steps)]


def cosine(step, steps):
    return 0.2 * (1 + math.cos(math.pi * step / steps))


def test_by_default_a_cosine_from_the_first_step_on():
    assert rates() == pytest.approx([cosine(step, 20) for step in range(20)], abs=1e-6)


def test_a_constant_rate_stays():
    assert rates(schedule="constant") == pytest.approx([0.4] * 20)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_rate_rises_evenly_in_the_steps_that_warm_up(schedule):
    """A quarter of 20 steps: from a fifth of the rate to all of it in the sixth step, then as without the five."""
    found = rates(schedule=schedule, warmup=0.25)
    assert found[:6] == pytest.approx([0.08 + step * 0.064 for step in range(5)] + [0.4])
    assert found[5:] == pytest.approx(
        [cosine(step, 15) if schedule == "cosine" else 0.4 for step in range(15)], abs=1e-6
    )
    assert min(found) > 0


def test_a_share_of_less_than_half_a_step_warms_nothing_up():
    assert rates(warmup=0.02) == pytest.approx(rates())


def test_a_share_that_rounds_to_all_steps_leaves_the_last_one_at_the_full_rate():
    assert rates(4, warmup=0.9) == pytest.approx(
        [0.4 / 3 * (1 + step * 2 / 3) for step in range(3)] + [0.4]
    )
    assert rates(1, warmup=0.9) == pytest.approx([0.4])
