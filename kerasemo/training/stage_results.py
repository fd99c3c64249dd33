"""The results of a trained stage: scores, predictions and its last TensorBoard events."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kerasemo.datasets.sampling import Draw
from kerasemo.datasets.sources import Subset
from kerasemo.evaluation import scoring
from kerasemo.metrics import classification
from kerasemo.networks.inference import NetworkOutputs, NetworkPredictor
from kerasemo.runs import run_folder
from kerasemo.runs.run_folder import FinishedStage
from kerasemo.training.stage_task import StageTask
from kerasemo.training.tensorboard import TensorBoardWriter
from pipelines.core import files


@dataclasses.dataclass(frozen=True, eq=False)
class StageResult:
    """A finished stage, and what its network computed for the clips that were scored."""

    stage: FinishedStage
    outputs: Mapping[str, NetworkOutputs] = dataclasses.field(default_factory=dict)
    """Source -> the outputs for the clips of `stage.scored_split`; empty if the stage was
    reused."""


def score_stage(
    task: StageTask,
    history: Sequence[Mapping[str, float]],
    best_epoch: int,
    *,
    pairs: Draw | None,
    tensorboard: TensorBoardWriter,
) -> StageResult:
    """Score the kept weights of a stage, and write `predictions.csv`, then `metrics.json`.

    The weights are read from the file, so that the scores are those of the file.

    Args:
        task: The stage.
        history: The losses and scores of its epochs.
        best_epoch: The epoch whose weights are kept, from 1.
        pairs: Pairs of the scored clips for a contrastive stage; None for other stages.
        tensorboard: Gets embeddings, settings and scores; it is closed.

    Raises:
        StorageError: A file cannot be written.
    """
    stage = FinishedStage(
        task.folder,
        task.key,
        experiment=task.experiment,
        trained_emotions=task.trained_emotions,
        best_epoch=best_epoch,
        history=history,
        split_facts=task.data.split_facts,
        scored_split=task.scored_split,
        scores={},
    )
    predict = stage.load_network().predictor()
    subsets = task.data.subsets[task.scored_split]
    outputs = {subset.source.name: scoring.predict_subset(predict, subset) for subset in subsets}
    scores: dict[str, Mapping[str, Any]] = {}
    rows: list[dict[str, str]] = []
    if pairs is not None:
        scores = _score_contrastive(task, predict, subsets, outputs, pairs)
    else:
        for subset in subsets:
            name = subset.source.name
            scores[name], rows_of_source = scoring.score_outputs(
                outputs[name], subset, trained_emotions=task.trained_emotions
            )
            rows += rows_of_source
    stage = dataclasses.replace(stage, scores=scores)
    with files.storage_errors(task.folder):
        scoring.write_predictions(task.folder / "predictions.csv", rows)
        _write_to_tensorboard(task, stage, subsets, outputs, tensorboard)
        files.write_json(task.folder / run_folder.RESULT_FILE, stage.to_json())
    return StageResult(stage, outputs)


def _score_contrastive(
    task: StageTask,
    predict: NetworkPredictor,
    subsets: Sequence[Subset],
    outputs: Mapping[str, NetworkOutputs],
    pairs: Draw,
) -> dict[str, Mapping[str, Any]]:
    """Return the scores of a contrastive stage, whose predictions are the nearest class means."""
    embeddings = [outputs[subset.source.name].embedding for subset in subsets]
    pair_auc = scoring.pair_area_under_curve(pairs, subsets, embeddings)
    train = task.data.subsets["train"]
    train_embeddings = np.concatenate(
        [scoring.predict_subset(predict, subset).embedding for subset in train]
    )
    train_labels = np.concatenate([subset.labels for subset in train])
    return {
        subset.source.name: scoring.score_embeddings(
            outputs[subset.source.name],
            subset,
            means=scoring.class_means(train_embeddings, train_labels, subset.source.emotions),
            pair_auc=pair_auc,
        )
        for subset in subsets
    }


def _write_to_tensorboard(
    task: StageTask,
    stage: FinishedStage,
    subsets: Sequence[Subset],
    outputs: Mapping[str, NetworkOutputs],
    tensorboard: TensorBoardWriter,
) -> None:
    clips = [
        clip
        for subset in subsets
        for clip in _projected_clips(outputs[subset.source.name].embedding, subset)
    ]
    embeddings, texts, pictures = zip(*clips, strict=True)
    tensorboard.write_projector(np.stack(embeddings), texts, np.stack(pictures))
    best_logs = stage.history[stage.best_epoch - 1]
    results = {name: value for name, value in best_logs.items() if name.startswith("val_")}
    results |= {
        f"{stage.scored_split}_ua_{name.replace('/', '_')}": score["ua"]
        for name, score in stage.scores.items()
    }
    tensorboard.write_hparams(_flat_settings(task), results)
    tensorboard.close()


def _projected_clips(
    embeddings: np.ndarray, subset: Subset
) -> list[tuple[np.ndarray, dict[str, str], np.ndarray]]:
    """Return for each clip its mean embedding, its texts, and a picture, uint8 [64, 64, 3]."""
    items = scoring.clip_items(subset)
    means = classification.clip_means(embeddings, items.clip_of)
    corpus, _, domain = subset.source.name.partition("/")
    clips = []
    for place, clip in enumerate(items.clips):
        row = subset.source.rows[clip]
        texts = {
            "emotion": row["emotion"],
            "corpus": corpus,
            "domain": domain,
            "speaker": row["speaker"],
            "clip": row["id"],
        }
        first_item = int(np.argmax(items.clip_of == place))
        picture = item_picture(subset.inputs[first_item : first_item + 1][0])
        clips.append((means[place], texts, picture))
    return clips


def item_picture(item: np.ndarray) -> np.ndarray:
    """Return a face, or the static channel of a segment as grey levels with low bins below.

    Args:
        item: uint8 or float32 [64, 64, 3].

    Returns:
        uint8 [64, 64, 3].
    """
    if item.dtype == np.uint8:
        return item
    static = item[::-1, :, :1]
    span = max(float(np.ptp(static)), 1e-6)
    return np.repeat((255 * (static - static.min()) / span).astype(np.uint8), 3, axis=-1)


def _flat_settings(task: StageTask) -> dict[str, float | str | bool]:
    """Return the settings of a stage and its network as single values."""
    settings = dataclasses.asdict(task.config)
    augment = settings.pop("augment")
    settings |= {
        f"network.{name}": value for name, value in dataclasses.asdict(task.key.network).items()
    }
    settings |= {f"augment.{name}": value for name, value in augment.items()}
    flat = {
        name: value if isinstance(value, (int, float, str)) else " ".join(map(str, value))
        for name, value in settings.items()
    }
    key = task.key
    return flat | {"seed": key.seed, "fold": key.fold, "protocol": key.protocol}
