"""The state of a network before its first step: the parent's weights, input statistics."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from kerasemo.datasets.lazy_arrays import GatheredItems
from kerasemo.datasets.sources import Subset
from kerasemo.evaluation import scoring
from kerasemo.networks.inference import normalization_layer, trained_domains
from kerasemo.networks.network import head_weights
from kerasemo.runs import checkpoints, run_folder
from pipelines.core.domains import DOMAINS
from pipelines.core.errors import DataError
from pipelines.core.labels import EMOTIONS


def assign_parent_weights(model: keras.Model, parent_folder: Path) -> None:
    """Give a network the weights of a finished stage.

    An emotion that no stage of the chain was trained on keeps its fresh row of the head. If the
    parent has a head for each source, the new row of an emotion is the mean over the heads that
    were trained on it.

    Raises:
        DataError: The parent is not finished, or its weights are damaged or of another network.
    """
    parent = run_folder.read_finished_stage(parent_folder)
    if parent is None:
        raise DataError(
            f"{parent_folder}: the stage to start from is not finished; train this stage first"
        )
    path = parent_folder / run_folder.WEIGHTS_FILE
    arrays, _ = checkpoints.load_arrays(path)
    is_trained = scoring.emotion_mask(parent.trained_emotions)
    emotions_of_heads = [parent.key.emotions[source] for source in parent.key.heads] or [
        parent.trained_emotions
    ]
    head_masks = np.stack(
        [scoring.emotion_mask(emotions) for emotions in emotions_of_heads]
    ).astype(np.float32)  # [heads, emotions]
    # An emotion of an earlier stage alone: no head was moved by it, so all are equally good.
    head_masks[:, ~head_masks.any(axis=0)] = 1
    shares = head_masks / np.maximum(head_masks.sum(axis=0), 1)
    for variable in head_weights(model):
        fresh = keras.ops.convert_to_numpy(variable)
        of_heads = arrays[variable.path].reshape(*fresh.shape[:-1], -1, len(EMOTIONS))
        mean_of_heads = (of_heads * shares).sum(axis=-2)
        n_heads = fresh.shape[-1] // len(EMOTIONS)
        arrays[variable.path] = np.where(
            np.tile(is_trained, n_heads), np.tile(mean_of_heads, n_heads), fresh
        )
    checkpoints.assign_variables(model.weights, arrays, path=path)


def fit_normalization(model: keras.Model, subsets: Sequence[Subset]) -> None:
    """Set the input statistics of each domain that is new to the network.

    Args:
        model: The network.
        subsets: The training items of each source.
    """
    for domain in sorted({subset.source.domain for subset in subsets}):
        if not trained_domains(model)[domain]:
            of_domain = [subset for subset in subsets if subset.source.domain == domain]
            inputs = GatheredItems(
                [subset.source.inputs for subset in of_domain],
                [subset.items for subset in of_domain],
            )
            normalization_layer(model).fit(DOMAINS[domain], inputs)
