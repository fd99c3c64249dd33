import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from helpers.paths import PYTHONPATH
from kerasemo.training import devices
from pipelines.core import processes
from pipelines.core.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
TWO_MACHINES = {
    "cluster": {"worker": ["10.0.0.1:4000", "10.0.0.2:4000"]},
    "task": {"type": "worker", "index": 1},
}


@pytest.fixture
def gpus(monkeypatch):
    """A function that has TensorFlow see GPUs of some compute capabilities."""

    def pretend(*capabilities):
        details_of = {
            f"GPU:{index}": {"device_name": "NVIDIA X", "compute_capability": each}
            for index, each in enumerate(capabilities)
        }
        listed = tf.config.list_physical_devices
        monkeypatch.setattr(
            tf.config,
            "list_physical_devices",
            lambda kind: list(details_of) if kind == "GPU" else listed(kind),
        )
        monkeypatch.setattr(tf.config.experimental, "get_device_details", details_of.get)

    return pretend


@pytest.fixture
def cluster(monkeypatch):
    """A function that sets TF_CONFIG to a document or a text."""
    return lambda document: monkeypatch.setenv(
        "TF_CONFIG", document if isinstance(document, str) else json.dumps(document)
    )


@pytest.fixture(scope="module")
def replicated():
    """What a process finds that has two logical CPUs: see `main`."""
    environment = {
        **os.environ,
        "PYTHONPATH": PYTHONPATH,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(
        [sys.executable, __file__], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    strategy = devices.create_strategy(2)
    choice = devices.choose_compute_settings("auto", "auto", strategy)
    facts = {
        "replicas": strategy.num_replicas_in_sync,
        "jit": choice.jit_compile,
        "line": choice.description,
    }
    facts["sum"] = float(
        strategy.reduce(
            "SUM",
            strategy.run(
                lambda: tf.distribute.get_replica_context().all_reduce("SUM", tf.ones(()))
            ),
            None,
        )
    )
    try:
        devices.choose_compute_settings("auto", "xla", strategy)
    except InputError as error:
        facts["error"] = str(error)
    facts["reduction"] = type(strategy.extended._cross_device_ops).__name__
    print(json.dumps(facts))


def test_one_cpu_computes_in_float32_without_xla(monkeypatch):
    monkeypatch.setattr(tf.config.threading, "get_intra_op_parallelism_threads", lambda: 3)
    choice = devices.choose_compute_settings("auto", "auto", None)
    line = (
        "float32, no XLA (oneDNN's convolutions are faster on a CPU), 1 CPU device with 3 threads"
    )
    assert choice == devices.ComputeSettings("float32", False, line)


def test_thread_limits_of_the_environment_are_logged(monkeypatch):
    """TensorFlow reads the variable, and does not say so."""
    monkeypatch.setattr(tf.config.threading, "get_intra_op_parallelism_threads", lambda: 0)
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "5")
    assert devices.choose_compute_settings("auto", "auto", None).description.endswith(
        "1 CPU device with 5 threads"
    )
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS")
    assert (
        devices.choose_compute_settings("auto", "auto", None)
        .description.split("with ")[1]
        .startswith(f"{processes.processor_count()} thread")
    )


@pytest.mark.parametrize(
    ("precision", "compiler", "expected"),
    [
        ("bfloat16", "xla", ("mixed_bfloat16", True, "bfloat16, compiled by XLA, 1 CPU device")),
        (
            "bfloat16",
            "none",
            ("mixed_bfloat16", False, "bfloat16, no XLA (as requested), 1 CPU device"),
        ),
        ("float32", "none", ("float32", False, "float32, no XLA (as requested), 1 CPU device")),
    ],
)
def test_requested_precision_and_compiler_are_used(precision, compiler, expected):
    choice = devices.choose_compute_settings(precision, compiler, None)
    assert (
        (choice.policy, choice.jit_compile) == expected[:2]
        and choice.description.startswith(expected[2])
        and "\n" not in choice.description
    )


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ([(8, 0)], "bfloat16"),
        ([(9, 0), (8, 6)], "bfloat16"),
        ([(7, 5)], "float32"),
        ([(9, 0), (7, 0)], "float32"),
    ],
)
def test_gpus_compute_in_bfloat16_when_all_have_units_for_it(gpus, capabilities, precision):
    gpus(*capabilities)
    choice = devices.choose_compute_settings("auto", "auto", None)
    assert choice.description == f"{precision}, compiled by XLA, 1 GPU (NVIDIA X)"
    assert (
        choice.policy == {"bfloat16": "mixed_bfloat16", "float32": "float32"}[precision]
        and choice.jit_compile
    )
    assert devices.choose_compute_settings("float32", "auto", None).policy == "float32"
    assert devices.replica_count(None) == len(capabilities) and devices.replica_count(1) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("float16", "auto"),
            "--precision.*auto, float32, bfloat16; received 'float16'",
        ),
        (("auto", "jit"), "--compiler.*auto, xla, none; received 'jit'"),
    ],
)
def test_unknown_words_are_refused(words, message):
    with pytest.raises(InputError, match=message):
        devices.choose_compute_settings(*words, None)


def test_op_determinism_turns_xla_off(monkeypatch):
    monkeypatch.setattr(devices, "is_op_determinism_enabled", lambda: True)
    choice = devices.choose_compute_settings("auto", "auto", None)
    assert not choice.jit_compile
    assert "op determinism" in choice.description
    with pytest.raises(
        InputError,
        match="--compiler xla: TensorFlow's op determinism.*leave enable_op_determinism out",
    ):
        devices.choose_compute_settings("auto", "xla", None)


def test_two_logical_cpus_stand_for_two_devices(replicated):
    assert (
        replicated["replicas"] == 2
        and replicated["sum"] == 4
        and replicated["reduction"] == "ReductionToOneDevice"
    )
    assert not replicated["jit"]
    assert replicated["line"].startswith(
        "float32, no XLA (it does not compile a step of 2 devices), 2 CPU devices with "
    )
    expected = "--compiler xla: it does not compile a step of 2 devices; train with --replicas 1, or use --compiler auto or none"
    assert replicated["error"] == expected


def test_one_device_needs_no_strategy():
    assert devices.create_strategy(None) is None and devices.create_strategy(1) is None


def test_more_replicas_than_gpus_are_refused(gpus):
    gpus((8, 0), (8, 0))
    with pytest.raises(InputError, match="--replicas 3: expected at most 2"):
        devices.create_strategy(3)


def test_several_machines_make_a_strategy_over_them(cluster, gpus, monkeypatch):
    cluster(TWO_MACHINES | {"cluster": {"chief": ["10.0.0.3:4000"], **TWO_MACHINES["cluster"]}})
    assert devices.worker_count() == 3 and devices.replica_count(None) == 3
    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", lambda: "over machines")
    assert devices.create_strategy(None) == "over machines"
    with pytest.raises(
        InputError,
        match="--replicas 2: TF_CONFIG names 3 machines, .* all its devices; leave",
    ):
        devices.create_strategy(2)
    gpus((8, 0), (8, 0))
    assert devices.replica_count(None) == 6


@pytest.mark.parametrize("address", [[], ["10.0.0.1:4000"]])
def test_cluster_of_one_machine_needs_no_strategy(cluster, address):
    if address:
        cluster({"cluster": {"worker": address}, "task": {"type": "worker", "index": 0}})
    else:
        cluster("")
    assert devices.worker_count() == 1 and devices.create_strategy(None) is None


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("worker0", "received worker0 .*; correct.*unset"),
        ("[]", r"expected \{\"cluster\": "),
        ({"task": TWO_MACHINES["task"]}, "'cluster'"),
        ({"cluster": TWO_MACHINES["cluster"]}, "'task'"),
        (
            {**TWO_MACHINES, "cluster": {"worker": "10.0.0.1:4000"}},
            "addresses.*worker.*list.*HOST:PORT",
        ),
        (
            {**TWO_MACHINES, "cluster": {"ps": ["10.0.0.1:4000"], **TWO_MACHINES["cluster"]}},
            "unknown kind.*machine 'ps'",
        ),
        ({**TWO_MACHINES, "task": {"type": "chief", "index": 0}}, "task.*cluster"),
        ({**TWO_MACHINES, "task": {"type": "worker"}}, "'index'"),
        (
            {**TWO_MACHINES, "task": {"type": "worker", "index": "1"}},
            "task.*cluster",
        ),
        (
            {**TWO_MACHINES, "task": {"type": "worker", "index": 2}},
            "no worker 2.* start at 0",
        ),
    ],
)
def test_wrong_tf_config_is_refused(cluster, document, message):
    cluster(document)
    with pytest.raises(InputError, match=f"^TF_CONFIG: .*{message}"):
        devices.create_strategy(None)


if __name__ == "__main__":
    main()
