"""Mixup: partners and weights of examples, mixed images, and the losses of mixed targets."""

import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers.sources import SIZE, random_source, whole
from helpers.toy_sources import three_sources, two_sources
from kerasemo.config.schema import AugmentConfig, NetworkConfig, StageConfig
from kerasemo.datasets.batches import BatchStream
from kerasemo.datasets.sampling import Draw, Sampler, draw_mixup, item_sampler, pair_sampler
from kerasemo.datasets.sources import Source
from kerasemo.datasets.subsets import class_weights
from kerasemo.networks.network import build_network
from kerasemo.training.augmentation import augmentation
from kerasemo.training.stage_models import STAGE_MODELS
from pipelines.core.spec import Spec

SEED = 2
"""The seed of all draws."""


def unmixed_sampler(sources: Sequence[Source]) -> Sampler:
    """Return a sampler of 12 examples in a step: items of one source, or pairs of several."""
    subsets = [whole(source) for source in sources]
    if len(sources) == 1:
        return item_sampler(subsets[0], batch=12, seed=SEED)
    return pair_sampler(subsets, pairs=6, seed=SEED)


def mixed_sampler(sources: Sequence[Source], *, alpha: float = 0.5) -> Sampler:
    """Return the `unmixed_sampler` with a partner for each example."""
    sample = unmixed_sampler(sources)
    return lambda epoch: draw_mixup(sample(epoch), alpha=alpha, seed=SEED, epoch=epoch)


@pytest.mark.parametrize(
    "sources", [[two_sources()[0]], two_sources(), three_sources()], ids=["one", "two", "three"]
)
def test_partners_permute_the_examples_of_a_source_in_a_step(sources):
    sample, sample_mixed = unmixed_sampler(sources), mixed_sampler(sources)
    for epoch in range(3):
        unmixed, mixed = sample(epoch), sample_mixed(epoch)
        for name in ("mix_item", "mix_seed", "mix_weight"):
            assert mixed[name].shape == unmixed["item"].shape
        for name in unmixed:
            np.testing.assert_array_equal(mixed[name], unmixed[name])
        for step, index in np.ndindex(len(unmixed["item"]), len(sources)):
            is_here = unmixed["source"][step] == index
            examples, partners = (
                [(item, seed) for item, seed in zip(items, seeds, strict=True)]
                for items, seeds in (
                    (mixed["item"][step][is_here], mixed["seed"][step][is_here]),
                    (mixed["mix_item"][step][is_here], mixed["mix_seed"][step][is_here]),
                )
            )
            assert sorted(partners) == sorted(examples)
            assert len(examples) > 1
        assert (mixed["mix_item"] != mixed["item"]).mean() > 0.5


def test_mixup_is_a_function_of_seed_and_epoch_alone():
    draw = unmixed_sampler(two_sources())(0)
    mixed, again = (draw_mixup(draw, alpha=0.5, seed=2, epoch=0) for _ in range(2))
    other_seed = draw_mixup(draw, alpha=0.5, seed=3, epoch=0)
    other_epoch = draw_mixup(draw, alpha=0.5, seed=2, epoch=1)
    for name in ("mix_item", "mix_weight"):
        np.testing.assert_array_equal(again[name], mixed[name])
        assert (other_seed[name] != mixed[name]).mean() > 0.4
        assert (other_epoch[name] != mixed[name]).mean() > 0.4


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_weights_have_a_beta_distribution(alpha):
    """Beta(alpha, alpha) has mean 1/2 and variance 1 / (4 (2 alpha + 1))."""
    draw = {name: np.zeros((200, 50), np.int64) for name in ("item", "source", "seed")}
    weight = draw_mixup(draw, alpha=alpha, seed=0, epoch=0)["mix_weight"]
    assert weight.dtype == np.float32
    assert weight.min() >= 0
    assert weight.max() <= 1
    assert weight.mean() == pytest.approx(0.5, abs=0.02)
    assert weight.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


@pytest.mark.parametrize(
    "strengths",
    [AugmentConfig(), AugmentConfig(flip=0.5, gain_db=6.0)],
    ids=["unchanged", "augmented"],
)
def test_images_are_mixed_after_the_augmentation_of_each(strengths):
    """The partners are augmented with their seeds, as if they were a draw."""
    sources = [random_source("a/audio", ("anger", "fear", "calm") * 8)]
    mixed = mixed_sampler(sources)(0)

    def sample_partners(epoch: int) -> Draw:
        return {"item": mixed["mix_item"], "source": mixed["source"], "seed": mixed["mix_seed"]}

    augment = augmentation(strengths, domains={source.domain for source in sources})
    mixed_batches, unmixed_batches, partner_batches = (
        list(BatchStream(sources, sample, epochs=1, augment=augment))
        for sample in (mixed_sampler(sources), unmixed_sampler(sources), sample_partners)
    )
    assert len(mixed_batches) == len(mixed["item"])
    for step, (batch, unmixed, partners) in enumerate(
        zip(mixed_batches, unmixed_batches, partner_batches, strict=True)
    ):
        weight = mixed["mix_weight"][step][:, None, None, None]
        expected = (1 - weight) * unmixed["image"] + weight * partners["image"]
        np.testing.assert_allclose(batch["image"], expected, atol=1e-4)
        np.testing.assert_array_equal(batch["label"], unmixed["label"])
        np.testing.assert_array_equal(batch["mix_label"], partners["label"])
        np.testing.assert_array_equal(batch["mix_weight"], mixed["mix_weight"][step])


def test_mixed_faces_are_floats_between_the_grey_levels():
    sources = [random_source("a/visual", ("anger", "fear") * 8)]
    batch = next(iter(BatchStream(sources, mixed_sampler(sources), epochs=1)))
    assert batch["image"].dtype == tf.float32
    images = batch["image"].numpy()
    assert images.min() >= 0
    assert images.max() <= 255
    assert (images % 1 > 0).any()


# Losses.

EMOTIONS_BY_SOURCE = {
    "a/visual": ("anger", "fear", "fear", "sadness") * 8,
    "b/audio": ("anger", "fear", "sadness", "sadness", "calm") * 6,
    "c/visual": ("fear", "sadness", "surprise") * 4,
}
LABEL_SMOOTHING, MARGIN, CONTRASTIVE_WEIGHT = 0.1, 1.2, 0.7


def cross_entropy(
    source: Source, examples: dict[str, np.ndarray], logits: np.ndarray, *, is_weighted: bool
) -> float:
    """Return the mean cross-entropy of the examples of one source, computed with NumPy.

    Args:
        source: Its emotions are the classes; their numbers of items give the weights.
        examples: `label`, `mix_label` and `mix_weight` [examples].
        logits: [examples, 10].
        is_weighted: Whether a class weighs items / (classes * items of the class).
    """
    labels = source.labels[source.clip_of]
    classes = np.unique(labels)
    losses = []
    for label, mix_label, mix_weight, values in zip(
        examples["label"], examples["mix_label"], examples["mix_weight"], logits, strict=True
    ):
        log_probabilities = values[classes] - np.log(np.exp(values[classes]).sum())
        loss = 0.0
        for part, part_label in ((1 - mix_weight, label), (mix_weight, mix_label)):
            is_class = classes == part_label
            target = (1 - LABEL_SMOOTHING) * is_class + LABEL_SMOOTHING / len(classes)
            n_of_class = (labels == part_label).sum()
            weight = len(labels) / len(classes) / n_of_class if is_weighted else 1
            loss -= part * weight * (target * log_probabilities).sum()
        losses.append(loss)
    return float(np.mean(losses))


def contrastive_loss(examples: dict[str, np.ndarray], embeddings: np.ndarray) -> float:
    """Return the mean contrastive loss of pairs of mixed examples, computed with NumPy.

    The target of a pair is the probability that a part of one example and a part of the other
    have the same label.

    Args:
        examples: `label`, `mix_label`, `mix_weight` [2 * pairs]; adjacent examples are a pair.
        embeddings: [2 * pairs, n].
    """
    parts = [
        ((1 - weight, label), (weight, mix_label))
        for weight, label, mix_label in zip(
            examples["mix_weight"], examples["label"], examples["mix_label"], strict=True
        )
    ]
    losses = []
    for first in range(0, len(parts), 2):
        distance = np.linalg.norm(embeddings[first] - embeddings[first + 1])
        equality = sum(
            weight * other_weight
            for weight, label in parts[first]
            for other_weight, other_label in parts[first + 1]
            if label == other_label
        )
        near_loss, far_loss = distance**2, max(0, MARGIN - distance) ** 2
        losses.append(equality * near_loss + (1 - equality) * far_loss)
    return float(np.mean(losses))


@functools.cache
def loss_terms(
    kind: str, n_sources: int, *, is_mixed: bool, is_weighted: bool
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the loss terms of a batch from a model, and from NumPy for its outputs."""
    sources = [
        random_source(name, emotions, items=(2, 1, 3), seed=index)
        for index, (name, emotions) in enumerate(list(EMOTIONS_BY_SOURCE.items())[:n_sources])
    ]
    keras.utils.set_random_seed(5)
    network = build_network(
        NetworkConfig(widths=(8,), convolutions=1, groups=4, embedding=8, dropout=0.0),
        spec=Spec(face_size=SIZE),
    )
    config = StageConfig(
        "stage",
        kind,
        tuple(source.name for source in sources),
        label_smoothing=LABEL_SMOOTHING,
        margin=MARGIN,
        contrastive_weight=CONTRASTIVE_WEIGHT,
    )
    weights = class_weights([whole(source) for source in sources]) if is_weighted else None
    model = STAGE_MODELS[kind](*network, config, class_weights=weights)
    sampler = mixed_sampler(sources, alpha=1.0) if is_mixed else unmixed_sampler(sources)
    batch = next(iter(BatchStream(sources, sampler, epochs=1)))
    measured = {name: float(value) for name, value in model.measure(batch).items()}

    n_batch_axes = 2 if kind == "joint" else 1
    examples: dict[str, Any] = {
        name: value.numpy().reshape(-1, *value.shape[n_batch_axes:])
        for name, value in batch.items()
    }
    outputs = model({name: examples[name] for name in ("image", "domain", "seed")}, training=False)
    logits, embeddings = (
        outputs[name].numpy().astype(np.float64) for name in ("logits", "embedding")
    )
    examples.setdefault("mix_label", examples["label"])
    examples.setdefault("mix_weight", np.zeros(len(logits)))
    expected = {}
    for index, source in enumerate(sources):
        is_here = examples["source"] == index
        names = ("label", "mix_label", "mix_weight")
        expected[f"cross_entropy_{source.name.replace('/', '_')}"] = cross_entropy(
            source,
            {name: examples[name][is_here] for name in names},
            logits[is_here],
            is_weighted=is_weighted,
        )
    loss = sum(expected.values())
    if kind == "joint":
        expected["contrastive"] = contrastive_loss(examples, embeddings)
        loss += CONTRASTIVE_WEIGHT * expected["contrastive"]
    return measured, {"loss": loss, **expected}


@pytest.mark.parametrize(("kind", "n_sources"), [("supervised", 1), ("joint", 2), ("joint", 3)])
@pytest.mark.parametrize(
    ("is_mixed", "is_weighted"),
    [(True, False), (False, True), (True, True)],
    ids=["mixed", "weighted", "mixed and weighted"],
)
def test_loss_terms_of_mixed_and_weighted_examples_equal_numpy(
    kind, n_sources, is_mixed, is_weighted
):
    measured, expected = loss_terms(kind, n_sources, is_mixed=is_mixed, is_weighted=is_weighted)
    assert measured == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("kind", "n_sources"), [("supervised", 1), ("joint", 2), ("joint", 3)])
@pytest.mark.parametrize(
    ("is_mixed", "is_weighted"),
    [(True, False), (False, True), (True, True)],
    ids=["mixed", "weighted", "mixed and weighted"],
)
def test_mixing_and_class_weights_change_the_loss_terms(kind, n_sources, is_mixed, is_weighted):
    """Class weights do not change the contrastive loss."""
    plain, _ = loss_terms(kind, n_sources, is_mixed=False, is_weighted=False)
    measured, _ = loss_terms(kind, n_sources, is_mixed=is_mixed, is_weighted=is_weighted)
    assert measured.keys() == plain.keys()
    for name, value in plain.items():
        is_changed = is_mixed or name != "contrastive"
        assert (abs(measured[name] - value) > 1e-4) == is_changed
