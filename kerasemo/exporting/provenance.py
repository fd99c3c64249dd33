"""The origin of an exported model: stages, corpora, speakers, scores, training clips."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kerasemo.datasets.catalog import RecordCatalog, corpora_of
from kerasemo.datasets.sources import corpus_of, manifest_hash, set_folder
from kerasemo.runs.lineage import Lineage
from kerasemo.runs.run_folder import KEY_FILE, FinishedStage
from kerasemo.serving import training_clips as training_clips_module
from pipelines.core import files
from pipelines.core.errors import DataError, InputError

SCORE_NAMES = (
    "clips",
    "ua",
    "wa",
    "macro_f1",
    "chance",
    "emotions",
    "confusion",
    "pair_auc",
    "deduplicated",
)
"""The entries of a score that a bundle keeps."""

MAX_NAMED_SPEAKERS = 4
"""The speakers of a split are named if there are at most so many."""


def find_training_records(lineage: Lineage, folder: Path | None) -> RecordCatalog:
    """Return the records that the stages of a lineage were trained on.

    Args:
        lineage: The stages.
        folder: The folder of the records; None: where they were when the stage was trained.

    Raises:
        InputError: The folder does not exist, or is not known.
        DataError: The records differ from the records of the training.
    """
    key_path = lineage.last.folder / KEY_FILE
    recorded = (files.read_json(key_path) or {}).get("records_folder")
    if folder is None:
        if recorded is None:
            raise InputError(
                f"{key_path}: does not say where the records were; name them with --records DIR"
            )
        folder = Path(recorded)
    if not folder.is_dir():
        raise InputError(
            f"{folder}: the records of the training are not in this folder; name them with "
            "--records DIR"
        )
    for stage in lineage.stages:
        for source, digest in stage.key.records.items():
            if manifest_hash(set_folder(folder, source)) != digest:
                raise DataError(
                    f"{folder / source}: not the records that stage {stage.name!r} was trained "
                    "on; name these with --records DIR, or train again"
                )
    return RecordCatalog(folder)


def training_clips(lineage: Lineage, catalog: RecordCatalog) -> dict[str, list[str]]:
    """Return what identifies each clip of the train and validation splits of all stages.

    Returns:
        See `training_clips.training_clips_document` of `kerasemo.serving`.
    """
    splits = lineage.split(catalog)
    rows: list[Mapping[str, Any]] = []
    for source in lineage.trained_on:
        clip_ids = splits.clip_ids[source]
        used = {*clip_ids["train"], *clip_ids["validation"]}
        rows += [row for row in catalog.rows(source) if row["id"] in used]
    return training_clips_module.training_clips_document(rows)


def is_synthetic(lineage: Lineage, catalog: RecordCatalog) -> bool:
    """Return whether a corpus of the training was synthesised by `pipelines.sample`."""
    return any(map(catalog.is_synthetic, lineage.trained_on))


def speakers_by_split(
    lineage: Lineage, catalog: RecordCatalog
) -> dict[str, dict[str, list[str] | int]]:
    """Return the speakers of each split of each source whose speakers are known.

    Returns:
        Source -> split -> the number of speakers. If they are few, of a published corpus, and in no
        other split, their names, such as `emodb:03`.
    """
    splits = lineage.split(catalog)
    by_source: dict[str, dict[str, list[str] | int]] = {}
    for source in lineage.trained_on:
        rows = catalog.rows(source)
        speaker_of = {row["id"]: row["speaker"] for row in rows}
        speakers = {
            split: {speaker_of[clip_id] for clip_id in ids}
            for split, ids in splits.clip_ids[source].items()
        }
        n_splits = Counter(speaker for of_split in speakers.values() for speaker in of_split)
        if "" in n_splits:
            continue
        # A corpus of kind `folder` may have the name of a published one.
        kinds = {row["kind"] for row in rows}
        is_published = kinds == {corpus_of(source)} and "folder" not in kinds
        by_source[source] = {
            split: sorted(of_split)
            if is_published
            and len(of_split) <= MAX_NAMED_SPEAKERS
            and all(n_splits[speaker] == 1 for speaker in of_split)
            else len(of_split)
            for split, of_split in speakers.items()
        }
    return by_source


def training_facts(lineage: Lineage, catalog: RecordCatalog) -> dict[str, Any]:
    """Return what a bundle says about its training, ready for JSON.

    Returns:
        Network, speakers, and each stage with its settings, splits and scores.
    """
    last = lineage.last
    return {
        "experiment": last.experiment,
        "network": last.key.to_json()["network"],
        "stage": last.name,
        "kind": last.config.kind,
        "protocol": last.key.protocol,
        "fold": last.key.fold,
        "seed": last.key.seed,
        "trained_on": lineage.trained_on,
        "speakers": speakers_by_split(lineage, catalog),
        "stages": [_stage_facts(stage) for stage in lineage.stages],
        "digest": last.key.digest,
    }


def _stage_facts(stage: FinishedStage) -> dict[str, Any]:
    result = stage.to_json()
    names = ("stage", "kind", "trained_on", "epochs", "best_epoch", "scored", "split")
    scores = {
        source: {name: score[name] for name in SCORE_NAMES if name in score}
        for source, score in result["sources"].items()
    }
    return {
        **{name: result[name] for name in names},
        "settings": result["key"]["stage"],
        "scores": scores,
    }


def sorted_corpora(sources: Sequence[str]) -> list[str]:
    """Return the corpora of sources, sorted."""
    return sorted(corpora_of(sources))
