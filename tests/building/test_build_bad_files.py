"""What is wrong with files, folders and words costs itself alone and is told in one line."""

import json
import re

import cv2
import numpy as np
import pytest

from helpers import media
from helpers.builds import build_json, content, emodb
from helpers.messages import mentions
from pipelines import build
from pipelines.records import reader

QUIET = {"TF_CPP_MIN_LOG_LEVEL": ""}
"""As a user has it: tensorflow is not told to be quiet."""


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A corpus of which three files are good; each of the others is bad in its own way."""
    folder = tmp_path_factory.mktemp("mixed") / "joy"
    sound, pictures = media.noise(0.7, 16_000), media.film(8)
    media.write_video(folder / "good.mp4", pictures, sound=media.noise(0.7, 44_100))
    media.write_sound(folder / "fine.wav", sound)
    media.write_sound(folder / "padded.wav", sound[:, :3000])
    (folder / "text.wav").write_text("no sound at all\n" * 100)
    (folder / "empty.mp4").touch()
    (folder / "cut.mp4").write_bytes((folder / "good.mp4").read_bytes()[:3000])
    nan = sound.copy()
    nan[0, 5000] = np.nan
    media.write_sound(folder / "nan.wav", nan, codec="pcm_f32le", sample_format="flt")
    media.write_sound(folder / "silent.wav", 0 * sound)
    media.write_sound(folder / "short.wav", sound[:, :400])
    media.write_video(
        folder / "nobody.mp4", media.numbered_pictures(8), sound=media.noise(0.7, 44_100)
    )
    media.write_video(folder / "mute.mp4", pictures)
    cv2.imwrite(str(folder / "nobody.png"), np.full((90, 90, 3), 80, np.uint8))
    (folder / "text.png").write_text("no picture")
    png = bytearray((folder / "nobody.png").read_bytes())
    (folder / "broken.png").write_bytes(png[: len(png) // 2])
    (folder / "gone.wav").symlink_to(folder / "nowhere.wav")
    media.write_sound(folder.parent / "smug/label.wav", sound)
    return folder.parent


def test_every_bad_file_is_named_and_the_rest_is_built(command, tmp_path, mixed):
    process = command(
        "pipelines.build",
        "--corpus",
        "folder",
        "--name",
        "mixed",
        "--media",
        mixed,
        "--out",
        tmp_path,
        "--json",
        check=0,
        **QUIET,
    )
    reports = json.loads(process.stdout)["domains"]
    reasons = {
        domain: {row["path"].removeprefix("joy/"): row["reason"] for row in report["quarantined"]}
        for domain, report in reports.items()
    }
    broken_bytes = (mixed / "joy/broken.png").stat().st_size
    expected_words = {
        "visual": {
            "empty.mp4": ("empty file", "0 bytes"),
            "cut.mp4": ("opened", "Invalid data"),
            "nobody.mp4": ("no face", "8 frames"),
            "nobody.png": ("no face", "--faces as-is"),
            "text.png": ("10 bytes", "JPEG", "WebP"),
            "broken.png": ("decoded", f"{broken_bytes} bytes"),
        },
        "audio": {
            "smug/label.wav": ("'smug'", "anger"),
            "text.wav": ("opened", "Invalid data"),
            "empty.mp4": ("empty file", "0 bytes"),
            "cut.mp4": ("opened", "Invalid data"),
            "nan.wav": ("NaN",),
            "silent.wav": ("silent", "-60 dB"),
            "short.wav": ("too short", "25.0 ms", "32 ms"),
            "mute.mp4": ("no sound",),
            "gone.wav": ("No such file",),
        },
    }
    for domain, words_of in expected_words.items():
        assert reasons[domain].keys() == words_of.keys()
        for path, words in words_of.items():
            assert mentions(reasons[domain][path], *words), path
    assert {domain: (report["found"], report["written"]) for domain, report in reports.items()} == {
        "visual": (8, 2),
        "audio": (13, 4),
    }
    copies, padded = reports["audio"]["notes"]
    assert mentions(copies, "2 files", "joy/good.mp4 = joy/nobody.mp4")
    assert mentions(padded, "1 clip", "joy/padded.wav")
    written = {
        domain: [row["id"] for row in reader.read_manifest(tmp_path / "mixed" / domain)["clips"]]
        for domain in reports
    }
    assert written == {
        "visual": ["joy/good.mp4", "joy/mute.mp4"],
        "audio": [f"joy/{name}" for name in ("fine.wav", "good.mp4", "nobody.mp4", "padded.wav")],
    }
    lines = [
        line for line in process.stderr.splitlines() if not line.startswith("mixed: ")
    ]  # progress
    assert len(lines) == 15 and all(
        line.startswith("quarantined: ") for line in lines
    )  # nothing else, of codecs or of tensorflow
    assert f"quarantined: joy/nan.wav (audio): {reasons['audio']['nan.wav']}" in lines


def test_the_table(capsys, tmp_path, mixed):
    assert (
        build.main(
            [
                "--corpus",
                "folder",
                "--media",
                str(mixed),
                "--out",
                str(tmp_path),
                "--domain",
                "audio",
            ]
        )
        == 0
    )
    first, emotions, *notes = capsys.readouterr().out.splitlines()
    assert first.startswith("folder/audio: 4 of 13 clips written, 2.") and first.endswith(
        " s, speakers unknown"
    )
    assert (
        emotions == "  happiness 4" and notes and all(note.startswith("  note: ") for note in notes)
    )


@pytest.mark.parametrize(
    ("kind", "files"),
    [("emodb", {"wav/03a01Wa.wav": b""}), ("folder", {"joy/a.png": b"no", "joy/b.mp4": b"no"})],
)
def test_nothing_usable_is_status_1(capsys, tmp_path, kind, files):
    for name, data in files.items():
        (tmp_path / "media" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "media" / name).write_bytes(data)
    status, result, err = build_json(
        capsys, "--corpus", kind, "--media", tmp_path / "media", "--out", tmp_path / "out"
    )
    assert status == 1 and {report["written"] for report in result["domains"].values()} == {0}
    *rows, last = (
        line for line in err.splitlines() if not re.match(r"\w+: \d+/\d+ files", line)
    )  # progress, where it took long
    assert all(row.startswith("quarantined: ") for row in rows) and len(rows) == sum(
        report["found"] for report in result["domains"].values()
    )
    assert last.startswith("python -m pipelines.build: error: ")
    assert mentions(last, "no clip", "reasons")


@pytest.mark.parametrize(
    ("words", "status", "pattern"),
    [
        ({"--media": "gone"}, 1, "media .*gone.*folder.*holds .*does.*exist"),
        ({"--media": "empty"}, 1, "no visual.*audio clip.*emodb.*empty: .*; found no file"),
        ({"--media": "media/wav/03a01La.wav"}, 1, "must be a folder .*; it is a file"),
        (
            {"--corpus": "emodbb"},
            2,
            "argument --corpus.*enterface, savee, .*; received 'emodbb'.*",
        ),
        ({"--domain": "visual"}, 1, "no visual clip.*emodb"),
        ({"--domain": "visual,audio"}, 1, "no visual clip.*emodb.*4 audio"),
        ({"--name": "a/b"}, 1, "name.*letters"),
        ({"--song": None}, 1, "corpus emodb.*no option 'song'"),
        ({"--out": "file"}, 1, "file/emodb.*: Not a directory"),
        ({"--out": "file/below"}, 1, "file/below/emodb.*: Not a directory"),
        (
            {"--domain": "sound"},
            2,
            "argument --domain: expected visual, audio or visual,audio; received 'sound'",
        ),
        (
            {"--domain": ""},
            2,
            "argument --domain: expected visual, audio or visual,audio; received ''",
        ),
        (
            {"--workers": "0"},
            2,
            "argument --workers.*whole number.*1; received '0'",
        ),
        ({"--limit": "-3"}, 2, "argument --limit: expected .*"),
        (
            {"--frames-per-clip": "many"},
            2,
            "argument --frames-per-clip.*whole number.*1; received 'many'",
        ),
        ({"--faces": "found"}, 2, "argument --faces: invalid choice: 'found'"),
        ({"--colour": None}, 2, "unrecognized arguments: --colour"),
        ({"--corp": "emodb"}, 2, "unrecognized arguments: --corp emodb"),
        ({"--corpus": ..., "--out": ...}, 2, "missing --corpus, --out"),
    ],
)
def test_wrong_argument_is_one_line(capsys, tmp_path, words, status, pattern):
    emodb(tmp_path / "media", 4)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("a user's own")
    before = content(tmp_path)
    words = {"--corpus": "emodb", "--media": "media", "--out": "out", **words}
    for place in ("--media", "--out"):
        if words[place] is not ...:
            words[place] = tmp_path / words[place]
    flat = [
        word for pair in words.items() if pair[1] is not ... for word in pair if word is not None
    ]
    came, result, err = build_json(capsys, *flat)
    assert (came, result) == (status, None)
    (line,) = err.splitlines()
    assert line.startswith("python -m pipelines.build: error: ")
    assert re.search(pattern, line)
    assert content(tmp_path) == before


def test_a_users_mistake_is_one_line_in_a_process_of_its_own(command, tmp_path):
    """Without a traceback, and without what tensorflow says of itself."""
    for words, status in ((("--media", tmp_path / "gone"), 1), (("--media",), 2)):
        process = command(
            "pipelines.build",
            "--corpus",
            "emodb",
            "--out",
            tmp_path / "out",
            *words,
            check=status,
            **QUIET,
        )
        assert len(process.stderr.splitlines()) == 1 and not process.stdout
    assert not (tmp_path / "out").exists()


def test_verify(capsys, tmp_path):
    folder, out = emodb(tmp_path / "media", 3), tmp_path / "out"
    for name in ("one", "two"):
        build_json(capsys, "--corpus", "emodb", "--media", folder, "--out", out, "--name", name)
    counts = {"shards": 1, "clips": 3, "records": 3}
    assert build_json(capsys, "--verify", out) == (
        0,
        {f"{out}/one/audio": counts, f"{out}/two/audio": counts},
        "",
    )
    assert build_json(capsys, "--verify", out / "one/audio") == (
        0,
        {f"{out}/one/audio": counts},
        "",
    )
    shard = out / "two/audio/00000.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-7])
    for place, words in (
        (out, rf"{shard}: damaged: record 2 at byte 14590 .*22262 bytes, expected 22269"),
        (tmp_path / "gone", "gone: not a folder"),
        (tmp_path / "media", r"media: no set of records .*no manifest\.json"),
    ):
        status, result, err = build_json(capsys, "--verify", place)
        assert (status, result) == (1, None)
        (line,) = err.splitlines()
        assert line.startswith("python -m pipelines.build: error: ") and re.search(words, line)
    assert (
        build_json(capsys, "--corpus", "emodb", "--media", folder, "--out", out, "--name", "two")[0]
        == 0
    )
    assert build_json(capsys, "--verify", out)[0] == 0


def test_names_beyond_ascii(capsys, tmp_path):
    media.write_sound(tmp_path / "mëdia/joy/Ünïcode 音.wav", media.noise(0.7, 16_000))
    status, _, _ = build_json(
        capsys, "--corpus", "folder", "--media", tmp_path / "mëdia", "--out", tmp_path / "öut"
    )
    (record,) = reader.read_features(
        tmp_path / "öut/folder/audio", reader.read_manifest(tmp_path / "öut/folder/audio")
    )
    assert (status, record["id"].decode()) == (0, "joy/Ünïcode 音.wav")
