"""Time training as a stage trains, against the bare compiled step on one constant batch.

    python benchmarks/fit.py [--steps 12] [--rounds 5]

Training: batches from the pipeline, the values of every step fetched in blocks and written for
TensorBoard, and the progress bar. Supervised: 64 faces a step, with the default augmentation and
without. Joint: 32 pairs of a face and a log-Mel segment a step, with augmentation. Then the same
training over two replicas, to time the split; without a GPU the replicas are logical devices of
one processor. Faces and segments are synthesised.
"""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import timing

BATCH = 64
N_CLIPS = 128
ITEMS_PER_CLIP = 8


def random_sources() -> tuple:
    """Return a source of faces and a source of segments, of 1024 items each."""
    import numpy as np

    from kerasemo.datasets.sources import Source
    from pipelines.core.labels import EMOTIONS

    random, shape = np.random.default_rng(0), (N_CLIPS * ITEMS_PER_CLIP, 64, 64, 3)
    rows = tuple(
        {"id": str(clip), "emotion": EMOTIONS[clip % 6], "speaker": "1"} for clip in range(N_CLIPS)
    )
    faces = random.integers(0, 256, shape, np.uint8)
    segments = random.uniform(-90, 0, shape).astype(np.float32)
    clip_of = np.repeat(np.arange(N_CLIPS), ITEMS_PER_CLIP)
    return (
        Source("faces/visual", rows, faces, clip_of),
        Source("speech/audio", rows, segments, clip_of),
    )


class TimedTraining:
    """The parts of a stage's training that make its steps.

    Args:
        config: The settings of the stage.
        sources: The sources of the stage.
        steps: Steps in a call.
        folder: Where the events for TensorBoard are written.
        bar: The progress bar.
        strategy: The devices that a batch is split over; None for one device.
    """

    def __init__(self, config, sources, *, steps: int, folder: Path, bar, strategy=None):
        import keras
        import numpy as np
        import tensorflow as tf

        from kerasemo.config.schema import NetworkConfig
        from kerasemo.datasets.sources import Subset
        from kerasemo.training.devices import choose_compute_settings
        from kerasemo.training.epochs import TrainingBatches
        from kerasemo.training.loop import StepLoop
        from kerasemo.training.monitoring import StageProgress
        from kerasemo.training.stage_models import build_stage_model
        from kerasemo.training.tensorboard import TensorBoardWriter

        compute = choose_compute_settings("auto", "auto", strategy)
        print(compute.description)
        with strategy.scope() if strategy else contextlib.nullcontext():
            model = build_stage_model(config, NetworkConfig())
            model.compile(optimizer=keras.optimizers.AdamW(1e-3))
            model.optimizer.build(model.learnt_weights)
        self._loop = StepLoop(model, strategy=strategy, jit_compile=compute.jit_compile)
        subsets = [Subset(source, np.arange(len(source.inputs))) for source in sources]
        # The stream must stay referenced while its batches are used.
        self._stream = TrainingBatches(config, subsets, seed=0).stream(0, 0, share=self._loop.share)
        self._batches = self._loop.iterate(self._stream)
        self._constant_batch = next(iter(self._stream.dataset))
        self._bare_step = tf.function(model.step, jit_compile=compute.jit_compile)
        self._tensorboard = TensorBoardWriter(folder, event_sizes=None)
        self._progress = StageProgress(bar, config, steps=steps)
        self._progress.start(0)
        self._steps = steps
        self._n_made = 0

    def train(self) -> None:
        """Make the steps as a stage makes them."""
        names = self._loop.value_names
        values = self._loop.fetch([self._loop.step(self._batches) for _ in range(self._steps)])
        by_name = [dict(zip(names, row, strict=True)) for row in values.tolist()]
        rate = self._progress.advance(by_name[-1], self._steps)
        self._tensorboard.write_steps(list(enumerate(by_name, start=self._n_made + 1)))
        self._n_made += self._steps
        self._tensorboard.write_speed(self._n_made, rate)

    def make_bare_steps(self) -> None:
        """Make the steps on one constant batch, and fetch the loss of the last."""
        for _ in range(self._steps):
            values = self._bare_step(self._constant_batch)
        float(values["loss"])


def two_replicas():
    """Return a strategy of two replicas; None, with a message, if the machine has none."""
    from kerasemo.training.devices import create_strategy
    from pipelines.core.errors import KerasemoError

    try:
        return create_strategy(2)
    except KerasemoError as error:
        print(f"two replicas are left out: {error}")
        return None


def time_training(title: str, config, sources, *, steps: int, rounds: int, strategy=None) -> None:
    """Time the training of a stage, and print rates and ratios.

    Args:
        title: What is printed.
        config: The settings of the stage.
        sources: The sources of the stage.
        steps: Steps in a call.
        rounds: Rounds, after one that does not count.
        strategy: Two replicas; None: only one device is timed.
    """
    from pipelines.core import progress

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        strategies = {"one device": None} | ({"replicas": strategy} if strategy else {})
        trainings = [
            TimedTraining(
                config,
                sources,
                steps=steps,
                folder=Path(folder) / name,
                bar=stack.enter_context(progress.bar("fit", unit="images")),
                strategy=devices,
            )
            for name, devices in strategies.items()
        ]
        functions: dict[str, Callable[[], None]] = {
            "training": trainings[0].train,
            "the bare step on one constant batch": trainings[0].make_bare_steps,
        }
        if strategy:
            functions["training on two replicas"] = trainings[1].train
        seconds = timing.seconds_in_turns(functions, rounds)
    timing.report(f"{title}, batches of {BATCH}", seconds, amount=steps * BATCH, unit="examples/s")


def main() -> int:
    """Time each kind of training."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument(
        "--only", nargs="*", metavar="KIND", help="supervised, joint (default: both)"
    )
    arguments = timing.begin(parser, cores=2, packages=("tensorflow", "keras"))
    from kerasemo.config.schema import DEFAULT_AUGMENT, AugmentConfig, StageConfig

    strategy = two_replicas()
    faces, segments = random_sources()
    for title, kind, sources, augment in (
        ("supervised", "supervised", [faces], AugmentConfig()),
        ("supervised, augmented", "supervised", [faces], DEFAULT_AUGMENT),
        ("joint, pairs over two sources, augmented", "joint", [faces, segments], DEFAULT_AUGMENT),
    ):
        if arguments.only and kind not in arguments.only:
            continue
        config = StageConfig(
            "fit",
            kind,
            tuple(source.name for source in sources),
            epochs=1 + arguments.rounds,
            batch=BATCH,
            augment=augment,
        )
        options = {"steps": arguments.steps, "rounds": arguments.rounds}
        time_training(title, config, sources, **options, strategy=strategy)
    return 0


if __name__ == "__main__":
    sys.exit(main())
