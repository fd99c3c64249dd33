"""What the settings of an experiment may be, each alone and together, beyond their types."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from kerasemo.settings import Network, Stage
from pipelines.spec import DOMAINS, Spec

PAIRS = ("balanced", "random")
HEADS = ("masked", "corpus")
BLOCKS = ("plain", "residual")
POOLS = ("average", "rows")
BALANCES = ("none", "classes")
LABELLED_BY = ("seed", "fold")
SCHEDULES = ("cosine", "constant")
KINDS = ("supervised", "contrastive", "joint")
MOST = 1_000_000
"""The largest number of epochs, and of examples a step."""
AUGMENT_RANGES = {
    **{"flip": (0, 1), "rotation_degrees": (0, 180), "gain_db": (0, 100)},
    **{
        "time_masks": (1, 8),
        "frequency_masks": (1, 8),
        "variants": (1, 8),
        "speed": (0, 0.5),
        "noise": (0, 1),
    },
}
"""The least and the most of those changes that may not be in [0, 0.9]."""
RESERVED = ("network", "data", "tune", "stages", "tables")
"""What a stage cannot be called: the other table of a file, and the folders of the samples, of searches and of tables in a run folder."""


def check_stage(stage: Stage, names: Sequence[Any], index: int, problems: list[str]) -> None:
    """Check what the types do not: a stage's name, kind, sources and place in the chain."""
    wrong = []
    if (
        names.count(stage.name) > 1
        or stage.name in RESERVED
        or not stage.name.replace("-", "").isalnum()
    ):
        wrong.append(
            f"names of stages are unique, letters, digits and hyphens, and not {' or '.join(RESERVED)}"
        )
    if stage.kind not in KINDS:
        wrong.append(f"kind must be one of {', '.join(KINDS)}; received {stage.kind!r}")
    if stage.start_from and stage.start_from not in names[:index]:
        wrong.append(
            f"start_from must name a stage that stands before it; received {stage.start_from!r}"
        )
    if stage.labelled_by != "seed" and not stage.labelled:
        wrong.append(
            f"labelled_by says how the clips of `labelled` are drawn, and that is 0; received {stage.labelled_by!r}"
        )
    for source in stage.sources:
        name, _, domain = source.partition("/")
        if not name or domain not in DOMAINS:
            wrong.append(f"a source is NAME/visual or NAME/audio; received {source!r}")
    if len(set(stage.sources)) != len(stage.sources):
        wrong.append(f"sources must differ; received {', '.join(stage.sources)}")
    if stage.kind == "supervised" and len(stage.sources) != 1:
        wrong.append(f"a supervised stage has one source; received {len(stage.sources)}")
    if stage.kind == "joint" and len(stage.sources) < 2:
        wrong.append(f"a joint stage has two sources or more; received {len(stage.sources)}")
    if stage.kind == "supervised":
        for key, default in (("pairs", "balanced"), ("hard_negatives", 0.0)):
            if (value := getattr(stage, key)) != default:
                wrong.append(
                    f"{key} is for contrastive and joint stages, a supervised one has no pairs; received {value!r}"
                )
    if stage.kind == "contrastive":
        for key, default in (("mixup", 0.0), ("balance", "none")):
            if (value := getattr(stage, key)) != default:
                wrong.append(
                    f"{key} is for supervised and joint stages, a contrastive one has no cross-entropy; received {value!r}"
                )
    if stage.speaker_normalization and any(
        not source.endswith("/audio") for source in stage.sources
    ):
        wrong.append(
            f"speaker_normalization is for stages on sound alone; received sources {', '.join(stage.sources)}"
        )
    if stage.kind != "joint" and stage.heads == "corpus":
        wrong.append(
            "heads = 'corpus' is for joint stages, a head for each source; leave it at 'masked'"
        )
    problems += [f"stage {stage.name!r}: {problem}" for problem in wrong]


def check_chain(stage: Stage, before: Sequence[Stage | None], problems: list[str]) -> None:
    """Check that a chain reads all sound alike: its first stage on sound sets the statistics of the network's inputs."""
    by_name = {other.name: other for other in before if other is not None}
    parent = by_name.get(stage.start_from)
    while parent is not None and not any(source.endswith("/audio") for source in parent.sources):
        parent = by_name.get(parent.start_from)
    if parent is not None and parent.speaker_normalization != stage.speaker_normalization:
        told = (
            f"{stage.speaker_normalization} here, {parent.speaker_normalization} in {parent.name!r}"
        )
        problems.append(
            f"stage {stage.name!r}: speaker_normalization must be that of the stages on sound that it comes from; received {told}"
        )


def check_draws(stages: Sequence[Stage | None], problems: list[str]) -> None:
    """Check that stages that are drawn as another one name one that is drawn by its own name: else both would not be drawn alike."""
    known = {stage.name for stage in stages if stage is not None and not stage.drawn_as}
    for stage in stages:
        if stage is not None and stage.drawn_as and stage.drawn_as not in known:
            expected = "must name a stage of the experiment that has no drawn_as itself"
            problems.append(
                f"stage {stage.name!r}: drawn_as {expected}; received {stage.drawn_as!r}"
            )


def check_network(network: Network, problems: list[str]) -> None:
    """Check the ranges of a network's settings, and that its groups divide its widths."""
    wrong = []
    if network.groups < 1:
        wrong.append(f"groups must be at least 1; received {network.groups}")
    else:
        for width in network.widths:
            if width < 1 or width % network.groups:
                wrong.append(
                    f"every width must be a multiple of groups ({network.groups}); received {width}"
                )
    counts = (network.convolutions, network.embedding, network.members)
    for name, most in (
        ("widths", 4096),
        ("convolutions", 16),
        ("embedding", 65536),
        ("members", 64),
    ):
        value = max(network.widths) if name == "widths" else getattr(network, name)
        if value > most:
            wrong.append(f"{name} must be at most {most}; received {value}")
    if not (1 <= len(network.widths) <= 6 and min(counts) >= 1 and 0 <= network.dropout < 1):
        told = f"{len(network.widths)} widths, {', '.join(map(str, counts))}, dropout {network.dropout}"
        wrong.append(
            f"expected 1 to 6 widths, convolutions, embedding and members of at least 1, dropout in [0, 1); received {told}"
        )
    for name, known in (("blocks", BLOCKS), ("pool", POOLS)):
        if (value := getattr(network, name)) not in known:
            wrong.append(f"{name} must be one of {', '.join(known)}; received {value!r}")
    if not 0 <= network.squeeze <= min(network.widths):
        wrong.append(
            f"squeeze must be in [0, {min(network.widths)}], the smallest width; received {network.squeeze}"
        )
    problems += [f"[network]: {problem}" for problem in wrong]


def check_ranges(stage: Stage, problems: list[str]) -> None:
    """Check each setting of a stage by itself."""
    frames = Spec().segment_frames
    for key, holds, expected in (
        ("epochs", 1 <= stage.epochs <= MOST, f"at least 1 and at most {MOST}"),
        (
            "batch",
            2 <= stage.batch <= MOST and stage.batch % 2 == 0,
            "an even number of at least 2",
        ),
        (
            "steps",
            0 <= stage.steps <= MOST,
            f"at least 0, where 0 is every item once, and at most {MOST}",
        ),
        (
            "labelled",
            0 <= stage.labelled <= MOST,
            f"at least 0, where 0 is all, and at most {MOST}",
        ),
        ("labelled_by", stage.labelled_by in LABELLED_BY, f"one of {', '.join(LABELLED_BY)}"),
        ("schedule", stage.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
        ("warmup", 0 <= stage.warmup < 1, "in [0, 1), a share of all steps"),
        ("mixup", 0 <= stage.mixup <= 10, "in [0, 10], where 0 mixes nothing"),
        ("balance", stage.balance in BALANCES, f"one of {', '.join(BALANCES)}"),
        ("active_share", 0 <= stage.active_share <= 1, "in [0, 1], where 0 keeps every segment"),
        (
            "train_hop_frames",
            0 <= stage.train_hop_frames <= frames,
            f"in [0, {frames}], where 0 is as the records are cut",
        ),
        (
            "test_hop_frames",
            0 <= stage.test_hop_frames <= frames,
            f"in [0, {frames}], where 0 is as the records are cut",
        ),
        ("learning_rate", 0 < stage.learning_rate < 10, "above 0 and below 10"),
        ("weight_decay", 0 <= stage.weight_decay < 1, "in [0, 1)"),
        ("label_smoothing", 0 <= stage.label_smoothing < 1, "in [0, 1)"),
        ("margin", 0 < stage.margin <= 2, "in (0, 2], the largest distance of two unit vectors"),
        ("contrastive_weight", 0 <= stage.contrastive_weight < 1e6, "at least 0"),
        ("clip_norm", 0 <= stage.clip_norm < 1e6, "at least 0, where 0 is no limit"),
        ("accumulate", 1 <= stage.accumulate <= MOST, "at least 1"),
        ("ema", 0 <= stage.ema < 1, "in [0, 1), where 0 is no average"),
        ("freeze", all(stage.freeze), "beginnings of the names of layers, not empty"),
        ("pairs", stage.pairs in PAIRS, f"one of {', '.join(PAIRS)}"),
        ("hard_negatives", 0 <= stage.hard_negatives <= 1, "in [0, 1]"),
        ("heads", stage.heads in HEADS, f"one of {', '.join(HEADS)}"),
    ):
        if not holds:
            problems.append(
                f"stage {stage.name!r}: {key} must be {expected}; received {getattr(stage, key)!r}"
            )
    for key, strength in dataclasses.asdict(stage.augment).items():
        least, most = AUGMENT_RANGES.get(key, (0, 0.9))
        if not least <= strength <= most:
            problems.append(
                f"stage {stage.name!r}: augment: {key} must be in [{least}, {most}]; received {strength!r}"
            )


def check_batch(stage: Stage, problems: list[str]) -> None:
    """Check that a batch holds as many pairs of every two sources, and each of the parts it is accumulated from as well."""
    if stage.batch < 2 or stage.batch % 2:
        return  # which is told already
    couples = max(1, len(stage.sources) * (len(stage.sources) - 1) // 2)
    where = f"stage {stage.name!r}"
    if stage.kind != "supervised" and stage.batch % (2 * couples):
        expected = f"a multiple of {2 * couples}, for as many pairs of every two of {len(stage.sources)} sources"
        problems.append(f"{where}: batch must be {expected}; received {stage.batch}")
    elif stage.accumulate > 0:
        share, what = (
            (stage.batch, "examples")
            if stage.kind == "supervised"
            else (stage.batch // 2 // couples, "pairs of every two sources")
        )
        if share % stage.accumulate:
            problems.append(
                f"{where}: accumulate must divide the {share} {what} of a step; received {stage.accumulate}"
            )
