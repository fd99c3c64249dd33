"""The learning rate of every step of a stage."""

import keras

from kerasemo.config import Stage


def learning_rate(stage: Stage, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Return a stage's schedule: a rise over the first `warmup` of its steps, then a cosine down to nothing, or the rate as it is.

    Step s of w that warm up has (1 + s (w - 1) / w) / w of the rate: the first one moves the weights, too.

    Args:
        stage: Its rate, schedule and warm-up.
        steps: All of them, those of every epoch.

    >>> from kerasemo.config import Stage
    >>> rate = learning_rate(Stage("a", "supervised", ("x/audio",), learning_rate=0.5, schedule="constant", warmup=0.2), 10)
    >>> [float(rate(step)) for step in (0, 1, 2, 9)]
    [0.25, 0.375, 0.5, 0.5]
    """
    rate, rising = (
        stage.learning_rate,
        min(round(stage.warmup * steps), steps - 1),
    )  # the last one is at the full rate at least
    if stage.schedule == "constant":
        start = rate / max(1, rising)
        return keras.optimizers.schedules.PolynomialDecay(
            start, max(1, rising), end_learning_rate=rate
        )
    if not rising:
        return keras.optimizers.schedules.CosineDecay(rate, steps)
    return keras.optimizers.schedules.CosineDecay(
        rate / rising, steps - rising, warmup_target=rate, warmup_steps=rising
    )
