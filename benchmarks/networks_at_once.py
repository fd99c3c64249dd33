"""Times the training of networks side by side, a thread for each, against one after the other with all threads: what --jobs is for.

    python benchmarks/networks_at_once.py [--precision bfloat16] [--steps 20] [--rounds 5]

A step: uint8 faces to loss, gradients and AdamW. On each side every processor's network makes as many steps: at once in processes
of one thread, or in turn in one process. Starting, tracing and preparing, of which a sweep has much for small networks, are not in it.
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


def serve(name: str, threads: int, precision: str) -> None:
    """Be a process that trains: make as many steps as each line of standard input says, then say so."""
    widths, batch = NETWORKS[name]
    import keras
    import numpy as np
    import tensorflow as tf

    from kerasemo.config.schema import NetworkConfig
    from kerasemo.networks.network import build_network
    from kerasemo.training.loop import StepLoop
    from kerasemo.training.stage_models import STAGE_MODELS

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    random = np.random.default_rng(0)
    model = STAGE_MODELS["supervised"](
        *build_network(NetworkConfig(widths=widths)), sources=["faces/visual"]
    )
    model.compile(optimizer=keras.optimizers.AdamW(1e-3))
    model.optimizer.build(model.learnt_weights)
    given = {
        "image": tf.constant(random.integers(0, 256, (batch, 64, 64, 3), np.uint8)),
        "domain": tf.zeros(batch, tf.int32),
        "seed": tf.range(batch),
        "label": tf.constant(random.integers(0, 10, batch).astype(np.int32)),
        "mask": tf.ones((batch, 10)),
        "source": tf.zeros(batch, tf.int32),
    }
    steps, feed = StepLoop(model, strategy=None, jit_compile=False), itertools.repeat(given)
    for _ in range(3):
        steps.fetch([steps.step(feed)])
    print("ready", flush=True)
    for line in sys.stdin:
        for _ in range(int(line)):
            values = steps.step(feed)
        print(steps.fetch([values]), flush=True)


def started(name: str, threads: int, precision: str) -> subprocess.Popen:
    """Return a process that is ready to train."""
    import kerasemo  # noqa: F401  (sets what TensorFlow computes with)

    words = [sys.executable, __file__, "serve", name, str(threads), precision]
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    process.stdout.readline()
    return process


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--steps", type=int, default=20, help="of each network (default: %(default)s)"
    )
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--only", help="one network, such as 'small, batches of 16'")
    parser.add_argument(
        "--cores",
        type=int,
        default=2,
        help="how many processors, and networks (default: %(default)s)",
    )
    arguments = timing.begin(
        parser, cores=parser.parse_known_args()[0].cores, packages=("tensorflow", "keras")
    )
    for name, (_, batch) in NETWORKS.items():
        if arguments.only not in (None, name):
            continue
        alone = started(name, arguments.cores, arguments.precision)
        several = [started(name, 1, arguments.precision) for _ in range(arguments.cores)]

        def make(processes: list[subprocess.Popen], steps: int) -> None:
            for process in processes:
                process.stdin.write(f"{steps}\n")
            for process in processes:
                process.stdout.readline()

        sides = {
            "at once": functools.partial(make, several, arguments.steps),
            "one after the other": functools.partial(
                make, [alone], arguments.steps * arguments.cores
            ),
        }
        taken = timing.seconds_in_turns(sides, arguments.rounds)
        timing.report(
            f"{name}, {arguments.precision}",
            taken,
            amount=arguments.steps * arguments.cores * batch,
            unit="images/s",
        )
        for process in (alone, *several):
            process.stdin.close()
            process.wait()


if __name__ == "__main__":
    serve(sys.argv[2], int(sys.argv[3]), sys.argv[4]) if sys.argv[1:2] == ["serve"] else main()
