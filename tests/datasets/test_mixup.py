"""Examples that are mixed: which ones, their images, and the losses of their targets."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers.sources import SIZE, random_source, whole
from helpers.toy_sources import three_sources, two_sources
from kerasemo.config import schema
from kerasemo.config.schema import NetworkConfig, StageConfig
from kerasemo.datasets import batches, sampling, subsets
from kerasemo.networks.network import build_network
from kerasemo.training import stage_models
from kerasemo.training.augmentation import augmentation
from pipelines.core.labels import EMOTIONS
from pipelines.core.spec import Spec


def mixed_sampler(sources, *, alpha=0.5, size=12, seed=2):
    sides = [whole(source) for source in sources]
    one = len(sources) == 1
    plan = (
        sampling.item_sampler(sides[0], batch=size, seed=seed)
        if one
        else sampling.pair_sampler(sides, pairs=size // 2, seed=seed)
    )
    return plan, lambda epoch: sampling.draw_mixup(plan(epoch), alpha=alpha, seed=seed, epoch=epoch)


@pytest.mark.parametrize(
    "sources", [[two_sources()[0]], two_sources(), three_sources()], ids=["one", "two", "three"]
)
def test_partners_are_a_permutation_of_the_examples_of_a_source_in_a_step(sources):
    plan, mixed = mixed_sampler(sources)
    for epoch in range(3):
        plain, drawn = plan(epoch), mixed(epoch)
        assert (
            drawn["mix_item"].shape
            == drawn["mix_seed"].shape
            == drawn["mix_weight"].shape
            == plain["item"].shape
        )
        for name in plain:
            np.testing.assert_array_equal(drawn[name], plain[name])
        for step in range(len(plain["item"])):
            for index in range(len(sources)):
                here = plain["source"][step] == index
                own, other = (
                    list(
                        zip(
                            drawn[f"{kind}item"][step][here],
                            drawn[f"{kind}seed"][step][here],
                            strict=True,
                        )
                    )
                    for kind in ("", "mix_")
                )
                assert sorted(own) == sorted(other) and len(own) > 1
    assert (drawn["mix_item"] != drawn["item"]).mean() > 0.5


def test_mixing_is_a_function_of_seed_and_epoch_alone():
    plan, _ = mixed_sampler(two_sources())

    def mixed(**given):
        return sampling.draw_mixup(plan(0), alpha=0.5, **{"seed": 2, "epoch": 0} | given)

    for name in ("mix_item", "mix_weight"):
        np.testing.assert_array_equal(mixed()[name], mixed()[name])
        for other in (mixed(seed=3), mixed(epoch=1)):
            assert (mixed()[name] != other[name]).mean() > 0.4


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_are_of_the_beta_distribution(alpha):
    """Of mean 1/2 and variance 1 / (4 (2 alpha + 1))."""
    drawn = {name: np.zeros((200, 50), np.int64) for name in ("item", "source", "seed")}
    weight = sampling.draw_mixup(drawn, alpha=alpha, seed=0, epoch=0)["mix_weight"]
    assert weight.dtype == np.float32 and weight.min() >= 0 and weight.max() <= 1
    assert weight.mean() == pytest.approx(0.5, abs=0.02) and weight.var() == pytest.approx(
        1 / (4 * (2 * alpha + 1)), rel=0.05
    )


def test_what_is_drawn_for_mixing_and_versions_is_of_streams_of_its_own():
    streams = [
        sampling._random(1, 2, *stream).random(4).tolist()
        for stream in ((), (0,), (1,), (0, 0, 0), (1, 0, 0), (2, 0, 0))
    ]
    assert len({tuple(stream) for stream in streams}) == len(streams)


@pytest.mark.parametrize(
    "changes",
    [schema.AugmentConfig(), schema.AugmentConfig(flip=0.5, gain_db=6.0)],
    ids=["plain", "changed"],
)
def test_images_are_mixed_after_each_has_been_changed_by_its_own_seed(changes):
    sources = [random_source("a/audio", ("anger", "fear", "calm") * 8, items=(2,))]
    _, mixed = mixed_sampler(sources)
    drawn = mixed(0)
    augment = augmentation(changes, domains={source.domain for source in sources})

    def other(epoch):  # the partners as a draw of their own
        return {"item": drawn["mix_item"], "source": drawn["source"], "seed": drawn["mix_seed"]}

    found, one, two = (
        list(batches.BatchStream(sources, plan, epochs=1, augment=augment))
        for plan in (mixed, lambda epoch: drawn, other)
    )
    plain = list(batches.BatchStream(sources, mixed_sampler(sources)[0], epochs=1, augment=augment))
    for step, (batch, own, partner) in enumerate(zip(found, plain, two, strict=True)):
        share = drawn["mix_weight"][step][:, None, None, None]
        np.testing.assert_allclose(
            batch["image"], (1 - share) * own["image"] + share * partner["image"], atol=1e-4
        )
        np.testing.assert_array_equal(batch["label"], own["label"])
        np.testing.assert_array_equal(batch["mix_label"], partner["label"])
        np.testing.assert_array_equal(batch["mix_weight"], drawn["mix_weight"][step])
    assert len(one) == len(found)


def test_faces_are_mixed_in_numbers_between_the_grey_levels():
    _, mixed = mixed_sampler([random_source("a/visual", ("anger", "fear") * 8, items=(2,))])
    source = random_source("a/visual", ("anger", "fear") * 8, items=(2,))
    batch = next(iter(batches.BatchStream([source], mixed, epochs=1)))
    assert batch["image"].dtype == tf.float32
    assert (
        batch["image"].numpy().min() >= 0
        and batch["image"].numpy().max() <= 255
        and (batch["image"].numpy() % 1 > 0).any()
    )


# Losses.

CORPORA = (
    ("anger", "fear", "fear", "sadness"),
    ("anger", "fear", "sadness", "sadness", "calm"),
    ("fear", "sadness", "surprise"),
)
NAMES = ("a/visual", "b/audio", "c/visual")


@functools.cache
def measured(kind, count, *, mixing=True, balanced=True, smoothing=0.1, weight=0.7, margin=1.2):
    """Return the terms that a model measures of a batch, and those that NumPy computes of its outputs, example by example."""
    sources = [
        random_source(NAMES[i], CORPORA[i] * (8 - 2 * i), items=(2, 1, 3), seed=i)
        for i in range(count)
    ]
    sides = [whole(source) for source in sources]
    keras.utils.set_random_seed(5)
    network = build_network(
        NetworkConfig(widths=(8,), convolutions=1, groups=4, embedding=8, dropout=0.0),
        spec=Spec(face_size=SIZE),
    )
    weights = subsets.class_weights(sides)
    settings = {"label_smoothing": smoothing, "margin": margin, "contrastive_weight": weight}
    model = stage_models.STAGE_MODELS[kind](
        *network,
        StageConfig("stage", kind, tuple(source.name for source in sources), **settings),
        class_weights=weights if balanced else None,
    )
    plain, mixed = mixed_sampler(sources, alpha=1.0)
    batch = next(iter(batches.BatchStream(sources, mixed if mixing else plain, epochs=1)))
    found = {name: float(value) for name, value in model.measure(batch).items()}

    flat = {
        name: value.numpy().reshape(-1, *value.shape[2 if kind == "joint" else 1 :])
        for name, value in batch.items()
    }
    outputs = model({name: flat[name] for name in ("image", "domain", "seed")}, training=False)
    logits, embeddings = (
        outputs["logits"].numpy().astype(np.float64),
        outputs["embedding"].numpy().astype(np.float64),
    )
    share = flat["mix_weight"] if mixing else np.zeros(len(logits))
    other = flat["mix_label"] if mixing else flat["label"]
    terms = {}
    for index, source in enumerate(sources):
        classes = np.flatnonzero(np.isin(EMOTIONS, [row["emotion"] for row in source.rows]))
        counts = {label: np.sum(source.labels[source.clip_of] == label) for label in classes}
        losses = []
        for row in np.flatnonzero(flat["source"] == index):
            log_p = logits[row, classes] - np.log(np.exp(logits[row, classes]).sum())
            loss = 0
            for part, label in ((1 - share[row], flat["label"][row]), (share[row], other[row])):
                target = (1 - smoothing) * (classes == label) + smoothing / len(classes)
                of_class = sum(counts.values()) / len(classes) / counts[label] if balanced else 1
                loss -= part * of_class * (target * log_p).sum()
            losses.append(loss)
        terms[f"cross_entropy_{source.name.replace('/', '_')}"] = np.mean(losses)
    loss = sum(terms.values())
    if kind == "joint":
        pairs = []
        for row in range(0, len(logits), 2):
            distance = np.linalg.norm(embeddings[row] - embeddings[row + 1])
            alike = sum(
                one * two
                for one, a in ((1 - share[row], flat["label"][row]), (share[row], other[row]))
                for two, b in (
                    (1 - share[row + 1], flat["label"][row + 1]),
                    (share[row + 1], other[row + 1]),
                )
                if a == b
            )
            pairs.append(alike * distance**2 + (1 - alike) * max(0, margin - distance) ** 2)
        terms["contrastive"] = np.mean(pairs)
        loss += weight * terms["contrastive"]
    return found, {"loss": loss, **terms}


@pytest.mark.parametrize(("kind", "count"), [("supervised", 1), ("joint", 2), ("joint", 3)])
@pytest.mark.parametrize(("mixing", "balanced"), [(True, False), (False, True), (True, True)])
def test_every_term_of_mixed_and_weighted_examples_equals_numpy(kind, count, mixing, balanced):
    found, expected = measured(kind, count, mixing=mixing, balanced=balanced)
    assert found == pytest.approx(expected, rel=1e-4)
    plain, _ = measured(kind, count, mixing=False, balanced=False)
    assert all(
        abs(found[name] - plain[name]) > 1e-4 for name in plain if mixing or name != "contrastive"
    )
