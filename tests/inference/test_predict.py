"""Tests of predictions with a bundle, as JSON Lines, tables, pages and videos."""

import contextlib
import io
import json
import os
import re
import shutil
from pathlib import Path

import av
import numpy as np
import pytest

from helpers.media import film, noise, write_sound, write_still, write_video
from helpers.messages import key_words
from kerasemo.inference.predictor import ReadingOptions, expand_clips, predict_clips
from kerasemo.predict import main
from kerasemo.serving.bundle import Bundle
from pipelines.faces.crops import read_faces
from pipelines.media import audio

RATE_HZ = 44_100


@pytest.fixture(scope="module")
def model(exported) -> Bundle:
    return Bundle.load(exported)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """A clip of every kind."""
    folder = tmp_path_factory.mktemp("clips")
    heads = film(50)
    voice = noise(2.0, RATE_HZ)
    write_video(folder / "both.mp4", heads, sound=voice)
    write_video(folder / "mute.mp4", heads)
    write_video(folder / "silent.mp4", heads, sound=0 * voice)
    write_video(
        folder / "faceless.avi",
        np.full((50, 96, 128, 3), 90, np.uint8),
        codec="mpeg4",
        sound=voice,
        sound_codec="mp3",
    )
    write_video(folder / "two.mp4", np.concatenate([heads, film(50, seed=1)], axis=2), sound=voice)
    write_sound(folder / "voice.wav", noise(1.5, 16_000, seed=3))
    write_still(folder / "still.png", heads[10])
    write_still(folder / "blank.jpg", np.full((96, 96, 3), 90, np.uint8))
    (folder / "torn.mp4").write_bytes((folder / "both.mp4").read_bytes()[:2000])
    (folder / "empty.wav").write_bytes(b"")
    (folder / "notes.txt").write_text("not media, and no clip of a folder")
    return folder


@pytest.fixture(scope="module")
def documents(model, clips) -> dict[str, dict]:
    """The document of each clip of the folder, by its name."""
    predictions = predict_clips(model, expand_clips([clips]))
    return {Path(prediction.path).name: prediction.document for prediction in predictions}


def test_every_clip_of_a_folder_has_a_prediction_or_an_error(documents):
    assert list(documents) == sorted(documents) and "notes.txt" not in documents
    assert {name for name, document in documents.items() if "error" in document} == {
        "blank.jpg",
        "empty.wav",
        "torn.mp4",
    }
    assert "no face" in documents["blank.jpg"]["error"]
    assert "0 bytes" in documents["empty.wav"]["error"]


def test_short_clip_has_the_faces_and_segments_of_a_build(model, clips, documents):
    """For a clip of up to 4 s, `predict` reads the same faces and segments as a build."""
    document = documents["both.mp4"]
    crops = read_faces(clips / "both.mp4").faces
    expected = model.predict("faces", faces=crops)["probabilities"].mean(axis=0)
    np.testing.assert_allclose(
        list(document["visual"]["probabilities"].values()), expected, atol=1e-5
    )
    waveform, _ = audio.read_waveform(clips / "both.mp4")
    expected = model.predict("speech", waveform=waveform[None])["probabilities"][0]
    np.testing.assert_allclose(
        list(document["audio"]["probabilities"].values()), expected, atol=1e-5
    )


def test_timelines_cover_the_clip(documents, model):
    document = documents["both.mp4"]
    assert document["visual"]["size"] == [320, 256]
    assert document["visual"]["seconds"] == pytest.approx(2.0)
    assert document["visual"]["looked_at"] == 16
    times = [entry["seconds"] for entry in document["visual"]["timeline"]]
    assert len(times) == 16 and times == sorted(times) and times[0] >= 0 and times[-1] < 2
    starts = [entry["seconds"] for entry in document["audio"]["timeline"]]
    end_seconds = document["audio"]["timeline"][-1]["to_seconds"]
    assert starts[:3] == [0.0, 0.34, 0.68] and end_seconds == pytest.approx(2.0, abs=0.1)
    assert document["fused"]["timeline"] and set(document["fused"]["probabilities"]) == set(
        model.labels
    )
    for domain in ("visual", "audio", "fused"):
        for entry in (document[domain], *document[domain]["timeline"]):
            best = max(entry["probabilities"], key=entry["probabilities"].get)
            assert entry["emotion"] == best and entry["confidence"] == entry["probabilities"][best]


@pytest.mark.parametrize(
    ("name", "domain", "word"),
    [
        ("mute.mp4", "audio", "sound track"),
        ("silent.mp4", "audio", "silent"),
        ("faceless.avi", "visual", "no face"),
    ],
)
def test_missing_domain_is_a_warning(documents, name, domain, word):
    document = documents[name]
    assert document[domain] is None and document["fused"] is None
    assert word in document["warnings"][0]


def test_sound_has_no_faces_and_a_still_no_voice(documents):
    voice, still = documents["voice.wav"], documents["still.png"]
    assert voice["visual"] is None and voice["audio"]["emotion"] and voice["warnings"] == []
    assert still["audio"] is None and still["warnings"] == []
    assert len(still["visual"]["timeline"]) == 1


def test_two_persons_have_separate_tracks(documents):
    document = documents["two.mp4"]
    visual = document["visual"]
    assert [face["count"] for face in visual["faces"]] == [16, 16]
    sides = {(entry["face"], entry["box"][0] < 320) for entry in visual["timeline"]}
    assert sides in ({(1, False), (2, True)}, {(1, True), (2, False)})
    assert "2 faces" in document["warnings"][0]


def test_prediction_does_not_depend_on_workers_and_neighbouring_clips(model, clips, documents):
    for workers, names in ((1, ["two.mp4", "both.mp4", "voice.wav"]), (2, ["both.mp4"])):
        reading = ReadingOptions(workers=workers)
        paths = [clips / name for name in names]
        for prediction in predict_clips(model, paths, reading=reading):
            expected = documents[Path(prediction.path).name]
            for domain in ("visual", "audio", "fused"):
                if expected[domain]:
                    probabilities = prediction.document[domain]["probabilities"]
                    assert probabilities == pytest.approx(
                        expected[domain]["probabilities"], rel=0, abs=1e-5
                    )


def test_untrained_domain_is_a_warning_or_an_error(exported, clips, tmp_path):
    from kerasemo.exporting.exporter import ExportOptions, export_stage

    export_stage(ExportOptions(exported.parent / "run", tmp_path / "faces", "pretrain"))
    model = Bundle.load(tmp_path / "faces")
    video, voice = predict_clips(model, [clips / "both.mp4", clips / "voice.wav"])
    assert video.document["visual"]["emotion"] and video.document["audio"] is None
    assert any("voices" in warning for warning in video.warnings)
    assert "visual" in voice.error and "audio" in voice.error


def test_command_writes_lines_report_and_video(exported, clips, tmp_path, command):
    call = ["kerasemo.predict", "--model", exported, clips / "both.mp4"]
    outputs = ["--report", tmp_path / "page.html", "--video", tmp_path / "drawn.mp4"]
    finished = command(*call, "--json", *outputs, check=0)
    (line,) = finished.stdout.splitlines()
    document = json.loads(line)
    assert document["path"] == str(clips / "both.mp4") and document["fused"]["emotion"]
    page = (tmp_path / "page.html").read_text()
    assert "both.mp4" in page and document["fused"]["emotion"] in page
    assert page.count("data:image/jpeg") == 8
    assert not re.search(r'(src|href)="https?://', page)
    with av.open(str(tmp_path / "drawn.mp4")) as drawn:
        assert drawn.streams.audio and sum(1 for _ in drawn.decode(video=0)) == 50
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["drawn.mp4", "page.html"]


def test_command_prints_a_table_errors_and_warnings(exported, clips, tmp_path, capsys):
    for name in ("both.mp4", "two.mp4", "voice.wav", "still.png", "empty.wav"):
        (tmp_path / name).symlink_to(clips / name)
    assert main(["--model", str(exported), str(tmp_path)]) == 0
    printed = capsys.readouterr()
    for name in ("both.mp4", "voice.wav", "still.png"):
        assert name in printed.out
    assert re.search(key_words("empty.wav", "0 bytes"), printed.err)
    assert re.search(key_words("two.mp4", "2 faces"), printed.err)


VOICE = ["--model", "{model}", "{clips}/voice.wav"]
VIDEO = ["--model", "{model}", "{clips}/both.mp4"]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--model", "{model}", "{clips}/gone.mp4"], 1, ["gone.mp4", "read"]),
        (["--model", "{model}", "{clips}/notes.txt"], 1, ["notes.txt", "suffix '.txt'"]),
        (["--model", "{model}", "{clips}/empty.wav"], 1, ["empty.wav", "predicted"]),
        (["--model", "gone", "{clips}/voice.wav"], 1, ["gone", "bundle"]),
        (["--model", "{model}", "{empty}"], 1, ["{empty}", "video", "sound", "picture"]),
        (["--model", "{model}", "{clips}", "--video", "x.mp4"], 1, ["--video", "10 clips"]),
        ([*VOICE, "--video", "x.mp4"], 1, ["--video", "voice.wav"]),
        ([*VIDEO, "--video", "x.webm"], 1, ["--video", "x.webm", ".mp4"]),
        ([*VIDEO, "--video", "{clips}/both.mp4"], 1, ["both.mp4", "written over"]),
        ([*VIDEO, "--report", "{clips}/both.mp4"], 1, ["--report", "both.mp4", ".html"]),
        ([*VOICE, "--report", "{empty}/no/x.html"], 1, ["{empty}/no", "folder"]),
        ([*VOICE, "--report", "/dev/full"], 1, ["--report", "/dev/full", ".html"]),
        ([*VOICE, "--detector", "third eye"], 1, ["detector", "'third eye'", "viola-jones"]),
        ([*VOICE, "--faces-per-second", "0"], 2, ["--faces-per-second", "above 0"]),
        (["{clips}/voice.wav"], 2, ["--model"]),
    ],
)
def test_invalid_call_is_an_error_without_a_traceback(
    exported, clips, tmp_path, capsys, arguments, status, words
):
    places = {"model": exported, "clips": clips, "empty": tmp_path}
    try:
        assert main([word.format(**places) for word in arguments]) == status
    except SystemExit as caught:
        assert caught.code == status
    printed = capsys.readouterr()
    assert re.search(key_words(*(word.format(**places) for word in words)), printed.err)
    assert "Traceback" not in printed.err and printed.out == ""


def test_report_in_place_of_a_folder_is_an_error(exported, clips, tmp_path, capsys):
    page = tmp_path / "page.html"
    page.mkdir()
    arguments = ["--model", exported, clips / "voice.wav", "--report", page]
    assert main(list(map(str, arguments))) == 1
    assert re.search(key_words(str(page), "folder"), capsys.readouterr().err)


def test_refused_sound_fails_only_its_clip(model, tmp_path):
    """The graph refuses a float WAV with a peak of 20, and accepts a part of silence."""
    loud, gap, good = tmp_path / "1.wav", tmp_path / "2.wav", tmp_path / "3.wav"
    write_sound(loud, 40 * noise(1.0, 16_000), codec="pcm_f32le", sample_format="flt")
    write_sound(
        gap, np.concatenate([noise(20.0, 16_000), np.zeros((1, 70 * 16_000), np.float32)], axis=1)
    )
    write_sound(good, noise(1.0, 16_000))
    predictions = predict_clips(model, [loud, gap, good])
    of_loud, of_gap, of_good = (prediction.document for prediction in predictions)
    assert "[-1, 1]" in of_loud["error"] and of_good["audio"]["emotion"]
    assert of_gap["audio"]["seconds"] == 90.0
    end_seconds = of_gap["audio"]["timeline"][-1]["to_seconds"]
    assert end_seconds == pytest.approx(90.0, abs=0.05)


def test_names_that_are_not_utf_8_are_printed_as_errors(exported, clips, tmp_path, capsys):
    """Standard output accepts only UTF-8, for JSON and for the table."""
    shutil.copy(clips / "voice.wav", os.fsencode(tmp_path) + b"/b\xff\xfe.wav")
    shutil.copy(clips / "voice.wav", tmp_path / "c.wav")
    with contextlib.redirect_stdout(
        io.TextIOWrapper(io.BytesIO(), "utf-8", errors="strict")
    ) as strict:
        assert main(["--model", str(exported), str(tmp_path), "--json"]) == 0
    strict.seek(0)
    odd, plain = map(json.loads, strict)
    assert odd["path"].endswith("\udcfe.wav") and "not UTF-8" in odd["error"]
    assert plain["path"].endswith("c.wav") and plain["audio"]["emotion"]
    assert main(["--model", str(exported), str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert "c.wav" in re.sub(r"\s", "", out) and "not UTF-8" in err


def test_progress_bar_of_a_clip_of_less_than_a_second(model, clips, tmp_path, monkeypatch, capsys):
    """The clock runs so fast that the command displays the bar."""
    from pipelines.core import progress

    short = write_video(tmp_path / "short.mp4", film(10))
    times = iter(range(0, 100_000, 20))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(times)))
    assert main(["--model", str(model.folder), str(short)]) == 0
    assert "short.mp4" in re.sub(r"\s", "", capsys.readouterr().out)


def test_damaged_bundle_is_an_error(exported, clips, tmp_path, capsys):
    shutil.copytree(exported, tmp_path / "toy")
    (tmp_path / "toy" / "1" / "saved_model.pb").write_bytes(b"")
    assert main(["--model", str(tmp_path / "toy"), str(clips / "voice.wav")]) == 1
    assert re.search(key_words("saved_model.pb", "damaged"), capsys.readouterr().err)


@pytest.mark.parametrize(
    ("max_videos", "count"), [(2, 7), pytest.param(None, 20, marks=pytest.mark.endurance)]
)
def test_real_videos_have_a_single_face_and_a_voice_unless_silent(
    exported, corpora, max_videos, count
):
    """Each real video has one person in nearly every frame, and a voice unless it is silent."""
    patterns = (
        "ravdess/Actor_01/01-*.mp4",
        "ravdess/Actor_01/02-*.mp4",
        "crema-d/VideoFlash/*.flv",
        "grid/*.mpg",
    )
    videos = [path for pattern in patterns for path in sorted(corpora.glob(pattern))[:max_videos]]
    predictions = list(predict_clips(Bundle.load(exported), videos))
    assert len(predictions) == count and any(path.name.startswith("02-01") for path in videos)
    for document in (prediction.document for prediction in predictions):
        path, visual = document["path"], document["visual"]
        assert len(visual["faces"]) == 1 and len(visual["timeline"]) >= 14, path
        is_silent = Path(path).name.startswith("02-01")
        assert (document["audio"] is None) == is_silent, path
        assert (document["fused"] is None) == is_silent, path
