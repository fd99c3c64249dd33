import gc
import itertools
import weakref

import numpy as np
import pytest

from helpers.sources import SIZE, whole
from helpers.toy_sources import one_source, two_sources
from kerasemo.datasets.batches import BatchShare, BatchStream
from kerasemo.datasets.sampling import Sampler, item_sampler, pair_sampler
from kerasemo.datasets.sources import Source
from pipelines.core.labels import EMOTIONS

Batch = dict[str, np.ndarray]


def items_of(source: Source, *, batch: int = 16) -> Sampler:
    return item_sampler(whole(source), batch=batch, seed=1)


def pairs_of(sources: list[Source], *, pairs: int = 6) -> Sampler:
    return pair_sampler([whole(source) for source in sources], pairs=pairs, seed=1)


def batches_of(stream: BatchStream) -> list[Batch]:
    return list(stream.dataset.as_numpy_iterator())


def assert_same_batch(batch: Batch, expected: Batch) -> None:
    assert batch.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(batch[name], expected[name])


@pytest.mark.parametrize("kind", ["items", "pairs"])
def test_batch_has_the_examples_of_its_draw(kind):
    sources = two_sources() if kind == "pairs" else [one_source()]
    sampler = pairs_of(sources) if kind == "pairs" else items_of(sources[0], batch=6)
    draw = sampler(0)
    batches = batches_of(BatchStream(sources, sampler, epochs=1))
    assert len(batches) == len(draw["item"])
    for step, batch in enumerate(batches):
        for place in np.ndindex(draw["item"].shape[1:]):
            index, item = draw["source"][step][place], draw["item"][step][place]
            source = sources[index]
            np.testing.assert_array_equal(batch["image"][place], source.inputs[item])
            emotion = source.rows[source.clip_of[item]]["emotion"]
            assert EMOTIONS[batch["label"][place]] == emotion
            np.testing.assert_array_equal(batch["mask"][place], source.mask)
            assert batch["domain"][place] == source.domain
            assert batch["source"][place] == index
        np.testing.assert_array_equal(batch["seed"], draw["seed"][step])


@pytest.mark.parametrize(
    ("kind", "shape", "dtype"), [("items", (6,), np.uint8), ("pairs", (6, 2), np.float32)]
)
def test_batches_have_known_shapes_and_a_known_number(kind, shape, dtype):
    """Faces alone stay uint8; together with segments they are float32."""
    sources = two_sources() if kind == "pairs" else [one_source()]
    sampler = pairs_of(sources) if kind == "pairs" else items_of(sources[0], batch=6)
    stream = BatchStream(sources, sampler, epochs=1)
    specs = stream.dataset.element_spec
    assert {name: tuple(spec.shape) for name, spec in specs.items()} == {
        "image": (*shape, SIZE, SIZE, 3),
        "domain": shape,
        "seed": shape,
        "label": shape,
        "mask": (*shape, 10),
        "source": shape,
    }
    assert specs["image"].dtype == dtype
    assert stream.steps == len(sampler(0)["item"])
    assert int(stream.dataset.cardinality()) == stream.steps


@pytest.mark.parametrize("first_step", [0, 1, 5])
def test_resumed_training_gets_the_batches_of_an_uninterrupted_training(first_step):
    sources = two_sources()
    sampler = pairs_of(sources)
    uninterrupted = BatchStream(sources, sampler, epochs=4)
    resumed = BatchStream(sources, sampler, first_epoch=2, first_step=first_step, epochs=2)
    steps = uninterrupted.steps
    batches, resumed_batches = batches_of(uninterrupted), batches_of(resumed)
    assert len(batches) == 4 * steps
    assert len(resumed_batches) == 2 * steps - first_step
    for batch, expected in zip(resumed_batches, batches[2 * steps + first_step :], strict=True):
        assert_same_batch(batch, expected)
    assert (batches[0]["seed"] != batches[2 * steps]["seed"]).any()


def test_share_of_a_batch_is_its_consecutive_parts():
    """The second of two machines with two devices gets parts 3 and 4 of every batch."""
    sources = two_sources()
    sampler = pairs_of(sources, pairs=8)
    all_parts = BatchStream(sources, sampler, epochs=2)
    share = BatchShare(first=2, count=2, total=4)
    shared = BatchStream(sources, sampler, first_step=1, epochs=2, share=share)
    assert shared.steps == all_parts.steps
    parts = batches_of(shared)
    assert len(parts) == shared.dataset.cardinality() == 2 * (2 * shared.steps - 1)
    for step, batch in enumerate(batches_of(all_parts)[1:]):
        for name, values in batch.items():
            expected = values.reshape(4, 2, *values.shape[1:])[2:]
            third_and_fourth = [part[name] for part in parts[2 * step : 2 * step + 2]]
            np.testing.assert_array_equal(np.stack(third_and_fourth), expected)


def test_endless_batches_continue_with_the_next_epoch():
    source = one_source()
    sampler = items_of(source)
    stream = BatchStream([source], sampler, first_epoch=3)
    batches = itertools.islice(stream.dataset.as_numpy_iterator(), 2 * stream.steps)
    seeds = np.stack([batch["seed"] for batch in batches])
    np.testing.assert_array_equal(seeds, np.concatenate([sampler(3)["seed"], sampler(4)["seed"]]))


def test_batches_are_not_tuned():
    """The end of an iterator would wait for the thread that tunes."""
    source = one_source()
    stream = BatchStream([source], items_of(source))
    assert stream.dataset.options().autotune.enabled is False


def test_iterator_keeps_the_arrays_until_it_is_deleted():
    """The graphs of TensorFlow, which are never deleted, do not keep the arrays."""
    source = one_source()
    source_reference = weakref.ref(source)
    iterator = iter(BatchStream([source], items_of(source)))
    del source
    gc.collect()
    batches = list(itertools.islice(iterator, 20))
    assert len(batches) == 20
    del iterator, batches
    gc.collect()
    assert source_reference() is None


def test_stream_keeps_the_arrays_until_it_is_deleted():
    source = one_source()
    source_reference = weakref.ref(source)
    stream = BatchStream([source], items_of(source))
    iterator = iter(stream)
    next(iterator)
    del source, iterator
    gc.collect()
    assert len(list(itertools.islice(stream.dataset.as_numpy_iterator(), 20))) == 20
    del stream
    gc.collect()
    assert source_reference() is None


def test_stream_can_be_iterated_again():
    """The validation of every epoch does so."""
    source = one_source()
    stream = BatchStream([source], items_of(source), epochs=1)
    first, second = ([batch["seed"].numpy().tolist() for batch in stream] for _ in range(2))
    assert first == second
    assert len(first) == stream.steps
