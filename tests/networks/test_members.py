"""Several networks of one shape in one: each is trained as it would be alone, and all answer together."""

import dataclasses
import json
import re

import keras
import numpy as np
import pytest
from keras import ops

from helpers.finished_stages import write_finished_stage
from helpers.networks import TINY, network, some_inputs
from helpers.stage_steps import a_batch, a_model, oracle, some_sources
from helpers.synthetic_sets import write_experiment, write_set
from kerasemo.datasets.catalog import RecordCatalog
from kerasemo.evaluation.evaluator import evaluate_run
from kerasemo.exporting import exporter
from kerasemo.networks import layers
from kerasemo.runs import checkpoints
from kerasemo.runs.lineage import find_lineage
from kerasemo.serving.bundle import Bundle
from kerasemo.training import experiment, stage_models, warm_start
from pipelines.core.errors import InputError
from pipelines.core.labels import EMOTIONS

MEMBERS = ("logits_member1", "logits_member2", "logits_member3")


def several(members, **shape):
    return network(dataclasses.replace(TINY, members=members, **shape))


@pytest.mark.parametrize("shape", [{}, {"blocks": "residual", "squeeze": 4, "pool": "rows"}])
def test_the_answer_is_the_mean_of_the_members_logits(shape):
    inputs = some_inputs(np.random.default_rng(0))
    net = several(3, **shape)
    outputs = net(inputs)
    assert set(outputs) == {"embedding", "logits", *MEMBERS}
    each = np.stack([outputs[name] for name in MEMBERS])
    np.testing.assert_allclose(outputs["logits"], each.mean(axis=0), atol=1e-6)
    assert np.abs(each[0] - each[1]).max() > 1e-3 < np.abs(each[1] - each[2]).max()
    assert outputs["embedding"].shape == (5, 3 * 8)
    np.testing.assert_allclose(np.linalg.norm(outputs["embedding"], axis=1), 1, rtol=1e-5)
    statistics = sum(np.prod(weight.shape) for weight in net.get_layer("normalization").weights)
    assert net.count_params() - statistics == 3 * (several(1, **shape).count_params() - statistics)


def test_one_member_is_the_network_as_it_was():
    """By the paths of its weights."""
    one, three = several(1), several(3)
    assert {weight.path for weight in one.weights} == {
        *(
            "normalization/mean",
            "normalization/scale",
            "normalization/fitted",
            "stage1_conv1/kernel",
            "stage1_conv1_norm/gamma",
        ),
        *("stage1_conv1_norm/beta", "features/kernel", "features/bias", "head/kernel", "head/bias"),
    }
    assert set(one(some_inputs(np.random.default_rng(0)))) == {"embedding", "logits"}
    assert set(checkpoints.variable_arrays(one.weights)) < set(
        checkpoints.variable_arrays(three.weights)
    )
    assert [net.get_layer("dropout").stream for net in (one, three)] == [0, 0]


def test_a_stream_is_not_negative():
    with pytest.raises(ValueError, match="stream must be at least 0; received -1"):
        layers.ExampleDropout(0.5, stream=-1)


def test_members_drop_other_features():
    features, seed = np.ones((4, 50), np.float32), np.arange(4, dtype=np.int32)
    masks = [
        ops.convert_to_numpy(
            layers.ExampleDropout(0.5, stream=stream)([features, seed], training=True)
        )
        > 0
        for stream in range(3)
    ]
    assert all(
        0.3 < (one == other).mean() < 0.7
        for one, other in ((masks[0], masks[1]), (masks[1], masks[2]), (masks[0], masks[2]))
    )
    again = layers.ExampleDropout.from_config(layers.ExampleDropout(0.5, stream=2).get_config())
    np.testing.assert_array_equal(
        ops.convert_to_numpy(again([features, seed], training=True)) > 0, masks[2]
    )


@pytest.mark.parametrize(
    ("kind", "count", "heads"), [("supervised", 1, 1), ("joint", 2, 1), ("joint", 2, 2)]
)
def test_a_cross_entropy_is_the_mean_of_the_members_own(kind, count, heads):
    sources = some_sources(count)
    made, batch = (
        a_model(kind, sources, members=3, heads=heads, label_smoothing=0.1),
        a_batch(kind, sources),
    )

    def of_member(name):
        def outputs(inputs, training):
            given = made(inputs, training=training)
            return {"logits": given[name], "embedding": given["embedding"]}

        return oracle(kind, outputs, batch, sources, label_smoothing=0.1)

    each = [of_member(name) for name in MEMBERS]
    expected = {term: np.mean([own[term] for own in each]) for term in each[0]}
    assert {name: float(value) for name, value in made.measure(batch).items()} == pytest.approx(
        expected, rel=1e-4
    )
    assert len({round(own["loss"], 4) for own in each}) == 3


@pytest.mark.parametrize(
    ("member", "dropout", "accumulate"), [(1, 0.5, 1), (1, 0.5, 3), (2, 0.0, 1), (3, 0.0, 1)]
)
def test_each_member_is_trained_as_it_would_be_alone(member, dropout, accumulate):
    """Of a mean of losses each has a third of the gradient, which a rate three times as large makes up for.

    Only the first draws the masks that a network alone does.
    """
    sources = some_sources(1)
    batch = a_batch("supervised", sources)
    faster = keras.optimizers.SGD(0.15)  # a_model's own has 0.05
    together = a_model(
        "supervised", sources, members=3, optimizer=faster, dropout=dropout, accumulate=accumulate
    )
    alone = a_model("supervised", sources, dropout=dropout)
    before = checkpoints.variable_arrays(together.weights)

    def own(path: str) -> str:
        layer, _, kind = path.partition("/")
        return path if member == 1 or layer == "normalization" else f"{layer}_member{member}/{kind}"

    for weight in alone.weights:
        weight.assign(before[own(weight.path)])
    for _ in range(3):
        together.step(batch)
        alone.step(batch)
    after = checkpoints.variable_arrays(together.weights)
    for path, value in checkpoints.variable_arrays(alone.weights).items():
        np.testing.assert_allclose(after[own(path)], value, rtol=1e-4, atol=1e-6)
        assert path.startswith("normalization") or np.abs(value - before[own(path)]).max() > 0


def test_layers_are_frozen_in_every_member_and_a_contrastive_stage_moves_no_head():
    sources = some_sources(2)
    made = a_model("contrastive", sources, members=2, margin=2.0)
    stage_models.freeze_layers(made, ["stage1"])
    before = checkpoints.variable_arrays(made.weights)
    made.step(a_batch("contrastive", sources))
    moved = {
        path
        for path, value in checkpoints.variable_arrays(made.weights).items()
        if not np.array_equal(before[path], value)
    }
    assert moved == {
        f"features{ending}/{kind}" for ending in ("", "_member2") for kind in ("kernel", "bias")
    }


def test_classes_that_are_new_get_fresh_rows_in_every_head(tmp_path):
    parent, child = several(2), several(2)
    for weight in child.weights:
        weight.assign(weight + 1.0)
    fresh = checkpoints.variable_arrays(child.weights)
    checkpoints.save_arrays(
        tmp_path / "weights.safetensors", checkpoints.variable_arrays(parent.weights), {}
    )
    write_finished_stage(tmp_path, trained_emotions=["anger", "fear"])
    warm_start.assign_parent_weights(child, tmp_path)
    known = np.isin(EMOTIONS, ["anger", "fear"])
    for path, value in checkpoints.variable_arrays(child.weights).items():
        if path.startswith("head"):
            np.testing.assert_array_equal(
                value[..., known], checkpoints.variable_arrays(parent.weights)[path][..., known]
            )
            np.testing.assert_array_equal(value[..., ~known], fresh[path][..., ~known])
        else:
            np.testing.assert_array_equal(value, checkpoints.variable_arrays(parent.weights)[path])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with `records`, `toy.toml` and a `run` in which a stage of two members is trained."""
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


def train_stage(folder, *settings):
    experiment.train_experiment(
        experiment.TrainingOptions(
            "speech",
            str(folder / "toy.toml"),
            folder / "records",
            folder / "run",
            settings=settings,
        )
    )


def test_they_are_trained_scored_and_served_as_one(folder):
    result = json.loads((folder / "run" / "speech" / "metrics.json").read_text())
    evaluation = evaluate_run(folder / "run", folder / "records", "speech")
    scores = evaluation["sources"]["savee/audio"]
    assert scores["confusion"] == result["sources"]["savee/audio"]["confusion"]
    with pytest.raises(InputError, match="network.members: 2 .*, 1 requested"):
        train_stage(folder, "network.members=1")

    lineage = find_lineage(folder / "run", "speech")
    catalog = RecordCatalog(folder / "records")
    subset = catalog.subset(lineage.split(catalog), "savee/audio", "test")
    segments = subset.inputs[:4]
    outputs = lineage.load_network().predictor()(segments, subset.source.domain)
    assert outputs.embedding.shape == (4, 16) and outputs.logits.shape == (4, len(EMOTIONS))

    exporter.export_stage(exporter.ExportOptions(folder / "run", folder / "bundle", "speech"))
    bundle = Bundle.load(folder / "bundle")
    assert re.search(
        r"2 networks of kerasemo, whose mean logits answer, \d[\d ]* weights in all, read 64x64x3 log-Mel",
        bundle.card,
    )
    assert bundle.predict("embed_segments", segments=segments.astype(np.float32))[
        "embedding"
    ].shape == (4, 16)
    columns = [EMOTIONS.index(label) for label in bundle.labels]
    expected = keras.activations.softmax(ops.convert_to_tensor(outputs.logits[:, columns]))
    served = bundle.predict("segments", segments=segments.astype(np.float32))["probabilities"]
    np.testing.assert_allclose(served, expected, atol=1e-5)


@pytest.mark.endurance
@pytest.mark.parametrize("format", ["onnx", "litert"])
def test_other_formats_answer_as_one(folder, format):
    """An export fails where its answers are not the Keras model's."""
    result = exporter.export_stage(
        exporter.ExportOptions(folder / "run", folder / format, "speech", format=format)
    )
    assert result["differences"] and max(result["differences"].values()) < 1e-4
