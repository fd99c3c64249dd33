"""What is left of a stage once it is trained: its scores, its predictions, its last words to TensorBoard."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from kerasemo.datasets.sources import Side
from kerasemo.evaluation import scoring
from kerasemo.metrics import classification
from kerasemo.networks import inference
from kerasemo.runs import run_folder
from kerasemo.training.stage_task import Assignment
from kerasemo.training.tensorboard import Board
from pipelines.core import files


def finish(
    work: Assignment,
    history: list[dict[str, float]],
    best_epoch: int,
    *,
    pairs: Mapping[str, np.ndarray] | None,
    board: Board,
) -> None:
    """Score the weights that a stage has kept, as they are loaded again, and write `predictions.csv`, then `metrics.json`.

    Args:
        work: The stage.
        history: The logs of its epochs.
        best_epoch: The one whose weights are kept, from 1.
        pairs: Of a contrastive stage: the pairs of the scored side.
        board: Given the clips' embeddings, and the settings with the results.
    """
    network = run_folder.load_network(work.folder, {"key": work.key})
    predict = inference.predictor(network, heads=run_folder.heads_of(work.key))
    sources, rows, clips = {}, [], []
    for side in work.sides[work.scored]:
        outputs = scoring.forward(predict, side)
        if pairs is not None:
            given = {"drawn": pairs, "sides": work.sides[work.scored]}
            sources[side.source.name] = scoring.score_embeddings(
                predict, work.sides["train"], side, **given
            )
        else:
            sources[side.source.name], predicted = scoring.score_outputs(
                outputs, side, trained=work.emotions
            )
            rows += predicted
        clips += _clips(outputs["embedding"], side)
    scoring.write_predictions(work.folder / "predictions.csv", rows)
    embeddings, names, pictures = zip(*clips, strict=True)
    board.projector(np.stack(embeddings), names, np.stack(pictures))
    kept = history[best_epoch - 1]
    results = {name: value for name, value in kept.items() if name.startswith("val_")}
    results |= {
        f"{work.scored}_ua_{name.replace('/', '_')}": score["ua"] for name, score in sources.items()
    }
    board.hparams(_settings(work), results)
    board.close()
    result = {
        "key": work.key,
        "experiment": work.experiment,
        "stage": work.stage.name,
        "kind": work.stage.kind,
        "protocol": work.key["protocol"],
        "fold": work.key["fold"],
        "trained_on": list(work.stage.sources),
        "trained_emotions": work.emotions,
        "epochs": work.stage.epochs,
        "best_epoch": best_epoch,
        "history": history,
        "split": work.split,
        "scored": work.scored,
        "transductive": work.stage.speaker_normalization,
        "sources": sources,
    }
    files.write_json(work.folder / "metrics.json", result)


def _clips(
    embeddings: np.ndarray, side: Side
) -> list[tuple[np.ndarray, dict[str, str], np.ndarray]]:
    """Return of each clip of a side its mean embedding, its names and a picture, uint8 [64, 64, 3]."""
    clips, clip_of, _ = scoring.side_items(side)
    means = classification.clip_means(embeddings, clip_of)
    corpus, _, domain = side.source.name.partition("/")
    found = []
    for place, clip in enumerate(clips):
        row, first = side.source.rows[clip], np.argmax(clip_of == place)
        names = {
            "emotion": row["emotion"],
            "corpus": corpus,
            "domain": domain,
            "speaker": row["speaker"],
            "clip": row["id"],
        }
        found.append((means[place], names, picture(side.inputs[first : first + 1][0])))
    return found


def picture(item: np.ndarray) -> np.ndarray:
    """Return a face as it is, or a log-Mel segment's static channel as grey levels, low bins at the bottom: uint8 [64, 64, 3]."""
    if item.dtype == np.uint8:
        return item
    static = item[::-1, :, :1]
    span = max(float(np.ptp(static)), 1e-6)
    return np.repeat((255 * (static - static.min()) / span).astype(np.uint8), 3, axis=-1)


def _settings(work: Assignment) -> dict[str, Any]:
    """Return a stage's settings and those of its network as single values."""
    entries = dataclasses.asdict(work.stage) | {
        f"network.{name}": value for name, value in dataclasses.asdict(work.network).items()
    }
    entries |= {f"augment.{name}": value for name, value in entries.pop("augment").items()}
    plain = {
        name: value if isinstance(value, (int, float, str)) else " ".join(map(str, value))
        for name, value in entries.items()
    }
    return plain | {
        "seed": work.key["seed"],
        "fold": work.key["fold"],
        "protocol": work.key["protocol"],
    }
