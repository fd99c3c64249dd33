import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from kerasemo.losses.classification import (
    CrossEntropy,
    cross_entropy,
    mask_logits,
    smooth_targets,
)
from kerasemo.losses.contrastive import ContrastiveLoss, contrastive_loss

N_EXAMPLES, N_CLASSES = 64, 10


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(20200311)


def random_examples(
    random: np.random.Generator, *, n_examples: int = N_EXAMPLES
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels, masks of two to all classes that allow the labels, and varied logits."""
    logits = random.normal(size=(n_examples, N_CLASSES)) * 4 + np.linspace(-3, 5, N_CLASSES)
    masks = np.zeros((n_examples, N_CLASSES), np.float32)
    for mask in masks:
        n_allowed = random.integers(2, N_CLASSES + 1)
        mask[random.choice(N_CLASSES, size=n_allowed, replace=False)] = 1
    labels = np.array([random.choice(np.flatnonzero(mask)) for mask in masks])
    return labels, masks, logits.astype(np.float32)


def numpy_cross_entropy(
    labels: np.ndarray, masks: np.ndarray, logits: np.ndarray, *, label_smoothing: float
) -> np.ndarray:
    """Return the cross-entropy over the classes of each mask alone, in float64."""
    values = []
    for label, mask, row in zip(labels, masks, logits.astype(np.float64), strict=True):
        classes = np.flatnonzero(mask)
        target = label_smoothing / len(classes) + (1 - label_smoothing) * (classes == label)
        log_probabilities = row[classes] - np.log(np.exp(row[classes]).sum())
        values.append(-(target * log_probabilities).sum())
    return np.array(values)


def masked_cross_entropy(labels, masks, logits, *, label_smoothing: float = 0.0) -> np.ndarray:
    """Return the cross-entropy of each example with the functions of the project."""
    masks = np.asarray(masks, np.float32)
    targets = smooth_targets(np.asarray(labels), masks, label_smoothing=label_smoothing)
    masked_logits = mask_logits(ops.convert_to_tensor(logits, "float32"), masks)
    return ops.convert_to_numpy(cross_entropy(targets, masked_logits))


# Cross-entropy.


def test_cross_entropy_of_certain_logits():
    """A logit that is 200 higher than others has probability 1; the others have e^-200."""
    logits = [[0.0, 200.0, 0.0]]
    assert masked_cross_entropy([1], [[1, 1, 1]], logits) == 0
    assert masked_cross_entropy([0], [[1, 1, 1]], logits) == pytest.approx(200)


def test_cross_entropy_of_a_single_allowed_class_is_zero():
    logits = [[9.0, 9.0, -9.0]]
    assert masked_cross_entropy([2], [[0, 0, 1]], logits, label_smoothing=0.1) == 0


def test_cross_entropy_by_hand():
    """Logits 0, ln 2, ln 5; the last is masked: p = 1/3, 2/3. The loss of class 1 is ln(3/2).

    Smoothing by 0.2 over the two allowed classes: targets 0.1 and 0.9, loss 0.1 ln 3 + 0.9 ln(3/2).
    """
    logits, masks = [[0.0, np.log(2), np.log(5)]], [[1, 1, 0]]
    assert masked_cross_entropy([1], masks, logits) == pytest.approx(np.log(1.5), rel=1e-6)
    smoothed = masked_cross_entropy([1], masks, logits, label_smoothing=0.2)
    assert smoothed == pytest.approx(0.1 * np.log(3) + 0.9 * np.log(1.5), rel=1e-6)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.15])
def test_cross_entropy_equals_numpy_over_the_allowed_classes(random, label_smoothing):
    examples = random_examples(random)
    values = masked_cross_entropy(*examples, label_smoothing=label_smoothing)
    assert values.dtype == np.float32
    assert values.shape == (N_EXAMPLES,)
    assert values.min() >= 0
    expected = numpy_cross_entropy(*examples, label_smoothing=label_smoothing)
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5)


def test_cross_entropy_does_not_change_with_a_constant(random):
    labels, masks, logits = random_examples(random)
    expected = masked_cross_entropy(labels, masks, logits, label_smoothing=0.1)
    values = masked_cross_entropy(labels, masks, logits + 50, label_smoothing=0.1)
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5)


def test_cross_entropy_does_not_change_with_the_order_of_classes(random):
    labels, masks, logits = random_examples(random)
    expected = masked_cross_entropy(labels, masks, logits, label_smoothing=0.1)
    order = random.permutation(N_CLASSES)
    new_labels = np.argsort(order)[labels]
    values = masked_cross_entropy(
        new_labels, masks[:, order], logits[:, order], label_smoothing=0.1
    )
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)


def test_gradient_of_cross_entropy_is_zero_for_masked_classes(random):
    """The gradient of allowed classes is p - t."""
    labels, masks, logits = random_examples(random, n_examples=8)
    variable = tf.Variable(logits)
    with tf.GradientTape() as tape:
        masked_logits = mask_logits(variable, masks)
        loss = ops.sum(cross_entropy(smooth_targets(labels, masks), masked_logits))
    gradient = tape.gradient(loss, variable).numpy()
    exponentials = np.exp(logits.astype(np.float64)) * masks
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(gradient, probabilities - np.eye(N_CLASSES)[labels], atol=1e-6)
    assert not gradient[masks == 0].any()


def test_smoothed_targets_are_distributions_over_the_mask(random):
    labels, masks, _ = random_examples(random)
    targets = ops.convert_to_numpy(smooth_targets(labels, masks, label_smoothing=0.3))
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-6)
    assert not targets[masks == 0].any()
    assert (targets[masks == 1] > 0).all()
    unsmoothed = targets[np.arange(N_EXAMPLES), labels] - 0.3 / masks.sum(axis=1)
    np.testing.assert_allclose(unsmoothed, 0.7, rtol=1e-6)


def test_cross_entropy_loss_is_the_weighted_mean(random):
    labels, masks, logits = random_examples(random)
    expected = numpy_cross_entropy(labels, masks, logits, label_smoothing=0)
    targets, masked_logits = smooth_targets(labels, masks), mask_logits(logits, masks)
    mean = float(CrossEntropy()(targets, masked_logits))
    assert mean == pytest.approx(expected.mean(), rel=1e-5)
    weights = random.random(N_EXAMPLES)
    weighted_mean = float(CrossEntropy()(targets, masked_logits, sample_weight=weights))
    assert weighted_mean == pytest.approx((expected * weights).mean(), rel=1e-5)


# Contrastive loss.


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_contrastive_loss_of_equal_and_of_opposite_embeddings():
    """D = 0 of equal and D = 2 of different emotions: 0; swapped: m^2 = 0.36 and D^2 = 4."""
    vector = np.eye(3)[0]
    equal, opposite = [vector, vector], [vector, -vector]
    embeddings = np.array([equal, opposite, equal, opposite])
    values = contrastive_loss(np.array([1, 0, 0, 1]), embeddings, margin=0.6)
    np.testing.assert_allclose(values, [0, 0, 0.36, 4], atol=2e-6)


@pytest.mark.parametrize(("margin", "expected"), [(1.5, [1, 0.25]), (0.6, [1, 0])])
def test_contrastive_loss_by_hand(margin, expected):
    """Unit vectors at 60 degrees have D = 1. Equal emotions: D^2 = 1.

    Different emotions: (1.5 - 1)^2 = 0.25 with m = 1.5, and 0 with m = 0.6.
    """
    embeddings = np.array([[[1, 0], [0.5, np.sqrt(0.75)]]] * 2)
    values = contrastive_loss([1, 0], embeddings, margin=margin)
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_contrastive_loss_equals_numpy(random):
    embeddings = unit_vectors(random.normal(size=(200, 2, 5)) + [1, 0.5, 0, 0, 0])
    same = random.random(200) < 0.3
    distance = np.linalg.norm(embeddings[:, 0] - embeddings[:, 1], axis=1)
    expected = np.where(same, distance**2, np.maximum(0, 1.1 - distance) ** 2)
    assert 20 < (expected == 0).sum() < 180
    values = ops.convert_to_numpy(contrastive_loss(same, embeddings, margin=1.1))
    assert values.dtype == np.float32
    assert values.shape == (200,)
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-6)
    mean = float(ContrastiveLoss(1.1)(same.astype(np.float32), embeddings))
    assert mean == pytest.approx(expected.mean(), rel=1e-5)


def test_contrastive_loss_does_not_change_with_the_order_in_a_pair_or_a_rotation(random):
    embeddings, same = unit_vectors(random.normal(size=(50, 2, 4))), random.random(50) < 0.5
    rotation, _ = np.linalg.qr(random.normal(size=(4, 4)))
    expected = contrastive_loss(same, embeddings, margin=1.3)
    for changed in (embeddings[:, ::-1], embeddings @ rotation):
        values = contrastive_loss(same, changed, margin=1.3)
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("same", [0, 1])
def test_gradient_of_contrastive_loss_is_finite_at_distance_zero(same):
    embeddings = tf.Variable(np.full((1, 2, 4), 0.5, np.float32))
    with tf.GradientTape() as tape:
        loss = ops.sum(contrastive_loss([same], embeddings, margin=0.6))
    gradient = tape.gradient(loss, embeddings).numpy()
    assert np.isfinite(gradient).all()
    assert not gradient.any()


def test_gradient_of_contrastive_loss_ends_at_the_margin():
    """d/dx of (m - D)^2 for the first of two points 0.5 apart along x, m = 0.6: 2 (m - D) = 0.2.

    A step against the gradient draws them apart. Beyond the margin the gradient is 0.
    """
    embeddings = tf.Variable([[[0.0, 0.0], [0.5, 0.0]], [[0.0, 0.0], [0.7, 0.0]]])
    with tf.GradientTape() as tape:
        loss = ops.sum(contrastive_loss([0, 0], embeddings, margin=0.6))
    expected = [[[0.2, 0], [-0.2, 0]], [[0, 0], [0, 0]]]
    np.testing.assert_allclose(tape.gradient(loss, embeddings).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("margin", [0, -0.6, 2.1, float("nan")])
def test_margin_outside_of_its_range_is_refused(margin):
    with pytest.raises(ValueError, match=rf"margin .*\(0, 2\].* received {margin}"):
        ContrastiveLoss(margin)


@pytest.mark.parametrize("loss", [ContrastiveLoss(0.8), CrossEntropy()])
def test_loss_is_built_again_from_its_configuration(loss):
    rebuilt = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(rebuilt) is type(loss)
    assert rebuilt.get_config() == loss.get_config()
