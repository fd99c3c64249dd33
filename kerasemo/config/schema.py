"""The settings of an experiment: a network, random changes of inputs, and stages.

Each class is a frozen dataclass whose fields pydantic checks. A field has its type, its range and
its choices. `problems` has the rules for several fields. Every default is the project's choice,
not the paper's.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import BeforeValidator, ConfigDict, Field, Strict, TypeAdapter
from pydantic.dataclasses import dataclass

from pipelines.core.domains import DOMAINS
from pipelines.core.errors import DataError, InputError
from pipelines.core.spec import Spec

MAX_COUNT = 1_000_000
"""The largest number of epochs, of steps, and of examples a step."""

RESERVED_NAMES = ("network", "data", "tune", "stages", "tables")
"""Names that a stage cannot have: tables of a file, and folders of a run."""

PROTOCOLS = ("speaker-independent", "speaker-dependent")
"""The protocol that splits the clips of a corpus; see `kerasemo.datasets.splits`."""

Int = Annotated[int, Strict()]
Float = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Text = Annotated[str, Strict()]
Bool = Annotated[bool, Strict()]

Count = Annotated[Int, Field(ge=1, le=MAX_COUNT)]
CountOrNone = Annotated[Int, Field(ge=0, le=MAX_COUNT)]
"""A count whose 0 means "no limit" or "all"."""
Fraction = Annotated[Float, Field(ge=0, lt=1)]
Probability = Annotated[Float, Field(ge=0, le=1)]
Strength = Annotated[Float, Field(ge=0, le=0.9)]
Repeats = Annotated[Int, Field(ge=1, le=8)]
HopFrames = Annotated[Int, Field(ge=0, le=Spec().segment_frames)]

_CHECKED = ConfigDict(extra="forbid", use_attribute_docstrings=True)


def _from_json(kind: type, document: Mapping[str, Any]) -> Any:
    try:
        return TypeAdapter(kind).validate_python(document)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(
            f"stored settings do not fit this version: {place}: {first['msg']}; "
            "train or export again with this version"
        ) from error


@dataclass(frozen=True, config=_CHECKED)
class NetworkConfig:
    """The shape of the network."""

    widths: Annotated[
        tuple[Annotated[Int, Field(ge=1, le=4096)], ...], Field(min_length=1, max_length=6)
    ] = (
        32,
        64,
        96,
        128,
    )
    """Channels of each stage of convolutions. Each stage halves height and width."""
    convolutions: Annotated[Int, Field(ge=1, le=16)] = 2
    """Convolutions in each stage."""
    blocks: Literal["plain", "residual"] = "plain"
    """`residual` adds the input of a stage, projected to the stage's width, to the output of its
    convolutions (He et al. 2016)."""
    squeeze: Annotated[Int, Field(ge=0)] = 0
    """Reduction ratio of squeeze-and-excitation (Hu et al. 2018); 0 leaves it out."""
    pool: Literal["average", "rows"] = "average"
    """The reduction of the last stage: the mean of each channel over the map (`average`), or over
    each row of the map (`rows`). A row is a band of Mel filters, or a height in the face."""
    groups: Annotated[Int, Field(ge=1)] = 8
    """Groups of each group normalisation. Every width is a multiple of this number."""
    embedding: Annotated[Int, Field(ge=1, le=65536)] = 256
    """Size of the embedding."""
    dropout: Fraction = 0.3
    """Fraction of features that training drops before the head."""
    members: Annotated[Int, Field(ge=1, le=64)] = 1
    """Networks of this shape that form an ensemble (Lakshminarayanan et al. 2017). Each member has
    its own weights and cross-entropy and sees the same batches. A prediction is the mean of their
    logits. Weights, memory and time grow with the number of members."""

    def problems(self) -> list[str]:
        """Return what does not fit together, a line each."""
        lines = [
            f"every width must be a multiple of groups ({self.groups}); received {width}"
            for width in self.widths
            if width % self.groups
        ]
        if self.squeeze > min(self.widths):
            lines.append(
                f"squeeze must be at most {min(self.widths)}, the smallest width; "
                f"received {self.squeeze}"
            )
        return lines

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Return the settings in a JSON document of `dataclasses.asdict`.

        Missing settings get their defaults.

        Raises:
            DataError: The document has a setting that this version does not know or allow.

        >>> NetworkConfig.from_json({"widths": [8, 16], "groups": 4}).widths
        (8, 16)
        """
        return _from_json(cls, document)


@dataclass(frozen=True, config=_CHECKED)
class AugmentConfig:
    """The strengths of the random changes of training inputs; 0 leaves a change out.

    `kerasemo.training.augmentation` applies them, `kerasemo.datasets.waveform_variants` those of
    the waveform.
    """

    flip: Probability = 0.0
    """Faces: probability of a mirror image."""
    shift: Strength = 0.0
    """Faces: largest shift, as a fraction of the side, along both axes."""
    scale: Strength = 0.0
    """Faces: largest change of the size, as a fraction, up or down."""
    rotation_degrees: Annotated[Float, Field(ge=0, le=180)] = 0.0
    """Faces: largest rotation, in degrees."""
    brightness: Strength = 0.0
    """Faces: largest change of brightness, as a fraction of the 255 grey levels, up or down."""
    contrast: Strength = 0.0
    """Faces: largest change of each pixel's distance from the mean of the face, as a fraction."""
    erasing: Strength = 0.0
    """Faces: largest side of an erased square, as a fraction of the side."""
    time_mask: Strength = 0.0
    """Segments: largest masked stretch of frames, as a fraction."""
    frequency_mask: Strength = 0.0
    """Segments: largest masked stretch of Mel bins, as a fraction."""
    time_shift: Strength = 0.0
    """Segments: largest shift in time, as a fraction of the frames."""
    frequency_warp: Strength = 0.0
    """Segments: largest stretch of the Mel axis, as a fraction, as a longer vocal tract would."""
    gain_db: Annotated[Float, Field(ge=0, le=100)] = 0.0
    """Segments: largest gain, in decibels, up or down."""
    time_masks: Repeats = 1
    """Segments: number of masked stretches of frames."""
    frequency_masks: Repeats = 1
    """Segments: number of masked stretches of Mel bins."""
    speed: Annotated[Float, Field(ge=0, le=0.5)] = 0.0
    """Waveforms: largest change of speed and pitch, as a fraction. The records must keep the
    waveform."""
    noise: Annotated[Float, Field(ge=0, le=1)] = 0.0
    """Waveforms: largest amplitude of white noise, as a fraction of the clip's own (root mean
    square): 0.1 is a signal-to-noise ratio of 20 dB."""
    variants: Repeats = 2
    """Waveforms: changed versions of each training clip, next to the unchanged clip."""


DEFAULT_AUGMENT = AugmentConfig(
    flip=0.5,
    shift=0.08,
    scale=0.1,
    rotation_degrees=10.0,
    brightness=0.05,
    contrast=0.2,
    erasing=0.2,
    time_mask=0.3,
    frequency_mask=0.25,
    time_shift=0.1,
    frequency_warp=0.1,
    gain_db=6.0,
)
"""The strengths of `augment = true`. Changes of the waveform are left out, because not all records
keep it."""


def _augment(value: Any) -> Any:
    """Turn `true` and `false` of a file into strengths."""
    if isinstance(value, bool):
        return DEFAULT_AUGMENT if value else AugmentConfig()
    return value


@dataclass(frozen=True, config=_CHECKED)
class StageConfig:
    """One training in the chain."""

    name: Text
    """The stage's name: letters, digits and hyphens."""
    kind: Literal["supervised", "contrastive", "joint"]
    """The loss: a cross-entropy, a contrastive loss over pairs, or both."""
    sources: Annotated[tuple[Text, ...], Field(min_length=1)]
    """The sets to train on, each `NAME/DOMAIN`."""
    start_from: Text = ""
    """The earlier stage whose weights this stage starts from; empty: random weights."""
    drawn_as: Text = ""
    """The stage whose random streams this stage uses; empty: its own. Stages with the same streams
    start from the same weights and see the same batches."""
    epochs: Count = 20
    """Passes over the training items, or blocks of `steps` steps."""
    batch: Annotated[Int, Field(ge=2, le=MAX_COUNT, multiple_of=2)] = 64
    """Examples in a step. In a contrastive or joint stage a pair counts as two examples."""
    steps: CountOrNone = 0
    """Steps in an epoch; 0: every face or segment once. The sampler starts again where items run
    out; of pairs, where the largest source runs out."""
    labelled: CountOrNone = 0
    """Labelled clips of each class and source to train on; 0: all. See
    `kerasemo.datasets.subsets`."""
    labelled_by: Literal["seed", "fold"] = "seed"
    """What draws the labelled clips: the seed alone, so that folds share most clips, or seed and
    fold."""
    learning_rate: Annotated[Float, Field(gt=0, lt=10)] = 1e-3
    """The largest learning rate."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """`cosine`: the rate falls to 0 along a cosine; `constant`: the rate stays."""
    warmup: Fraction = 0.0
    """Fraction of all steps in which the rate rises linearly to its largest value."""
    weight_decay: Fraction = 1e-4
    """Weight decay of AdamW."""
    label_smoothing: Fraction = 0.0
    """Fraction of each target that is spread evenly over the classes of the corpus."""
    margin: Annotated[Float, Field(gt=0, le=2)] = 0.6
    """Margin of the contrastive loss; embeddings have unit length, so distances are at most 2."""
    contrastive_weight: Annotated[Float, Field(ge=0, lt=1e6)] = 1.0
    """Weight of the contrastive loss in a joint stage."""
    mixup: Annotated[Float, Field(ge=0, le=10)] = 0.0
    """Alpha of mixup within a source (Zhang et al. 2018); 0: no mixup. Not for contrastive
    stages."""
    balance: Literal["none", "classes"] = "none"
    """`classes`: weight the cross-entropy by the inverse frequency of the class in its source. Not
    for contrastive stages."""
    active_share: Probability = 0.0
    """Smallest fraction of active frames of a segment, in training, scores and service; segments
    with fewer are left out as pauses; 0: none is left out."""
    train_hop_frames: HopFrames = 0
    """Frames between the starts of two training segments; 0: as the records are cut."""
    test_hop_frames: HopFrames = 0
    """Frames between the starts of two segments in scores and service; 0: as the records are
    cut."""
    test_mirror: Bool = False
    """Predict a face as the mean over the face and its mirror image, in scores and service."""
    speaker_normalization: Bool = False
    """Normalise each log-Mel by the statistics of its speaker over all clips, test clips included:
    transductive, stamped on results, never exported. For stages on audio alone."""
    augment: Annotated[AugmentConfig, BeforeValidator(_augment)] = AugmentConfig()
    """Random changes of training inputs: `true`, `false`, or a table of strengths."""
    clip_norm: Annotated[Float, Field(ge=0, lt=1e6)] = 0.0
    """Largest norm of all gradients of a step together; 0: no limit."""
    accumulate: Count = 1
    """Parts in which a batch passes the network one after the other: less memory, the same step."""
    ema: Fraction = 0.0
    """Decay of the moving average of the weights, which is then validated and kept; 0: no
    average."""
    freeze: tuple[Annotated[Text, Field(min_length=1)], ...] = ()
    """Beginnings of the names of layers that are not trained, such as `stage1`."""
    pairs: Literal["balanced", "random"] = "balanced"
    """Pairs of contrastive and joint stages: half of them of equal labels (`balanced`), or
    `random`."""
    hard_negatives: Probability = 0.0
    """Hardness of the negative pairs in the last epoch; 0: as sampled."""
    heads: Literal["masked", "corpus"] = "masked"
    """Heads of a joint stage: one head with a mask for each corpus, or a head for each source."""

    @property
    def pair_kinds(self) -> int:
        """The number of combinations of two sources, at least 1."""
        return max(1, len(self.sources) * (len(self.sources) - 1) // 2)

    def problems(self) -> list[str]:
        """Return what does not fit together within this stage, a line each."""
        return [*self._problems_of_names(), *self._problems_of_kind(), *self._problems_of_batch()]

    def _problems_of_names(self) -> list[str]:
        lines = []
        if self.name in RESERVED_NAMES or not self.name.replace("-", "").isalnum():
            lines.append(
                "the name must have letters, digits and hyphens alone, and not be "
                f"{', '.join(RESERVED_NAMES[:-1])} or {RESERVED_NAMES[-1]}; received {self.name!r}"
            )
        for source in self.sources:
            name, _, domain = source.partition("/")
            if not name or domain not in DOMAINS:
                expected = " or ".join(f"NAME/{domain}" for domain in DOMAINS)
                lines.append(f"a source must be {expected}; received {source!r}")
        if len(set(self.sources)) != len(self.sources):
            lines.append(f"sources must differ; received {', '.join(self.sources)}")
        return lines

    def _problems_of_kind(self) -> list[str]:
        lines = []
        count = len(self.sources)
        if self.kind == "supervised" and count != 1:
            lines.append(f"a supervised stage has one source; received {count}")
        if self.kind == "joint" and count < 2:
            lines.append(f"a joint stage has two sources or more; received {count}")
        unused = {
            "supervised": (("pairs", "hard_negatives"), "a supervised stage has no pairs"),
            "contrastive": (("mixup", "balance"), "a contrastive stage has no cross-entropy"),
        }
        keys, reason = unused.get(self.kind, ((), ""))
        for key in keys:
            value = getattr(self, key)
            if value != _default(StageConfig, key):
                lines.append(f"{key}: {reason}; received {value!r}")
        if self.heads == "corpus" and self.kind != "joint":
            lines.append("heads: 'corpus' is for joint stages; leave it at 'masked'")
        if self.labelled_by != "seed" and not self.labelled:
            lines.append(
                "labelled_by needs `labelled` to be above 0; "
                f"received labelled_by {self.labelled_by!r}, labelled 0"
            )
        if self.speaker_normalization and not all(map(_is_audio, self.sources)):
            lines.append(
                "speaker_normalization is for stages on audio alone; "
                f"received sources {', '.join(self.sources)}"
            )
        return lines

    def _problems_of_batch(self) -> list[str]:
        """Check that each part of a batch has equally many pairs of every two sources."""
        unit = 2 * self.pair_kinds
        if self.kind != "supervised" and self.batch % unit:
            return [
                f"batch must be a multiple of {unit}, for equally many pairs of every two of "
                f"{len(self.sources)} sources; received {self.batch}"
            ]
        if self.kind == "supervised":
            share, unit_name = self.batch, "examples"
        else:
            share, unit_name = self.batch // unit, "pairs of every two sources"
        if share % self.accumulate:
            return [
                f"accumulate must divide the {share} {unit_name} of a step; "
                f"received {self.accumulate}"
            ]
        return []

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Return the settings in a JSON document of `dataclasses.asdict`.

        Missing settings get their defaults.

        Raises:
            DataError: The document has a setting that this version does not know or allow.

        >>> table = {"name": "a", "kind": "supervised", "sources": ["x/audio"]}
        >>> table["augment"] = {"flip": 0.5}
        >>> StageConfig.from_json(table).augment.flip
        0.5
        """
        return _from_json(cls, document)


def _is_audio(source: str) -> bool:
    return source.endswith("/audio")


def _default(kind: type, key: str) -> Any:
    return next(field.default for field in dataclasses.fields(kind) if field.name == key)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A network and the chain of stages that train it."""

    name: str
    network: NetworkConfig
    stages: tuple[StageConfig, ...]

    def stage(self, name: str) -> StageConfig:
        """Return the stage with a name.

        Raises:
            InputError: The experiment has no such stage.
        """
        for stage in self.stages:
            if stage.name == name:
                return stage
        names = ", ".join(stage.name for stage in self.stages)
        raise InputError(f"no stage {name!r} in experiment {self.name!r}; it has {names}")

    def chain(self, name: str) -> tuple[StageConfig, ...]:
        """Return the stage with a name and the stages that it starts from, that stage last."""
        stage = self.stage(name)
        return (*(self.chain(stage.start_from) if stage.start_from else ()), stage)

    @property
    def sources(self) -> tuple[str, ...]:
        """Every source of the experiment, in the order of the stages."""
        return tuple(dict.fromkeys(source for stage in self.stages for source in stage.sources))


def chain_problems(stages: Sequence[StageConfig]) -> list[tuple[str, str]]:
    """Return what does not fit together among the stages of a chain: (stage name, problem).

    Args:
        stages: In the order of the file.
    """
    lines: list[tuple[str, str]] = []
    by_name: dict[str, StageConfig] = {}
    with_own_streams = {stage.name for stage in stages if not stage.drawn_as}
    for stage in stages:
        if stage.name in by_name:
            lines.append((stage.name, "the name is used twice; give each stage another name"))
        if stage.start_from and stage.start_from not in by_name:
            lines.append(
                (
                    stage.name,
                    f"start_from must name an earlier stage; received {stage.start_from!r}",
                )
            )
        if stage.drawn_as and stage.drawn_as not in with_own_streams:
            lines.append(
                (
                    stage.name,
                    "drawn_as must name a stage that has no drawn_as itself; "
                    f"received {stage.drawn_as!r}",
                )
            )
        parent = _last_on_audio(by_name.get(stage.start_from), by_name)
        if parent and parent.speaker_normalization != stage.speaker_normalization:
            lines.append(
                (
                    stage.name,
                    "speaker_normalization must be that of the audio stages it starts from; "
                    f"received {stage.speaker_normalization}, and "
                    f"{parent.speaker_normalization} in {parent.name!r}",
                )
            )
        by_name[stage.name] = stage
    return lines


def _last_on_audio(
    stage: StageConfig | None, by_name: Mapping[str, StageConfig]
) -> StageConfig | None:
    """Return the stage itself or the nearest ancestor that trains on audio, None if there is none.

    The first audio stage of a chain sets the input statistics, so all of them must read audio
    alike.
    """
    while stage is not None and not any(map(_is_audio, stage.sources)):
        stage = by_name.get(stage.start_from)
    return stage
