"""What the training of one stage is given, and whether its sides suffice."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from kerasemo import data, devices
from kerasemo.config import Network, Stage
from pipelines.spec import EMOTIONS, InputError, in_order


@dataclasses.dataclass(frozen=True, eq=False)
class Assignment:
    """All that the training of one stage needs."""

    stage: Stage
    network: Network
    folder: Path
    """`RUN/STAGE`."""
    key: Mapping[str, Any]
    """What the result depends on, ready for JSON."""
    sides: Mapping[str, list[data.Side]]
    """Side -> the items of each source on it."""
    emotions: list[str]
    """Those that the network has been trained on once this stage is done."""
    split: Mapping[str, Any]
    """How each source was split, and what the gate dropped: what the result is stamped with."""
    parent: Path | None
    """The folder of the finished stage to start from."""
    seed: int
    """Of this stage."""
    strategy: tf.distribute.Strategy | None
    choice: devices.Choice
    """Precision and compiler."""
    scored: str = "test"
    """The side whose clips are scored at the end."""
    records: Path = Path()
    """The folder of the records, for who goes on from the result."""
    checkpoint_seconds: float = 10.0
    """How long a training goes on at most before its state is saved, within an epoch."""
    experiment: str = ""
    """The name of what the stage is of, for who wants to make it again."""
    profile: tuple[int, int] | None = None
    """The first and the last step to profile, from 1."""


def check_sides(work: Assignment) -> None:
    """Raise an InputError that lists everything in which the sides of a stage do not suffice for it."""
    where = f"under {work.key['protocol']}, fold {work.key['fold']}"
    problems = []
    for side, sources in work.sides.items():
        for part in sources:
            emotions = {EMOTIONS[label] for label in part.labels}
            if not emotions:
                problems.append(
                    f"{part.source.name}: no clip on the {side} side {where}; build more of the corpus"
                )
            elif not emotions & set(work.emotions):
                names = f"{', '.join(sorted(emotions))} on the {side} side, trained on {', '.join(work.emotions)}"
                problems.append(
                    f"{part.source.name}: {names}, so nothing can be scored; take another fold or build more of the corpus"
                )
    for part in work.sides["train"]:
        trained = {EMOTIONS[label] for label in part.labels}
        missing = in_order({row["emotion"] for row in part.source.rows} - trained)
        if trained and missing:
            names = f"no clip of {', '.join(missing)} on the train side {where}, though the corpus has some"
            problems.append(
                f"{part.source.name}: {names}; take another fold or build more of the corpus"
            )
    if problems:
        raise InputError("; ".join(problems))
