"""Training clips at other speeds and with noise."""

import numpy as np
import pytest

from helpers.sources import whole
from helpers.synthetic_sets import write_set
from kerasemo.config.schema import AugmentConfig
from kerasemo.datasets import sources, waveform_variants
from kerasemo.datasets.catalog import RecordCatalog
from pipelines.core.spec import Spec
from pipelines.features import log_mel

RATE = Spec().sample_rate_hz


def tone(hz=440.0, seconds=1.0):
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE).astype(np.float32) * 0.5


def changed(waveform, *, place=0.0, seed=0, **strengths):
    return waveform_variants.change_waveform(
        waveform, AugmentConfig(**strengths), speed_part=place, random=np.random.default_rng(seed)
    )


@pytest.mark.parametrize("seed", range(4))
def test_speed_changes_length_and_pitch_alike(seed):
    """The peak of the spectrum of a tone of 440 Hz is at 440 times the speed, and it lasts as much shorter."""
    fast = changed(tone(), speed=0.2, place=0.5, seed=seed)
    factor = RATE / len(fast)
    assert 1 <= factor <= 1.2
    spectrum = np.abs(np.fft.rfft(fast * np.hanning(len(fast)), 1 << 18))
    assert spectrum.argmax() * RATE / (1 << 18) == pytest.approx(440 * factor, rel=2e-3)
    assert np.abs(fast[1000:-1000]).max() == pytest.approx(0.5, rel=0.01)


def test_the_versions_of_a_clip_share_the_range_of_speeds():
    """Of two the first is slower, the second faster; of four each has its quarter."""
    for count in (2, 4):
        for version in range(count):
            factors = [
                RATE
                / len(changed(tone(), speed=0.1, variants=count, place=version / count, seed=seed))
                for seed in range(20)
            ]
            low, high = (0.9 + 0.2 * edge / count for edge in (version, version + 1))
            assert (
                low - 1e-3 <= min(factors)
                and max(factors) <= high + 1e-3
                and max(factors) - min(factors) > 0.1 / count
            )


def test_noise_is_white_and_as_strong_as_it_is_drawn():
    """Its amplitude is a share of the clip's, from a tenth of the most to the most, evenly in dB."""
    sound, levels = tone(seconds=2.0), []
    for seed in range(40):
        added = changed(sound, noise=0.2, seed=seed) - sound
        levels.append(20 * np.log10(added.std() / sound.std()))
        assert abs(added.mean()) < 0.01
        power = np.abs(np.fft.rfft(added)) ** 2
        quarters = [part.mean() for part in np.array_split(power, 4)]
        assert max(quarters) / min(quarters) < 1.2
    most = 20 * np.log10(0.2)
    assert most - 20.1 <= min(levels) < most - 15 and most - 5 < max(levels) <= most + 0.1
    assert np.mean(levels) == pytest.approx(most - 10, abs=3)


def test_no_change_is_none_and_silence_stays_silent():
    np.testing.assert_array_equal(changed(tone()), tone())
    assert not changed(np.zeros(2000, np.float32), speed=0.1, noise=0.5).any()


def test_a_short_clip_keeps_one_frame():
    assert len(changed(tone(seconds=512 / RATE), speed=0.5, place=0.99, variants=1)) == 512


def test_what_asks_for_waveforms():
    assert (
        waveform_variants.changes_waveform(AugmentConfig(speed=0.1))
        and waveform_variants.changes_waveform(AugmentConfig(noise=0.1))
        and not waveform_variants.changes_waveform(AugmentConfig(variants=4))
    )


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """A source with waveforms as records have it, and its utterances."""
    out = tmp_path_factory.mktemp("records")
    write_set(out, "a/audio", speakers=2, items=4, waveform=True)
    return sources.read_source(out, "a/audio"), RecordCatalog(out).utterances("a/audio")


def varied(held, *, seed=0, side=None, **strengths):
    source, of = held
    return waveform_variants.with_variants(
        side or whole(source),
        of,
        AugmentConfig(**strengths),
        seed=seed,
    )


def test_what_is_trained_on_stays_and_has_its_versions_behind_it(held):
    source, _ = held
    side = varied(held, speed=0.2, variants=3)
    count = len(source.inputs)
    np.testing.assert_array_equal(side.items, np.arange(count))
    np.testing.assert_allclose(
        side.source.inputs[0:count], source.inputs, atol=1e-3
    )  # the tool that made the set has rounded the sound
    np.testing.assert_array_equal(side.labels, source.labels[source.clip_of])
    assert side.source.variants.shape == (count, 3) and (side.source.variants >= count).all()
    for version in side.source.variants.T:
        np.testing.assert_array_equal(side.source.clip_of[version], source.clip_of)
        assert (np.diff(version)[np.diff(source.clip_of) == 0] >= 0).all()


def test_a_version_shows_about_the_same_part_of_the_utterance(held):
    """Without any change of speed the very same: only noise is added, and where it is faint, hardly any."""
    source, _ = held
    side = varied(held, noise=1e-4, variants=2)
    for version in side.source.variants.T:
        np.testing.assert_allclose(
            side.source.inputs[version][..., 0], source.inputs[..., 0], atol=0.5
        )
    first = source.clip_of == 0
    slower = varied(held, speed=0.4, variants=1, seed=3).source
    own = slower.variants[first][:, 0]
    assert (
        own[0] == own.min() and own[-1] == (np.flatnonzero(slower.clip_of == 0)).max()
    )  # begins and ends with it


def test_versions_are_of_the_one_definition_of_log_mels(held):
    """What stands in a version is the log-Mel of the changed waveform, cut as any other."""
    source, of = held
    side = varied(held, speed=0.1, noise=0.1, variants=2, seed=7)
    changes = AugmentConfig(speed=0.1, noise=0.1, variants=2)
    waveform = of.waveforms[1].astype(np.float32) / 32768
    remade = waveform_variants.change_waveform(
        waveform, changes, speed_part=0.5, random=np.random.default_rng([7, 1, 1])
    )
    expected = log_mel.segments(log_mel.log_mel(remade)).numpy()
    own = side.source.variants[source.clip_of == 1][:, 1]
    np.testing.assert_allclose(side.source.inputs[own[[0, -1]]], expected[[0, -1]], atol=1e-3)


def test_versions_are_a_function_of_the_seed(held):
    one, again, other = (varied(held, speed=0.1, noise=0.1, seed=seed).source for seed in (1, 1, 2))
    np.testing.assert_array_equal(
        one.inputs[0 : len(one.inputs)], again.inputs[0 : len(again.inputs)]
    )
    assert (
        len(one.inputs) != len(other.inputs)
        or (one.inputs[0 : len(one.inputs)] != other.inputs[0 : len(other.inputs)]).any()
    )
    assert np.abs(one.inputs[one.variants[:, 0]] - one.inputs[one.variants[:, 1]]).max() > 1


def test_clips_of_another_side_have_no_versions(held):
    source, _ = held
    items = source.items_of([0, 2, 5])
    side = varied(held, speed=0.1, side=sources.Subset(source, items))
    assert set(side.source.clip_of) == {0, 2, 5} and len(side.items) == len(items)
    np.testing.assert_allclose(side.source.inputs[side.items], source.inputs[items], atol=1e-3)
