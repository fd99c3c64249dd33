"""What a stage makes of the sides that it is given, before it is trained: sound cut otherwise, fewer labelled clips, other versions."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kerasemo.config.schema import NetworkConfig, StageConfig
from kerasemo.datasets import segmentation, waveform_variants
from kerasemo.datasets.segmentation import Cut
from kerasemo.datasets.sources import Side, Source
from kerasemo.datasets.subsets import labelled_side
from kerasemo.training import devices
from pipelines.core.errors import InputError
from pipelines.core.labels import EMOTIONS, in_order


@dataclasses.dataclass(frozen=True, eq=False)
class Assignment:
    """All that the training of one stage needs."""

    stage: StageConfig
    network: NetworkConfig
    folder: Path
    """`RUN/STAGE`."""
    key: Mapping[str, Any]
    """What the result depends on, ready for JSON."""
    sides: Mapping[str, list[Side]]
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


def prepared(work: Assignment, *, log: Callable[[str], None]) -> Assignment:
    """Return the assignment of a stage with its sides as its settings ask for; where they ask for nothing, as it is.

    Args:
        work: What the training is given.
        log: Told how many clips are trained on, where they are not all.
    """
    scored, trained = Cut.of(dataclasses.asdict(work.stage)), _trained(work)
    sides = {
        name: [_cut(side, trained if name == "train" else scored, work) for side in sides]
        for name, sides in work.sides.items()
    }
    work = dataclasses.replace(work, sides=sides)
    if work.stage.labelled:
        work = _with_labelled(work, log)
    if waveform_variants.asked(work.stage.augment):
        work = dataclasses.replace(
            work,
            sides={**work.sides, "train": [_varied(side, work) for side in work.sides["train"]]},
        )
    return work


def _trained(work: Assignment) -> Cut:
    """Return how sound is cut for training."""
    return dataclasses.replace(
        Cut.of(dataclasses.asdict(work.stage)), hop_frames=work.stage.train_hop_frames
    )


def _cut(side: Side, how: Cut, work: Assignment) -> Side:
    """Return a side with its sound cut as asked: the same clips, other segments."""
    if how == Cut() or side.source.name.endswith("/visual"):
        return side
    source = segmentation.read_cut(work.records, side.source.name, how)
    _same_rows(source, side, work)
    return Side(source, source.items_of(np.unique(side.source.clip_of[side.items])))


def _varied(side: Side, work: Assignment) -> Side:
    """Return a training side of sound with its clips in other versions as well."""
    if side.source.name.endswith("/visual"):
        return side
    of = segmentation.read(work.records, side.source.name)
    _same_rows(of, side, work)
    how = _trained(work)
    given = {"seed": work.seed, "finish": segmentation.finisher(of, how), "spec": how.spec}
    return waveform_variants.varied_side(side, of, work.stage.augment, **given)


def _same_rows(found: Source | segmentation.Utterances, side: Side, work: Assignment) -> None:
    """Raise an InputError where the records are no longer those that the sides are of."""
    if tuple(found.rows) != tuple(side.source.rows):
        raise InputError(
            f"{work.records / side.source.name}: was built anew while this command ran; run it again"
        )


def _with_labelled(work: Assignment, log: Callable[[str], None]) -> Assignment:
    count, sides, split = work.stage.labelled, [], dict(work.split)
    for side in work.sides["train"]:
        source, clips = side.source, np.unique(side.source.clip_of[side.items])
        sides.append(labelled_side(side, work.key))
        kept = len(np.unique(source.clip_of[sides[-1].items]))
        there = Counter(source.rows[clip]["emotion"] for clip in clips)
        fewer = [
            f"of {emotion} there are {there[emotion]}"
            for emotion in EMOTIONS
            if 0 < there[emotion] < count
        ]
        told = f"{work.stage.name}: {source.name}: trained on {kept} of {len(clips)} clips, {count} a class"
        log(f"{told}; all where there are fewer: {', '.join(fewer)}" if fewer else told)
        split[source.name] = {
            **split[source.name],
            "train": kept,
            "train_not_labelled": len(clips) - kept,
        }
    return dataclasses.replace(work, sides={**work.sides, "train": sides}, split=split)
