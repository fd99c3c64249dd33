"""Corpora with the known defects, from media to the page; and the user's files stay as they are."""

import html
import shutil

import cv2
import numpy as np
import pytest

from helpers import media
from helpers.messages import mentions
from pipelines.building import page
from pipelines.building.findings import manifests_in, set_report
from pipelines.core import files


def ravdess(folder):
    """Sixteen mono clips, of which two takes are one file, and one more is that sound in another format; one stereo file."""
    names = [
        f"Actor_01/03-01-0{emotion}-01-01-0{take}-01" for emotion in range(1, 9) for take in (1, 2)
    ]
    for seed, name in enumerate(names):
        media.write_sound(folder / f"{name}.wav", media.noise(0.7, 16_000, seed=seed))
    shutil.copy(folder / f"{names[4]}.wav", folder / f"{names[5]}.wav")
    (folder / f"{names[15]}.wav").unlink()
    media.write_sound(folder / f"{names[15]}.flac", media.noise(0.7, 16_000, seed=4), codec="flac")
    media.write_sound(
        folder / f"{names[1]}.wav", media.noise(0.7, 48_000, channels=2, seed=99), rate_hz=48_000
    )
    return folder


def stills(folder, sound):
    """Faces of which two are copies under two emotions, one in each split; and a sound that the other corpus has too."""
    for number, id in enumerate(("train/happy/a.png", "train/angry/b.png", "test/sad/c.png")):
        (folder / id).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / id), np.full((48, 48, 3), 80 * (number % 2), np.uint8))
    (folder / "test/fear").mkdir()
    shutil.copy(sound, folder / "test/fear/d.wav")
    return folder


def state(folder):
    """Return everything about a folder's files that writing, moving or renaming would change."""
    facts = {path: path.lstat() for path in sorted(folder.rglob("*"))}
    return {
        path: (fact.st_ino, fact.st_mode, fact.st_size, fact.st_mtime_ns, fact.st_ctime_ns)
        for path, fact in facts.items()
    }


@pytest.fixture(scope="module")
def examined(tmp_path_factory):
    """Both corpora built side by side; the reports by source."""
    media_folder, out = tmp_path_factory.mktemp("media"), tmp_path_factory.mktemp("sets")
    speech = ravdess(media_folder / "ravdess")
    pictures = stills(media_folder / "faces", speech / "Actor_01/03-01-08-01-01-01-01.wav")
    before = state(media_folder)
    from pipelines import build

    for words in (
        ["ravdess", "--media", speech],
        ["folder", "--name", "faces", "--faces", "as-is", "--media", pictures],
    ):
        assert build.main(["--corpus", *map(str, words), "--out", str(out)]) == 0
    manifests = manifests_in(out)
    reports = {
        source: set_report(manifest, other_manifests=manifests)
        for source, manifest in manifests.items()
    }
    for source, report in reports.items():
        files.write_json(out / source / "report.json", report)
    pages = [page.write_corpus_page(out / name).read_text("utf-8") for name in ("faces", "ravdess")]
    assert state(media_folder) == before
    return reports, pages


def findings_by_kind(report):
    return {finding["kind"]: finding for finding in report["findings"]}


def test_ravdess_identical_pair_and_stereo_file(examined):
    findings = findings_by_kind(examined[0]["ravdess/audio"])
    pair = ["Actor_01/03-01-03-01-01-01-01.wav", "Actor_01/03-01-03-01-01-02-01.wav"]
    assert findings["byte copies"]["groups"] == [pair]
    assert findings["same content"]["groups"] == [[*pair, "Actor_01/03-01-08-01-01-02-01.flac"]]
    assert findings["conflicting labels"]["labels"] == [["happiness", "happiness", "surprise"]]
    assert findings["odd sound format"]["clips"] == ["Actor_01/03-01-01-01-01-02-01.wav"]
    assert mentions(
        findings["odd sound format"]["text"], "48 kHz stereo", "15 of 16", "16 kHz mono"
    )


def test_fer2013_copies_conflicts_and_splits(examined):
    findings = findings_by_kind(examined[0]["faces/visual"])
    copies = [["test/sad/c.png", "train/happy/a.png"]]
    assert (
        findings["byte copies"]["groups"]
        == findings["conflicting labels"]["groups"]
        == findings["copies across splits"]["groups"]
        == copies
    )
    assert findings["conflicting labels"]["labels"] == [["sadness", "happiness"]]


def test_copies_across_corpora_are_findings_of_both(examined):
    ids = {"faces/audio": "test/fear/d.wav", "ravdess/audio": "Actor_01/03-01-08-01-01-01-01.wav"}
    for (source, id), (other_source, copy) in zip(ids.items(), reversed(ids.items()), strict=True):
        finding = findings_by_kind(examined[0][source])["copies in another set"]
        assert mentions(finding["text"], "1 clip", other_source)
        assert finding["groups"] == [[id, f"{other_source}: {copy}"]]


def test_pages_have_every_finding(examined):
    faces, ravdess = examined[1]
    assert "Actor_01/03-01-03-01-01-01-01.wav = Actor_01/03-01-03-01-01-02-01.wav" in ravdess
    assert "test/sad/c.png (sadness) = train/happy/a.png (happiness)" in faces
    assert faces.count("<img ") == 3 + 1 and ravdess.count("<img ") == 8
    page_text = html.unescape(faces + ravdess)
    for report in examined[0].values():
        assert report["findings"] and all(
            f"<p>{finding['text']}.</p>" in page_text for finding in report["findings"]
        )
