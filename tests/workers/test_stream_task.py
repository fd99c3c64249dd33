"""What predict reads of a clip: the build's very faces and parts of sound, of every person apart, whatever the file is."""

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
from helpers.watched import gathered, watch
from pipelines.core.spec import Spec
from pipelines.faces import crops, stream
from pipelines.media import images, video
from pipelines.media.audio import read_waveform
from pipelines.records import reader
from pipelines.workers.pool import WorkerPool
from pipelines.workers.stream_task import StreamTask


@pytest.fixture(scope="module")
def speaker(tmp_path_factory):
    """Two seconds of one person with sound."""
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


def test_the_face_of_one_person_is_the_builds_to_the_bit(speaker):
    seen, pictures, (part,), last = watch(speaker)
    np.testing.assert_array_equal(seen["faces"], crops.read_faces(speaker).faces)
    assert {name: (array.dtype, array.shape) for name, array in seen.items()} == {
        "seconds": (np.float64, (16,)),
        "face": (np.int64, (16,)),
        "boxes": (np.int64, (16, 4)),
        "faces": (np.uint8, (16, 64, 64, 3)),
    }
    assert (seen["face"] == 1).all() and pictures == []
    np.testing.assert_allclose(
        seen["seconds"], np.array([(2 * n + 1) * 50 // 32 for n in range(16)]) / 25
    )
    assert last["visual"] == {"seconds": 2.0, "looked_at": 16, "size": [320, 256], "undecodable": 0}
    waveform, track = read_waveform(speaker)
    np.testing.assert_array_equal(
        part["waveform"], waveform[: Spec().samples_of(0, Spec().frame_count(waveform.size))[1]]
    )
    assert (
        part["start_seconds"] == 0
        and last["audio"]["seconds"] == track.seconds
        and last["audio"]["rate_hz"] == 44_100
    )
    assert last["sha256"] == images.content_hash(speaker)


def test_a_worker_sends_the_same(pool, speaker):
    here, there = watch(speaker, pictures=3), gathered(pool.read(StreamTask(speaker, pictures=3)))
    for name in here[0]:
        np.testing.assert_array_equal(here[0][name], there[0][name])
    np.testing.assert_array_equal(here[2][0]["waveform"], there[2][0]["waveform"])
    assert here[1] == there[1] and here[3] == there[3]


def test_key_frames_are_spaced_over_the_wanted_ones_and_tell_who_is_where(speaker):
    seen, pictures, _, _ = watch(speaker, pictures=3, picture_width=200)
    wanted = [(2 * n + 1) * 50 // 32 for n in range(16)]
    assert [round(25 * picture["seconds"]) for picture in pictures] == [
        wanted[2],
        wanted[8],
        wanted[13],
    ]
    for picture in pictures:
        (row,) = np.flatnonzero(seen["seconds"] == picture["seconds"])
        assert picture["size"] == [320, 256] and picture["boxes"] == [
            [1, *seen["boxes"][row].tolist()]
        ]
        image = cv2.imdecode(np.frombuffer(picture["jpeg"], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        original = cv2.resize(
            media.film(50)[round(25 * picture["seconds"])], (200, 160), interpolation=cv2.INTER_AREA
        )
        assert image.shape == (160, 200, 3) and np.abs(image.astype(int) - original).mean() < 6
    assert cv2.imdecode(
        np.frombuffer(watch(speaker, pictures=1)[1][0]["jpeg"], np.uint8), cv2.IMREAD_COLOR
    ).shape == (256, 320, 3)


def test_a_longer_clip_is_looked_at_so_many_times_a_second(tmp_path):
    """6 s: 24 frames, at 10 a second 60, in blocks of at most 64; and 16 frames at the least."""
    path = media.write_video(tmp_path / "a.mp4", np.concatenate([media.film(50)] * 3))
    seen, _, _, last = watch(path)
    assert last["visual"]["looked_at"] == len(seen["faces"]) == 24 and set(seen["face"]) == {1}
    np.testing.assert_allclose(np.diff(seen["seconds"]), 0.25, atol=0.031)  # a picture lasts 0.04 s
    for per_second, count in ((10, 60), (20, 120), (0.1, 16)):
        seen, _, _, last = watch(path, faces_per_second=per_second, domains=("visual",))
        assert (
            last["visual"]["looked_at"] == count
            and len(seen["faces"]) == count
            and set(seen["face"]) == {1}
        )


def test_a_file_that_tells_no_rate_has_times_of_25_pictures_a_second(monkeypatch, speaker):
    class Timeless(video.VideoReader):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.seconds = 0.0

    usual = watch(speaker, domains=("visual",))
    monkeypatch.setattr(stream, "VideoReader", Timeless)
    odd = watch(speaker, domains=("visual",))
    np.testing.assert_allclose(odd[0]["seconds"], usual[0]["seconds"], rtol=1e-12)
    assert odd[3] == usual[3]


@pytest.mark.parametrize(
    ("first", "dense"), [(4, 2), pytest.param(None, None, marks=pytest.mark.endurance)]
)
@pytest.mark.parametrize("pattern", ["ravdess/*/*.mp4", "crema-d/VideoFlash/*.flv", "grid/*.mpg"])
def test_a_real_clip_of_one_person_has_one_face_the_builds(corpora, pattern, first, dense):
    """The first four clips of each corpus, in two of them every picture; in the long run every picture of all."""
    paths = sorted(corpora.glob(pattern))
    assert len(paths) >= 3
    for path in paths[:first]:
        seen, _, _, last = watch(path, domains=("visual",))
        assert (
            set(seen["face"]) == {1} and len(seen["face"]) >= 0.9 * last["visual"]["looked_at"]
        ), path
        if last["visual"]["seconds"] <= 4 and len(seen["face"]) == 16:
            np.testing.assert_array_equal(seen["faces"], crops.read_faces(path).faces)
        if path in paths[:dense]:
            assert set(watch(path, domains=("visual",), faces_per_second=1000)[0]["face"]) == {1}, (
                path
            )


def test_without_sound_or_with_silence_the_faces_are_there(tmp_path):
    for sound, said in (
        (None, "no sound track"),
        (np.zeros((1, 44_100), np.float32), "silent sound track"),
    ):
        path = media.write_video(tmp_path / "a.mp4", media.film(25), sound=sound)
        seen, _, parts, last = watch(path)
        assert (
            len(seen["faces"]) == 16
            and parts == []
            and last["audio"]["error"].startswith(said)
            and "error" not in last["visual"]
        )


def test_without_a_face_or_a_picture_the_sound_is_there(tmp_path):
    grey = media.write_video(
        tmp_path / "grey.mp4", np.full((25, 96, 128, 3), 90, np.uint8), sound=media.noise(1, 44_100)
    )
    seen, pictures, parts, last = watch(grey, pictures=2)
    assert (
        seen is None
        and last["visual"] == {"error": "no face found in 16 frames"}
        and "error" not in last["audio"]
    )
    assert [picture["boxes"] for picture in pictures] == [[], []] and len(parts) == 1
    wav = media.write_sound(tmp_path / "a.wav", media.noise(1, 16_000))
    seen, _, (part,), last = watch(wav)
    assert (
        seen is None
        and last["visual"] == {"error": "no video stream"}
        and part["waveform"].size == 15_872
    )  # 97 hops and a window
    still = media.write_still(tmp_path / "a.png", np.full((96, 128, 3), 90, np.uint8))
    assert watch(still, still=True)[3]["visual"] == {"error": "no face found in the image"}


def test_a_file_that_ends_too_early_gives_what_it_holds(tmp_path):
    path = media.write_video(tmp_path / "a.avi", media.film(50), codec="mjpeg", pixels="yuvj420p")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    seen, _, _, last = watch(path)
    assert len(seen["faces"]) > 10 and last["visual"]["undecodable"] > 10
    path.write_bytes(content[:100])
    assert set(watch(path)[3]["visual"]) == set(watch(path)[3]["audio"]) == {"error"}


def test_a_file_that_is_not_there_or_changes(monkeypatch, tmp_path):
    (message,) = StreamTask(tmp_path / "gone.mp4").read(Spec())
    unreadable = {"error": "cannot be read (No such file or directory)", "retry": "unreadable"}
    assert message == {"sha256": "", "more": False, "visual": unreadable, "audio": unreadable}
    path = media.write_sound(tmp_path / "a.wav", media.noise(0.5, 16_000))
    messages = StreamTask(path, domains=("audio",)).read(Spec())
    assert next(messages)["length"] == 0.5 and "waveform" in next(messages)["audio"]
    media.write_sound(path, media.noise(0.7, 16_000))
    (last,) = messages
    assert (
        last["audio"] == {"error": "changed while it was read", "retry": "changed"}
        and "visual" not in last
    )


@pytest.mark.parametrize("trap", ["exit", f"signal{signal.SIGSEGV}", "hang"])
def test_a_crash_or_a_hang_costs_its_file_alone(pool, speaker, trap):
    (message,) = pool.read(StreamTask(media.Trap(trap)))
    assert (
        re.match("decoder (crashed|made no progress)", message["visual"]["error"])
        and message["visual"] == message["audio"]
    )
    assert len(gathered(pool.read(StreamTask(speaker)))[0]["faces"]) == 16


# Sound, in parts


def test_long_sound_is_cut_as_the_builds_records_are(capsys, tmp_path):
    """150 s of 22 050 Hz: three parts, each the very samples of a record's PCM."""
    path = media.write_sound(tmp_path / "media/sad/a.wav", media.noise(150, 22_050), rate_hz=22_050)
    _, _, parts, last = watch(path, domains=("audio",))
    status, _, _ = build_json(
        capsys,
        "--corpus",
        "folder",
        "--media",
        tmp_path / "media",
        "--out",
        tmp_path / "out",
        "--waveform",
    )
    assert status == 0
    folder = tmp_path / "out/folder/audio"
    kept = sorted(
        reader.read_features(folder, reader.read_manifest(folder)),
        key=lambda record: int(record["part"]),
    )
    assert len(parts) == len(kept) == 3 and last["audio"]["seconds"] == 150
    for part, record in zip(parts, kept, strict=True):
        pcm = np.clip(np.round(part["waveform"] * 32768), -32768, 32767).astype(np.int16)
        np.testing.assert_array_equal(pcm, record["pcm"])
        assert part["waveform"].size <= Spec().part_samples
    starts = [edge * 0.01 for edge in Spec().part_edges(Spec().frame_count(150 * 16_000))[:-1]]
    np.testing.assert_allclose([part["start_seconds"] for part in parts], starts)


@pytest.mark.parametrize("seconds", [0.032, 0.5, 59.99, 60.0, 60.006, 60.03, 121.0])
def test_parts_together_are_the_whole(tmp_path, seconds):
    path = media.write_sound(tmp_path / "a.wav", media.noise(seconds, 16_000))
    _, _, parts, _ = watch(path, domains=("audio",))
    waveform, _ = read_waveform(path)
    spec = Spec()
    edges = spec.part_edges(spec.frame_count(waveform.size))
    assert len(parts) == len(edges) - 1 and edges[-1] == spec.frame_count(waveform.size)
    for part, frames in zip(parts, pairwise(edges), strict=True):
        first, end = spec.samples_of(*frames)
        np.testing.assert_array_equal(part["waveform"], waveform[first:end])
        assert part["start_seconds"] == first / 16_000 and end - first <= spec.part_samples


def test_a_picture_that_is_a_face_already_is_taken_whole(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8)
    seen, _, _, last = watch(
        media.write_still(tmp_path / "face.png", picture),
        still=True,
        detector=None,
        domains=("visual",),
    )
    assert seen["boxes"].tolist() == [[0, 0, 128, 96]] and last["visual"]["looked_at"] == 1
    np.testing.assert_array_equal(seen["faces"][0], crops.resize_face(picture))
    film = media.write_video(tmp_path / "faces.mp4", media.numbered_pictures(20))
    seen, *_ = watch(film, detector=None, domains=("visual",))
    assert (
        seen["face"].tolist() == [1] * 16
        and [media.picture_number(face, 20) for face in seen["faces"]] == SPACED
    )


SPACED = [number for number in range(20) if number not in (2, 7, 12, 17)]
"""16 of 20 pictures, each in the middle of its step: (2 step + 1) 20 / 32."""


def test_faces_are_told_at_the_times_that_the_pictures_are_shown(tmp_path):
    """Twenty pictures at 25 a second, then twenty at 5 a second."""
    stamps_ms = [*range(0, 800, 40), *range(800, 4800, 200)]
    path = media.write_uneven_video(tmp_path / "uneven.mkv", media.numbered_pictures(40), stamps_ms)
    seen, *_ = watch(path, detector=None, faces_per_second=100.0, domains=("visual",))
    shown = [stamps_ms[media.picture_number(face, 40)] for face in seen["faces"]]
    np.testing.assert_allclose(1000 * seen["seconds"], shown, atol=1e-6)
    assert (
        len(shown) >= 16
        and shown == sorted(set(shown))
        and any(np.diff(shown) < 100)
        and any(np.diff(shown) >= 200)
    )


def test_sound_that_begins_later_is_told_at_its_time(tmp_path):
    """The sound of a Matroska file begins 1.2 s behind the first picture."""
    path = tmp_path / "late.mkv"
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("libx264", rate=25)
        pictures.width, pictures.height, pictures.pix_fmt = 128, 96, "yuv420p"
        voice = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for picture in media.numbered_pictures(50):
            container.mux(
                pictures.encode(
                    av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                )
            )
        container.mux(pictures.encode(None))
        frame = av.AudioFrame.from_ndarray(
            (32_000 * media.noise(0.8, 16_000)).astype(np.int16), format="s16", layout="mono"
        )
        frame.sample_rate, frame.pts, frame.time_base = 16_000, 19_200, Fraction(1, 16_000)
        container.mux(voice.encode(frame))
        container.mux(voice.encode(None))
    _, _, (part,), last = watch(path, detector=None)
    assert part["start_seconds"] == pytest.approx(1.2, abs=0.01) and last["audio"][
        "seconds"
    ] == pytest.approx(0.8)


def test_how_far_it_is_is_told_of_sound_and_where_there_is_no_face(tmp_path):
    sound = media.write_sound(tmp_path / "a.wav", media.noise(130.0, 8_000), rate_hz=8_000)
    told = list(StreamTask(sound, domains=("audio",)).read(Spec()))
    assert told[0] == {"more": True, "length": 130.0}
    assert [round(message["at"]) for message in told if "at" in message] == [43, 87, 130]
    blank = media.write_video(tmp_path / "blank.mp4", np.full((300, 96, 128, 3), 90, np.uint8))
    told = list(StreamTask(blank, domains=("visual",), faces_per_second=25.0).read(Spec()))
    at = [message["at"] for message in told if "at" in message]
    assert (
        at == pytest.approx([63 / 25, 127 / 25, 191 / 25, 255 / 25])
        and "no face found" in told[-1]["visual"]["error"]
    )
