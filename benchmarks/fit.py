"""Times `fit` fed by the input pipeline against `fit` on one batch that is kept, for a supervised and a joint stage.

    python benchmarks/fit.py [--steps 12] [--rounds 5]

Both sides are compiled alike and log the same; what differs is where the batch comes from. Supervised: 64 faces a step,
with the random changes of `augment = true` and without. Joint: 32 pairs of a face and a log-Mel segment a step, with the
random changes. Faces and segments are synthesised.
"""

import argparse
import sys

import timing

BATCH = 64


def random_sources():
    """Return a source of faces and one of segments, of 1024 items each."""
    import numpy as np

    from kerasemo.data import Source
    from pipelines.spec import EMOTIONS

    random = np.random.default_rng(0)
    rows = tuple({"id": str(n), "emotion": EMOTIONS[n % 6], "speaker": "1"} for n in range(128))
    faces = random.integers(0, 256, (1024, 64, 64, 3), np.uint8)
    segments = random.uniform(-90, 0, (1024, 64, 64, 3)).astype(np.float32)
    clip_of = np.repeat(np.arange(128), 8)
    return Source("faces/visual", rows, faces, clip_of), Source("speech/audio", rows, segments, clip_of)


def fits(kind: str, sources, changes, steps: int):
    """Return two functions that train `steps` steps: fed by the pipeline, and on one batch that is kept."""
    import keras
    import numpy as np
    import tensorflow as tf

    from kerasemo import data, plans
    from kerasemo.model import build_network
    from kerasemo.stages import MODELS

    sides = [data.Side(source, np.arange(len(source.inputs))) for source in sources]
    pairs = {"sides": sides, "pairs": BATCH // 2, "seed": 0}
    plan = plans.labelled_plan(sides[0], batch=BATCH, seed=0) if kind == "supervised" else plans.pair_plan(**pairs)
    model = MODELS[kind](*build_network(), sources=[source.name for source in sources])
    model.compile(optimizer=keras.optimizers.AdamW(1e-3))
    fed, _ = data.batches(sources, plan, changes=changes)
    kept = tf.data.Dataset.from_tensors(next(iter(fed))).repeat()

    def fit(batches) -> None:
        model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0)

    return lambda: fit(fed), lambda: fit(kept)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=12)
    arguments = timing.begin(parser, cores=2, packages=("tensorflow", "keras"))
    from kerasemo.config import USUAL_CHANGES, Augment

    faces, segments = random_sources()
    for title, kind, sources, changes in (
        ("supervised", "supervised", [faces], Augment()),
        ("supervised, with random changes", "supervised", [faces], USUAL_CHANGES),
        ("joint, pairs over two sources, with random changes", "joint", [faces, segments], USUAL_CHANGES),
    ):
        ours, kept = fits(kind, sources, changes, arguments.steps)
        taken = timing.seconds_in_turns({"fit fed by the pipeline": ours, "fit on one kept batch": kept}, arguments.rounds)
        timing.report(f"{title}, batches of {BATCH}", taken, amount=arguments.steps * BATCH, unit="examples/s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
