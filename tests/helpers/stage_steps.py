"""Small stage models, batches and a NumPy oracle of their losses."""

import keras
import numpy as np

from helpers.sources import SIZE, random_source, whole
from kerasemo.config.schema import NetworkConfig, StageConfig
from kerasemo.datasets import sampling
from kerasemo.datasets.batches import BatchStream
from kerasemo.networks.network import build_network
from kerasemo.training import stage_models
from pipelines.core.labels import EMOTIONS
from pipelines.core.spec import Spec

NAMES = ("a/visual", "b/audio", "c/visual")


CORPORA = (
    ("anger", "fear", "sadness"),
    ("anger", "fear", "sadness", "calm"),
    ("fear", "sadness", "surprise"),
)


def some_sources(count):
    return [
        random_source(NAMES[index], CORPORA[index] * (8 - 2 * index), items=(2, 1, 3), seed=index)
        for index in range(count)
    ]


def stage_config(kind, sources, **settings):
    """The settings of a stage; the schema's checks of a whole experiment do not run."""
    start_from = "" if kind == "supervised" else "before"
    names = tuple(source.name for source in sources)
    return StageConfig("stage", kind, names, start_from=start_from, **settings)


def a_model(
    kind,
    sources,
    *,
    dropout=0.0,
    optimizer=None,
    heads=1,
    members=1,
    class_weights=None,
    **settings,
):
    keras.utils.set_random_seed(5)
    config = NetworkConfig(
        widths=(8,), convolutions=1, groups=4, embedding=8, dropout=dropout, members=members
    )
    network = build_network(config, spec=Spec(face_size=SIZE), heads=heads)
    model = stage_models.STAGE_MODELS[kind](
        *network, stage_config(kind, sources, **settings), class_weights=class_weights
    )
    for source in sources:
        model.get_layer("normalization").fit(source.name.partition("/")[2], source.inputs)
    model.compile(optimizer=optimizer or keras.optimizers.SGD(0.05))
    return model


def a_sampler(kind, sources, *, size=12):
    subsets = [whole(source) for source in sources]
    return (
        sampling.item_sampler(subsets[0], batch=size, seed=2)
        if kind == "supervised"
        else sampling.pair_sampler(subsets, pairs=size // 2, seed=2)
    )


def a_batch(kind, sources, **options):
    """The first batch of the first epoch."""
    return next(iter(BatchStream(sources, a_sampler(kind, sources, **options), epochs=1)))


def oracle(kind, model, batch, sources, *, label_smoothing=0.0, margin=0.6, weight=1.0):
    """Every term of the loss, example by example in NumPy, from the network's own outputs."""
    flat = {
        name: value.numpy() if kind == "supervised" else value.numpy().reshape(-1, *value.shape[2:])
        for name, value in batch.items()
    }
    outputs = model({name: flat[name] for name in ("image", "domain", "seed")}, training=False)
    logits, embeddings = (
        outputs["logits"].numpy().astype(np.float64),
        outputs["embedding"].numpy().astype(np.float64),
    )
    if logits.ndim == 3:  # a head for each source
        logits = logits[np.arange(len(logits)), flat["source"]]
    terms = {}
    for index, source in enumerate(sources if kind != "contrastive" else ()):
        classes = np.flatnonzero(np.isin(EMOTIONS, [row["emotion"] for row in source.rows]))
        losses = []
        for row in np.flatnonzero(flat["source"] == index):
            p = np.exp(logits[row, classes]) / np.exp(logits[row, classes]).sum()
            target = (1 - label_smoothing) * (
                classes == flat["label"][row]
            ) + label_smoothing / len(classes)
            losses.append(-(target * np.log(p)).sum())
        terms[f"cross_entropy_{source.name.replace('/', '_')}"] = np.mean(losses)
    loss = sum(terms.values())
    if kind != "supervised":
        pairs = []
        for row in range(0, len(embeddings), 2):
            distance = np.linalg.norm(embeddings[row] - embeddings[row + 1])
            alike = flat["label"][row] == flat["label"][row + 1]
            pairs.append(distance**2 if alike else max(0, margin - distance) ** 2)
        terms["contrastive"] = np.mean(pairs)
        loss = (
            terms["contrastive"] if kind == "contrastive" else loss + weight * terms["contrastive"]
        )
    return {"loss": loss, **terms}
