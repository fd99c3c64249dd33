"""What a sweep is asked for, the networks that it is of, and how it speaks of them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kerasemo.settings import Experiment, Stage


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a sweep is asked for."""

    experiment: Experiment
    run: Path
    stages: tuple[str, ...]
    protocol: str
    folds: tuple[int, ...] | None
    """None: every one."""
    seeds: tuple[int, ...]
    epochs: int | None = None
    keep_copies: bool = False
    jobs: int = 1
    """How many networks are trained side by side, by a process each."""
    settings: tuple[tuple[str, Any], ...] = ()
    """More fields of `chain.Run`: precision, compiler, replicas."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One network: a stage of one fold and seed."""

    stage: Stage
    fold: int
    """The first of the folds in which it is the same."""
    seed: int
    digest: str
    """Of its key."""
    folder: Path
    before: tuple[str, ...]
    """The digests of those that it starts from, the first first."""
    asked: bool
    """Whether it is of a stage that is asked for, and not only one that another starts from."""

    def __str__(self) -> str:
        return f"{self.stage.name}, fold {self.fold}, seed {self.seed}"


def spent(seconds: float) -> str:
    """Return a time in words.

    >>> spent(12.3), spent(192), spent(7500)
    ('12 s', '3 min 12 s', '2 h 5 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def spelt(numbers: Sequence[int]) -> str:
    """Return numbers as a text in which three or more in a row are one entry.

    >>> spelt([0, 1, 2, 3, 8]), spelt([4, 5])
    ('0-3, 8', '4, 5')
    """
    rows: list[list[int]] = []
    for number in sorted(numbers):
        if rows and number == rows[-1][-1] + 1:
            rows[-1].append(number)
        else:
            rows.append([number])
    return ", ".join(
        f"{row[0]}-{row[-1]}" if len(row) > 2 else ", ".join(map(str, row)) for row in rows
    )
