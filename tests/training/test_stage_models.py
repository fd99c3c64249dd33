import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from helpers.sources import SIZE
from helpers.stage_steps import CORPORA, a_batch, a_model, a_sampler, oracle, some_sources
from kerasemo.config.schema import NetworkConfig
from kerasemo.datasets.batches import BatchStream
from kerasemo.networks.network import build_network
from kerasemo.training import stage_models
from pipelines.core.errors import InputError
from pipelines.core.labels import EMOTIONS
from pipelines.core.spec import Spec

KINDS = [("supervised", 1), ("contrastive", 1), ("contrastive", 2), ("joint", 2), ("joint", 3)]


def logs_of(step, batch):
    return {name: float(value) for name, value in step(batch).items()}


@pytest.mark.parametrize(
    ("kind", "count", "smoothing", "heads"),
    [
        *((kind, count, smoothing, 1) for smoothing in (0.0, 0.2) for kind, count in KINDS),
        *(("joint", count, 0.2, count) for count in (2, 3)),
    ],
)
def test_every_term_equals_numpy(kind, count, smoothing, heads):
    """Each corpus with its own mask; the cross-entropy of a source is the mean over its own examples."""
    sources = some_sources(count)
    model = a_model(
        kind, sources, label_smoothing=smoothing, margin=1.2, contrastive_weight=0.7, heads=heads
    )
    batch = a_batch(kind, sources)
    expected = oracle(
        kind, model, batch, sources, label_smoothing=smoothing, margin=1.2, weight=0.7
    )
    assert (
        len({round(value, 6) for value in expected.values()}) >= len(expected) - 1
    )  # terms that can be told apart
    assert logs_of(model.measure, batch) == pytest.approx(expected, rel=1e-4)
    assert logs_of(model.test_step, batch) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("kind", "count"), KINDS)
def test_train_and_test_step_give_one_loss(kind, count):
    """Of the same weights without dropout; with dropout they differ wherever the logits take part."""
    sources = some_sources(count)
    batch = a_batch(kind, sources)
    for dropout in (0.0, 0.5):
        model = a_model(kind, sources, dropout=dropout)
        tested = logs_of(model.test_step, batch)
        model.reset_metrics()
        trained = logs_of(model.train_step, batch)
        assert logs_of(a_model(kind, sources, dropout=dropout).step, batch) == pytest.approx(
            trained, rel=1e-5
        )
        if dropout and kind != "contrastive":
            assert abs(trained["loss"] - tested["loss"]) > 1e-4
        else:
            assert trained == pytest.approx(tested, rel=1e-5)


@pytest.mark.parametrize(("kind", "count"), KINDS)
def test_gradient_reaches_the_layers_of_the_kind(kind, count):
    """One step moves every weight but the statistics and, in a contrastive stage, the head, about which no warning is given."""
    sources = some_sources(count)
    model = a_model(kind, sources, dropout=0.3, margin=2.0)
    before = {weight.path: ops.convert_to_numpy(weight) for weight in model.weights}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.train_step(a_batch(kind, sources))
    moved = {
        weight.path for weight in model.weights if not np.array_equal(before[weight.path], weight)
    }
    still = {
        path
        for path in before
        if path.startswith(
            ("normalization/", "head/") if kind == "contrastive" else "normalization/"
        )
    }
    assert moved == set(before) - still


def test_contrastive_stage_is_fitted_without_a_warning(capfd):
    sources = some_sources(2)
    model = a_model(
        "contrastive", sources, optimizer=keras.optimizers.AdamW(1e-3, weight_decay=0.1)
    )
    head = ops.convert_to_numpy(model.get_layer("head").kernel)
    stream = BatchStream(sources, a_sampler("contrastive", sources))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(stream.dataset, steps_per_epoch=2, epochs=2, shuffle=False, verbose=0)
    assert "Gradients do not exist" not in "".join(capfd.readouterr())
    np.testing.assert_array_equal(
        model.get_layer("head").kernel, head
    )  # nor does the weight decay wear it away


@pytest.mark.parametrize(("kind", "count"), [("supervised", 1), ("joint", 2)])
def test_logits_of_emotions_that_no_corpus_has_get_no_gradient(kind, count):
    sources = some_sources(count)
    model = a_model(kind, sources, label_smoothing=0.2)
    before = [ops.convert_to_numpy(weight) for weight in model.get_layer("head").weights]
    model.train_step(a_batch(kind, sources))
    has_clips = np.isin(EMOTIONS, [emotion for corpus in CORPORA[:count] for emotion in corpus])
    for old, weight in zip(before, model.get_layer("head").weights, strict=True):
        moved = (old != ops.convert_to_numpy(weight)).reshape(-1, len(EMOTIONS)).any(axis=0)
        np.testing.assert_array_equal(moved, has_clips)


def test_logs_are_means_over_examples_since_the_reset():
    """Steps of 12 and 4 examples: the mean weighs the first three times as much."""
    (source,) = some_sources(1)
    model = a_model("supervised", [source])
    batches = [a_batch("supervised", [source], size=size) for size in (12, 4)]
    losses = []
    for batch in batches:
        model.reset_metrics()
        losses.append(logs_of(model.test_step, batch)["loss"])
    model.reset_metrics()
    for batch in batches:
        last = logs_of(model.test_step, batch)["loss"]
    assert abs(losses[0] - losses[1]) > 1e-3
    assert last == pytest.approx((12 * losses[0] + 4 * losses[1]) / 16, rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("supervised", 1),
        pytest.param("contrastive", 1, marks=pytest.mark.endurance),
        ("contrastive", 2),
        pytest.param("joint", 2, marks=pytest.mark.endurance),
        ("joint", 3),
    ],
)
def test_a_tiny_batch_is_learnt(kind, count):
    """Twelve examples, again and again: the loss falls to a third; the contrastive loss alone as well."""
    sources = some_sources(count)
    model = a_model(kind, sources, optimizer=keras.optimizers.Adam(0.01), margin=1.0)
    once = a_sampler(kind, sources)
    batch = {name: value[:1] for name, value in once(0).items()}
    stream = BatchStream(sources, lambda epoch: batch)
    assert stream.steps == 1
    history = model.fit(
        stream.dataset, steps_per_epoch=1, epochs=120, shuffle=False, verbose=0
    ).history
    assert set(history) == {"loss", *model.objective.names} and len(history["loss"]) == 120
    for name in history:
        assert history[name][-1] < history[name][0] / 3, name


def test_terms_are_named_after_their_sources():
    sources = some_sources(3)
    names = ["cross_entropy_a_visual", "cross_entropy_b_audio", "cross_entropy_c_visual"]
    assert a_model("supervised", sources[:1]).objective.names == names[:1]
    assert a_model("contrastive", sources).objective.names == ["contrastive"]
    assert a_model("joint", sources).objective.names == [*names, "contrastive"]
    assert set(stage_models.STAGE_MODELS) == {"supervised", "contrastive", "joint"}


@pytest.mark.parametrize(("kind", "count"), [("supervised", 1), ("joint", 2)])
def test_stage_keeps_the_weights_of_the_network_by_name(kind, count):
    """So that the next stage, or the served network, takes them over; the losses and terms add none."""
    model = a_model(kind, some_sources(count))
    network = keras.Model(
        *build_network(
            NetworkConfig(widths=(8,), convolutions=1, groups=4, embedding=8),
            spec=Spec(face_size=SIZE),
        )
    )
    assert [weight.path for weight in model.weights] == [weight.path for weight in network.weights]


def test_step_returns_its_own_values_alone():
    """`train_step` the running means, for `fit`; both make the same step."""
    (source,) = some_sources(1)
    by_hand, by_fit = (a_model("supervised", [source]) for _ in range(2))
    batches = [a_batch("supervised", [source], size=size) for size in (12, 4)]
    values = [logs_of(by_hand.step, batch)["loss"] for batch in batches]
    means = [logs_of(by_fit.train_step, batch)["loss"] for batch in batches]
    assert abs(values[0] - values[1]) > 1e-3
    assert means == pytest.approx([values[0], (12 * values[0] + 4 * values[1]) / 16], rel=1e-5)
    for variable, fitted_variable in zip(by_hand.weights, by_fit.weights, strict=True):
        np.testing.assert_allclose(variable, fitted_variable, atol=1e-6)
    assert not any(
        variable.numpy().any() for mean in by_hand.metrics for variable in mean.variables
    )


# Parts of a batch.


@pytest.mark.parametrize("jit_compile", [False, True])
def test_parts_are_computed_one_after_the_other(jit_compile):
    """Not side by side, which would take the memory that they are to save."""
    sources = some_sources(2)
    model, whole = a_model("joint", sources, accumulate=6), a_model("joint", sources)
    batch = a_batch("joint", sources)
    step = tf.function(model.step, jit_compile=jit_compile)
    kinds = [
        operation.type for operation in step.get_concrete_function(batch).graph.get_operations()
    ]
    assert sum("While" in kind for kind in kinds) == 1 and "Conv2D" not in kinds
    assert logs_of(step, batch) == pytest.approx(logs_of(whole.step, batch), rel=1e-5)
    for variable, whole_variable in zip(model.weights, whole.weights, strict=True):
        np.testing.assert_allclose(variable, whole_variable, atol=1e-6)


def test_parts_that_do_not_divide_a_batch_are_refused():
    sources = some_sources(2)
    with pytest.raises(
        ValueError,
        match="accumulate.*divide.*6 examples.*pairs.*each replica's batch; received 4",
    ):
        a_model("joint", sources, accumulate=4).step(a_batch("joint", sources))


# Frozen layers.


def test_layers_are_frozen_by_name_prefix():
    sources = some_sources(2)
    model = a_model("joint", sources, optimizer=keras.optimizers.AdamW(1e-2, weight_decay=0.5))
    before = {weight.path: ops.convert_to_numpy(weight) for weight in model.weights}
    stage_models.freeze_layers(model, ["stage1", "feat"])
    stage_models.freeze_layers(model, [])
    assert {weight.path for weight in model.learnt_weights} == {"head/kernel", "head/bias"}
    logs_of(model.step, a_batch("joint", sources))
    assert {
        weight.path for weight in model.weights if not np.array_equal(before[weight.path], weight)
    } == {"head/kernel", "head/bias"}


@pytest.mark.parametrize(
    ("kind", "prefixes", "message"),
    [
        (
            "joint",
            ["stage1", "stage2"],
            "freeze: no layer's name begins.*'stage2'; .*stage1_conv1, .*features, head$",
        ),
        ("joint", ["norm"], "no layer's name begins.*'norm'"),  # its statistics never train
        (
            "joint",
            ["stage1", "features", "head"],
            "freeze: stage1, features, head leave nothing.*train; .*stage1_conv1",
        ),
        (
            "contrastive",
            ["stage1", "features"],
            "leave nothing.*train",
        ),  # but the head, which has no part in its loss
    ],
)
def test_layers_that_cannot_be_frozen_are_refused(kind, prefixes, message):
    with pytest.raises(InputError, match=message):
        stage_models.freeze_layers(a_model(kind, some_sources(2)), prefixes)


# A head for each source.


def test_each_source_trains_its_own_head():
    """The emotions that its corpus has: of 10 columns a source those of its mask."""
    sources = some_sources(2)
    model = a_model("joint", sources, heads=2)
    before = [ops.convert_to_numpy(weight) for weight in model.get_layer("head").weights]
    logs_of(model.step, a_batch("joint", sources))
    has_clips = np.concatenate([source.mask for source in sources]).astype(bool)
    for old, weight in zip(before, model.get_layer("head").weights, strict=True):
        moved = (old != ops.convert_to_numpy(weight)).reshape(-1, 2 * len(EMOTIONS)).any(axis=0)
        np.testing.assert_array_equal(moved, has_clips)
