"""The losses of the validation side equal those of the model's own steps, and its scores those of `kerasemo.evaluation.scoring`."""

import keras
import numpy as np
import pytest

from helpers.sources import SIZE, random_source, whole
from kerasemo.config.schema import NetworkConfig, StageConfig
from kerasemo.datasets import batches, sampling
from kerasemo.datasets.sources import Subset
from kerasemo.evaluation import scoring
from kerasemo.networks.inference import TrainedNetwork
from kerasemo.networks.network import build_network
from kerasemo.training.stage_models import STAGE_MODELS
from kerasemo.training.validation import Validation
from pipelines.core.spec import Spec

EMOTIONS = ["anger", "fear", "sadness"]
SETTINGS = {"label_smoothing": 0.1, "margin": 0.7, "contrastive_weight": 2.0}


@pytest.fixture(scope="module")
def sources():
    return [
        random_source("a/visual", EMOTIONS * 4, items=(2,), seed=1),
        random_source("b/audio", EMOTIONS * 4, items=(2,), seed=2),
    ]


def validated(kind: str, sources, drawn_seed: int = 3):
    """Return what a model measures over all of the validation side by itself, and what Validation says of it."""
    keras.utils.set_random_seed(4)
    names = tuple(source.name for source in sources)
    network = build_network(
        NetworkConfig(widths=(8,), convolutions=1, groups=4, embedding=8), spec=Spec(face_size=SIZE)
    )
    config = StageConfig("s", kind, names, **SETTINGS)
    model = STAGE_MODELS[kind](*network, config)
    sides = [whole(source) for source in sources]
    if kind == "supervised":
        plan, drawn = (
            sampling.item_sampler(sides[0], batch=len(sides[0].items), seed=drawn_seed),
            None,
        )
    else:
        plan = sampling.pair_sampler(
            sides, pairs=len(sides[0].items), seed=drawn_seed
        )  # every item of both sides once, in one step
        drawn = plan(0)
    (batch,) = batches.BatchStream(sources, plan, epochs=1)
    measured = {f"val_{name}": float(value) for name, value in model.measure(batch).items()}
    return (
        measured,
        Validation(config, sides, pairs=drawn, trained_emotions=EMOTIONS),
        TrainedNetwork(model).predictor(),
        sides,
    )


@pytest.mark.parametrize(("kind", "count"), [("supervised", 1), ("contrastive", 2), ("joint", 2)])
def test_losses_equal_the_losses_of_the_model(sources, kind, count):
    measured, validation, predict, _ = validated(kind, sources[:count])
    logs, _ = validation.scores(predict)
    assert measured.keys() <= logs.keys()
    partners = {"val_loss", "val_cross_entropy_b_audio"} if kind == "joint" else set()
    for name in measured.keys() - partners:  # a pair's second items need not be each item once
        assert logs[name] == pytest.approx(measured[name], rel=1e-5), name
    terms = sum(
        logs[name] * (2 if kind == "joint" and "contrastive" in name else 1)
        for name in measured.keys() - {"val_loss"}
    )
    assert logs["val_loss"] == pytest.approx(terms, rel=1e-5)
    assert logs[validation.watched] == logs["val_pair_auc" if kind == "contrastive" else "val_ua"]


def test_scores_are_those_of_each_source_by_clip(sources):
    _, validation, predict, sides = validated("joint", sources)
    logs, by_source = validation.scores(predict)
    for side in sides:
        outputs = scoring.predict_subset(predict, side)
        expected, _ = scoring.score_outputs(outputs, side, trained_emotions=EMOTIONS)
        assert by_source[side.source.name] == expected
        assert logs[f"val_ua_{side.source.name.replace('/', '_')}"] == expected["ua"]
    assert logs["val_ua"] == np.mean([score["ua"] for score in by_source.values()])


def test_last_smaller_batch_counts(sources):
    """23 of 24 items: no batch of any size but one and 23 divides them."""
    _, validation, predict, sides = validated("supervised", sources[:1])
    less = Subset(sides[0].source, sides[0].items[:-1])
    all_but_one, _ = Validation(
        validation._config, [less], pairs=None, trained_emotions=EMOTIONS
    ).scores(predict)
    whole_side, _ = validation.scores(predict)
    last, _ = Validation(
        validation._config,
        [Subset(less.source, less.source.items_of([11])[-1:])],
        pairs=None,
        trained_emotions=EMOTIONS,
    ).scores(predict)
    assert 24 * whole_side["val_loss"] == pytest.approx(
        23 * all_but_one["val_loss"] + last["val_loss"], rel=1e-5
    )


def test_pairs_of_one_kind_have_no_area_under_the_curve(sources):
    _, validation, predict, sides = validated("joint", sources)
    labels = [side.labels for side in sides]
    item = np.array(
        [[[first, int(np.flatnonzero(labels[1] == labels[0][first])[0])] for first in range(4)]]
    )
    drawn = {"item": item, "source": np.broadcast_to([0, 1], item.shape)}
    logs, _ = Validation(validation._config, sides, pairs=drawn, trained_emotions=EMOTIONS).scores(
        predict
    )
    assert "val_pair_auc" not in logs and logs["val_contrastive"] > 0
