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


def test_default_schedule_is_a_cosine_without_warmup():
    assert rates() == pytest.approx([cosine(step, 20) for step in range(20)], abs=1e-6)


def test_a_constant_rate_stays():
    assert rates(schedule="constant") == pytest.approx([0.4] * 20)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_rate_rises_evenly_in_the_warmup(schedule):
    """A quarter of 20 steps: from a fifth of the rate to all of it in the sixth step, then as without the five."""
    values = rates(schedule=schedule, warmup=0.25)
    assert values[:6] == pytest.approx([0.08 + step * 0.064 for step in range(5)] + [0.4])
    assert values[5:] == pytest.approx(
        [cosine(step, 15) if schedule == "cosine" else 0.4 for step in range(15)], abs=1e-6
    )
    assert min(values) > 0


def test_warmup_of_less_than_half_a_step_is_none():
    assert rates(warmup=0.02) == pytest.approx(rates())


def test_warmup_of_all_steps_ends_at_the_full_rate():
    assert rates(4, warmup=0.9) == pytest.approx(
        [0.4 / 3 * (1 + step * 2 / 3) for step in range(3)] + [0.4]
    )
    assert rates(1, warmup=0.9) == pytest.approx([0.4])
