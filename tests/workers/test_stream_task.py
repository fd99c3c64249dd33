"""What prediction reads of a clip: the faces and parts of audio of a build, for every person."""

import re
import signal
from fractions import Fraction
from itertools import pairwise

import av
import cv2
import numpy as np
import pytest

from helpers import media
from helpers.builds import build_json
from helpers.streamed_clips import collect_messages, stream_clip
from pipelines.core.spec import Spec
from pipelines.faces import crops, stream
from pipelines.media import images
from pipelines.media.audio import read_waveform
from pipelines.media.video import VideoReader
from pipelines.records import reader
from pipelines.workers.pool import WorkerPool
from pipelines.workers.stream_task import StreamTask

WANTED_OF_50 = [(2 * step + 1) * 50 // 32 for step in range(16)]
"""16 of 50 pictures, each in the middle of its step."""


@pytest.fixture(scope="module")
def speaker(tmp_path_factory):
    """A video of two seconds with one person and sound."""
    return media.write_video(
        tmp_path_factory.mktemp("one") / "a.mp4",
        media.film(50),
        sound=media.noise(2, 44_100, channels=2),
    )


@pytest.fixture(scope="module")
def pool():
    with WorkerPool(workers=1, stall_seconds=5.0) as pool:
        yield pool


# One person


def test_faces_of_one_person_equal_the_faces_of_a_build(speaker):
    clip = stream_clip(speaker)
    np.testing.assert_array_equal(clip.faces["faces"], crops.read_faces(speaker).faces)
    forms = {name: (array.dtype, array.shape) for name, array in clip.faces.items()}
    assert forms == {
        "seconds": (np.float64, (16,)),
        "face": (np.int64, (16,)),
        "boxes": (np.int64, (16, 4)),
        "faces": (np.uint8, (16, 64, 64, 3)),
    }
    assert (clip.faces["face"] == 1).all()
    np.testing.assert_allclose(clip.faces["seconds"], np.array(WANTED_OF_50) / 25)
    assert clip.pictures == []
    assert clip.last_message["visual"] == {
        "seconds": 2.0,
        "looked_at": 16,
        "size": [320, 256],
        "undecodable": 0,
    }


def test_audio_of_a_short_clip_is_a_single_part(speaker):
    clip = stream_clip(speaker)
    waveform, track = read_waveform(speaker)
    _, end = Spec().samples_of(0, Spec().frame_count(waveform.size))
    (part,) = clip.audio_parts
    np.testing.assert_array_equal(part["waveform"], waveform[:end])
    assert part["start_seconds"] == 0
    assert clip.last_message["audio"]["seconds"] == track.seconds
    assert clip.last_message["audio"]["rate_hz"] == 44_100
    assert clip.last_message["sha256"] == images.content_hash(speaker)


def test_worker_sends_the_same_messages(pool, speaker):
    clip = stream_clip(speaker, pictures=3)
    sent_clip = collect_messages(pool.read(StreamTask(speaker, pictures=3)))
    for name, array in clip.faces.items():
        np.testing.assert_array_equal(sent_clip.faces[name], array)
    (part,), (sent_part,) = clip.audio_parts, sent_clip.audio_parts
    np.testing.assert_array_equal(sent_part["waveform"], part["waveform"])
    assert sent_clip.pictures == clip.pictures
    assert sent_clip.last_message == clip.last_message


def decode_jpeg(jpeg):
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def test_key_frames_are_evenly_spaced_and_hold_the_boxes(speaker):
    clip = stream_clip(speaker, pictures=3, picture_width=200)
    numbers = [round(25 * picture["seconds"]) for picture in clip.pictures]
    assert numbers == [WANTED_OF_50[2], WANTED_OF_50[8], WANTED_OF_50[13]]
    for number, picture in zip(numbers, clip.pictures, strict=True):
        (row,) = np.flatnonzero(clip.faces["seconds"] == picture["seconds"])
        assert picture["size"] == [320, 256]
        assert picture["boxes"] == [[1, *clip.faces["boxes"][row].tolist()]]
        rgb = decode_jpeg(picture["jpeg"])
        expected = cv2.resize(media.film(50)[number], (200, 160), interpolation=cv2.INTER_AREA)
        assert rgb.shape == (160, 200, 3)
        assert np.abs(rgb.astype(int) - expected).mean() < 6


def test_key_frame_is_not_enlarged(speaker):
    (picture,) = stream_clip(speaker, pictures=1).pictures
    assert decode_jpeg(picture["jpeg"]).shape == (256, 320, 3)


@pytest.fixture(scope="module")
def long_speaker(tmp_path_factory):
    """A video of six seconds with one person."""
    return media.write_video(
        tmp_path_factory.mktemp("long") / "a.mp4", np.concatenate([media.film(50)] * 3)
    )


@pytest.mark.parametrize(
    ("faces_per_second", "expected"),
    [(4, 24), (10, 60), (20, 120), (0.1, 16)],  # never fewer than 16
)
def test_number_of_faces_follows_faces_per_second(long_speaker, faces_per_second, expected):
    clip = stream_clip(long_speaker, faces_per_second=faces_per_second, domains=("visual",))
    assert clip.last_message["visual"]["looked_at"] == expected
    assert clip.faces["face"].tolist() == [1] * expected


def test_faces_of_a_longer_clip_are_evenly_spaced(long_speaker):
    seconds = stream_clip(long_speaker, domains=("visual",)).faces["seconds"]
    np.testing.assert_allclose(np.diff(seconds), 0.25, atol=0.031)  # a picture lasts 0.04 s


def test_file_without_a_rate_is_read_as_25_pictures_per_second(monkeypatch, speaker):
    class ReaderWithoutRate(VideoReader):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.seconds = 0.0

    expected = stream_clip(speaker, domains=("visual",))
    monkeypatch.setattr(stream, "VideoReader", ReaderWithoutRate)
    clip = stream_clip(speaker, domains=("visual",))
    np.testing.assert_allclose(clip.faces["seconds"], expected.faces["seconds"], rtol=1e-12)
    assert clip.last_message == expected.last_message


@pytest.mark.parametrize(
    ("n_clips", "n_dense_clips"),
    [(4, 2), pytest.param(None, None, marks=pytest.mark.endurance)],
)
@pytest.mark.parametrize("pattern", ["ravdess/*/*.mp4", "crema-d/VideoFlash/*.flv", "grid/*.mpg"])
def test_real_clip_of_one_person_has_the_faces_of_a_build(corpora, pattern, n_clips, n_dense_clips):
    """The endurance test reads every clip of a corpus, and every picture."""
    paths = sorted(corpora.glob(pattern))
    assert len(paths) >= 3
    for path in paths[:n_clips]:
        clip = stream_clip(path, domains=("visual",))
        facts = clip.last_message["visual"]
        assert set(clip.faces["face"]) == {1}, path
        assert len(clip.faces["face"]) >= 0.9 * facts["looked_at"], path
        if facts["seconds"] <= 4 and len(clip.faces["face"]) == 16:
            np.testing.assert_array_equal(clip.faces["faces"], crops.read_faces(path).faces)
    for path in paths[:n_dense_clips]:
        clip = stream_clip(path, domains=("visual",), faces_per_second=1000)
        assert set(clip.faces["face"]) == {1}, path


# Clips with one domain, and bad files


@pytest.mark.parametrize(
    ("sound", "reason"),
    [(None, "no sound track"), (np.zeros((1, 44_100), np.float32), "silent sound track")],
)
def test_clip_without_audible_sound_has_faces(tmp_path, sound, reason):
    path = media.write_video(tmp_path / "a.mp4", media.film(25), sound=sound)
    clip = stream_clip(path)
    assert len(clip.faces["faces"]) == 16
    assert "error" not in clip.last_message["visual"]
    assert clip.audio_parts == []
    assert reason in clip.last_message["audio"]["error"]


GREY_PICTURE = np.full((96, 128, 3), 90, np.uint8)


def test_video_without_a_face_has_key_frames_and_audio(tmp_path):
    path = media.write_video(
        tmp_path / "grey.mp4", np.stack([GREY_PICTURE] * 25), sound=media.noise(1, 44_100)
    )
    clip = stream_clip(path, pictures=2)
    assert clip.faces is None
    assert "no face found in 16 frames" in clip.last_message["visual"]["error"]
    assert [picture["boxes"] for picture in clip.pictures] == [[], []]
    assert len(clip.audio_parts) == 1
    assert "error" not in clip.last_message["audio"]


def test_sound_file_has_audio(tmp_path):
    """A second has 97 hops of 160 samples and a window of 512 samples."""
    path = media.write_sound(tmp_path / "a.wav", media.noise(1, 16_000))
    clip = stream_clip(path)
    assert clip.faces is None
    assert "no video stream" in clip.last_message["visual"]["error"]
    (part,) = clip.audio_parts
    assert part["waveform"].size == 96 * 160 + 512


def test_still_without_a_face_has_an_error(tmp_path):
    path = media.write_still(tmp_path / "a.png", GREY_PICTURE)
    clip = stream_clip(path, still=True)
    assert "no face found in the image" in clip.last_message["visual"]["error"]


def test_truncated_video_has_the_faces_of_its_pictures(tmp_path):
    path = media.write_video(tmp_path / "a.avi", media.film(50), codec="mjpeg", pixels="yuvj420p")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    clip = stream_clip(path)
    assert len(clip.faces["faces"]) > 10
    assert clip.last_message["visual"]["undecodable"] > 10
    path.write_bytes(content[:100])
    last_message = stream_clip(path).last_message
    assert set(last_message["visual"]) == set(last_message["audio"]) == {"error"}


def test_missing_file_is_retried(tmp_path):
    (message,) = StreamTask(tmp_path / "gone.mp4").read(Spec())
    assert (message["sha256"], message["more"]) == ("", False)
    assert message["visual"] == message["audio"]
    assert "No such file" in message["audio"]["error"]
    assert message["audio"]["retry"] == "unreadable"


def test_file_that_changes_while_it_is_read_is_retried(tmp_path):
    path = media.write_sound(tmp_path / "a.wav", media.noise(0.5, 16_000))
    messages = StreamTask(path, domains=("audio",)).read(Spec())
    assert next(messages)["length"] == 0.5
    assert "waveform" in next(messages)["audio"]
    media.write_sound(path, media.noise(0.7, 16_000))
    (last_message,) = messages
    assert "changed" in last_message["audio"]["error"]
    assert last_message["audio"]["retry"] == "changed"
    assert "visual" not in last_message


@pytest.mark.parametrize("trap", ["exit", f"signal{signal.SIGSEGV}", "hang"])
def test_crash_or_hang_costs_its_file_alone(pool, speaker, trap):
    (message,) = pool.read(StreamTask(media.Trap(trap)))
    assert re.search("crashed|no progress", message["visual"]["error"])
    assert message["visual"] == message["audio"]
    assert len(collect_messages(pool.read(StreamTask(speaker))).faces["faces"]) == 16


# Parts of audio


def test_parts_of_long_sound_equal_the_records_of_a_build(capsys, tmp_path):
    """150 s at 22 050 Hz are three parts, with the samples of the records' PCM."""
    path = media.write_sound(tmp_path / "media/sad/a.wav", media.noise(150, 22_050), rate_hz=22_050)
    clip = stream_clip(path, domains=("audio",))
    arguments = ["--corpus", "folder", "--media", tmp_path / "media"]
    status, _, _ = build_json(capsys, *arguments, "--out", tmp_path / "out", "--waveform")
    assert status == 0
    folder = tmp_path / "out/folder/audio"
    records = sorted(
        reader.read_features(folder, reader.read_manifest(folder)),
        key=lambda record: int(record["part"]),
    )
    assert len(clip.audio_parts) == len(records) == 3
    assert clip.last_message["audio"]["seconds"] == 150
    for part, record in zip(clip.audio_parts, records, strict=True):
        pcm = np.clip(np.round(part["waveform"] * 32768), -32768, 32767).astype(np.int16)
        np.testing.assert_array_equal(pcm, record["pcm"])
        assert part["waveform"].size <= Spec().part_samples
    part_edges = Spec().part_edges(Spec().frame_count(150 * 16_000))
    np.testing.assert_allclose(
        [part["start_seconds"] for part in clip.audio_parts],
        [edge * 0.01 for edge in part_edges[:-1]],
    )


@pytest.mark.parametrize("seconds", [0.032, 0.5, 59.99, 60.0, 60.006, 60.03, 121.0])
def test_parts_cover_the_whole_waveform(tmp_path, seconds):
    path = media.write_sound(tmp_path / "a.wav", media.noise(seconds, 16_000))
    parts = stream_clip(path, domains=("audio",)).audio_parts
    waveform, _ = read_waveform(path)
    spec = Spec()
    part_edges = spec.part_edges(spec.frame_count(waveform.size))
    assert len(parts) == len(part_edges) - 1
    assert part_edges[-1] == spec.frame_count(waveform.size)
    for part, (first_frame, end_frame) in zip(parts, pairwise(part_edges), strict=True):
        start, end = spec.samples_of(first_frame, end_frame)
        np.testing.assert_array_equal(part["waveform"], waveform[start:end])
        assert part["start_seconds"] == start / 16_000
        assert end - start <= spec.part_samples


# Pictures that are faces already


def test_still_without_a_detector_is_a_face(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8)
    path = media.write_still(tmp_path / "face.png", rgb)
    clip = stream_clip(path, still=True, detector=None, domains=("visual",))
    assert clip.faces["boxes"].tolist() == [[0, 0, 128, 96]]
    assert clip.last_message["visual"]["looked_at"] == 1
    np.testing.assert_array_equal(clip.faces["faces"][0], crops.resize_face(rgb))


def test_every_wanted_picture_is_a_face_without_a_detector(tmp_path):
    """16 of 20 pictures are wanted, each in the middle of its step: (2 step + 1) 20 / 32."""
    path = media.write_video(tmp_path / "faces.mp4", media.numbered_pictures(20))
    faces = stream_clip(path, detector=None, domains=("visual",)).faces
    assert faces["face"].tolist() == [1] * 16
    numbers = [media.picture_number(face, 20) for face in faces["faces"]]
    assert numbers == [number for number in range(20) if number not in (2, 7, 12, 17)]


# Times


def test_faces_have_the_times_of_their_pictures(tmp_path):
    """Twenty pictures at 25 per second are followed by twenty at 5 per second."""
    stamps_ms = [*range(0, 800, 40), *range(800, 4800, 200)]
    path = media.write_uneven_video(tmp_path / "uneven.mkv", media.numbered_pictures(40), stamps_ms)
    faces = stream_clip(path, detector=None, faces_per_second=100.0, domains=("visual",)).faces
    shown_ms = [stamps_ms[media.picture_number(face, 40)] for face in faces["faces"]]
    np.testing.assert_allclose(1000 * faces["seconds"], shown_ms, atol=1e-6)
    assert len(shown_ms) >= 16
    assert shown_ms == sorted(set(shown_ms))
    assert any(np.diff(shown_ms) < 100)
    assert any(np.diff(shown_ms) >= 200)


def test_audio_that_starts_later_has_its_time(tmp_path):
    """The audio of a Matroska file starts 1.2 s after the first picture."""
    path = tmp_path / "late.mkv"
    with av.open(str(path), "w") as container:
        video_stream = container.add_stream("libx264", rate=25)
        video_stream.width, video_stream.height, video_stream.pix_fmt = 128, 96, "yuv420p"
        audio_stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for picture in media.numbered_pictures(50):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            container.mux(video_stream.encode(frame))
        container.mux(video_stream.encode(None))
        samples = (32_000 * media.noise(0.8, 16_000)).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16_000, 19_200, Fraction(1, 16_000)
        container.mux(audio_stream.encode(frame))
        container.mux(audio_stream.encode(None))
    clip = stream_clip(path, detector=None)
    (part,) = clip.audio_parts
    assert part["start_seconds"] == pytest.approx(1.2, abs=0.01)
    assert clip.last_message["audio"]["seconds"] == pytest.approx(0.8)


def test_messages_of_audio_hold_the_progress(tmp_path):
    path = media.write_sound(tmp_path / "a.wav", media.noise(130.0, 8_000), rate_hz=8_000)
    messages = list(StreamTask(path, domains=("audio",)).read(Spec()))
    assert messages[0] == {"more": True, "length": 130.0}
    assert [round(message["at"]) for message in messages if "at" in message] == [43, 87, 130]


def test_progress_is_sent_while_no_face_is_found(tmp_path):
    path = media.write_video(tmp_path / "blank.mp4", np.stack([GREY_PICTURE] * 300))
    task = StreamTask(path, domains=("visual",), faces_per_second=25.0)
    messages = list(task.read(Spec()))
    times = [message["at"] for message in messages if "at" in message]
    assert times == pytest.approx([63 / 25, 127 / 25, 191 / 25, 255 / 25])
    assert "no face found" in messages[-1]["visual"]["error"]
