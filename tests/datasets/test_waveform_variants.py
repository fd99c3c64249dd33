"""Versions of training clips at other speeds and with noise."""

from typing import Any

import numpy as np
import pytest

from helpers.sources import whole
from helpers.synthetic_sets import write_set
from kerasemo.config.schema import AugmentConfig
from kerasemo.datasets.catalog import RecordCatalog
from kerasemo.datasets.sources import Source, Subset
from kerasemo.datasets.waveform_variants import change_waveform, changes_waveform, with_variants
from pipelines.core.spec import Spec
from pipelines.features.log_mel import log_mel, segments

SAMPLE_RATE_HZ = Spec().sample_rate_hz


def tone(*, seconds: float = 1.0) -> np.ndarray:
    """Return a tone of 440 Hz with amplitude 0.5, float32 [samples]."""
    times = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    return np.sin(2 * np.pi * 440 * times).astype(np.float32) * 0.5


def changed(
    waveform: np.ndarray, *, speed_part: float = 0.0, seed: int = 0, **strengths: Any
) -> np.ndarray:
    return change_waveform(
        waveform,
        AugmentConfig(**strengths),
        speed_part=speed_part,
        random=np.random.default_rng(seed),
    )


def speed_of(waveform: np.ndarray) -> float:
    """Return the speed of a changed tone of one second."""
    return SAMPLE_RATE_HZ / len(waveform)


@pytest.mark.parametrize("seed", range(4))
def test_speed_changes_length_and_pitch_together(seed):
    """The peak of the spectrum of a tone of 440 Hz is at 440 Hz times the speed."""
    fast = changed(tone(), speed=0.2, speed_part=0.5, seed=seed)
    speed = speed_of(fast)
    assert 1 <= speed <= 1.2
    n_fft = 1 << 18
    spectrum = np.abs(np.fft.rfft(fast * np.hanning(len(fast)), n_fft))
    assert spectrum.argmax() * SAMPLE_RATE_HZ / n_fft == pytest.approx(440 * speed, rel=2e-3)
    assert np.abs(fast[1000:-1000]).max() == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize(
    ("n_variants", "variant"), [(2, 0), (2, 1), (4, 0), (4, 1), (4, 2), (4, 3)]
)
def test_variants_divide_the_range_of_speeds(n_variants, variant):
    """Of two variants the first is slower, the second faster; of four each has its quarter."""
    speed_part = variant / n_variants
    speeds = [
        speed_of(changed(tone(), speed=0.1, variants=n_variants, speed_part=speed_part, seed=seed))
        for seed in range(20)
    ]
    lowest, highest = 0.9 + 0.2 * speed_part, 0.9 + 0.2 * (variant + 1) / n_variants
    assert lowest - 1e-3 <= min(speeds)
    assert max(speeds) <= highest + 1e-3
    assert max(speeds) - min(speeds) > 0.1 / n_variants


def test_noise_is_white():
    """The quarters of its spectrum have about the same power."""
    waveform = tone(seconds=2.0)
    for seed in range(40):
        noise = changed(waveform, noise=0.2, seed=seed) - waveform
        assert abs(noise.mean()) < 0.01
        power = np.abs(np.fft.rfft(noise)) ** 2
        quarters = [quarter.mean() for quarter in np.array_split(power, 4)]
        assert max(quarters) / min(quarters) < 1.2


def test_level_of_noise_is_even_in_decibels():
    """Its amplitude is between a tenth of `noise` and all of `noise`, relative to the clip."""
    waveform = tone(seconds=2.0)
    noises = [changed(waveform, noise=0.2, seed=seed) - waveform for seed in range(40)]
    levels = [20 * np.log10(noise.std() / waveform.std()) for noise in noises]
    highest = 20 * np.log10(0.2)
    assert highest - 20.1 <= min(levels) < highest - 15
    assert highest - 5 < max(levels) <= highest + 0.1
    assert np.mean(levels) == pytest.approx(highest - 10, abs=3)


def test_waveform_without_changes_stays():
    np.testing.assert_array_equal(changed(tone()), tone())


def test_silence_stays_silent():
    assert not changed(np.zeros(2000, np.float32), speed=0.1, noise=0.5).any()


def test_short_clip_has_at_least_one_frame():
    n_samples = Spec().fft_samples
    short = tone(seconds=n_samples / SAMPLE_RATE_HZ)
    assert len(changed(short, speed=0.5, speed_part=0.99, variants=1)) == n_samples


def test_speed_and_noise_change_the_waveform():
    assert changes_waveform(AugmentConfig(speed=0.1))
    assert changes_waveform(AugmentConfig(noise=0.1))
    assert not changes_waveform(AugmentConfig(variants=4))


@pytest.fixture(scope="module")
def catalog(tmp_path_factory) -> RecordCatalog:
    """Return the catalog of a set with waveforms, a/audio."""
    folder = tmp_path_factory.mktemp("records")
    write_set(folder, "a/audio", speakers=2, items=4, waveform=True)
    return RecordCatalog(folder)


@pytest.fixture(scope="module")
def recorded(catalog) -> Source:
    return catalog.load("a/audio")


def varied(
    catalog: RecordCatalog, *, subset: Subset | None = None, seed: int = 0, **strengths: Any
) -> Subset:
    """Return a subset of a/audio (default: all of it) with variants."""
    audio = catalog.utterances("a/audio")
    subset = subset or whole(catalog.load("a/audio"))
    return with_variants(subset, audio, AugmentConfig(**strengths), seed=seed)


def test_subset_with_variants_has_the_unchanged_items(catalog, recorded):
    """The tolerance is the rounding of the waveform to 16 bits."""
    subset = varied(catalog, speed=0.2, variants=3)
    n_items = len(recorded.inputs)
    np.testing.assert_array_equal(subset.items, np.arange(n_items))
    np.testing.assert_allclose(subset.source.inputs[0:n_items], recorded.inputs, atol=1e-3)
    np.testing.assert_array_equal(subset.labels, recorded.labels[recorded.clip_of])


def test_variants_of_an_item_are_of_the_same_clip_in_order(catalog, recorded):
    source = varied(catalog, speed=0.2, variants=3).source
    n_items = len(recorded.inputs)
    assert source.variants.shape == (n_items, 3)
    assert (source.variants >= n_items).all()
    is_next_of_clip = np.diff(recorded.clip_of) == 0
    for items in source.variants.T:
        np.testing.assert_array_equal(source.clip_of[items], recorded.clip_of)
        assert (np.diff(items)[is_next_of_clip] >= 0).all()


def test_variant_with_faint_noise_nearly_equals_its_item(catalog, recorded):
    source = varied(catalog, noise=1e-4, variants=2).source
    for items in source.variants.T:
        segments_of_variant = source.inputs[items][..., 0]
        np.testing.assert_allclose(segments_of_variant, recorded.inputs[..., 0], atol=0.5)


def test_variant_at_another_speed_begins_and_ends_with_the_utterance(catalog, recorded):
    source = varied(catalog, speed=0.4, variants=1, seed=3).source
    items = source.variants[recorded.clip_of == 0, 0]
    all_items = np.flatnonzero(source.clip_of == 0)
    items_of_variant = all_items[all_items >= len(recorded.inputs)]
    assert len(items_of_variant) != len(items)
    assert items[0] == items_of_variant.min()
    assert items[-1] == items_of_variant.max()


def test_variant_has_the_log_mel_of_the_changed_waveform(catalog, recorded):
    """Variant 1 of 2 of record 1 has the second half of the speeds, and the seed [7, 1, 1]."""
    source = varied(catalog, speed=0.1, noise=0.1, variants=2, seed=7).source
    waveform = catalog.utterances("a/audio").waveforms[1].astype(np.float32) / 32768
    waveform = change_waveform(
        waveform,
        AugmentConfig(speed=0.1, noise=0.1, variants=2),
        speed_part=0.5,
        random=np.random.default_rng([7, 1, 1]),
    )
    expected = segments(log_mel(waveform)).numpy()
    first_and_last = source.variants[recorded.clip_of == 1, 1][[0, -1]]
    np.testing.assert_allclose(source.inputs[first_and_last], expected[[0, -1]], atol=1e-3)


def test_variants_are_a_function_of_the_seed(catalog):
    inputs, same_seed, other_seed = (
        varied(catalog, speed=0.1, noise=0.1, seed=seed).source.inputs[:] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(same_seed, inputs)
    assert not np.array_equal(other_seed, inputs)


def test_variants_of_an_item_are_different(catalog):
    source = varied(catalog, speed=0.1, noise=0.1, seed=1).source
    first, second = (source.inputs[source.variants[:, variant]] for variant in (0, 1))
    assert np.abs(first - second).max() > 1


def test_only_clips_of_the_subset_have_variants(catalog, recorded):
    items = recorded.items_of([0, 2, 5])
    subset = varied(catalog, speed=0.1, subset=Subset(recorded, items))
    assert set(subset.source.clip_of) == {0, 2, 5}
    assert len(subset.items) == len(items)
    expected = recorded.inputs[items]
    np.testing.assert_allclose(subset.source.inputs[subset.items], expected, atol=1e-3)
