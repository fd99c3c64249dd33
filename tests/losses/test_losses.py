import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from kerasemo.losses import classification, contrastive


@pytest.fixture
def random():
    return np.random.default_rng(20200311)


def a_batch(random, *, examples=64, classes=10):
    """Logits far from even, masks of two to all classes, labels that the masks allow."""
    logits = (random.normal(size=(examples, classes)) * 4 + np.linspace(-3, 5, classes)).astype(
        np.float32
    )
    mask = np.zeros((examples, classes), np.float32)
    for row in mask:
        row[random.choice(classes, size=random.integers(2, classes + 1), replace=False)] = 1
    labels = np.array([random.choice(np.flatnonzero(row)) for row in mask])
    return labels, mask, logits


def numpy_cross_entropy(labels, mask, logits, *, label_smoothing):
    """The cross-entropy over the classes of each mask alone, example by example, in float64."""
    values = []
    for label, allowed, row in zip(
        labels, mask.astype(bool), logits.astype(np.float64), strict=True
    ):
        classes = np.flatnonzero(allowed)
        target = np.full(len(classes), label_smoothing / len(classes)) + (1 - label_smoothing) * (
            classes == label
        )
        log_p = row[classes] - np.log(np.exp(row[classes]).sum())
        values.append(-(target * log_p).sum())
    return np.array(values)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def value(labels, mask, logits, *, label_smoothing=0.0):
    targets = classification.smooth_targets(
        np.asarray(labels), np.asarray(mask, np.float32), label_smoothing=label_smoothing
    )
    masked = classification.mask_logits(
        ops.convert_to_tensor(logits, "float32"), np.asarray(mask, np.float32)
    )
    return ops.convert_to_numpy(classification.cross_entropy(targets, masked))


# Cross-entropy.


def test_cross_entropy_of_a_sure_answer_and_of_one_class():
    assert value([1], [[1, 1, 1]], [[0.0, 200.0, 0.0]]) == 0
    assert value([0], [[1, 1, 1]], [[0.0, 200.0, 0.0]]) == pytest.approx(200)
    assert (
        value([2], [[0, 0, 1]], [[9.0, 9.0, -9.0]], label_smoothing=0.1) == 0
    )  # the only class that can occur


def test_cross_entropy_by_hand():
    """Logits 0, ln 2, ln 5 with the last masked: p = 1/3, 2/3. CE of the second class = ln(3/2).

    Smoothed by 0.2 over the two allowed: targets 0.1 and 0.9, so CE = 0.1 ln 3 + 0.9 ln(3/2).
    """
    logits, mask = [[0.0, np.log(2), np.log(5)]], [[1, 1, 0]]
    assert value([1], mask, logits) == pytest.approx(np.log(1.5), rel=1e-6)
    assert value([1], mask, logits, label_smoothing=0.2) == pytest.approx(
        0.1 * np.log(3) + 0.9 * np.log(1.5), rel=1e-6
    )


@pytest.mark.parametrize("label_smoothing", [0.0, 0.15])
def test_cross_entropy_equals_numpy_over_the_allowed_classes_alone(random, label_smoothing):
    labels, mask, logits = a_batch(random)
    oracle = numpy_cross_entropy(labels, mask, logits, label_smoothing=label_smoothing)
    found = value(labels, mask, logits, label_smoothing=label_smoothing)
    assert found.dtype == np.float32 and found.shape == (64,) and found.min() >= 0
    np.testing.assert_allclose(found, oracle, rtol=1e-5, atol=1e-5)


def test_cross_entropy_knows_neither_a_constant_nor_the_order_of_classes(random):
    labels, mask, logits = a_batch(random)
    expected = value(labels, mask, logits, label_smoothing=0.1)
    np.testing.assert_allclose(
        value(labels, mask, logits + 50, label_smoothing=0.1), expected, rtol=1e-4, atol=1e-5
    )
    order = random.permutation(10)
    place = np.argsort(order)
    np.testing.assert_allclose(
        value(place[labels], mask[:, order], logits[:, order], label_smoothing=0.1),
        expected,
        rtol=1e-5,
        atol=1e-6,
    )


def test_masked_classes_get_no_gradient_and_the_others_p_minus_t(random):
    labels, mask, logits = a_batch(random, examples=8)
    variable = tf.Variable(logits)
    with tf.GradientTape() as tape:
        loss = ops.sum(
            classification.cross_entropy(
                classification.smooth_targets(labels, mask),
                classification.mask_logits(variable, mask),
            )
        )
    gradient = tape.gradient(loss, variable).numpy()
    p = np.exp(logits.astype(np.float64)) * mask
    np.testing.assert_allclose(
        gradient, p / p.sum(1, keepdims=True) - np.eye(10)[labels], atol=1e-6
    )
    assert not gradient[mask == 0].any()


def test_targets_are_distributions_over_the_mask(random):
    labels, mask, _ = a_batch(random)
    targets = ops.convert_to_numpy(classification.smooth_targets(labels, mask, label_smoothing=0.3))
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-6)
    assert not targets[mask == 0].any() and (targets[mask == 1] > 0).all()
    rest = targets[np.arange(64), labels] - 0.3 / mask.sum(axis=1)
    np.testing.assert_allclose(rest, 0.7, rtol=1e-6)


def test_cross_entropy_loss_is_the_mean_and_takes_weights(random):
    labels, mask, logits = a_batch(random)
    targets, masked = (
        classification.smooth_targets(labels, mask),
        classification.mask_logits(logits, mask),
    )
    each = numpy_cross_entropy(labels, mask, logits, label_smoothing=0)
    weight = random.random(64)
    assert float(classification.CrossEntropy()(targets, masked)) == pytest.approx(
        each.mean(), rel=1e-5
    )
    assert float(
        classification.CrossEntropy()(targets, masked, sample_weight=weight)
    ) == pytest.approx((each * weight).mean(), rel=1e-5)


# Contrastive.


def test_contrastive_of_equal_and_of_opposite_embeddings():
    """D = 0 of a matching pair and D = 2 of another cost nothing; swapped they cost m^2 = 0.36 and D^2 = 4."""
    one = np.eye(3)[0]
    embeddings = np.array([[one, one], [one, -one], [one, one], [one, -one]])
    found = ops.convert_to_numpy(
        contrastive.contrastive_loss(np.array([1, 0, 0, 1]), embeddings, margin=0.6)
    )
    np.testing.assert_allclose(found, [0, 0, 0.36, 4], atol=2e-6)


def test_contrastive_by_hand():
    """Unit vectors at 60 degrees are D = 1 apart. Matching: D^2 = 1. Else, with m = 1.5: (1.5 - 1)^2 = 0.25; with m = 0.6: 0."""
    pairs = np.array([[[1, 0], [0.5, np.sqrt(0.75)]]] * 2)
    np.testing.assert_allclose(
        contrastive.contrastive_loss([1, 0], pairs, margin=1.5), [1, 0.25], rtol=1e-6
    )
    np.testing.assert_allclose(
        contrastive.contrastive_loss([1, 0], pairs, margin=0.6), [1, 0], rtol=1e-6
    )


def test_contrastive_equals_numpy(random):
    embeddings = unit(random.normal(size=(200, 2, 5)) + [1, 0.5, 0, 0, 0])
    same = random.random(200) < 0.3
    distance = np.linalg.norm(embeddings[:, 0] - embeddings[:, 1], axis=1)
    oracle = np.where(same, distance**2, np.maximum(0, 1.1 - distance) ** 2)
    assert 20 < (oracle == 0).sum() < 180
    found = ops.convert_to_numpy(contrastive.contrastive_loss(same, embeddings, margin=1.1))
    assert found.dtype == np.float32 and found.shape == (200,)
    np.testing.assert_allclose(found, oracle, rtol=1e-4, atol=1e-6)
    assert float(
        contrastive.ContrastiveLoss(1.1)(same.astype(np.float32), embeddings)
    ) == pytest.approx(oracle.mean(), rel=1e-5)


def test_contrastive_knows_neither_the_order_within_a_pair_nor_a_rotation(random):
    embeddings, same = unit(random.normal(size=(50, 2, 4))), random.random(50) < 0.5
    rotation, _ = np.linalg.qr(random.normal(size=(4, 4)))
    expected = contrastive.contrastive_loss(same, embeddings, margin=1.3)
    for other in (embeddings[:, ::-1], embeddings @ rotation):
        np.testing.assert_allclose(
            contrastive.contrastive_loss(same, other, margin=1.3), expected, rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize("same", [0, 1])
def test_gradient_is_finite_at_distance_0(same):
    embeddings = tf.Variable(np.full((1, 2, 4), 0.5, np.float32))
    with tf.GradientTape() as tape:
        loss = ops.sum(contrastive.contrastive_loss([same], embeddings, margin=0.6))
    gradient = tape.gradient(loss, embeddings).numpy()
    assert np.isfinite(gradient).all() and not gradient.any()


def test_gradient_ends_at_the_margin():
    """d/dx of (m - D)^2 for the first of two at D = 0.5 apart along x, m = 0.6: 2 (m - D) = 0.2, drawn apart; beyond m nothing."""
    embeddings = tf.Variable([[[0.0, 0.0], [0.5, 0.0]], [[0.0, 0.0], [0.7, 0.0]]])
    with tf.GradientTape() as tape:
        loss = ops.sum(contrastive.contrastive_loss([0, 0], embeddings, margin=0.6))
    expected = [[[0.2, 0], [-0.2, 0]], [[0, 0], [0, 0]]]
    np.testing.assert_allclose(tape.gradient(loss, embeddings).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("margin", [0, -0.6, 2.1, float("nan")])
def test_a_margin_that_no_pair_can_reach_is_refused(margin):
    with pytest.raises(ValueError, match=r"margin must be in \(0, 2\].* received"):
        contrastive.ContrastiveLoss(margin)


@pytest.mark.parametrize("loss", [contrastive.ContrastiveLoss(0.8), classification.CrossEntropy()])
def test_losses_are_rebuilt_from_their_configuration(loss):
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is type(loss) and again.get_config() == loss.get_config()
