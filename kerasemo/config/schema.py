"""What an experiment consists of: frozen dataclasses of the network, the random changes and the stages."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

from pipelines.core.errors import InputError


@dataclasses.dataclass(frozen=True)
class Network:
    """The network's shape. The paper's own is not known; these are the project's choices."""

    widths: tuple[int, ...] = (32, 64, 96, 128)
    """Channels of each stage of convolutions; each stage halves height and width."""
    convolutions: int = 2
    """Convolutions a stage."""
    blocks: str = "plain"
    """`plain`, or `residual`: what comes into a stage, projected to its width, is added to what its convolutions make (He et al. 2016)."""
    squeeze: int = 0
    """How many times fewer the channels are that weigh a stage's channels (squeeze and excitation, Hu et al. 2018); 0: none do."""
    pool: str = "average"
    """What is left of the last stage: the mean of each channel over the whole map, `average`, or over each row of it, `rows`.

    A row is a band of Mel filters, or a height in the face: `rows` tells them apart."""
    groups: int = 8
    """Groups of each GroupNorm."""
    embedding: int = 256
    dropout: float = 0.3
    """Share of the features dropped before the head, in training."""
    members: int = 1
    """Networks of this shape that answer together, each with weights and a cross-entropy of its own: a deep ensemble
    (Lakshminarayanan et al. 2017), but of one order of examples, and of the mean of logits where theirs is of probabilities. A
    contrastive loss is of their embeddings together, and `clip_norm` of all gradients. Weights, memory and time grow with them."""

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Return the settings that `dataclasses.asdict` and JSON made a document of; what it lacks has its default.

        >>> Network.from_json({"widths": [8, 16], "groups": 4})
        Network(widths=(8, 16), convolutions=2, blocks='plain', squeeze=0, pool='average', groups=4, embedding=256, dropout=0.3, members=1)
        """
        return cls(
            **{
                key: tuple(value) if isinstance(value, list) else value
                for key, value in document.items()
            }
        )


@dataclasses.dataclass(frozen=True)
class Augment:
    """How far random changes of the training inputs go, 0: not at all; see `kerasemo.datasets.augmentation`."""

    flip: float = 0.0
    """Of faces: the probability of a mirror image."""
    shift: float = 0.0
    """Share of the side, along both axes."""
    scale: float = 0.0
    """Share of the size, larger or smaller."""
    rotation_degrees: float = 0.0
    brightness: float = 0.0
    """Share of the 255 grey levels, up or down."""
    contrast: float = 0.0
    """Share of each pixel's distance to the face's mean, more or less."""
    erasing: float = 0.0
    """Share of the side that a square is erased of."""
    time_mask: float = 0.0
    """Of segments: share of the frames that is masked in one stretch."""
    frequency_mask: float = 0.0
    """Share of the Mel bins that is masked in one stretch."""
    time_shift: float = 0.0
    """Share of the frames, earlier or later."""
    frequency_warp: float = 0.0
    """Share by which the Mel axis is stretched or pressed together, as another vocal tract would."""
    gain_db: float = 0.0
    """Louder or softer."""
    time_masks: int = 1
    """How many stretches of frames are masked."""
    frequency_masks: int = 1
    """How many stretches of Mel bins are masked."""
    speed: float = 0.0
    """Of sound whose records keep the waveform: share of the speed, faster or slower, pitch and all; see `kerasemo.datasets.waveform_variants`."""
    noise: float = 0.0
    """The amplitude of white noise as a share of the clip's own (both root mean square), at most: 0.1 is an SNR of 20 dB."""
    variants: int = 2
    """Of speed and noise: how many changed versions of each training clip are made, beside the clip as it is."""


USUAL_CHANGES = Augment(
    **{
        "flip": 0.5,
        "shift": 0.08,
        "scale": 0.1,
        "rotation_degrees": 10.0,
        "brightness": 0.05,
        "contrast": 0.2,
        "erasing": 0.2,
    },
    **{
        "time_mask": 0.3,
        "frequency_mask": 0.25,
        "time_shift": 0.1,
        "frequency_warp": 0.1,
        "gain_db": 6.0,
    },
)
"""What `augment = true` means. For sound: what did best on validation clips among a few (benchmarks/README.md), but for what needs the
waveform; for faces the project's choice: in a short training none of it was shown to help alone (docs/results.md)."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """One training in the chain. Rates, batches and epochs are the project's choices, not the paper's."""

    name: str
    kind: str
    sources: tuple[str, ...]
    """`NAME/DOMAIN` of each set that is trained on."""
    start_from: str = ""
    """The stage whose weights this one starts from; empty: from scratch."""
    drawn_as: str = ""
    """The stage by whose name the network, the order and the random changes are drawn; empty: its own. Stages that are drawn alike
    begin alike and see the same examples; what grows out of the smallest difference over thousands of steps is luck still."""
    epochs: int = 20
    batch: int = 64
    """Examples a step; for contrastive and joint, pairs of two a step count as two examples."""
    steps: int = 0
    """Steps an epoch, round and round the training side (of pairs, its largest source); 0: every face or segment once."""
    labelled: int = 0
    """Labelled clips a class and source that are trained on; 0: all there are. See `kerasemo.training.stage_task`."""
    labelled_by: str = "seed"
    """What draws them: `seed`: one order for all folds, so that folds share most of them; `fold`: the seed and the fold of the chain."""
    learning_rate: float = 1e-3
    """The largest one, that of the start where nothing is warmed up."""
    schedule: str = "cosine"
    """`cosine`: the rate falls to nothing along a cosine; `constant`: it stays."""
    warmup: float = 0.0
    """Share of all steps in which the rate first rises to its largest, evenly, in [0, 1)."""
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    margin: float = 0.6
    """Of the contrastive loss, on embeddings of unit length."""
    contrastive_weight: float = 1.0
    mixup: float = 0.0
    """Of supervised and joint stages: alpha of the Beta distribution that two examples of a source are mixed by, inputs and targets
    alike; 0: none are mixed. See `kerasemo.datasets.sampling.mixed`."""
    balance: str = "none"
    """Of supervised and joint stages: `classes`: in the cross-entropies an example weighs the more, the rarer its class is among the
    training items of its source, one on average; `none`: all weigh the same."""
    active_share: float = 0.0
    """Share of its frames that a segment of sound must be active in, in training, scores and service; 0: pauses count as well.

    See `pipelines.core.spec.Spec.active_share`."""
    train_hop_frames: int = 0
    """Frames from one segment of the training side to the next; 0: as the records are cut. With small ones, set `steps`."""
    test_hop_frames: int = 0
    """Frames from one segment to the next where sound is scored and served; 0: as the records are cut. See `kerasemo.datasets.segmentation`."""
    test_mirror: bool = False
    """Whether the answer about a face is the mean over it and its mirror image, in scores and in service; twice the work."""
    speaker_normalization: bool = False
    """Whether a speaker's log-Mels are normalised by the speaker's own statistics, over all clips of the set, those of the test side
    too: transductive, which results are stamped with, and never exported. See `kerasemo.datasets.segmentation`."""
    augment: Augment = Augment()
    """In a file `true`, `false` or a table of some strengths, such as `{flip = 0.5}`."""
    clip_norm: float = 0.0
    """The largest norm of all gradients of a step together; larger ones are scaled down to it. 0: no limit."""
    accumulate: int = 1
    """Parts that a step's batch goes through the network in, one after the other: less memory, the same step."""
    ema: float = 0.0
    """Decay of the moving average of the weights that is validated and kept; 0: the weights themselves."""
    freeze: tuple[str, ...] = ()
    """Beginnings of the names of layers that are not trained, such as `stage1`; see `kerasemo.training.stage_models.freeze`."""
    pairs: str = "balanced"
    """Of contrastive and joint stages: `balanced`, half of the pairs show the same emotion, or `random`."""
    hard_negatives: float = 0.0
    """How hard the pairs of different emotions are in the last epoch, in [0, 1]; 0: as they are drawn. See `kerasemo.datasets.sampling`."""
    heads: str = "masked"
    """`masked`: one head, and a mask of its logits for each corpus; `corpus`: a head for each source of a joint stage."""

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Return the settings that `dataclasses.asdict` and JSON made a document of; what it lacks has its default.

        >>> Stage.from_json({"name": "a", "kind": "supervised", "sources": ["x/audio"], "augment": {"flip": 0.5}}).augment.flip
        0.5
        """
        values = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in document.items()
        }
        return cls(**values | {"augment": Augment(**document.get("augment", {}))})


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A network and the chain of stages that train it."""

    name: str
    network: Network
    stages: tuple[Stage, ...]

    def stage(self, name: str) -> Stage:
        """Return the stage of a name; InputError names those there are."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise InputError(
            f"no stage {name!r} in experiment {self.name!r}; it has {', '.join(stage.name for stage in self.stages)}"
        )

    def chain(self, name: str) -> tuple[Stage, ...]:
        """Return the stages that lead to one, the first first, itself last."""
        stage = self.stage(name)
        return (*(self.chain(stage.start_from) if stage.start_from else ()), stage)

    @property
    def sources(self) -> tuple[str, ...]:
        """Every source of the experiment, in the order in which the stages name them."""
        return tuple(dict.fromkeys(source for stage in self.stages for source in stage.sources))
