"""The real corpora, built by the command as a user builds them."""

import json
import tarfile
from pathlib import Path

import pytest

from pipelines.records import reader

EMODB = {
    "anger": 127,
    "boredom": 81,
    "disgust": 46,
    "fear": 69,
    "happiness": 71,
    "neutral": 79,
    "sadness": 62,
}


def built(command, *words):
    return json.loads(command("pipelines.build", *words, "--json", check=0).stdout)


def test_emodb(emodb_records):
    folder, result = emodb_records
    assert (result["corpus"], list(result["domains"])) == ("emodb", ["audio"])
    report = result["domains"]["audio"]
    assert (report["found"], report["written"], report["quarantined"], report["seconds"]) == (
        535,
        535,
        [],
        1487.0921875,
    )
    assert report["emotions"] == EMODB
    assert list(report["speakers"]) == [f"emodb:{n}" for n in ("03", "08", "09", *range(10, 17))]
    assert reader.verify(folder / "emodb/audio") == {"shards": 5, "clips": 535, "records": 535}


def test_ravdess(command, corpora, tmp_path):
    """The sound of the two 01 clips shares its utterance with a 03 file; the 02 clip's track is digital silence."""
    reports = built(
        command, "--corpus", "ravdess", "--media", corpora / "ravdess", "--out", tmp_path
    )["domains"]
    assert (
        reports["audio"]["found"],
        reports["audio"]["written"],
        reports["visual"]["written"],
    ) == (
        723,
        722,
        3,
    )
    ((silent),) = reports["audio"]["quarantined"]
    assert Path(silent["path"]).name.startswith("02-01-") and silent["reason"].startswith(
        "silent sound track"
    )
    assert any(
        note.startswith("2 clips are another file of an utterance that is there already")
        for note in reports["audio"]["notes"]
    )
    rows = {row["id"]: row for row in reader.read_manifest(tmp_path / "ravdess/audio")["clips"]}
    assert len({row["utterance"] for row in rows.values()}) == 720
    assert "Actor_01/03-01-02-01-01-02-01.wav" in rows  # the 48 kHz stereo file
    assert all(
        row["items"] >= 15 for row in reader.read_manifest(tmp_path / "ravdess/visual")["clips"]
    )


def test_cremad(command, corpora, tmp_path):
    """Flash video with MP3 at 44.1 kHz; one clip for each emotion."""
    reports = built(
        command, "--corpus", "cremad", "--media", corpora / "crema-d", "--out", tmp_path
    )["domains"]
    for report in reports.values():
        assert (report["written"], report["quarantined"], set(report["emotions"].values())) == (
            6,
            [],
            {1},
        )
    visual, audio = (
        reader.read_manifest(tmp_path / "cremad" / domain)["clips"]
        for domain in ("visual", "audio")
    )
    assert all(row["items"] >= 15 for row in visual)
    assert {row["utterance"] for row in visual} == {row["utterance"] for row in audio}
    for pictures, sound in zip(visual, audio, strict=True):
        assert (
            pictures["seconds"] == pytest.approx(sound["seconds"], abs=0.2)
            and 1 < sound["seconds"] < 6
        )


def unpack(corpora, folder, members=None):
    with tarfile.open(corpora / "fer2013.tar.xz") as archive:
        for count, member in enumerate(member for member in archive if member.isfile()):
            if count == members:
                return
            archive.extract(member, folder, filter="data")


def test_the_first_of_fer2013(command, corpora, tmp_path):
    unpack(corpora, tmp_path / "media", 200)
    report = built(
        command,
        "--corpus",
        "folder",
        "--name",
        "fer2013",
        "--faces",
        "as-is",
        "--media",
        tmp_path / "media/fer2013",
        "--out",
        tmp_path,
    )
    report = report["domains"]["visual"]
    assert (report["found"], report["written"], report["quarantined"], report["seconds"]) == (
        200,
        200,
        [],
        0,
    )
    rows = reader.read_manifest(tmp_path / "fer2013/visual")["clips"]
    assert all(row["split"] == row["id"].split("/")[0] and row["items"] == 1 for row in rows)


@pytest.mark.endurance
def test_fer2013(command, corpora, tmp_path):
    """The whole of it, with the publisher's split."""
    unpack(corpora, tmp_path / "media")
    report = built(
        command,
        "--corpus",
        "folder",
        "--name",
        "fer2013",
        "--faces",
        "as-is",
        "--media",
        tmp_path / "media/fer2013",
        "--out",
        tmp_path,
    )
    report = report["domains"]["visual"]
    assert (report["found"], report["written"], report["quarantined"]) == (35_887, 35_887, [])
    splits = [row["split"] for row in reader.read_manifest(tmp_path / "fer2013/visual")["clips"]]
    assert {split: splits.count(split) for split in set(splits)} == {
        "train": 28_709,
        "validation": 3_589,
        "test": 3_589,
    }
    assert any(
        note.startswith("3369 files in 1516 groups are byte-identical") for note in report["notes"]
    )
    assert reader.verify(tmp_path / "fer2013/visual")["records"] == 35_887
