"""Many networks at once in plain JAX (benchmarks/many_*.py): each is kerasemo's network, by itself, and sees its own training side."""

import csv
import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from synthetic_sets import write_set

from kerasemo import answered, chain, data, metrics
from kerasemo.settings import Network
from pipelines import mels
from pipelines.spec import EMOTIONS

jax = pytest.importorskip("jax", reason="jax is not installed: pip install -e '.[benchmarks]'")

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "benchmarks"))  # behind all others: its names hide nothing

import many_batches  # noqa: E402
import many_network  # noqa: E402
import many_sounds  # noqa: E402
import many_steps  # noqa: E402
import many_training  # noqa: E402

TABLE = "a/audio:speaker-independent"
SMALL = Network(widths=(8, 16), convolutions=1, embedding=16, pool="rows", dropout=0.2)  # tones differ in their rows
QUICK = many_batches.Recipe(steps=40, batch=8, learning_rate=3e-3)
UNCHANGED = dataclasses.replace(QUICK, speed=0.0, time_mask=0.0, frequency_mask=0.0, frequency_warp=0.0, gain_db=0.0, label_smoothing=0.0)
WITHOUT_TENSORFLOW = """
import runpy, sys
sys.modules |= dict.fromkeys(("tensorflow", "keras"))  # importing them fails
sys.argv = sys.argv[1:]
sys.path.insert(0, "benchmarks")
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def ran(*words, expected=0):
    """Run Python in the repository and return what it printed, or, where it is to fail, what it says."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    words = [sys.executable, *map(str, words)]
    finished = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert finished.returncode == expected, finished.stderr[-3000:]
    return finished.stdout if expected == 0 else finished.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Records of four speakers with their sound, and what step 1 makes of them."""
    folder = tmp_path_factory.mktemp("many")
    write_set(folder / "records", "a/audio", speakers=4, waveform=True)
    words = ("--records", folder / "records", "--out", folder / "arrays.npz", "--tables", TABLE)
    said = ran("benchmarks/many_arrays.py", *words)
    assert "processors; Python" in said and f"{TABLE}: 4 folds, the first of train 15, validation 3, test 6 clips" in said
    return folder


@pytest.fixture(scope="module")
def arrays(folder):
    with np.load(folder / "arrays.npz") as held:
        return {name: held[name] for name in held.files}


@pytest.fixture(scope="module")
def sounds(folder):
    return many_sounds.read_sounds(folder / "arrays.npz")


@pytest.fixture(scope="module")
def sides(arrays):
    return many_sounds.read_sides(arrays, [TABLE], [0])


SHAPES = {
    "rows": dataclasses.replace(SMALL, convolutions=2),
    "average": dataclasses.replace(SMALL, pool="average"),
    "residual and squeeze": dataclasses.replace(SMALL, blocks="residual", squeeze=4),
}


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES)
def test_it_is_kerasemos_network(config):
    """Two networks side by side answer as two of Keras do, with weights that are all different from what they start with."""
    import keras

    from kerasemo.model import build_network

    random = np.random.default_rng(0)
    images = random.normal(-30, 15, (2, 5, 64, 64, 3)).astype(np.float32)
    mean, scale = random.normal(-30, 5, (2, 64, 1, 3)), random.uniform(5, 20, (2, 64, 1, 3))
    weights = jax.jit(jax.vmap(lambda key: many_network.initial_weights(key, config)))(jax.random.split(jax.random.key(0), 2))
    weights = {path: np.asarray(values) + random.normal(0, 0.1, values.shape).astype(np.float32) for path, values in weights.items()}
    normal = ((images - mean[:, None]) / scale[:, None]).astype(np.float32)
    ours, half = (
        jax.jit(jax.vmap(lambda own, images, dtype=dtype: many_network.logits(own, images, config, dtype=dtype)))(weights, normal)
        for dtype in ("float32", "bfloat16")
    )
    model = keras.Model(*build_network(config))
    for lane in range(2):
        own = {path: np.asarray(values[lane]) for path, values in (weights | many_training.statistics(mean, scale)).items()}
        assert {weight.path: tuple(weight.shape) for weight in model.weights} == {path: values.shape for path, values in own.items()}
        for weight in model.weights:
            weight.assign(own[weight.path])
        inputs = {"image": images[lane], "domain": np.ones(5, np.int32), "seed": np.zeros(5, np.int32)}
        theirs = np.asarray(model(inputs, training=False)["logits"])
        np.testing.assert_allclose(ours[lane], theirs, atol=1e-3)
    assert np.abs(ours[0] - ours[1]).max() > 0.1
    np.testing.assert_allclose(half, ours, atol=0.2)


def test_segments_are_those_of_the_records(folder, arrays, sounds):
    """But for the rounding to float16: 0.03 dB at -100 dB; and at another speed a clip is as much shorter."""
    theirs = data.read_source(folder / "records", "a/audio")
    assert [row["id"] for row in theirs.rows] == arrays["ids"].tolist() and (theirs.clip_of == arrays["clip_of"]).all()
    ours = np.asarray(many_sounds.segments_of(sounds, np.arange(len(theirs.inputs))))
    np.testing.assert_allclose(ours, theirs.inputs, atol=0.05)
    clip = arrays["log_mels"][: arrays["frames"][0, 0]].astype(np.float32)
    np.testing.assert_allclose(many_sounds.with_deltas(clip), mels.with_deltas(clip).numpy(), atol=1e-4)
    as_recorded, slower, faster = arrays["frames"]
    assert np.abs(slower * 0.9 - as_recorded).max() < 5 and np.abs(faster * 1.1 - as_recorded).max() < 5
    loudest = [np.argmax(arrays["log_mels"][first : first + 64].mean(axis=0)) for first in arrays["firsts"][:, 0]]
    assert loudest[1] < loudest[0] < loudest[2]  # the Mel bin of the first clip's tone


def test_sides_are_those_of_the_gate(folder, arrays, sides):
    for side in sides:
        gated = chain.gated_sides(folder / "records", ["a/audio"], trained_on=["a/audio"], protocol="speaker-independent", fold=side.fold)
        for name in ("train", "validation"):
            clips = set(arrays["ids"][arrays["clip_of"][getattr(side, name)]])
            assert clips == set(gated.ids["a/audio"][name]) and not clips & set(gated.ids["a/audio"]["test"])


@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_batches_show_the_training_side_alone(sounds, sides, mixup):
    """Frames of training clips are made 1, all others 0; what a batch shows is 1 at whatever place, speed and warp."""
    recipe = dataclasses.replace(QUICK, batch=64, gain_db=0.0, mixup=mixup, jitter_frames=40)
    for side in sides:
        marked = np.zeros(sounds.features.shape, np.float16)
        for clip in np.unique(np.asarray(sounds.clip_of)[side.train]):
            for first, count in zip(sounds.firsts[:, clip], sounds.frames[:, clip], strict=True):
                marked[first : first + count] = 1
        assert 0.5 < marked.mean() < 0.7  # of four speakers' clips those of three, less validation
        (lane,) = (jax.tree.map(lambda own: own[0], many_sounds.lanes_of([side], sounds, balance="classes")),)
        lane = lane._replace(mean=np.zeros((64, 1, 3), np.float32), scale=np.ones((64, 1, 3), np.float32))
        images, targets = many_batches.draw(jax.random.key(1), lane, sounds._replace(features=jax.numpy.array(marked)), recipe)
        assert images.shape == (64, 64, 64, 3) and targets.shape == (64, 10)
        np.testing.assert_allclose(images[..., 0], 1, atol=1e-5)  # masks show the mean, which is 1
        smooth, there = np.asarray(targets).sum(axis=0), [EMOTIONS.index(emotion) for emotion in EMOTIONS[:3]]
        assert (smooth[there] > 0).all() and smooth.sum() == pytest.approx(64, rel=0.3)
        assert not np.delete(smooth, there).any()


def test_changes_are_what_they_say():
    """Nothing at strengths of 0; a gain leaves derivatives alone; a mask shows the mean and no change; a warp moves along the Mel axis."""
    random = np.random.default_rng(0)
    images, drawn = random.normal(-40, 10, (4, 64, 64, 3)).astype(np.float32), random.random((6, 4), np.float32)

    def changed(**strengths):
        return np.asarray(many_batches.changed(drawn, images, dataclasses.replace(UNCHANGED, **strengths)))

    np.testing.assert_allclose(changed(), images, atol=1e-4)
    louder = changed(gain_db=6.0) - images
    np.testing.assert_allclose(louder[..., 1:], 0, atol=1e-4)
    gains = louder[..., 0].mean(axis=(1, 2))
    np.testing.assert_allclose(louder[..., 0], np.broadcast_to(gains[:, None, None], (4, 64, 64)), atol=1e-3)
    assert 0.5 < np.abs(gains).max() <= 6
    for strengths, axis in ({"time_mask": 0.5}, 1), ({"frequency_mask": 0.5}, 2):
        masked = changed(**strengths)
        lost = (np.abs(masked[..., 1:]).max(axis=(axis, 3)) < 1e-6).sum(axis=1)  # [examples]: frames or bins
        assert lost.max() > 0 and lost.max() <= 32
        whole = np.abs(masked - images).max(axis=(axis, 3)) < 1e-3
        assert (whole.sum(axis=1) == 64 - lost).all()
    ramp = np.broadcast_to(np.arange(64, dtype=np.float32)[None, :, None, None], images.shape)
    warped = np.asarray(many_batches.changed(drawn, ramp, dataclasses.replace(UNCHANGED, frequency_warp=0.2)))
    factors = warped[:, 10, 0, 0] / 10
    np.testing.assert_allclose(warped[:, :, 0, 1], np.minimum(factors[:, None] * np.arange(64), 63), atol=1e-3)
    assert 0.8 <= factors.min() < factors.max() <= 1.2


def trained(sides, sounds, recipe=QUICK, *, count=None):
    lanes = many_sounds.lanes_of(sides, sounds, balance=recipe.balance)
    state = jax.vmap(lambda lane: many_steps.initial_state(lane, SMALL))(lanes)
    how = {"recipe": recipe, "config": SMALL, "dtype": "float32"}
    losses = []
    for first in range(0, count or recipe.steps, 10):
        state, loss = many_steps.trained(state, lanes, sounds, first=first, count=10, **how)
        losses.append(np.asarray(loss))
    return state, losses


def test_training_lowers_the_loss_of_every_network(sounds, sides):
    """Without a moving average it is the last weights that are kept."""
    state, losses = trained(sides[:2], sounds, dataclasses.replace(UNCHANGED, ema=0.0))
    assert (losses[-1] < 0.7 * losses[0]).all(), losses
    kernel = np.asarray(state.weights["features/kernel"])
    assert kernel.shape[0] == 2 and np.abs(kernel[0] - kernel[1]).max() > 0.01
    np.testing.assert_array_equal(state.average["features/kernel"], kernel)


def test_a_network_does_not_depend_on_the_others(sounds, sides):
    """Beside another fold of fewer segments its weights are the same; with other segments of its own they are not."""
    few = dataclasses.replace(sides[2], train=sides[2].train[:7])
    other = dataclasses.replace(sides[0], train=sides[0].train[::2])
    states = [trained(these, sounds, count=10)[0] for these in ((sides[0], sides[1]), (sides[0], few), (other, sides[1]))]
    weights = [state.average for state in states]
    assert all(np.abs(state.average["head/kernel"] - state.weights["head/kernel"]).max() > 1e-4 for state in states)
    for path in weights[0]:
        one, two, three = (np.asarray(own[path][0]) for own in weights)
        np.testing.assert_allclose(one, two, atol=1e-6, err_msg=path)
        assert np.abs(one - three).max() > 1e-4, path
        np.testing.assert_allclose(weights[0][path][1], weights[2][path][1], atol=1e-6, err_msg=path)


def test_the_rate_rises_then_falls():
    recipe = dataclasses.replace(QUICK, warmup=0.25)
    rates = [float(many_steps.learning_rate(step, recipe)) for step in range(40)]
    assert rates[:11] == pytest.approx([3e-3 * (step + 1) / 10 for step in range(10)] + [3e-3])
    assert rates[25] == pytest.approx(1.5e-3) and 0 < rates[-1] < 1e-4  # half way down the cosine, and near its end


@pytest.fixture(scope="module")
def weights(folder):
    """What step 2 trains without TensorFlow, and what it says of it."""
    words = ("--seeds", 0, 1, "--steps", 60, "--batch", 16, "--checks", 2, "--dtype", "float32", "--widths", 8, 16, "--convolutions", 1)
    script = ("-c", WITHOUT_TENSORFLOW, "benchmarks/many_training.py")
    said = ran(*script, folder / "arrays.npz", "--out", folder / "weights.npz", "--learning-rate", 3e-3, *words)
    return folder / "weights.npz", said


def test_step_2_needs_no_tensorflow_and_says_what_it_did(weights):
    path, said = weights
    assert "processors; Python" in said and "8 networks of " in said
    assert re.search(r"step 60: \d+\.\d s, \d+ segments/s, mean loss \d\.\d{3}", said), said
    with np.load(path) as held:
        assert held["stage1_conv1/kernel"].shape == (8, 3, 3, 3, 8) and json.loads(str(held["network"]))["widths"] == [8, 16]
        assert held["table"].tolist() == [TABLE] * 8 and sorted(zip(held["fold"], held["seed"])) == [
            (f, s) for f in range(4) for s in (0, 1)
        ]


def test_step_3_scores_what_step_2_trained(folder, weights, tmp_path):
    """The validation figures of both are the same; at test clips it looks once, and keeps what was answered."""
    path, said = weights
    words = ("benchmarks/many_scores.py", path, "--records", folder / "records", "--out", tmp_path)
    scored = ran(*words)
    assert "processors; Python" in scored and f"{TABLE}: 12 validation clips of 4 folds" in scored
    of_step_2 = dict(re.findall(r"seed (\d): validation UA (\d+\.\d)", said.partition("step 60")[2]))
    assert re.search(r"UA .*by seed 0: (\S+), 1: (\S+)", scored).groups() == (of_step_2["0"], of_step_2["1"])
    assert not (tmp_path / "looks.jsonl").exists()
    final = ran(*words, "--final")
    assert "look 1 at test clips" in final and "t over 4 speakers" in final
    with open(tmp_path / "a-audio-speaker-independent-test.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 48 and {(row["speaker"], row["fold"]) for row in rows} == {(f"a:{fold + 1}", str(fold)) for fold in range(4)}
    both = [[EMOTIONS.index(row[name]) for row in rows if row["seed"] == "0"] for name in ("emotion", "answer")]
    assert f"by seed 0: {100 * metrics.unweighted_accuracy(*both, n_classes=10):.1f}" in final
    (kept,) = answered.read(tmp_path / "a-audio-speaker-independent-test.csv").values()
    assert (kept.side, kept.protocol, kept.pool.seeds) == ("test", "speaker-independent", (0, 1)) and len(kept.pool.clips) == 24


def test_what_is_missing_is_named(folder, weights, tmp_path):
    write_set(tmp_path, "b/audio", speakers=4)
    words = ("--records", tmp_path, "--out", tmp_path / "arrays.npz", "--tables", "b/audio:speaker-independent")
    assert "needs records that were built with --waveform" in ran("benchmarks/many_arrays.py", *words, expected=1)
    words = ("--out", tmp_path / "weights.npz", "--tables", "b/audio:speaker-independent")
    assert f"has {TABLE}; received b/audio" in ran("benchmarks/many_training.py", folder / "arrays.npz", *words, expected=1)
    words = (weights[0], "--records", folder / "records", "--out", tmp_path, "--tables", "b/audio:speaker-independent")
    assert f"expected some of {TABLE}" in ran("benchmarks/many_scores.py", *words, expected=1)
