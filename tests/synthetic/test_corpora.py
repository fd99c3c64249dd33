"""The sample corpora: genuine names, the same bytes from the same seed, faces that are found, voices that differ as emotions do."""

import concurrent.futures
import itertools
import json
import subprocess
import sys
import threading
import wave
from concurrent.futures.process import BrokenProcessPool

import av
import cv2
import numpy as np
import pytest

from pipelines import corpora as loaders
from pipelines import sample
from pipelines.core import spec
from pipelines.core.errors import RunError, StorageError
from pipelines.core.locks import locked_folder
from pipelines.faces.detectors import detect_face
from pipelines.synthetic import corpora, film, speech
from pipelines.synthetic.film import EXPRESSIONS, SCENES, film_clip
from pipelines.synthetic.head import Expression, draw_head, head_light
from pipelines.synthetic.speech import CHANNELS, PROSODIES, speak

SPEAKERS = [("enterface", speaker) for speaker in corpora.SUBJECTS] + [
    ("savee", speaker) for speaker in ("DC", "JE", "JK", "KL")
]


@pytest.fixture(scope="module")
def few():
    """One utterance of each corpus."""
    planned = corpora.plan_utterances()
    return [
        next(utterance for utterance in planned if utterance.corpus == corpus)
        for corpus in CHANNELS
    ]


@pytest.fixture(scope="module")
def written(tmp_path_factory, few):
    """A folder with the files of `few`."""
    out = tmp_path_factory.mktemp("sample")
    folders = corpora.write_samples(out, seed=3, workers=1, utterances=few)
    assert folders == {corpus: out / corpus for corpus in CHANNELS}
    return out


def contents(out):
    return {
        path.relative_to(out): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def test_loaders_understand_every_planned_name(tmp_path):
    for utterance in corpora.plan_utterances():
        for file in utterance.files:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).touch(exist_ok=False)
    for corpus, speakers, emotions, clips in (
        ("enterface", 6, 6, 216),
        ("savee", 4, 7, 384),
        ("emodb", 10, 7, 210),
    ):
        found_clips = loaders.find_clips(corpus, tmp_path / corpus)
        assert not found_clips.rejects and not found_clips.defects
        assert len(found_clips.clips) == clips
        assert len({clip.speaker for clip in found_clips.clips}) == speakers
        assert len({clip.emotion for clip in found_clips.clips}) == emotions
        planned = {
            file: utterance.emotion
            for utterance in corpora.plan_utterances()
            if utterance.corpus == corpus
            for file in utterance.files
        }
        assert {f"{corpus}/{clip.id}": clip.emotion for clip in found_clips.clips} == planned


def test_same_seed_gives_the_same_bytes_however_many_workers(tmp_path, written, few):
    counts = []
    corpora.write_samples(tmp_path, seed=3, workers=2, utterances=few, on_clip=counts.append)
    assert contents(tmp_path) == contents(written)
    assert set(counts) == set(few)


def test_other_seed_gives_other_bytes(tmp_path, written, few):
    corpora.write_samples(tmp_path, seed=4, workers=1, utterances=few)
    with_other_seed, same = contents(tmp_path), contents(written)
    assert with_other_seed.keys() == same.keys()
    assert all(with_other_seed[path] != same[path] for path in same)


def test_finished_files_are_kept_and_missing_ones_are_made_again(written, few):
    before = contents(written)
    audio = written / few[1].audio
    audio.unlink()
    times = {path: path.stat().st_mtime_ns for path in written.rglob("*.*") if path.is_file()}
    corpora.write_samples(written, seed=3, workers=1, utterances=few)
    assert contents(written) == before
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())


def test_an_interrupted_file_is_not_taken_for_a_finished_one(tmp_path, few, monkeypatch):
    def fail(path, pcm, *, rate_hz):
        path.write_bytes(b"RIFF")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(StorageError, match="No space"):
        patch.setattr(corpora, "_write_wav", fail)
        corpora.write_samples(tmp_path, workers=1, utterances=few[2:])
    assert list(contents(tmp_path)) == [tmp_path.joinpath(spec.SAMPLE_MARKER).relative_to(tmp_path)]
    corpora.write_samples(tmp_path, workers=1, utterances=few[2:])
    assert (tmp_path / few[2].audio).stat().st_size > 10_000


def test_a_second_process_waits_for_the_first(tmp_path, few):
    """An exclusive lock of the folder stands for the first process."""
    with locked_folder(tmp_path, wait=False):
        second = threading.Thread(
            target=corpora.write_samples, args=(tmp_path,), kwargs={"workers": 1, "utterances": few}
        )
        second.start()
        second.join(0.5)
        assert second.is_alive() and not contents(tmp_path)
    second.join(60)
    assert len(contents(tmp_path)) == 1 + sum(len(utterance.files) for utterance in few)


def test_a_worker_process_that_dies_is_a_run_error(tmp_path, few, monkeypatch):
    class Broken:
        def __init__(self, *_, **__):
            pass

        def submit(self, *_):
            raise BrokenProcessPool

        def shutdown(self, **_):
            pass

    monkeypatch.setattr(concurrent.futures, "ProcessPoolExecutor", Broken)
    with pytest.raises(RunError, match="worker process died.*fewer --workers"):
        corpora.write_samples(tmp_path, workers=2, utterances=few)


def test_media_are_read_back_as_planned(written, few):
    for utterance in few[:2]:
        scene, channel = SCENES[utterance.corpus], CHANNELS[utterance.corpus]
        with av.open(str(written / utterance.video)) as container:
            frames = list(container.decode(video=0))
            assert container.streams.video[0].average_rate == scene.frames_per_second == 25
            assert (frames[0].width, frames[0].height) == (scene.width, scene.height)
        with av.open(str(written / utterance.video)) as container:
            sound = list(container.decode(audio=0))
        seconds = sum(frame.samples for frame in sound) / channel.sample_rate_hz
        assert sound[0].sample_rate == channel.sample_rate_hz and sound[0].layout.nb_channels == 1
        assert 0.7 < seconds < 2.5
        assert len(frames) / scene.frames_per_second == pytest.approx(seconds, abs=0.1)
    with wave.open(str(written / few[1].audio)) as file:
        assert (file.getframerate(), file.getnchannels()) == (44_100, 1)
        heard = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    np.testing.assert_array_equal(
        np.concatenate([frame.to_ndarray()[0] for frame in sound]), heard
    )  # SAVEE's two files
    with wave.open(str(written / few[2].audio)) as file:
        assert (file.getframerate(), file.getnchannels()) == (16_000, 1)


@pytest.mark.parametrize(("corpus", "speaker"), SPEAKERS)
def test_viola_jones_finds_the_face_where_it_is_drawn(corpus, speaker):
    person, scene = corpora.speaker_person(corpus, speaker, seed=0), SCENES[corpus]
    emotion = list(EXPRESSIONS)[SPEAKERS.index((corpus, speaker)) % len(EXPRESSIONS)]
    loudness = np.abs(np.sin(np.arange(20) / 3))
    x, y, side = film.face_box(person, scene)
    near = 0
    for planes in film_clip(
        person, scene=scene, emotion=emotion, loudness=loudness, rng=np.random.default_rng(1)
    ):
        assert planes.shape == (scene.height * 3 // 2, scene.width)
        if (box := detect_face(planes[: scene.height])) is not None:
            left, top, width, height = box
            centre = (
                abs(left + width / 2 - x) < 0.12 * side and abs(top + height / 2 - y) < 0.12 * side
            )
            near += centre and 0.75 < width / side < 1.3
    assert near >= 18  # of 20


def test_no_two_speakers_have_the_same_face():
    light = head_light(lamp=0.0, tint_bgr=np.ones(3))
    faces = [
        draw_head(corpora.speaker_person(*who, seed=0), Expression(), light=light)[0]
        for who in SPEAKERS
    ]
    for (first, face), (second, other_face) in itertools.combinations(
        zip(SPEAKERS, faces, strict=True), 2
    ):
        assert cv2.absdiff(face, other_face)[80:260, 60:200].mean() > 4, (first, second)


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(EXPRESSIONS, 2)))
def test_expressions_can_be_told_apart_in_a_small_crop(first, second):
    person = corpora.speaker_person("savee", "DC", seed=0)
    light = head_light(lamp=0.0, tint_bgr=np.ones(3))
    crops = []
    for emotion in (first, second):
        head, _ = draw_head(person, EXPRESSIONS[emotion], light=light)
        crops.append(
            cv2.resize(head[55:255, 30:230], (64, 64), interpolation=cv2.INTER_AREA).astype(float)
        )
    changed = np.abs(crops[0] - crops[1]).max(axis=-1) > 25  # grey levels; a clip's noise is 3
    assert changed.sum() > 60


def pitch_hz(waveform, rate_hz):
    """Return the median pitch of the loud frames: the highest peak of their autocorrelation below 900 Hz, 70 to 400 Hz."""
    window = round(0.04 * rate_hz)
    frames = np.lib.stride_tricks.sliding_window_view(waveform, window)[:: window // 4]
    frames = frames[np.square(frames).mean(axis=1) > 0.3 * np.square(waveform).mean()]
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(window), 2 * window)) ** 2
    spectrum[:, np.fft.rfftfreq(2 * window, 1 / rate_hz) > 900] = 0
    correlation = np.fft.irfft(spectrum)[:, :window]
    correlation[np.logical_and.accumulate(correlation > 0, axis=1)] = 0  # the peak at no delay
    shortest, longest = rate_hz // 400, rate_hz // 70
    return float(np.median(rate_hz / (shortest + correlation[:, shortest:longest].argmax(axis=1))))


@pytest.mark.parametrize("hz", [90.0, 120.0, 240.0])
def test_the_tests_own_pitch(hz):
    waveform = sum(
        np.sin(2 * np.pi * hz * harmonic * np.arange(16_000) / 16_000) / harmonic
        for harmonic in range(1, 9)
    )
    assert pitch_hz(waveform, 16_000) == pytest.approx(hz, rel=0.02)


def spoken(speaker, emotion, *, clip, corpus="emodb"):
    voice = corpora.speaker_voice(corpus, speaker, seed=0)
    text_rng, rng = np.random.default_rng(1), np.random.default_rng(clip)
    return speak(voice, channel=CHANNELS[corpus], emotion=emotion, text_rng=text_rng, rng=rng)


@pytest.mark.parametrize("speaker", ["03", "08"])
def test_anger_is_higher_and_louder_than_sadness(speaker):
    for clip in range(3):
        anger, _ = spoken(speaker, "anger", clip=clip)
        sadness, _ = spoken(speaker, "sadness", clip=10 + clip)
        assert pitch_hz(anger, 16_000) > 1.05 * pitch_hz(sadness, 16_000)
        assert anger.std() > 2 * sadness.std()


def test_women_speak_higher_than_men():
    pitches = {
        speaker: pitch_hz(spoken(speaker, "neutral", clip=0)[0], 16_000)
        for speaker in corpora.BERLINERS
    }
    women = [pitch for speaker, pitch in pitches.items() if speaker in corpora.WOMEN["emodb"]]
    men = [pitch for speaker, pitch in pitches.items() if speaker not in corpora.WOMEN["emodb"]]
    assert min(women) > max(men)


@pytest.mark.parametrize("emotion", PROSODIES)
def test_speech_is_within_range_and_neither_silent_nor_endless(emotion):
    waveform, loudness = spoken("JK", emotion, clip=5, corpus="savee")
    assert waveform.dtype == np.float32 and np.isfinite(waveform).all()
    assert 0.05 < np.abs(waveform).max() <= speech.PEAK + 1e-6
    assert 0.7 < waveform.size / 44_100 < 2.5
    assert loudness.min() >= 0 and loudness.max() == 1


def test_a_filter_with_a_gain_of_one_changes_nothing():
    """The windows add up to 1 and the zero-phase filter neither delays nor scales, so away from the ends nothing changes."""
    source = np.random.default_rng(0).normal(size=80 * 30)
    gain = np.ones((30, speech._transform_size(80) // 2 + 1))
    np.testing.assert_allclose(
        speech._filtered(source, gain, 80)[160:-320], source[160:-320], atol=1e-9
    )


def test_importing_needs_no_media_library():
    code = "import sys, pipelines.sample; print([m for m in ('numpy', 'cv2', 'av', 'tensorflow') if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_command_tells_folders_and_counts(tmp_path, few, monkeypatch, capsys):
    for module in (sample, corpora):
        monkeypatch.setattr(module, "plan_utterances", lambda: tuple(few[1:]))
    assert sample.main(["--out", str(tmp_path), "--workers", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["savee", str(tmp_path / "savee"), "1", ".avi,", "1", ".wav"],
        ["emodb", str(tmp_path / "emodb"), "1", ".wav"],
    ]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--out"],
        ["--out", "x", "--seed", "-1"],
        ["--out", "x", "--workers", "0"],
        ["--out", "x", "y"],
    ],
)
def test_usage_errors_are_one_line_and_status_2(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        sample.main(words)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_file_in_place_of_the_folder_is_told(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert sample.main(["--out", str(out)]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and str(tmp_path / "file") in error
    assert (tmp_path / "file").read_text() == "mine"


def test_samples_of_another_seed_are_not_mixed(written, capsys):
    before = contents(written)
    assert sample.main(["--out", str(written), "--seed", "4"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and '"seed": 3' in error and "another --out" in error
    assert contents(written) == before


def test_a_genuine_corpus_is_not_touched(tmp_path, capsys):
    genuine = tmp_path / "emodb" / "wav" / "03a01Fa.wav"
    genuine.parent.mkdir(parents=True)
    genuine.write_bytes(b"genuine")
    assert sample.main(["--out", str(tmp_path)]) == 1
    assert "name another --out" in capsys.readouterr().err
    assert list(contents(tmp_path).values()) == [b"genuine"]


@pytest.mark.parametrize("text", ["", "[]", json.dumps({"recipe": corpora.RECIPE + 1, "seed": 0})])
def test_a_marker_of_another_recipe_is_told(tmp_path, text, capsys):
    (tmp_path / spec.SAMPLE_MARKER).write_text(text)
    assert sample.main(["--out", str(tmp_path)]) == 1
    assert spec.SAMPLE_MARKER in capsys.readouterr().err
