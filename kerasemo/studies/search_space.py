"""The settings that a search varies, and the experiment with the values of a trial."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from kerasemo.config.schema import DEFAULT_AUGMENT, AugmentConfig, Experiment, StageConfig
from pipelines.core.errors import InputError

DIGITS = 3
"""Significant digits of a value: what a person can read and type; no search is finer."""

MAX_LEARNING_RATE = 9.0
"""The largest learning rate of a search; the schema allows less than 10."""


@dataclasses.dataclass(frozen=True)
class SearchParameter:
    """A setting that a search varies, over a range or among choices."""

    name: str
    low: float = 0.0
    high: float = 0.0
    logarithmic: bool = False
    """Whether values are drawn evenly on a logarithmic scale."""
    choices: tuple[float, ...] = ()
    """The choices in order, instead of a range."""
    relative: bool = False
    """Whether range or choices are multiples of the stage's own setting."""
    kinds: tuple[str, ...] = ("supervised", "contrastive", "joint")
    """The kinds of stage whose training depends on the setting."""
    of_network: bool = False
    """Whether it is a setting of the network, which a later stage inherits."""


SEARCH_SPACE = (
    SearchParameter("learning_rate", 0.1, 10, logarithmic=True, relative=True),
    SearchParameter("warmup", 0, 0.2),
    SearchParameter("weight_decay", 1e-6, 1e-1, logarithmic=True),
    SearchParameter("batch", choices=(0.5, 1, 2), relative=True),
    SearchParameter("label_smoothing", 0, 0.2, kinds=("supervised", "joint")),
    SearchParameter("mixup", 0, 0.4, kinds=("supervised", "joint")),
    SearchParameter("margin", 0.2, 1.6, kinds=("contrastive", "joint")),
    SearchParameter("contrastive_weight", 0.1, 10, logarithmic=True, kinds=("joint",)),
    SearchParameter("augmentation", 0, 1.5),
    SearchParameter("dropout", 0, 0.6, kinds=("supervised",), of_network=True),
    SearchParameter("width", choices=(0.5, 0.75, 1, 1.5, 2), of_network=True),
)
"""The project's choice of what a search varies.

`augmentation` multiplies the strengths of the stage's augmentation (the default strengths, if the
stage has none). `width` multiplies the channels of every convolution.
"""


def search_parameters(
    experiment: Experiment, stage_name: str, names: Sequence[str] = ()
) -> tuple[SearchParameter, ...]:
    """Return what a search over a stage varies, with the ranges and choices for this stage.

    Args:
        experiment: Has the stage.
        stage_name: The stage.
        names: Names of SEARCH_SPACE; empty: all that apply to the stage.

    Raises:
        InputError: A name does not apply to the stage.

    >>> from kerasemo.config.loading import load_experiment
    >>> parameters = search_parameters(load_experiment("sample"), "joint", ["margin", "batch"])
    >>> [parameter.name for parameter in parameters]
    ['batch', 'margin']
    """
    stage = experiment.stage(stage_name)
    applicable = {
        parameter.name: parameter
        for parameter in SEARCH_SPACE
        if stage.kind in parameter.kinds and not (parameter.of_network and stage.start_from)
    }
    of_network = {parameter.name for parameter in SEARCH_SPACE if parameter.of_network}
    for name in names:
        if name not in applicable:
            reason = ""
            if name in of_network and stage.start_from:
                reason = (
                    f" ({stage_name!r} starts from {stage.start_from!r}, which fixes the network)"
                )
            raise InputError(
                f"--over {name}: a search over stage {stage_name!r} varies "
                f"{', '.join(applicable)}{reason}"
            )
    return tuple(
        _to_absolute(parameter, stage)
        for name, parameter in applicable.items()
        if name in names or not names
    )


def _to_absolute(parameter: SearchParameter, stage: StageConfig) -> SearchParameter:
    """Return a parameter whose multiples of the stage's setting have become values."""
    if not parameter.relative:
        return parameter
    setting = getattr(stage, parameter.name)
    if not parameter.choices:
        low, high = (
            _round(min(setting * multiple, MAX_LEARNING_RATE))
            for multiple in (parameter.low, parameter.high)
        )
        return dataclasses.replace(parameter, low=low, high=high, relative=False)
    n_sources = len(stage.sources)
    n_couples = 1 if stage.kind == "supervised" else n_sources * (n_sources - 1) // 2
    # The schema and the parts of an accumulated batch need a multiple of it.
    unit = 2 * max(1, n_couples) * stage.accumulate
    choices = tuple(
        int(setting * multiple)
        for multiple in parameter.choices
        if multiple == 1 or setting * multiple % unit == 0
    )
    return dataclasses.replace(parameter, choices=choices, relative=False)


def round_value(parameter: SearchParameter, value: Any) -> float | int:
    """Return a drawn value as one of the choices, or as a number of a few digits."""
    if parameter.choices:
        return next(choice for choice in parameter.choices if choice == value)
    return _round(value)


def _round(value: float) -> float:
    return float(f"{float(value):.{DIGITS}g}")


def with_trial_values(
    experiment: Experiment, stage_name: str, values: Mapping[str, Any], *, epochs: int
) -> Experiment:
    """Return an experiment whose stage has the values and the epochs of a trial.

    Args:
        experiment: Has the stage.
        stage_name: The stage.
        values: Name of a `SearchParameter` -> its value.
        epochs: The epochs of the stage.
    """
    network = experiment.network
    stage = dataclasses.replace(experiment.stage(stage_name), epochs=epochs)
    for name, value in values.items():
        if name == "augmentation":
            stage = dataclasses.replace(stage, augment=_scale_augment(stage.augment, value))
        elif name == "dropout":
            network = dataclasses.replace(network, dropout=value)
        elif name == "width":
            widths = tuple(
                max(1, round(width * value / network.groups)) * network.groups
                for width in network.widths
            )
            network = dataclasses.replace(network, widths=widths)
        else:
            stage = dataclasses.replace(stage, **{name: value})
    stages = tuple(
        stage if candidate.name == stage_name else candidate for candidate in experiment.stages
    )
    return dataclasses.replace(experiment, network=network, stages=stages)


def _scale_augment(strengths: AugmentConfig, factor: float) -> AugmentConfig:
    """Return strengths, or the default ones, times a factor, within the limits of the schema."""
    scaled = strengths if strengths != AugmentConfig() else DEFAULT_AUGMENT
    largest = {
        "flip": max(0.5, strengths.flip),
        "rotation_degrees": 180.0,
        "gain_db": 100.0,
        "speed": 0.5,
    }
    values = dataclasses.asdict(scaled)
    for name, value in values.items():
        if type(value) is float:  # the numbers of masks and of variants stay
            values[name] = _round(min(value * factor, largest.get(name, 0.9)))
    return AugmentConfig(**values)


def experiment_toml(experiment: Experiment) -> str:
    """Return an experiment as TOML that `loading.load_experiment` reads.

    Default values are left out.
    """
    lines = ["[network]", *_assignments(experiment.network)]
    for stage in experiment.stages:
        lines += ["", "[[stages]]", *_assignments(stage)]
    return "\n".join(lines) + "\n"


def _assignments(config: Any) -> list[str]:
    """Return a line of TOML for each field that differs from its default."""
    return [
        f"{field.name} = {_toml_value(getattr(config, field.name))}"
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != field.default
    ]


def _toml_value(value: Any) -> str:
    """Return a value as TOML; JSON of numbers, truth values, plain text and lists is TOML."""
    if isinstance(value, AugmentConfig):
        return f"{{{', '.join(_assignments(value))}}}"
    return json.dumps(value, ensure_ascii=False)
