"""Time training networks side by side, a thread each, against one after the other.

    python benchmarks/networks_at_once.py [--precision bfloat16] [--steps 20] [--rounds 5]

This is what `--jobs` of `kerasemo.reproduce` is for. A step: uint8 faces to loss, gradients and
AdamW. Both ways make the same number of steps with as many networks as processors: side by side in
processes of one thread, or one after the other in one process. The time to start a process and to
trace and prepare a network, much of a study of small networks, does not count.
"""

import argparse
import functools
import itertools
import subprocess
import sys

import timing

NETWORKS = {
    "small, batches of 16": ((16, 32, 64, 128), 16),
    "small, batches of 32": ((16, 32, 64, 128), 32),
    "default, batches of 64": ((32, 64, 96, 128), 64),
}
"""Name -> the widths of the network, and the examples in a batch."""


def serve(name: str, threads: int, precision: str) -> None:
    """Run a process that trains: make as many steps as each line of standard input says.

    Args:
        name: A key of NETWORKS.
        threads: The number of threads.
        precision: `float32` or `bfloat16`.
    """
    widths, batch_size = NETWORKS[name]
    import keras
    import numpy as np
    import tensorflow as tf

    from kerasemo.config.schema import NetworkConfig, StageConfig
    from kerasemo.training.loop import StepLoop
    from kerasemo.training.stage_models import build_stage_model

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    random = np.random.default_rng(0)
    config = StageConfig("benchmark", "supervised", ("faces/visual",))
    model = build_stage_model(config, NetworkConfig(widths=widths))
    model.compile(optimizer=keras.optimizers.AdamW(1e-3))
    model.optimizer.build(model.learnt_weights)
    batch = {
        "image": tf.constant(random.integers(0, 256, (batch_size, 64, 64, 3), np.uint8)),
        "domain": tf.zeros(batch_size, tf.int32),
        "seed": tf.range(batch_size),
        "label": tf.constant(random.integers(0, 10, batch_size).astype(np.int32)),
        "mask": tf.ones((batch_size, 10)),
        "source": tf.zeros(batch_size, tf.int32),
    }
    loop, batches = StepLoop(model, strategy=None, jit_compile=False), itertools.repeat(batch)
    for _ in range(3):
        loop.fetch([loop.step(batches)])
    print("ready", flush=True)
    for line in sys.stdin:
        for _ in range(int(line)):
            values = loop.step(batches)
        print(loop.fetch([values]), flush=True)


def start_process(name: str, threads: int, precision: str) -> subprocess.Popen:
    """Return a process that is ready to train; see `serve`."""
    import kerasemo  # noqa: F401  (sets how TensorFlow computes)

    command = [sys.executable, __file__, "serve", name, str(threads), precision]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    process.stdout.readline()
    return process


def make_steps(processes: list[subprocess.Popen], steps: int) -> None:
    """Let processes make steps side by side, and wait for all."""
    for process in processes:
        process.stdin.write(f"{steps}\n")
    for process in processes:
        process.stdout.readline()


def main() -> None:
    """Time each of NETWORKS."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--steps", type=int, default=20, help="steps of each network (default: %(default)s)"
    )
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--only", help="one network, such as 'small, batches of 16'")
    parser.add_argument(
        "--cores",
        type=int,
        default=2,
        help="the number of processors, and of networks (default: %(default)s)",
    )
    n_cores = parser.parse_known_args()[0].cores
    arguments = timing.begin(parser, cores=n_cores, packages=("tensorflow", "keras"))
    for name, (_, batch_size) in NETWORKS.items():
        if arguments.only not in (None, name):
            continue
        with_all_threads = start_process(name, n_cores, arguments.precision)
        with_one_thread = [start_process(name, 1, arguments.precision) for _ in range(n_cores)]
        n_steps = arguments.steps * n_cores
        functions = {
            "side by side": functools.partial(make_steps, with_one_thread, arguments.steps),
            "one after the other": functools.partial(make_steps, [with_all_threads], n_steps),
        }
        seconds = timing.seconds_in_turns(functions, arguments.rounds)
        timing.report(
            f"{name}, {arguments.precision}",
            seconds,
            amount=n_steps * batch_size,
            unit="images/s",
        )
        for process in (with_all_threads, *with_one_thread):
            process.stdin.close()
            process.wait()


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2], int(sys.argv[3]), sys.argv[4])
    else:
        main()
