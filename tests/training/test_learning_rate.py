"""The learning rate of each step of a stage."""

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


def test_default_schedule_is_a_cosine_from_the_first_step():
    assert rates() == pytest.approx([cosine(step, 20) for step in range(20)], abs=1e-6)


def test_constant_schedule_keeps_the_rate():
    assert rates(schedule="constant") == pytest.approx([0.4] * 20)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_rate_rises_linearly_during_warmup(schedule):
    """Warm-up is a quarter of 20 steps: five steps, from a fifth of the rate.

    The sixth step has the full rate. From this step on, the schedule runs over 15 steps.
    """
    warmed_rates = rates(schedule=schedule, warmup=0.25)
    assert warmed_rates[:6] == pytest.approx([0.08 + step * 0.064 for step in range(5)] + [0.4])
    assert warmed_rates[5:] == pytest.approx(
        [cosine(step, 15) if schedule == "cosine" else 0.4 for step in range(15)], abs=1e-6
    )
    assert min(warmed_rates) > 0


def test_warmup_below_half_a_step_is_no_warmup():
    assert rates(warmup=0.02) == pytest.approx(rates())


def test_warmup_of_all_steps_leaves_the_last_step_at_the_full_rate():
    assert rates(4, warmup=0.9) == pytest.approx(
        [0.4 / 3 * (1 + step * 2 / 3) for step in range(3)] + [0.4]
    )
    assert rates(1, warmup=0.9) == pytest.approx([0.4])
