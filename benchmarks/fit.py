"""Times training as it is, fed by the input pipeline and watched, against the bare compiled step on one batch that is kept.

    python benchmarks/fit.py [--steps 12] [--rounds 5]

Training: batches from the pipeline, the values of every step fetched in blocks and written for TensorBoard, and the progress
bar. Supervised: 64 faces a step, with the random changes of `augment = true` and without. Joint: 32 pairs of a face and a
log-Mel segment a step, with the random changes. Then the same training split over two replicas, for which two logical devices
of the one processor stand where there is no GPU: what splitting costs. Faces and segments are synthesised.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import timing

BATCH = 64


def random_sources():
    """Return a source of faces and one of segments, of 1024 items each."""
    import numpy as np

    from kerasemo.datasets.sources import Source
    from pipelines.core.labels import EMOTIONS

    random = np.random.default_rng(0)
    rows = tuple({"id": str(n), "emotion": EMOTIONS[n % 6], "speaker": "1"} for n in range(128))
    faces = random.integers(0, 256, (1024, 64, 64, 3), np.uint8)
    segments = random.uniform(-90, 0, (1024, 64, 64, 3)).astype(np.float32)
    clip_of = np.repeat(np.arange(128), 8)
    return Source("faces/visual", rows, faces, clip_of), Source(
        "speech/audio", rows, segments, clip_of
    )


def training(kind: str, sources, changes, *, steps: int, turns: int, folder: Path, strategy=None):
    """Return a function that trains `steps` steps as a stage does, one that makes the bare step as often, and what is to be closed."""
    import contextlib

    import keras
    import numpy as np
    import tensorflow as tf

    from kerasemo.config.schema import StageConfig
    from kerasemo.datasets import batches as batches_module
    from kerasemo.datasets import sampling
    from kerasemo.datasets.sources import Subset
    from kerasemo.networks.network import build_network
    from kerasemo.training import devices
    from kerasemo.training.loop import StepLoop
    from kerasemo.training.monitoring import StageProgress
    from kerasemo.training.stage_models import STAGE_MODELS
    from kerasemo.training.tensorboard import TensorBoardWriter
    from pipelines.core import progress

    sides = [Subset(source, np.arange(len(source.inputs))) for source in sources]
    pairs = {"pairs": BATCH // 2, "seed": 0}
    plan = (
        sampling.item_sampler(sides[0], batch=BATCH, seed=0)
        if kind == "supervised"
        else sampling.pair_sampler(sides, **pairs)
    )
    choice = devices.choose_compute_settings("auto", "auto", strategy)
    print(choice.line)
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = STAGE_MODELS[kind](*build_network(), sources=[source.name for source in sources])
        model.compile(optimizer=keras.optimizers.AdamW(1e-3))
        model.optimizer.build(model.learnt_weights)
    loop = StepLoop(model, strategy=strategy, jit_compile=choice.jit_compile)
    batches, _ = batches_module.BatchStream(sources, plan, changes=changes, share=loop.share)
    feed, kept = loop.feed(batches), next(iter(batches))
    board, open_bars, done = TensorBoardWriter(folder, held=None), contextlib.ExitStack(), [0]
    stage = StageConfig(
        "fit", kind, tuple(source.name for source in sources), epochs=turns, batch=BATCH
    )
    bar = StageProgress(
        open_bars.enter_context(progress.bar("fit", unit="images")), stage, steps=steps
    )
    bar.start(0)
    bare_step = tf.function(model.step, jit_compile=choice.jit_compile)

    def train() -> None:
        values = np.stack([value.numpy() for value in [loop.step(feed) for _ in range(steps)]])
        rate = bar.advance(dict(zip(loop.names, values[-1].tolist(), strict=True)), steps)
        board.steps(
            [
                (done[0] + row + 1, dict(zip(loop.names, map(float, step), strict=True)))
                for row, step in enumerate(values)
            ]
        )
        done[0] += steps
        board.speed(done[0], rate)

    def bare() -> None:
        for _ in range(steps):
            terms = bare_step(kept)
        float(terms["loss"])

    return train, bare, open_bars


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument(
        "--only", nargs="*", metavar="KIND", help="supervised, joint (default: both)"
    )
    arguments = timing.begin(parser, cores=2, packages=("tensorflow", "keras"))
    from kerasemo.config.schema import DEFAULT_AUGMENT, AugmentConfig
    from kerasemo.training import devices
    from pipelines.core.errors import KerasemoError

    try:
        strategy = devices.create_strategy(2)
    except KerasemoError as error:
        print(f"two replicas are left out: {error}")
        strategy = None
    faces, segments = random_sources()
    with tempfile.TemporaryDirectory() as folder:
        for title, kind, sources, changes in (
            ("supervised", "supervised", [faces], AugmentConfig()),
            ("supervised, with random changes", "supervised", [faces], DEFAULT_AUGMENT),
            (
                "joint, pairs over two sources, with random changes",
                "joint",
                [faces, segments],
                DEFAULT_AUGMENT,
            ),
        ):
            if arguments.only and kind not in arguments.only:
                continue
            options = {
                "steps": arguments.steps,
                "turns": 1 + arguments.rounds,
                "folder": Path(folder) / title,
            }
            train, bare, bar = training(kind, sources, changes, **options)
            sides = {"training": train, "the bare step on one kept batch": bare}
            with bar:
                if strategy:
                    options["folder"] /= "two replicas"
                    sides["training on two replicas"], _, other_bar = training(
                        kind, sources, changes, **options, strategy=strategy
                    )
                    bar.enter_context(other_bar)
                taken = timing.seconds_in_turns(sides, arguments.rounds)
            timing.report(
                f"{title}, batches of {BATCH}",
                taken,
                amount=arguments.steps * BATCH,
                unit="examples/s",
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
