"""What the training of one stage needs: its key, its data and where it computes."""

import dataclasses
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from kerasemo.config.schema import StageConfig
from kerasemo.datasets import waveform_variants
from kerasemo.datasets.catalog import RecordCatalog
from kerasemo.datasets.leakage_gate import GatedSplits
from kerasemo.datasets.segmentation import Segmentation, normalization
from kerasemo.datasets.sources import Subset
from kerasemo.datasets.splits import SPLITS
from kerasemo.datasets.subsets import labelled_subset
from kerasemo.runs.run_folder import StageKey
from kerasemo.training.devices import ComputeSettings
from pipelines.core.errors import InputError, raise_all
from pipelines.core.labels import EMOTIONS, in_order
from pipelines.core.logs import ContextLogger

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class StageData:
    """The clips of a stage."""

    subsets: Mapping[str, Sequence[Subset]]
    """Split -> the items of each source."""
    split_facts: Mapping[str, Any]
    """Source -> how it was split, and how many training clips are not used; see
    `GatedSplits.facts`."""


@dataclasses.dataclass(frozen=True, eq=False)
class StageTask:
    """All that the training of one stage needs."""

    key: StageKey
    """All that the result depends on."""
    folder: Path
    """`RUN/STAGE`."""
    data: StageData
    trained_emotions: Sequence[str]
    """The emotions that the network is trained on in the whole chain."""
    parent: Path | None
    """The folder of the stage to start from."""
    draw_seed: int
    """The seed of the network's fresh weights and of every random change; see `chain.draw_seed`."""
    strategy: tf.distribute.Strategy | None
    """The devices; None for one device."""
    compute: ComputeSettings
    records_folder: Path
    """The folder of the records; `stage.json` names it."""
    experiment: str = ""
    """The name of the experiment."""
    scored_split: str = "test"
    """The split whose clips are scored at the end: `test` or `validation`."""
    checkpoint_seconds: float = 10.0
    """Within an epoch, the state is saved after so many seconds."""
    profiled_steps: tuple[int, int] | None = None
    """The first and the last step to profile, from 1."""

    @property
    def config(self) -> StageConfig:
        """The settings of the stage."""
        return self.key.stage

    @property
    def name(self) -> str:
        """The name of the stage."""
        return self.key.stage.name


def load_stage_data(
    key: StageKey,
    catalog: RecordCatalog,
    splits: GatedSplits,
    *,
    trained_emotions: Sequence[str],
    draw_seed: int,
) -> StageData:
    """Return the clips of a stage, cut, labelled and varied as its settings say.

    Args:
        key: The key of the stage.
        catalog: The records.
        splits: The splits of the records.
        trained_emotions: The emotions that the network is trained on in the whole chain.
        draw_seed: The seed of random changes of waveforms.

    Raises:
        InputError: The clips of a split do not suffice; the message lists every problem.
        DataError: A set is damaged, or lacks what the settings need.
    """
    config = key.stage
    for_scores = Segmentation.for_scores(config)
    segmentation = {split: for_scores for split in SPLITS}
    segmentation["train"] = Segmentation.for_training(config)
    subsets = {
        split: [
            catalog.subset(splits, source, split, segmentation[split]) for source in config.sources
        ]
        for split in SPLITS
    }
    check_subsets(subsets, trained_emotions, where=f"with protocol {key.protocol}, fold {key.fold}")
    split_facts = {source: splits.facts(source) for source in config.sources}
    if config.labelled:
        labelled = [
            labelled_subset(subset, config, seed=key.seed, fold=key.fold)
            for subset in subsets["train"]
        ]
        for before, after in zip(subsets["train"], labelled, strict=True):
            _log_labelled(config, before, after)
            n_labelled = len(after.clips)
            split_facts[before.source.name] |= {
                "train": n_labelled,
                "train_not_labelled": len(before.clips) - n_labelled,
            }
        subsets["train"] = labelled
    if waveform_variants.changes_waveform(config.augment):
        subsets["train"] = [
            _with_variants(subset, catalog, config, seed=draw_seed) for subset in subsets["train"]
        ]
    return StageData(subsets, split_facts)


def check_subsets(
    subsets: Mapping[str, Sequence[Subset]], trained_emotions: Sequence[str], *, where: str
) -> None:
    """Check that the clips of every split suffice for a stage.

    Args:
        subsets: Split -> the items of each source.
        trained_emotions: The emotions that the network is trained on in the whole chain.
        where: Protocol and fold, for the message.

    Raises:
        InputError: They do not; the message lists every problem.
    """
    problems = []
    for split, of_sources in subsets.items():
        for subset in of_sources:
            name, emotions = subset.source.name, subset.emotions
            if not emotions:
                problems.append(
                    f"{name}: no clip in the {split} split {where}; build more of the corpus"
                )
            elif not emotions & set(trained_emotions):
                problems.append(
                    f"{name}: {', '.join(sorted(emotions))} in the {split} split, trained on "
                    f"{', '.join(trained_emotions)}, so nothing can be scored; take another fold "
                    "or build more of the corpus"
                )
    for subset in subsets["train"]:
        missing = in_order({row["emotion"] for row in subset.source.rows} - subset.emotions)
        if subset.emotions and missing:
            problems.append(
                f"{subset.source.name}: no clip of {', '.join(missing)} in the train split "
                f"{where}, though the corpus has some; take another fold or build more of the "
                "corpus"
            )
    raise_all(problems, InputError)


def _log_labelled(config: StageConfig, before: Subset, after: Subset) -> None:
    source = before.source
    counts = Counter(source.rows[clip]["emotion"] for clip in before.clips)
    fewer = [
        f"{counts[emotion]} of {emotion}"
        for emotion in EMOTIONS
        if 0 < counts[emotion] < config.labelled
    ]
    ContextLogger(logger, config.name).info(
        "%s: trained on %d of %d clips, %d of each emotion%s",
        source.name,
        len(after.clips),
        len(before.clips),
        config.labelled,
        f"; there are only {', '.join(fewer)}" if fewer else "",
    )


def _with_variants(
    subset: Subset, catalog: RecordCatalog, config: StageConfig, *, seed: int
) -> Subset:
    """Return the training clips of an audio source with their changed versions."""
    segmentation = Segmentation.for_training(config)
    name = subset.source.name
    if not name.endswith("/audio"):
        return subset
    audio = catalog.utterances(name)
    return waveform_variants.with_variants(
        subset,
        audio,
        config.augment,
        seed=seed,
        normalize=normalization(audio, segmentation),
        spec=segmentation.spec,
    )
