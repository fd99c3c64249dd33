"""The devices, the precision and the compiler of a training.

What the user does not choose depends on the machine. A log line says what was chosen and why.
"""

import dataclasses
import json
import os
import signal
import threading
from typing import Any

import tensorflow as tf

# Keras asks this function too; TensorFlow exports only the switch.
from tensorflow.python.framework.config import is_op_determinism_enabled

from pipelines.core.errors import InputError, RunError
from pipelines.core.processes import processor_count
from pipelines.core.text import pluralize

PRECISIONS = ("auto", "float32", "bfloat16")
COMPILERS = ("auto", "xla", "none")
BFLOAT16_CAPABILITY = (8, 0)
"""The first compute capability of NVIDIA GPUs that has matrix units for bfloat16."""


@dataclasses.dataclass(frozen=True)
class ComputeSettings:
    """The devices, the precision and the compiler of a training."""

    policy: str
    """A dtype policy of Keras: `float32`, or `mixed_bfloat16`, whose weights are float32."""
    jit_compile: bool
    """Whether XLA compiles the step."""
    description: str
    """Precision, compiler and devices in one line, for the log."""


def choose_compute_settings(
    precision: str, compiler: str, strategy: tf.distribute.Strategy | None
) -> ComputeSettings:
    """Return the precision and the compiler of a training.

    Args:
        precision: One of PRECISIONS. `auto`: bfloat16 on GPUs with units for it, else float32.
        compiler: One of COMPILERS. `auto`: XLA on exactly one GPU, else none.
        strategy: See `create_strategy`.

    Raises:
        InputError: The precision or the compiler is unknown, or XLA cannot compile the step.
    """
    for option, value, known in (
        ("precision", precision, PRECISIONS),
        ("compiler", compiler, COMPILERS),
    ):
        if value not in known:
            raise InputError(f"--{option} must be one of {', '.join(known)}; received {value!r}")
    if precision == "auto":
        precision = "bfloat16" if _gpus_have_bfloat16_units() else "float32"
    obstacle, remedy = _xla_obstacle(strategy)
    if compiler == "xla" and obstacle:
        raise InputError(f"--compiler xla: {obstacle}; {remedy}, or use --compiler auto or none")
    if compiler == "none":
        obstacle = "as requested"
    elif compiler == "auto" and not obstacle and not tf.config.list_physical_devices("GPU"):
        obstacle = "oneDNN's convolutions are faster on a CPU"
    compilation = f"no XLA ({obstacle})" if obstacle else "compiled by XLA"
    policy = "mixed_bfloat16" if precision == "bfloat16" else "float32"
    description = f"{precision}, {compilation}, {_describe_devices(strategy)}"
    return ComputeSettings(policy, jit_compile=not obstacle, description=description)


def replica_count(replicas: int | None) -> int:
    """Return the number of devices to train on, on all machines of TF_CONFIG together.

    Args:
        replicas: The number on each machine; None: every GPU, or one CPU.
    """
    return worker_count() * (replicas or max(1, len(tf.config.list_physical_devices("GPU"))))


def create_strategy(replicas: int | None) -> tf.distribute.Strategy | None:
    """Return the strategy of a training; call it before TensorFlow computes anything.

    Args:
        replicas: The number of devices; None: every GPU. Without a GPU, logical CPUs are the
            devices. With several machines it must be None: each takes all its GPUs, or its CPU.

    Returns:
        None for one device, a MirroredStrategy for several devices of one machine, a
        MultiWorkerMirroredStrategy for the machines of TF_CONFIG.

    Raises:
        InputError: There are fewer GPUs than requested, or TF_CONFIG is not a cluster.
        RunError: The machines of TF_CONFIG do not reach each other.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if worker_count() > 1:
        if replicas is not None:
            raise InputError(
                f"--replicas {replicas}: TF_CONFIG names {worker_count()} machines, and each "
                "takes all its devices; leave the option out"
            )
        return _join_workers()
    n_devices = replica_count(replicas)
    if n_devices == 1:
        return None
    if gpus:
        if n_devices > len(gpus):
            raise InputError(
                f"--replicas {n_devices}: expected at most {len(gpus)}, one for each GPU"
            )
        return tf.distribute.MirroredStrategy([f"GPU:{index}" for index in range(n_devices)])
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * n_devices
    )
    # The default, collective operations, fails where one call makes several steps.
    return tf.distribute.MirroredStrategy(
        [f"CPU:{index}" for index in range(n_devices)], tf.distribute.ReductionToOneDevice()
    )


def _join_workers() -> tf.distribute.Strategy:
    """Return the strategy of the machines of TF_CONFIG once all are reached.

    Ctrl-C ends the wait.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL) if in_main_thread else None
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise RunError(
            "TF_CONFIG: the machines do not reach each other "
            f"({str(error).splitlines()[0][:200]}); check the addresses, and start the same "
            "command on each machine"
        ) from error
    finally:
        if in_main_thread:
            signal.signal(signal.SIGINT, handler)


def worker_count() -> int:
    """Return the number of machines of the cluster in TF_CONFIG; 1 without TF_CONFIG.

    Raises:
        InputError: TF_CONFIG is not JSON, or has no `cluster` of workers, or no `task` in the
            cluster.
    """
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return 1
    expected = '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": 0}}'
    try:
        cluster, task = _parse_cluster(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"TF_CONFIG: expected {expected}; received {text[:200]} ({error}); correct or unset it"
        ) from error
    if not 0 <= task["index"] < len(cluster[task["type"]]):
        raise InputError(
            f"TF_CONFIG: the cluster has no {task['type']} {task['index']}; the numbers start at 0"
        )
    return sum(map(len, cluster.values()))


def check_one_machine(command: str) -> None:
    """Raise InputError if TF_CONFIG names several machines, which would repeat each other's work.

    Args:
        command: What runs on one machine only, such as `a search`.
    """
    if worker_count() > 1:
        raise InputError(
            f"TF_CONFIG names {worker_count()} machines; {command} runs on one machine: unset "
            "TF_CONFIG"
        )


def _parse_cluster(document: Any) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """Return the addresses of machines by kind, and the task of this machine.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: The document is not a cluster.
    """
    cluster, task = document["cluster"], document["task"]
    unknown = sorted(set(cluster) - {"chief", "worker"})
    if unknown:
        raise ValueError(f"unknown kind of machine {unknown[0]!r}")
    for kind, addresses in cluster.items():
        if not isinstance(addresses, list) or not all(
            isinstance(address, str) for address in addresses
        ):
            raise ValueError(f"the addresses of {kind} are not a list of HOST:PORT")
        for address in addresses:
            host, _, port = address.rpartition(":")
            if not (host and port.isdigit() and 0 < int(port) < 65536):
                raise ValueError(f"{address!r} is not HOST:PORT")
    if task["type"] not in cluster or type(task["index"]) is not int:
        raise ValueError("the task is not in the cluster")
    return cluster, task


def _gpus_have_bfloat16_units() -> bool:
    gpus = tf.config.list_physical_devices("GPU")
    capabilities = [
        tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
        for gpu in gpus
    ]
    return bool(gpus) and min(capabilities) >= BFLOAT16_CAPABILITY


def _xla_obstacle(strategy: tf.distribute.Strategy | None) -> tuple[str, str]:
    """Return why XLA cannot compile the step and the remedy; two empty texts if it can."""
    if strategy is not None:
        return (
            f"it does not compile a step of {strategy.num_replicas_in_sync} devices",
            "train with --replicas 1",
        )
    if is_op_determinism_enabled():
        return "TensorFlow's op determinism is on", "leave enable_op_determinism out"
    return "", ""


def _describe_devices(strategy: tf.distribute.Strategy | None) -> str:
    n_devices = strategy.num_replicas_in_sync if strategy else 1
    machines = f" of {worker_count()} machines" if worker_count() > 1 else ""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        model = details.get("device_name", "unknown model")
        return f"{pluralize(n_devices, 'GPU')}{machines} ({model})"
    # TensorFlow obeys this variable but does not report it.
    from_environment = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    n_threads = (
        tf.config.threading.get_intra_op_parallelism_threads()
        or (int(from_environment) if from_environment.isdecimal() else 0)
        or processor_count()
    )
    total = " in total" if n_devices > 1 and not machines else ""
    threads = pluralize(n_threads, "thread")
    return f"{pluralize(n_devices, 'CPU device')}{machines} with {threads}{total}"
