"""Where and how the training computes: devices, precision and compiler.

Each is chosen by what the machine has unless it is asked for, and one line of the log says what was chosen and why.
"""

import dataclasses
import json
import os
import signal
import threading
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.config import (
    is_op_determinism_enabled,
)  # what Keras asks too; TensorFlow exports only the switch

from pipelines.core.errors import InputError
from pipelines.core.processes import processors

PRECISIONS = ("auto", "float32", "bfloat16")
COMPILERS = ("auto", "xla", "none")
BFLOAT16_CAPABILITY = (8, 0)
"""The first compute capability of NVIDIA's GPUs that has matrix units for bfloat16."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """How a training computes."""

    policy: str
    """Of `keras.config.set_dtype_policy`: `float32` or `mixed_bfloat16`, whose weights are float32."""
    jit_compile: bool
    """Whether XLA compiles the step."""
    line: str
    """All of it in one line, for the log."""


def choose(precision: str, compiler: str, strategy: tf.distribute.Strategy | None) -> Choice:
    """Return the precision and the compiler of a training.

    Args:
        precision: One of PRECISIONS. `auto`: bfloat16 on GPUs that have units for it, else float32.
        compiler: One of COMPILERS. `auto`: XLA on one GPU.
        strategy: Of `strategy_for`.

    Raises:
        InputError: An unknown precision or compiler, or XLA where it cannot be.
    """
    for option, value, known in (
        ("precision", precision, PRECISIONS),
        ("compiler", compiler, COMPILERS),
    ):
        if value not in known:
            raise InputError(f"--{option} must be one of {', '.join(known)}; received {value!r}")
    if precision == "auto":
        precision = "bfloat16" if _have_bfloat16_units() else "float32"
    obstacle, remedy = _against_xla(strategy)
    if compiler == "xla" and obstacle:
        raise InputError(f"--compiler xla: {obstacle}; {remedy}, or take --compiler auto or none")
    if compiler == "none":
        obstacle = "as asked for"
    elif compiler == "auto" and not obstacle and not tf.config.list_physical_devices("GPU"):
        obstacle = "oneDNN's convolutions are faster on a CPU"
    words = f"no XLA ({obstacle})" if obstacle else "compiled by XLA"
    policy = "mixed_bfloat16" if precision == "bfloat16" else "float32"
    return Choice(policy, not obstacle, f"{precision}, {words}, {_devices(strategy)}")


def replica_count(replicas: int | None) -> int:
    """Return on how many devices to train: as many as are asked for, else every GPU, else one CPU; on every machine of TF_CONFIG."""
    return workers() * (replicas or max(1, len(tf.config.list_physical_devices("GPU"))))


def strategy_for(replicas: int | None) -> tf.distribute.Strategy | None:
    """Return None for one device, a MirroredStrategy over several of one machine, else one over the machines of TF_CONFIG.

    To be called before TensorFlow computes anything.

    Args:
        replicas: How many devices; None: the GPUs there are. Where there is no GPU, logical CPUs stand for them. With
            several machines it must be None: each takes all its GPUs, or its CPU.

    Raises:
        InputError: There are GPUs, but fewer than that; or TF_CONFIG is no cluster.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if workers() > 1:
        if replicas is not None:
            raise InputError(
                f"--replicas {replicas}: TF_CONFIG names {workers()} machines, each of which takes all it has; leave it out"
            )
        return _joined()
    count = replica_count(replicas)
    if count == 1:
        return None
    if gpus:
        if count > len(gpus):
            raise InputError(f"--replicas {count}: expected at most the {len(gpus)} GPUs there are")
        return tf.distribute.MirroredStrategy([f"GPU:{index}" for index in range(count)])
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * count
    )
    # The default, collective operations, fails where one call makes several steps.
    return tf.distribute.MirroredStrategy(
        [f"CPU:{index}" for index in range(count)], tf.distribute.ReductionToOneDevice()
    )


def _joined() -> tf.distribute.Strategy:
    """Return the strategy over the machines of TF_CONFIG once all are there; Ctrl-C ends the process that waits for them."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_DFL) if main else None
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise InputError(
            f"TF_CONFIG: the machines do not find together ({str(error).splitlines()[0][:200]})"
        ) from error
    finally:
        if main:
            signal.signal(signal.SIGINT, before)


def workers() -> int:
    """Return how many machines the cluster in TF_CONFIG has, 1 without it.

    Raises:
        InputError: TF_CONFIG is not JSON, or has no `cluster` of workers or no `task` among them.
    """
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return 1
    shape = '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": 0}}'
    try:
        cluster, task = _cluster(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"TF_CONFIG: expected {shape}; received {text[:200]} ({error}); correct or unset it"
        ) from error
    if not 0 <= task["index"] < len(cluster[task["type"]]):
        raise InputError(
            f"TF_CONFIG: there is no {task['type']} {task['index']} in the cluster; they count from 0"
        )
    return sum(map(len, cluster.values()))


def check_one_machine(what: str) -> None:
    """Raise InputError where TF_CONFIG names several machines, which would do one another's work in one folder; `what` runs on one."""
    if workers() > 1:
        raise InputError(
            f"TF_CONFIG names {workers()} machines; {what} runs on one, so leave it out"
        )


def _cluster(document: Any) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """Return the machines that train, by kind, and which of them this one is; an error of Python where there are none."""
    cluster, task = document["cluster"], document["task"]
    if extra := sorted(set(cluster) - {"chief", "worker"}):
        raise ValueError(f"unknown kind of machine {extra[0]!r}")
    for kind, addresses in cluster.items():
        if not isinstance(addresses, list) or not all(
            isinstance(address, str) for address in addresses
        ):
            raise ValueError(f"the addresses of {kind} are no list of HOST:PORT")
        for address in addresses:
            host, _, port = address.rpartition(":")
            if not (host and port.isdigit() and 0 < int(port) < 65536):
                raise ValueError(f"{address!r} is no HOST:PORT")
    if task["type"] not in cluster or type(task["index"]) is not int:
        raise ValueError("the task is not of the cluster")
    return cluster, task


def _have_bfloat16_units() -> bool:
    gpus = tf.config.list_physical_devices("GPU")
    capabilities = [
        tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
        for gpu in gpus
    ]
    return bool(gpus) and min(capabilities) >= BFLOAT16_CAPABILITY


def _against_xla(strategy: tf.distribute.Strategy | None) -> tuple[str, str]:
    """Return why XLA cannot compile the step and what to do about it, or two empty texts."""
    if strategy is not None:
        return (
            f"it does not compile a step of {strategy.num_replicas_in_sync} devices",
            "train with --replicas 1",
        )
    if is_op_determinism_enabled():
        return "TensorFlow's op determinism is on", "leave enable_op_determinism out"
    return "", ""


def _devices(strategy: tf.distribute.Strategy | None) -> str:
    count = strategy.num_replicas_in_sync if strategy else 1
    machines = f" of {workers()} machines" if workers() > 1 else ""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        name = tf.config.experimental.get_device_details(gpus[0]).get(
            "device_name", "unknown model"
        )
        return f"{count} GPU{'s' * (count > 1)}{machines} ({name})"
    variable = os.environ.get(
        "TF_NUM_INTRAOP_THREADS", ""
    )  # which TensorFlow follows and does not tell of
    threads = (
        tf.config.threading.get_intra_op_parallelism_threads()
        or (int(variable) if variable.isdecimal() else 0)
        or processors()
    )
    share = " in all" if count > 1 and not machines else ""
    return f"{count} CPU device{'s' * (count > 1)}{machines} with {threads} thread{'s' * (threads > 1)}{share}"
