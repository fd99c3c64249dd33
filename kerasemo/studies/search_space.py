"""What a search over a stage's settings varies, as data, and the experiment that a trial's values make."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from kerasemo.config.schema import DEFAULT_AUGMENT, AugmentConfig, Experiment, StageConfig
from pipelines.core.errors import InputError

DIGITS = 3
"""Significant digits of a value: what a person can read and type, and no search is finer."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One setting that a search varies, over a range or among choices."""

    name: str
    low: float = 0.0
    high: float = 0.0
    logarithmic: bool = False
    """Drawn evenly on a logarithmic scale."""
    choices: tuple[float, ...] = ()
    """Ordered; in place of a range."""
    relative: bool = False
    """The range or the choices are multiples of the stage's own setting."""
    kinds: tuple[str, ...] = ("supervised", "contrastive", "joint")
    """The kinds of stage on whose training it has an effect."""
    of_network: bool = False
    """It is the network's, which is fixed by the stage that a stage starts from."""


SPACE = (
    Entry("learning_rate", 0.1, 10, logarithmic=True, relative=True),
    Entry("warmup", 0, 0.2),
    Entry("weight_decay", 1e-6, 1e-1, logarithmic=True),
    Entry("batch", choices=(0.5, 1, 2), relative=True),
    Entry("label_smoothing", 0, 0.2, kinds=("supervised", "joint")),
    Entry("mixup", 0, 0.4, kinds=("supervised", "joint")),
    Entry("margin", 0.2, 1.6, kinds=("contrastive", "joint")),
    Entry("contrastive_weight", 0.1, 10, logarithmic=True, kinds=("joint",)),
    Entry("augmentation", 0, 1.5),
    Entry("dropout", 0, 0.6, kinds=("supervised",), of_network=True),
    Entry("width", choices=(0.5, 0.75, 1, 1.5, 2), of_network=True),
)
"""The project's choice of what is searched. `augmentation` is a multiple of the strengths of the stage's own random changes
(of the usual ones where it has none), `width` one of the channels of every convolution."""


def entries(experiment: Experiment, name: str, over: Sequence[str] = ()) -> tuple[Entry, ...]:
    """Return what a search over a stage varies, with ranges and choices that hold for it.

    Args:
        experiment: Has the stage.
        name: The stage's.
        over: Some names of SPACE; empty: all that apply to the stage.

    Raises:
        InputError: One of `over` does not apply.

    >>> from kerasemo.config.loading import load_experiment
    >>> [entry.name for entry in entries(load_experiment("sample"), "joint")]
    ['learning_rate', 'warmup', 'weight_decay', 'batch', 'label_smoothing', 'mixup', 'margin', 'contrastive_weight', 'augmentation']
    """
    stage = experiment.stage(name)
    apply = {
        entry.name: entry
        for entry in SPACE
        if stage.kind in entry.kinds and not (entry.of_network and stage.start_from)
    }
    for asked in over:
        if asked not in apply:
            fixed = (
                any(entry.name == asked and entry.of_network for entry in SPACE)
                and stage.start_from
            )
            why = (
                f" ({name!r} starts from {stage.start_from!r}, which fixes the network)"
                if fixed
                else ""
            )
            raise InputError(
                f"--over {asked}: a search over stage {name!r} varies {', '.join(apply)}{why}"
            )
    return tuple(_resolved(entry, stage) for key, entry in apply.items() if key in over or not over)


def _resolved(entry: Entry, stage: StageConfig) -> Entry:
    """Return an entry whose multiples of a stage's setting have become values."""
    if not entry.relative:
        return entry
    own = getattr(stage, entry.name)
    if not entry.choices:
        low, high = (
            _short(min(own * multiple, 9.0)) for multiple in (entry.low, entry.high)
        )  # config allows less than 10
        return dataclasses.replace(entry, low=low, high=high, relative=False)
    couples = (
        1 if stage.kind == "supervised" else len(stage.sources) * (len(stage.sources) - 1) // 2
    )
    unit = (
        2 * max(1, couples) * stage.accumulate
    )  # what config and the micro-batches ask of a batch
    whole = tuple(
        int(own * choice) for choice in entry.choices if choice == 1 or own * choice % unit == 0
    )
    return dataclasses.replace(entry, choices=whole, relative=False)


def rounded(entry: Entry, value: Any) -> float | int:
    """Return a drawn value as a plain number of a few digits."""
    return (
        next(choice for choice in entry.choices if choice == value)
        if entry.choices
        else _short(value)
    )


def _short(value: float) -> float:
    return float(f"{float(value):.{DIGITS}g}")


def with_values(
    experiment: Experiment, name: str, values: Mapping[str, Any], *, epochs: int
) -> Experiment:
    """Return an experiment whose stage `name` has a trial's values and epochs."""
    stage, network = dataclasses.replace(experiment.stage(name), epochs=epochs), experiment.network
    for key, value in values.items():
        if key == "augmentation":
            stage = dataclasses.replace(stage, augment=_stronger(stage.augment, value))
        elif key == "dropout":
            network = dataclasses.replace(network, dropout=value)
        elif key == "width":
            widths = (
                max(1, round(width * value / network.groups)) * network.groups
                for width in network.widths
            )
            network = dataclasses.replace(network, widths=tuple(widths))
        else:
            stage = dataclasses.replace(stage, **{key: value})
    stages = tuple(stage if other.name == name else other for other in experiment.stages)
    return dataclasses.replace(experiment, network=network, stages=stages)


def _stronger(own: AugmentConfig, factor: float) -> AugmentConfig:
    """Return the strengths of a stage's random changes, else of the usual ones, times a factor, no further than config allows."""
    strengths = dataclasses.asdict(own if own != AugmentConfig() else DEFAULT_AUGMENT)
    most = {"flip": max(0.5, own.flip), "rotation_degrees": 180.0, "gain_db": 100.0, "speed": 0.5}
    stronger = {
        key: _short(min(value * factor, most.get(key, 0.9)))
        for key, value in strengths.items()
        if type(value) is float
    }
    return AugmentConfig(**strengths | stronger)  # numbers of masks and of variants stay


def toml(experiment: Experiment) -> str:
    """Return an experiment as the text of a file that `loading.load_experiment` takes; what is as by default is left out."""
    lines = ["[network]", *_assignments(experiment.network)]
    for stage in experiment.stages:
        lines += ["", "[[stages]]", *_assignments(stage)]
    return "\n".join(lines) + "\n"


def _assignments(record: Any) -> list[str]:
    fields = ((field, getattr(record, field.name)) for field in dataclasses.fields(record))
    return [
        f"{field.name} = {_literal(value)}" for field, value in fields if value != field.default
    ]


def _literal(value: Any) -> str:
    """Return a value as TOML: of numbers, truth values, plain strings and lists of them JSON is a part of it."""
    if isinstance(value, AugmentConfig):
        return f"{{{', '.join(_assignments(value))}}}"
    return json.dumps(value, ensure_ascii=False)
