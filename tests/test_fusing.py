"""`--compiler fused`: XLA between the convolutions of a CPU, by a process that asks TensorFlow before it loads it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from synthetic_sets import write_experiment, write_set

ROOT = Path(__file__).resolve().parents[1]
STAGE = {
    "kind": "supervised",
    "sources": ["emodb/audio"],
    "batch": 8,
    "epochs": 2,
    "learning_rate": 1e-3,
    "ema": 0.9,
    "augment": {"time_mask": 0.3},
}
CLUSTER = "Compiled cluster using XLA"
"""What TensorFlow logs, once a process, where it has compiled a part of a graph."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A function that trains in a process of its own, by a compiler and with a precision, and returns its weights and what it wrote."""
    folder = tmp_path_factory.mktemp("fusing")
    write_set(folder / "records", "emodb/audio", speakers=4, takes=2)
    experiment = write_experiment(folder / "toy.toml", speech=STAGE)
    environment = {name: value for name, value in os.environ.items() if name != "TF_XLA_FLAGS"} | {"TF_CPP_MIN_LOG_LEVEL": "0"}

    def train(run: str, compiler: str, precision: str = "float32"):
        words = ["--experiment", str(experiment), "--records", str(folder / "records"), "--run", str(folder / run)]
        words += ["--compiler", compiler, "--precision", precision]
        command = [sys.executable, "-m", "kerasemo.train", "--stage", "speech", *words]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        return load_file(folder / run / "speech" / "weights.safetensors"), done.stderr

    return train


def test_clusters_are_compiled_and_the_weights_are_those_without(trained):
    """But for the order of sums, which a few steps of AdamW let grow."""
    (plain, told), (fused, told_fused) = trained("plain", "none"), trained("fused", "fused")
    assert CLUSTER in told_fused and "no XLA (but for what is between oneDNN's convolutions)" in told_fused
    assert CLUSTER not in told
    assert fused.keys() == plain.keys()
    for name, values in plain.items():
        np.testing.assert_allclose(fused[name], values, atol=2e-3, err_msg=name)


def test_nothing_but_the_step_is_compiled():
    """Log-Mels of clips of every length would be compiled for each, and use up what a process can map."""
    told = "from kerasemo import fusing; fusing.ask('fused'); import tensorflow as tf; from pipelines import mels; "
    told += "log_mel = tf.function(mels.log_mel, input_signature=[tf.TensorSpec([None])]); "
    told += "print([len(log_mel(tf.sin(tf.range(float(n))))) for n in (8000, 9000)])"
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "0", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", told], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(set(json.loads(done.stdout))) == 2 and CLUSTER not in done.stderr


@pytest.mark.endurance
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_same_command_gives_the_same_bits(trained, precision):
    one, other = (trained(f"{precision}-{number}", "fused", precision)[0] for number in range(2))
    assert one.keys() == other.keys() and all(np.array_equal(values, other[name]) for name, values in one.items())
