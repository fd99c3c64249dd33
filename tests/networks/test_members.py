"""Networks of several members: trained as if alone; the mean of their logits predicts."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from helpers.finished_stages import write_finished_stage
from helpers.networks import TINY_CONFIG, random_inputs, tiny_network
from helpers.stage_steps import a_batch, a_model, oracle, some_sources
from helpers.synthetic_sets import write_experiment, write_set
from kerasemo.datasets.catalog import RecordCatalog
from kerasemo.evaluation.evaluator import evaluate_run
from kerasemo.exporting.exporter import ExportOptions, export_stage
from kerasemo.networks.layers import ExampleDropout
from kerasemo.runs.checkpoints import save_arrays, variable_arrays
from kerasemo.runs.lineage import find_lineage
from kerasemo.serving.bundle import Bundle
from kerasemo.training.experiment import TrainingOptions, train_experiment
from kerasemo.training.stage_models import freeze_layers
from kerasemo.training.warm_start import assign_parent_weights
from pipelines.core.errors import InputError
from pipelines.core.labels import EMOTIONS

MEMBER_LOGITS = ("logits_member1", "logits_member2", "logits_member3")


def network_of(members: int, **settings: Any) -> keras.Model:
    return tiny_network(dataclasses.replace(TINY_CONFIG, members=members, **settings))


# The network.


@pytest.mark.parametrize(
    "settings",
    [{}, {"blocks": "residual", "squeeze": 4, "pool": "rows"}],
    ids=["plain", "residual"],
)
def test_logits_are_the_mean_of_the_logits_of_members(settings):
    outputs = network_of(3, **settings)(random_inputs(np.random.default_rng(0)))
    assert set(outputs) == {"embedding", "logits", *MEMBER_LOGITS}
    first, second, third = (ops.convert_to_numpy(outputs[name]) for name in MEMBER_LOGITS)
    np.testing.assert_allclose(outputs["logits"], (first + second + third) / 3, atol=1e-6)
    assert np.abs(first - second).max() > 1e-3
    assert np.abs(second - third).max() > 1e-3


@pytest.mark.parametrize(
    "settings",
    [{}, {"blocks": "residual", "squeeze": 4, "pool": "rows"}],
    ids=["plain", "residual"],
)
def test_members_share_only_the_statistics_of_the_inputs(settings):
    several, single = network_of(3, **settings), network_of(1, **settings)
    statistics = several.get_layer("normalization").count_params()
    assert several.count_params() - statistics == 3 * (single.count_params() - statistics)


def test_embedding_is_the_unit_vector_of_the_features_of_all_members():
    embedding = network_of(3)(random_inputs(np.random.default_rng(0)))["embedding"]
    assert embedding.shape == (5, 3 * 8)
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, rtol=1e-5)


def test_first_member_has_the_weights_and_dropout_of_a_single_network():
    """So weights of earlier releases can be loaded, and training draws the same masks."""
    single, several = network_of(1), network_of(3)
    paths = {weight.path for weight in single.weights}
    assert paths == {
        "normalization/mean",
        "normalization/scale",
        "normalization/fitted",
        "stage1_conv1/kernel",
        "stage1_conv1_norm/gamma",
        "stage1_conv1_norm/beta",
        "features/kernel",
        "features/bias",
        "head/kernel",
        "head/bias",
    }
    assert paths < {weight.path for weight in several.weights}
    outputs = single(random_inputs(np.random.default_rng(0)))
    assert set(outputs) == {"embedding", "logits"}
    assert [model.get_layer("dropout").stream for model in (single, several)] == [0, 0]


def test_negative_dropout_stream_is_refused():
    with pytest.raises(ValueError, match="stream .*at least 0; received -1"):
        ExampleDropout(0.5, stream=-1)


def test_dropout_streams_have_different_masks():
    features, seeds = np.ones((4, 50), np.float32), np.arange(4, dtype=np.int32)
    first, second, third = (
        ops.convert_to_numpy(ExampleDropout(0.5, stream=stream)([features, seeds], training=True))
        for stream in range(3)
    )
    for mask, next_mask in ((first, second), (second, third), (first, third)):
        assert 0.3 < (mask == next_mask).mean() < 0.7


def test_dropout_stream_is_part_of_the_configuration():
    features, seeds = np.ones((4, 50), np.float32), np.arange(4, dtype=np.int32)
    layer = ExampleDropout(0.5, stream=2)
    rebuilt = ExampleDropout.from_config(layer.get_config())
    np.testing.assert_array_equal(
        rebuilt([features, seeds], training=True), layer([features, seeds], training=True)
    )


# Training.


@pytest.mark.parametrize(
    ("kind", "n_sources", "heads"), [("supervised", 1, 1), ("joint", 2, 1), ("joint", 2, 2)]
)
def test_loss_terms_are_the_mean_over_members(kind, n_sources, heads):
    sources = some_sources(n_sources)
    model = a_model(kind, sources, members=3, heads=heads, label_smoothing=0.1)
    batch = a_batch(kind, sources)

    def terms_of_member(name: str) -> dict[str, float]:
        def member(inputs, training):
            outputs = model(inputs, training=training)
            return {"logits": outputs[name], "embedding": outputs["embedding"]}

        return oracle(kind, member, batch, sources, label_smoothing=0.1)

    member_terms = [terms_of_member(name) for name in MEMBER_LOGITS]
    expected = {term: np.mean([terms[term] for terms in member_terms]) for term in member_terms[0]}
    measured = {name: float(value) for name, value in model.measure(batch).items()}
    assert measured == pytest.approx(expected, rel=1e-4)
    assert len({round(terms["loss"], 4) for terms in member_terms}) == 3


def path_in_member(path: str, member: int) -> str:
    """Return the path of a weight of a single network in a member, from 1."""
    layer, _, name = path.partition("/")
    if member == 1 or layer == "normalization":
        return path
    return f"{layer}_member{member}/{name}"


@pytest.mark.parametrize(
    ("member", "dropout", "accumulate"), [(1, 0.5, 1), (1, 0.5, 3), (2, 0.0, 1), (3, 0.0, 1)]
)
def test_each_member_is_trained_as_if_alone(member, dropout, accumulate):
    """Each of three members has a third of the gradient, so the learning rate is three times 0.05.

    Only the first member draws the dropout masks of a single network.
    """
    sources = some_sources(1)
    batch = a_batch("supervised", sources)
    several = a_model(
        "supervised",
        sources,
        members=3,
        optimizer=keras.optimizers.SGD(3 * 0.05),  # `a_model` uses SGD(0.05)
        dropout=dropout,
        accumulate=accumulate,
    )
    single = a_model("supervised", sources, dropout=dropout)
    initial = variable_arrays(several.weights)
    for weight in single.weights:
        weight.assign(initial[path_in_member(weight.path, member)])
    for _ in range(3):
        several.step(batch)
        single.step(batch)
    trained = variable_arrays(several.weights)
    for path, expected in variable_arrays(single.weights).items():
        member_path = path_in_member(path, member)
        np.testing.assert_allclose(trained[member_path], expected, rtol=1e-4, atol=1e-6)
        if not path.startswith("normalization"):
            assert np.abs(trained[member_path] - initial[member_path]).max() > 0


def test_contrastive_stage_trains_all_members_without_frozen_layers_and_heads():
    sources = some_sources(2)
    model = a_model("contrastive", sources, members=2, margin=2.0)
    freeze_layers(model, ["stage1"])
    initial = variable_arrays(model.weights)
    model.step(a_batch("contrastive", sources))
    changed_paths = {
        path
        for path, value in variable_arrays(model.weights).items()
        if not np.array_equal(initial[path], value)
    }
    assert changed_paths == {
        "features/kernel",
        "features/bias",
        "features_member2/kernel",
        "features_member2/bias",
    }


def test_warm_start_leaves_new_emotions_of_every_head_as_initialized(tmp_path):
    """The parent was trained on anger and fear; these columns of each head come from the parent."""
    parent, child = network_of(2), network_of(2)
    for weight in child.weights:
        weight.assign(weight + 1.0)
    parent_arrays, initial = variable_arrays(parent.weights), variable_arrays(child.weights)
    save_arrays(tmp_path / "weights.safetensors", parent_arrays, {})
    write_finished_stage(tmp_path, trained_emotions=["anger", "fear"])
    assign_parent_weights(child, tmp_path)
    is_known = np.isin(EMOTIONS, ["anger", "fear"])
    for path, value in variable_arrays(child.weights).items():
        if path.startswith("head"):
            expected = np.where(is_known, parent_arrays[path], initial[path])
            np.testing.assert_array_equal(value, expected)
        else:
            np.testing.assert_array_equal(value, parent_arrays[path])


# A run.


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a folder with `records`, `toy.toml`, and a `run` of a stage of two members."""
    folder = tmp_path_factory.mktemp("members")
    write_set(folder / "records", "savee/audio", speakers=4, takes=3, seed=1, waveform=True)
    stage = {
        "kind": "supervised",
        "sources": ["savee/audio"],
        "batch": 8,
        "epochs": 2,
        "steps": 6,
        "learning_rate": 1e-2,
        "ema": 0.9,
    }
    write_experiment(
        folder / "toy.toml",
        network={"widths": (8,), "convolutions": 1, "groups": 4, "embedding": 8, "members": 2},
        speech=stage,
    )
    train_stage(folder)
    return folder


def train_stage(folder: Path, *settings: str) -> None:
    options = TrainingOptions(
        "speech", str(folder / "toy.toml"), folder / "records", folder / "run", settings=settings
    )
    train_experiment(options)


def test_evaluation_of_members_equals_the_scores_of_the_training(folder):
    result = json.loads((folder / "run" / "speech" / "metrics.json").read_text())
    evaluation = evaluate_run(folder / "run", folder / "records", "speech")
    confusion = evaluation["sources"]["savee/audio"]["confusion"]
    assert confusion == result["sources"]["savee/audio"]["confusion"]


def test_another_number_of_members_is_refused_in_the_same_run(folder):
    with pytest.raises(InputError, match=r"network\.members: 2 .*, 1 requested"):
        train_stage(folder, "network.members=1")


def test_bundle_of_members_predicts_as_the_network(folder):
    lineage, catalog = find_lineage(folder / "run", "speech"), RecordCatalog(folder / "records")
    subset = catalog.subset(lineage.split(catalog), "savee/audio", "test")
    segments = subset.inputs[:4]
    expected = lineage.load_network().predictor()(segments, subset.source.domain)
    assert expected.embedding.shape == (4, 2 * 8)
    assert expected.logits.shape == (4, len(EMOTIONS))

    export_stage(ExportOptions(folder / "run", folder / "bundle", "speech"))
    bundle = Bundle.load(folder / "bundle")
    assert "2 networks" in bundle.card
    embedding = bundle.predict("embed_segments", segments=segments)["embedding"]
    np.testing.assert_allclose(embedding, expected.embedding, atol=1e-5)
    columns = [EMOTIONS.index(label) for label in bundle.labels]
    probabilities = keras.activations.softmax(ops.convert_to_tensor(expected.logits[:, columns]))
    served = bundle.predict("segments", segments=segments)["probabilities"]
    np.testing.assert_allclose(served, probabilities, atol=1e-5)


@pytest.mark.endurance
@pytest.mark.parametrize("export_format", ["onnx", "litert"])
def test_other_formats_predict_as_the_network(folder, export_format):
    """An export compares its predictions with those of the Keras model."""
    options = ExportOptions(folder / "run", folder / export_format, "speech", format=export_format)
    differences = export_stage(options)["differences"]
    assert differences
    assert max(differences.values()) < 1e-4
