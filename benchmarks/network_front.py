"""Accuracy against cost of the default network and of others, after equally many updates.

    python benchmarks/network_front.py [--records DIR --source emodb/audio] [--updates 200] [--seeds 1] [--only NAME...]

Each network trains on the train side alone (batches of 64, AdamW along a cosine, the usual random changes) and is scored on
the validation side: UA by clip at the end of the training, the mean over the seeds. Test clips are not looked at. Cost: the
default's images a second over the other's, on one kept batch, in turns. Without `--records` the faces are synthesised stripes.
"""

import argparse
import importlib
import sys
from pathlib import Path

import timing

BATCH = 64
NETWORKS = {
    "default": {},
    "half the widths": {"widths": (16, 32, 48, 64)},
    "three quarters of the widths": {"widths": (24, 48, 72, 96)},
    "one and a half the widths": {"widths": (48, 96, 144, 192)},
    "one convolution a stage": {"convolutions": 1},
    "one convolution, then two": {"convolutions": (1, 2, 2, 2)},
    "stem of stride 4": {"stem": 4, "widths": (64, 96, 128)},
    "pooled stem": {"pooled": True},
    "separable convolutions": {"separable": True},
    "residual": {"residual": True},
}


def network(*, widths=(32, 64, 96, 128), convolutions=2, stem=2, pooled=False, separable=False, residual=False):
    """Return inputs and outputs like those of `kerasemo.model.build_network`, of another body."""
    from keras import layers

    from kerasemo.model import DomainNormalization, ExampleDropout, GroupNormalization, build_network

    inputs, _ = build_network()
    counts = (convolutions,) * len(widths) if isinstance(convolutions, int) else convolutions

    def convolved(x, width: int, size: int, strides: int, activate: bool = True):
        if separable and x.shape[-1] > 3:
            x = layers.DepthwiseConv2D(size, strides=strides, padding="same", use_bias=False)(x)
            size, strides = 1, 1
        x = layers.Conv2D(width, size, strides=strides, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
        x = GroupNormalization(8)(x)
        return layers.LeakyReLU(negative_slope=0.01)(x) if activate else x

    x = DomainNormalization(name="normalization")([inputs["image"], inputs["domain"]])
    for stage, (width, count) in enumerate(zip(widths, counts, strict=True)):
        strides = stem if stage == 0 else 2
        if stage == 0 and pooled:  # [batch, 64, 64, 3] -> [batch, 16, 16, width]
            x = layers.MaxPooling2D(2)(convolved(x, width, 3, 2))
            continue
        x = convolved(x, width, 5 if strides == 4 else 3, strides)
        for _ in range(count - 1):
            y = convolved(x, width, 3, 1, activate=not residual)
            x = layers.LeakyReLU(negative_slope=0.01)(layers.Add()([x, y])) if residual else y
    features = layers.Dense(256, name="features")(layers.GlobalAveragePooling2D()(x))
    dropped = ExampleDropout(0.3)([features, inputs["seed"]])
    return inputs, {"embedding": layers.UnitNormalization()(features), "logits": layers.Dense(10, name="head")(dropped)}


def sides_of(records: Path | None, source: str):
    """Return the train and the validation side of a source, or of faces with stripes that are hard to tell apart."""
    import numpy as np

    from kerasemo import chain, data, holdings
    from pipelines.spec import EMOTIONS

    if records:
        sides = chain.gated_sides(records, [source], trained_on=[source], protocol="speaker-independent", fold=0)
        return [holdings.side_of(data.read_source(records, source), sides, side) for side in ("train", "validation")]
    random = np.random.default_rng(0)
    found = []
    for clips in (300, 120):
        rows = tuple({"id": str(clip), "speaker": "1", "utterance": str(clip), "emotion": EMOTIONS[clip % 6]} for clip in range(clips))
        clip_of = np.repeat(np.arange(clips), 4)
        wave = np.sin(np.arange(64) / (1.5 + clip_of[:, None] % 6 / 2) + random.uniform(0, 6, (len(clip_of), 1)))
        faces = 128 + 25 * wave[:, :, None, None] + random.normal(0, 50, (len(clip_of), 64, 64, 3))
        source = data.Source("stripes/visual", rows, np.clip(faces, 0, 255).astype(np.uint8), clip_of)
        found.append(data.Side(source, np.arange(len(clip_of))))
    return found


def trained(options: dict, train, validation, *, updates: int, seed: int):
    """Train a network; return its UA by clip on the validation side, its parameters, and a function that makes one more step."""
    import keras
    import tensorflow as tf

    from kerasemo import data, plans, scores
    from kerasemo.config import USUAL_CHANGES
    from kerasemo.model import build_network
    from kerasemo.stages import MODELS

    keras.utils.set_random_seed(seed)
    model = MODELS["supervised"](*(network(**options) if options else build_network()), sources=[train.source.name])
    model.get_layer("normalization").fit(train.source.name.partition("/")[2], data.Gathered([train]))
    rate = keras.optimizers.schedules.CosineDecay(1e-3, updates)
    model.compile(optimizer=keras.optimizers.AdamW(rate, weight_decay=1e-4))
    model.optimizer.build(model.trainable_weights)
    step = tf.function(model.step)
    batches, _ = data.batches([train.source], plans.labelled_plan(train, batch=BATCH, seed=seed), changes=USUAL_CHANGES)
    for batch in batches.take(updates):
        step(batch)
    score, _ = scores.score_side(scores.predictor(model), validation, trained=train.source.emotions)
    return score["ua"], model.count_params(), lambda: float(step(batch)["loss"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=Path, help="the folder of sets")
    parser.add_argument("--source", default="emodb/audio")
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="*", choices=list(NETWORKS), help="beside the default")
    arguments = timing.begin(parser, cores=2, packages=("tensorflow", "keras"))
    importlib.import_module("kerasemo")  # before keras: it says how TensorFlow is to compute
    import numpy as np

    train, validation = sides_of(arguments.records, arguments.source)
    chosen = list(NETWORKS) if arguments.only is None else ["default", *arguments.only]
    print(f"{train.source.name}: {len(train.items)} items to train on, {len(validation.items)} to validate, {arguments.updates} updates")
    steps = {}
    for name in chosen:
        sides = {"train": train, "validation": validation, "updates": arguments.updates}
        found = [trained(NETWORKS[name], **sides, seed=seed) for seed in range(arguments.seeds)]
        uas, steps[name] = [ua for ua, _, _ in found], found[0][2]
        print(f"  {name:<30} UA {np.mean(uas):.3f} ({min(uas):.3f} to {max(uas):.3f}), {found[0][1]} parameters", flush=True)
    timing.report("a step on one kept batch", timing.seconds_in_turns(steps, arguments.rounds), amount=BATCH, unit="images/s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
