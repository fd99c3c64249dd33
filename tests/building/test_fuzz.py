"""Damaged media: no crash and no hang of the build, each file built or quarantined with a reason, each good file as it was."""

import random
import shutil

import numpy as np
import pytest

from helpers import media
from pipelines.building import builder
from pipelines.building.builder import BuildOptions
from pipelines.records import reader


def _flip_bits(data: bytearray, draw: random.Random) -> bytearray:
    for _ in range(draw.choice((1, 8, 200))):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return data


def _flip_bits_of_the_header(data: bytearray, draw: random.Random) -> bytearray:
    for _ in range(draw.choice((1, 4))):
        data[draw.randrange(min(len(data), 256))] ^= 1 << draw.randrange(8)
    return data


def _truncate(data: bytearray, draw: random.Random) -> bytearray:
    return data[: draw.randrange(len(data))]


def _zero_a_span(data: bytearray, draw: random.Random) -> bytearray:
    begin = draw.randrange(len(data))
    end = min(len(data), begin + draw.choice((16, 4096, len(data) // 2)))
    data[begin:end] = bytes(end - begin)
    return data


def _repeat_a_span(data: bytearray, draw: random.Random) -> bytearray:
    begin = draw.randrange(len(data))
    return data[:begin] + data[begin : begin + draw.choice((3, 1024))] + data[begin:]


CHANGES = (_flip_bits, _flip_bits_of_the_header, _truncate, _zero_a_span, _repeat_a_span)
KEPT = ("anger/1", "anger/2")
"""Good files that stand among the damaged ones; each gets its suffix."""


def synthesised(folder):
    """Return one file of each container."""
    folder.mkdir(exist_ok=True)
    sound, pictures = media.noise(0.8, 44_100, channels=2), media.film(8)
    return [
        media.write_video(folder / "a.mp4", pictures, sound=sound),
        media.write_video(
            folder / "b.avi", pictures, codec="mpeg4", sound=sound, sound_codec="libmp3lame"
        ),
        media.write_video(
            folder / "c.mkv", pictures, sound=sound, sound_codec="flac", sample_format="s16"
        ),
        media.write_video(
            folder / "d.flv", pictures, codec="flv", sound=sound, sound_codec="libmp3lame"
        ),
        media.write_video(
            folder / "e.mpg",
            pictures,
            codec="mpeg1video",
            sound=sound,
            sound_codec="mp2",
            sample_format="s16",
        ),
        media.write_sound(folder / "f.wav", sound, rate_hz=44_100),
        media.write_sound(folder / "g.flac", sound, rate_hz=44_100, codec="flac"),
        media.write_sound(
            folder / "h.mp3", sound, rate_hz=44_100, codec="libmp3lame", sample_format="fltp"
        ),
        media.write_still(folder / "i.png", pictures[0]),
        media.write_still(folder / "j.jpg", pictures[0]),
    ]


def real(corpora):
    """Return a clip of each real corpus."""
    names = (
        "emodb/wav/03a01Fa.wav",
        "ravdess/Actor_02/03-01-05-02-01-01-02.flac",
        "crema-d/VideoFlash/1001_DFA_ANG_XX.flv",
    )
    return [corpora / name for name in names] + sorted((corpora / "grid").glob("*.mpg"))[:1]


def mutate(sources, folder, *, count, seed):
    """Lay `count` damaged copies and two good ones into a class folder; return the ids of the good ones and of all."""
    (folder / "anger").mkdir(parents=True)
    draw = random.Random(seed)
    good = [
        shutil.copy(source, folder / f"{name}{source.suffix}")
        for name, source in zip(KEPT, sources, strict=False)
    ]
    for number in range(count):
        source = sources[number % len(sources)]
        suffix = (
            draw.choice(sources).suffix if draw.random() < 0.2 else source.suffix
        )  # a wrong extension, or a swapped container
        damaged = draw.choice(CHANGES)(bytearray(source.read_bytes()), draw)
        (folder / f"anger/x{number:04d}{suffix}").write_bytes(damaged)
    return [path.relative_to(folder).as_posix() for path in good]


def check(sources, tmp_path, *, count, seed):
    good = mutate(sources, tmp_path / "media", count=count, seed=seed)
    result = builder.build(BuildOptions("folder", tmp_path / "media", tmp_path / "out"))
    alone = tmp_path / "alone"
    for id in good:
        (alone / id).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / "media" / id, alone / id)
    builder.build(BuildOptions("folder", alone, tmp_path / "reference"))
    accounted = set()
    for domain, report in result["domains"].items():
        folder = tmp_path / "out/folder" / domain
        assert reader.verify(folder)["clips"] == report["written"]
        assert report["found"] == report["written"] + len(report["quarantined"])
        assert all(row["reason"].strip() for row in report["quarantined"])
        manifest = reader.read_manifest(folder)
        accounted |= {row["id"] for row in manifest["clips"]} | {
            row["path"] for row in report["quarantined"]
        }
        if (reference := tmp_path / "reference/folder" / domain).exists():
            same = {
                record["id"]: record["inputs"] for record in reader.read_inputs(folder, manifest)
            }
            for record in reader.read_inputs(reference, reader.read_manifest(reference)):
                np.testing.assert_array_equal(same[record["id"]], record["inputs"])
    assert len(accounted) == count + len(good)
    return result


def test_synthesised_clips(tmp_path):
    result = check(synthesised(tmp_path / "sources"), tmp_path, count=28, seed=0)
    assert all(report["written"] and report["quarantined"] for report in result["domains"].values())


def test_real_clips(tmp_path, corpora):
    check(real(corpora), tmp_path, count=14, seed=1)


@pytest.mark.endurance
@pytest.mark.parametrize("seed", range(2, 12))
def test_many_clips(tmp_path, corpora, seed):
    check(synthesised(tmp_path / "sources") + real(corpora), tmp_path, count=100, seed=seed)
