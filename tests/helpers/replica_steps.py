"""The steps that `test_replicas` compares: this file, run as a script on one device or two, trains every case and writes an npz.

Logical devices must be set before TensorFlow starts, so each set of devices is a process of its own, and imports stand where they are used.
"""

import sys

import numpy as np

STEPS, RATE, CLIP = 3, 0.1, 0.02
KINDS = {  # name -> kind of stage, number of sources
    "supervised": ("supervised", 1),
    "contrastive of one source": ("contrastive", 1),
    "contrastive": ("contrastive", 2),
    "contrastive of three": ("contrastive", 3),
    "joint": ("joint", 2),
    "joint of three": ("joint", 3),
}
FEATURES = {
    "plain": {},
    "dropout": {"dropout": 0.4},
    "clipped": {"clip_norm": CLIP},
    "decay": {"weight_decay": 0.5},
    "average": {"ema": 0.7},
    "parts": {"accumulate": 3},
    "frozen": {"freeze": ("stage1", "head"), "weight_decay": 0.5},
    "all": {
        "dropout": 0.4,
        "clip_norm": CLIP,
        "weight_decay": 0.5,
        "ema": 0.7,
        "accumulate": 3,
        "changes": True,
    },
    "Adam": {"adam": True},
    "bfloat16": {"bfloat16": True},
    "hard": {"hardness": 0.9},
    "heads": {"heads": True},
    "mixed": {"mixup": 1.0, "dropout": 0.4, "changes": True},
    "balanced": {"balanced": True},
    "mixed parts": {"mixup": 0.5, "balanced": True, "accumulate": 3},
}
EACH = [(kind, feature) for feature in list(FEATURES)[:10] for kind in ("supervised", "joint")]
CASES = [
    *EACH,
    *((kind, "plain") for kind in KINDS if (kind, "plain") not in EACH),
    *(("contrastive", feature) for feature in ("dropout", "parts", "all", "bfloat16", "hard")),
    *(("joint of three", feature) for feature in ("parts", "all", "hard", "heads")),
    *(("joint", feature) for feature in ("hard", "heads")),
    *(
        (kind, feature)
        for kind in ("supervised", "joint")
        for feature in ("mixed", "balanced", "mixed parts")
    ),
    ("joint of three", "mixed parts"),
]
QUICK = [
    *((kind, "plain") for kind in KINDS),
    *(
        ("joint", feature)
        for feature in (
            "dropout",
            "clipped",
            "decay",
            "average",
            "frozen",
            "Adam",
            "bfloat16",
            "balanced",
        )
    ),
    *(("joint of three", feature) for feature in ("parts", "all", "heads", "mixed parts")),
    *(("supervised", feature) for feature in ("parts", "all", "mixed")),
    *(("contrastive", feature) for feature in ("dropout", "hard")),
]
"""Every kind and every feature once or twice; the others of CASES are for `pytest -m endurance`."""
FITTED = [("supervised", "all"), ("contrastive", "dropout"), ("joint of three", "heads")]
MEASURED = ("supervised", "contrastive", "joint of three")
PLANTED = [("reduced by hand", "plain"), ("clipped by the optimiser", "plain")]
TOLERANCES = {"Adam": 1e-5, "bfloat16": 2e-3}
"""Of weights and values, else 1e-6: Adam divides small gradients by themselves, bfloat16 has eight binary digits."""


def prepare(strategy, kind: str, options: dict):
    """Return the compiled model, its sources and the indices of `STEPS` steps."""
    import contextlib

    import keras
    from keras import ops

    from helpers.sources import SIZE, random_source, whole
    from kerasemo.config.schema import NetworkConfig, StageConfig
    from kerasemo.datasets import sampling, subsets
    from kerasemo.losses import classification
    from kerasemo.networks.inference import TrainedNetwork
    from kerasemo.networks.network import build_network
    from kerasemo.training import stage_models
    from pipelines.core.spec import Spec

    class ReducedByHand(stage_models.SupervisedModel):
        """What is forbidden: a mean that knows nothing of replicas."""

        def compute_loss(self, batch, training=True):
            inputs = {
                "image": ops.cast(batch["image"], "float32"),
                "domain": batch["domain"],
                "seed": batch["seed"],
            }
            logits = classification.mask_logits(
                self(inputs, training=training)["logits"], batch["mask"]
            )
            loss = ops.mean(
                classification.cross_entropy(
                    classification.smooth_targets(batch["label"], batch["mask"]), logits
                )
            )
            return dict.fromkeys(("loss", *self.objective.names), loss)

    stage, count = KINDS.get(kind, ("supervised", 1))
    emotions = (
        ("anger", "fear", "sadness"),
        ("anger", "fear", "sadness", "calm"),
        ("fear", "sadness", "surprise"),
    )
    names = ("a/visual", "b/visual", "c/audio")
    sources = [
        random_source(names[i], emotions[i] * (9 - 2 * i), items=(2, 1, 3), seed=i)
        for i in range(count)
    ]
    whole_sources = [whole(source) for source in sources]
    sampler = (
        sampling.item_sampler(whole_sources[0], batch=12, seed=3)
        if stage == "supervised"
        else sampling.pair_sampler(whole_sources, pairs=6, seed=3)
    )
    keras.utils.set_random_seed(7)
    keras.config.set_dtype_policy("mixed_bfloat16" if "bfloat16" in options else "float32")
    with strategy.scope() if strategy else contextlib.nullcontext():
        config = NetworkConfig(
            widths=(8,), convolutions=1, groups=4, embedding=8, dropout=options.get("dropout", 0.0)
        )
        network = build_network(
            config, spec=Spec(face_size=SIZE), heads=count if "heads" in options else 1
        )
        settings = StageConfig(
            "stage",
            stage,
            tuple(source.name for source in sources),
            start_from="" if stage == "supervised" else "before",
            label_smoothing=0.1,
            contrastive_weight=2.0,
            margin=1.2,
            **{key: options[key] for key in ("clip_norm", "accumulate") if key in options},
        )
        weights = subsets.class_weights(whole_sources) if "balanced" in options else None
        model_class = (
            ReducedByHand if kind == "reduced by hand" else stage_models.STAGE_MODELS[stage]
        )
        model = model_class(*network, settings, class_weights=weights)
        stage_models.freeze_layers(model, options.get("freeze", ()))
        rates = {
            "weight_decay": options.get("weight_decay"),
            "use_ema": "ema" in options,
            "ema_momentum": options.get("ema", 0.9),
        }
        clipped = {"global_clipnorm": CLIP} if kind == "clipped by the optimiser" else {}
        kind_of = keras.optimizers.Adam if "adam" in options else keras.optimizers.SGD
        model.compile(
            optimizer=kind_of(
                RATE / 10 if "adam" in options else RATE, name="optimizer", **rates, **clipped
            )
        )
        model.optimizer.build(model.trainable_weights)
    for source in sources:
        model.get_layer("normalization").fit(source.name.partition("/")[2], source.inputs)
    draw = sampler(0)
    if "hardness" in options:
        predict = TrainedNetwork(model).predictor()
        embeddings = [predict(source.inputs, source.domain).embedding for source in sources]
        draw = sampling.with_hard_negatives(
            draw, whole_sources, embeddings, hardness=options["hardness"], seed=3, epoch=0
        )
    if "mixup" in options:
        draw = sampling.draw_mixup(draw, alpha=options["mixup"], seed=3, epoch=0)
    return model, sources, {key: value[:STEPS] for key, value in draw.items()}


def state(model, when) -> dict[str, np.ndarray]:
    variables = {f"weight {weight.path}": weight for weight in model.weights}
    variables |= {f"optimizer {variable.path}": variable for variable in model.optimizer.variables}
    return {
        f"{when} {name}": variable.numpy().astype(np.float64)
        for name, variable in variables.items()
    }


def train(strategy, kind: str, feature: str, *, fitted: bool = False) -> dict[str, np.ndarray]:
    """Make `STEPS` steps by `step` or by `fit`; return weights, state of the optimiser and values before and after each."""
    import tensorflow as tf
    from keras import callbacks

    from kerasemo.config.schema import DEFAULT_AUGMENT, AugmentConfig
    from kerasemo.datasets.batches import BatchStream
    from kerasemo.training.augmentation import augmentation

    model, sources, draw = prepare(strategy, kind, FEATURES[feature])
    strengths = DEFAULT_AUGMENT if "changes" in FEATURES[feature] else AugmentConfig()
    augment = augmentation(strengths, domains={source.domain for source in sources})
    stream = BatchStream(sources, lambda epoch: draw, epochs=1, augment=augment)
    batches = stream.dataset
    arrays = state(model, 0)
    if fitted:

        def keep(epoch, logs):
            arrays.update(
                state(model, epoch + 1)
                | {f"{epoch + 1} value {name}": value for name, value in logs.items()}
            )

        keep_epoch = callbacks.LambdaCallback(on_epoch_end=keep)
        model.fit(
            batches.repeat(),
            steps_per_epoch=1,
            epochs=STEPS,
            shuffle=False,
            verbose=0,
            callbacks=[keep_epoch],
        )
        return arrays
    replicas = strategy.num_replicas_in_sync if strategy else 1

    def share(batch):
        """Split a batch over the replicas."""
        if strategy is None:
            return batch
        parts = [
            {name: np.split(value, replicas)[index] for name, value in batch.items()}
            for index in range(replicas)
        ]
        return strategy.experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group]
        )

    def compiled(function):
        def everywhere(batch):
            values = strategy.run(function, args=(batch,))
            return {
                name: strategy.reduce("MEAN", value, axis=None) for name, value in values.items()
            }

        return tf.function(
            everywhere if strategy else function,
            jit_compile=(kind, feature) == ("supervised", "all") and not strategy,
        )

    step = compiled(model.step)
    for number, batch in enumerate(batches.as_numpy_iterator(), start=1):
        values = step(share(batch))
        arrays |= state(model, number) | {
            f"{number} value {name}": value for name, value in values.items()
        }
    if feature == "plain" and kind in MEASURED:
        arrays |= {
            f"measured {name}": value
            for name, value in compiled(model.measure)(share(batch)).items()
        }
        odd = {
            name: tf.constant(np.concatenate([value, value[:5]])) for name, value in batch.items()
        }  # a full batch and 5 more
        arrays |= {f"odd measured {name}": value for name, value in model.measure(odd).items()}
        tested = model.evaluate(
            tf.data.Dataset.from_tensor_slices(odd).batch(len(batch["seed"])),
            return_dict=True,
            verbose=0,
        )
        arrays |= {f"odd tested {name}": value for name, value in tested.items()}
    return arrays


def main(devices: str, out: str, which: str) -> None:
    from kerasemo.training.devices import create_strategy

    strategy = create_strategy({"one": 1, "two": 2}[devices])
    assert (strategy.num_replicas_in_sync if strategy else 1) == (1 if devices == "one" else 2)
    arrays = {}
    for case in [*{"quick": QUICK, "all": CASES}[which], *PLANTED]:
        arrays |= {
            f"{' '.join(case)}: {name}": value for name, value in train(strategy, *case).items()
        }
    for case in FITTED:
        arrays |= {
            f"{' '.join(case)} fitted: {name}": value
            for name, value in train(strategy, *case, fitted=True).items()
        }
    np.savez(out, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
