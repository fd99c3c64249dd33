"""What the network of a stage is given before its first step: the weights of the stage before, the statistics of its inputs."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from kerasemo.datasets import lazy_arrays, sources
from kerasemo.evaluation import scoring
from kerasemo.networks.network import head_weights
from kerasemo.runs import checkpoints, run_folder
from pipelines.core.domains import DOMAINS
from pipelines.core.labels import EMOTIONS


def start_from(model: keras.Model, parent: Path) -> None:
    """Give a network the weights of a finished stage; an emotion that is new to the chain keeps its fresh row of the head."""
    tensors, _ = checkpoints.load(parent / "weights.safetensors")
    before = run_folder.finished(parent)
    known = scoring.emotion_mask(before["trained_emotions"])
    heads = [
        before["key"]["emotions"][source] for source in run_folder.heads_of(before["key"])
    ] or [before["trained_emotions"]]
    trained = np.stack([scoring.emotion_mask(emotions) for emotions in heads]).astype(
        np.float32
    )  # [heads, 10]
    trained[:, ~trained.any(axis=0)] = (
        1  # an emotion of an earlier stage alone: no head has moved it
    )
    shares = trained / np.maximum(trained.sum(axis=0), 1)
    for variable in head_weights(model):
        fresh = keras.ops.convert_to_numpy(variable)
        held = tensors[variable.path].reshape(*fresh.shape[:-1], -1, len(EMOTIONS))
        one = (held * shares).sum(
            axis=-2
        )  # of several heads the mean of those that have been trained on the emotion
        count = fresh.shape[-1] // len(EMOTIONS)
        tensors[variable.path] = np.where(np.tile(known, count), np.tile(one, count), fresh)
    checkpoints.assign(model.weights, tensors, where=parent)


def fit_normalization(model: keras.Model, train: Sequence[sources.Side]) -> None:
    """Set the input statistics of each domain that the chain sees for the first time, from the training clips."""
    layer = model.get_layer("normalization")
    for domain in sorted({side.source.domain for side in train}):
        if not run_folder.seen_domains(model)[domain]:
            sides = [side for side in train if side.source.domain == domain]
            layer.fit(DOMAINS[domain], lazy_arrays.Gathered(sides))
