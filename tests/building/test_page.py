"""The page of a corpus: what is on it, that it is safe and whole, and how a browser shows it."""

import base64
import dataclasses
import html.parser
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow as tf

from helpers.manifests import manifest, row
from pipelines.building import page
from pipelines.building.findings import set_report
from pipelines.core import files
from pipelines.core.errors import DataError, InputError, StorageError
from pipelines.core.labels import EMOTIONS
from pipelines.core.spec import Spec
from pipelines.corpora.clip import Clip, Defect
from pipelines.records import reader, schema

BAND = 40
"""The Mel filter in which the test's voices have their power."""


def write_set(
    out: Path, source: str, rows, *, quarantined=(), other_manifests=None, defects=(), **more
) -> dict:
    """Write `OUT/NAME/DOMAIN` of rows: faces of one grey level a clip, or sound in one band; return the manifest."""
    folder = out / source
    folder.mkdir(parents=True)
    document = manifest(*rows, quarantined=quarantined, source=source)
    serialised = []
    for number, clip_row in enumerate(rows):
        named = {
            name: clip_row.get(name, "")
            for name in ("id", "speaker", "emotion", "utterance", "split")
        }
        clip = Clip(path=Path(), corpus=document["corpus"], domain=document["domain"], **named)
        log_mel = np.full((50 + number, 64), -90, np.float32)
        log_mel[:, BAND] = -30
        faces = (
            np.full((3, 64, 64, 3), [20 + number, 0, 0], np.uint8)
            + np.arange(3, dtype=np.uint8)[:, None, None, None] * 40
        )
        serialised.append(
            schema.serialise(clip, faces=faces)
            if document["domain"] == "visual"
            else schema.serialise(clip, log_mel=log_mel)
        )
        clip_row |= {"records": 1, "shard": number // 2}
    document["quarantined"] = [{"sha256": "", "shard": 0} | bad for bad in quarantined]
    shards = [
        {"file": f"{shard:05d}.tfrecord", "bytes": 0, "sha256": ""}
        for shard in range(-(-len(rows) // 2))
    ]
    for number, shard in enumerate(shards):
        with tf.io.TFRecordWriter(str(folder / shard["file"])) as writer:
            for record in serialised[2 * number : 2 * number + 2]:
                writer.write(record)
        path = folder / shard["file"]
        shard |= {"bytes": path.stat().st_size, "sha256": files.file_sha256(path)}
    document |= {
        "schema": schema.SCHEMA,
        "kind": "folder",
        "spec": dataclasses.asdict(Spec()),
        "shards": shards,
    } | more
    files.write_json(folder / "manifest.json", document)
    files.write_json(
        folder / "report.json",
        set_report(document, other_manifests=other_manifests, defects=defects),
    )
    return document


def rows_of(suffix, *, speakers=("s:1", "s:2"), emotions=("anger", "fear"), **more):
    """Return a clip of each speaker and emotion, 1.0 s and longer."""
    named = [
        (f"{speaker[2:]}/{emotion}.{suffix}", speaker, emotion)
        for speaker in speakers
        for emotion in emotions
    ]
    return [
        row(
            id,
            speaker=speaker,
            emotion=emotion,
            utterance=f"{speaker}:{emotion}",
            seconds=1 + number / 4,
            items=3,
            **more,
        )
        for number, (id, speaker, emotion) in enumerate(named)
    ]


class Page(html.parser.HTMLParser):
    """What is on a page: tags with their attributes, text by tag, and that everything is closed."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.text, self._open = [], "", []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "img", "br"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "style" not in self._open:
            self.text += data + "\n"

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Both domains of a corpus, with names and reasons that are markup, and a copy whose label conflicts."""
    out = tmp_path_factory.mktemp("sets")
    sounds = rows_of("wav", rate_hz=16_000, channels=1) + [
        row("<b>&'\".wav", speaker="s:<i>", emotion="fear", seconds=9.0, sha256="1/anger.wav")
    ]
    bad = [
        {
            "path": "<script>alert(1)</script>.wav",
            "reason": "no <sound> & no picture",
            "sha256": "x",
        }
    ]
    odd = Defect("odd names", "1 file with an odd name", ("1/anger.mp4",))
    audio = write_set(out, "s/audio", sounds, quarantined=bad, defects=[odd])
    faceless = [
        {
            "path": f"{n}.mp4",
            "reason": "no face found in 16 frames and those around them",
            "sha256": "x",
        }
        for n in range(4)
    ]
    write_set(
        out,
        "s/visual",
        rows_of("mp4", looked_at=4),
        quarantined=faceless,
        other_manifests={"s/audio": audio},
        defects=[odd],
    )
    return out / "s"


def pixels(uri: str) -> np.ndarray:
    """Return the picture of a data URI, uint8 [height, width, 3] RGB."""
    encoded = np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8)
    return cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def test_page_has_the_facts_of_the_sets(corpus):
    read_page = Page(page.corpus_page(corpus))
    text = re.sub(r"\s+", " ", read_page.text)
    assert [attributes["id"] for attributes in read_page.all("section")] == [
        *("findings", "counts", "faces", "spectrograms", "durations", "quarantine", "options")
    ]
    assert [attributes["href"] for attributes in read_page.all("a")] == [
        f"#{attributes['id']}" for attributes in read_page.all("section")
    ]
    for part in (
        *(
            "clips written 4",
            "files found 8",
            "quarantined 4",
            "length 0:00:06",
            "faces 12",
            "speakers 2",
        ),
        *(
            "clips with a face 50.0 %",
            "clips without any 4",
            "frames with a face 75.0 %",
            "frames looked at 16",
        ),
        *("emotion visual audio anger 2 2 fear 2 3", "speaker anger fear 1 1 1 2 1 1 <i> 0 1"),
        "Findings odd names defect visual and audio 1 file with an odd name. 1 file 1/anger.mp4",
        *(
            "byte copies defect audio 2 files in 1 group are byte-identical. 1 group 1/anger.wav = <b>&'\".wav",
            "conflicting labels defect",
        ),
        *(
            "4 of 4 utterances are in s/audio too",
            "5 clips from 1.00 to 9.00 s, median 1.50 s",
            "<b>&'\".wav fear <i> 9.00",
        ),
        *(
            "<script>alert(1)</script>.wav audio no <sound> & no picture",
            "16 frames",
        ),
        *("sample_rate_hz 16000 16000", "kind folder folder"),
    ):
        assert part in text, part


def test_the_page_needs_nothing_but_itself_and_no_name_breaks_it(corpus):
    text = page.corpus_page(corpus)
    read_page = Page(text)
    assert (
        not read_page.all("script")
        and "<script" not in text
        and "<b>&'" not in text
        and "<sound>" not in text
    )
    links = [
        attributes.get(name)
        for _, attributes in read_page.tags
        for name in ("src", "href")
        if name in attributes
    ]
    assert links and all(link.startswith(("data:", "#")) for link in links)
    assert "http" not in text and "url(" not in text and "@import" not in text
    assert not any(name.startswith("on") for _, attributes in read_page.tags for name in attributes)
    assert all(attributes["alt"] for attributes in read_page.all("img")) and all(
        "scope" in attributes for attributes in read_page.all("th")
    )
    assert (
        len(read_page.all("table")) == len(read_page.all("caption"))
        and len(read_page.all("h1")) == 1
    )
    assert read_page.all("html") == [{"lang": "en"}] and any(
        attributes.get("name") == "viewport" for attributes in read_page.all("meta")
    )
    assert "prefers-color-scheme:dark" in text


def test_crops_are_the_middle_faces_of_the_records(corpus):
    crops = page.face_pictures(corpus / "visual", reader.read_manifest(corpus / "visual"), 9)
    assert {
        emotion: [clip["id"] for clip, _ in pictures] for emotion, pictures in crops.items()
    } == {
        "anger": ["1/anger.mp4", "2/anger.mp4"],
        "fear": ["1/fear.mp4", "2/fear.mp4"],
    }
    for number, (emotion, place) in enumerate(
        (("anger", 0), ("fear", 0), ("anger", 1), ("fear", 1))
    ):
        picture = pixels(crops[emotion][place][1])
        assert picture.shape == (64, 64, 3)
        np.testing.assert_allclose(picture.mean(axis=(0, 1)), [60 + number, 40, 40], atol=2)


def test_spectrograms_have_high_frequencies_above_and_true_axes(corpus):
    """Filter 40 of 64 is the 24th line from above; its centre, by librosa, lies between the marks of 2 and 4 kHz."""
    drawn = page.spectrograms(corpus / "audio", reader.read_manifest(corpus / "audio"))
    assert [spectrogram.row["emotion"] for spectrogram in drawn] == ["anger", "fear"]
    for spectrogram in drawn:
        picture = pixels(spectrogram.picture).sum(axis=2)
        assert picture.shape[0] == 64 and 50 <= picture.shape[1] < 55
        assert set(np.flatnonzero(picture.mean(axis=1) > 100)) == {63 - BAND}
        shares = dict(spectrogram.hertz)
        assert (
            list(shares) == [500, 1000, 2000, 4000]
            and shares[2000] < (BAND + 0.5) / 64 < shares[4000]
        )
        np.testing.assert_allclose(
            [share * picture.shape[1] / 100 for _, share in spectrogram.seconds],
            [tick for tick, _ in spectrogram.seconds],
        )
        assert len(spectrogram.seconds) >= 5


def test_a_log_mel_is_drawn_60_db_deep_and_6_seconds_long(tmp_path):
    log_mel = np.tile(np.linspace(-100, -20, 64, dtype=np.float32), (700, 1))
    picture = pixels(page._spectrogram_of(row("a"), {"log_mel": log_mel}, Spec()).picture)
    assert picture.shape == (64, 600, 3)
    brightness = (
        picture[:, 0].astype(int).sum(axis=1)
    )  # [64]: from loud to below the floor of -80 dB
    assert (
        (np.diff(brightness)[:47] < 0).all()
        and (brightness[48:] == brightness[-1]).all()
        and brightness[-1] < 10
    )


def test_clips_are_spread_over_emotions_and_speakers():
    rows = [
        row(f"{s}{e}{n:02d}", speaker=f"s:{s}", emotion=e)
        for s in "abcdefgh"
        for e in ("anger", "fear")
        for n in range(20)
    ]
    chosen = page.choose_clips(rows[::-1], 4)
    assert {
        emotion: [clip["speaker"][2] for clip in clips] for emotion, clips in chosen.items()
    } == {
        "anger": list("bdfh"),
        "fear": list("aceg"),
    }
    assert chosen == page.choose_clips(rows, 4)
    assert {emotion: len(clips) for emotion, clips in page.choose_clips(rows, 500).items()} == {
        "anger": 160,
        "fear": 160,
    }


def test_stills_used_as_faces_have_no_durations_and_no_rate(tmp_path):
    rows = [row(f"train/{n}.jpg", speaker="", split="train") | {"seconds": 0} for n in range(3)]
    write_set(tmp_path, "s/visual", rows, faces="as-is")
    text = Page(page.corpus_page(tmp_path / "s")).text
    for part in (
        "--faces as-is",
        "speakers are unknown",
        "Nothing odd",
    ):
        assert part in text
    assert "Durations" not in text and "frames looked at" not in text and "train" in text


def test_long_lists_are_cut(tmp_path):
    rows = [row(f"{n}", speaker=f"s:{n}", sha256=f"{n // 2}") for n in range(120)]
    bad = [{"path": f"bad{n}", "reason": f"reason {n % 30}", "sha256": "x"} for n in range(250)]
    write_set(tmp_path, "s/visual", rows, quarantined=bad)
    text = page.corpus_page(tmp_path / "s")
    for part in (
        "20 more",
        "200 of 250",
        "100 of 120 speakers",
    ):
        assert part in text
    assert (
        text.count("bad1") == text.count(">bad1") == 111
        and text.count(">99</th>") == 2
        and ">100</th>" not in text
    )
    assert (
        text.index(">9</th>") < text.index(">10</th>")
        and "<summary>Clips of each speaker and emotion, visual</summary>" in text
    )


def test_a_set_without_a_clip_is_a_page_of_reasons(tmp_path):
    write_set(
        tmp_path,
        "s/audio",
        [],
        quarantined=[{"path": "a", "reason": "empty file (0 bytes)", "sha256": "x"}],
    )
    assert "empty file (0 bytes)" in Page(page.corpus_page(tmp_path / "s")).text


def test_the_page_is_written_whole_once_and_nothing_else(corpus, monkeypatch):
    before = {path: path.read_bytes() for path in sorted(corpus.rglob("*")) if path.is_file()}
    path = page.write_corpus_page(corpus)
    assert path == corpus / "report.html" and path.read_text("utf-8") == page.corpus_page(corpus)
    inode = path.stat().st_ino
    assert page.write_corpus_page(corpus).stat().st_ino == inode  # there already
    path.write_text("old")
    monkeypatch.setattr(
        os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(OSError, match="No space"):
        page.write_corpus_page(corpus)
    assert path.read_text() == "old"
    monkeypatch.undo()
    page.write_corpus_page(corpus)
    path.unlink()
    assert {
        path: path.read_bytes() for path in sorted(corpus.rglob("*")) if path.is_file()
    } == before


def test_without_a_whole_set_it_is_one_clear_line(tmp_path):
    with pytest.raises(InputError, match="no set.*records .*visual.*audio"):
        page.corpus_page(tmp_path)
    write_set(tmp_path, "s/audio", rows_of("wav"))
    (tmp_path / "s/audio/report.json").write_text("{")
    with pytest.raises(DataError, match=r"no whole report\.json; build.*set again"):
        page.corpus_page(tmp_path / "s")


@pytest.mark.parametrize("damage", [lambda shard: shard[:9], lambda shard: b""])
def test_a_shard_that_lost_its_end_is_named(corpus, tmp_path, damage):
    shutil.copytree(corpus, tmp_path / "s")
    shard = tmp_path / "s/visual/00000.tfrecord"
    shard.write_bytes(damage(shard.read_bytes()))
    with pytest.raises(DataError, match=r"visual/00000\.tfrecord: damaged"):
        page.corpus_page(tmp_path / "s")


def test_a_page_that_cannot_be_written_is_a_storage_error(corpus, tmp_path):
    shutil.copytree(corpus, tmp_path / "s")
    (tmp_path / "s" / page.FILE).unlink(missing_ok=True)
    (tmp_path / "s" / f"{page.FILE}.tmp").mkdir()
    with pytest.raises(StorageError, match=f"{page.FILE}.*: Is a directory"):
        page.write_corpus_page(tmp_path / "s")


LOOK = """<script>addEventListener("load", () => {
const images = [...document.images].map(i => [i.complete, i.naturalWidth, i.naturalHeight, i.getBoundingClientRect().width]);
const fetched = performance.getEntriesByType("resource").map(e => e.name).filter(n => !n.startsWith("data:"));
const wide = document.documentElement.scrollWidth - innerWidth;
document.body.textContent = JSON.stringify({images, fetched, wide, sections: document.querySelectorAll("section").length});
})</script>"""


@pytest.mark.parametrize("width", [1200, 500])
def test_a_browser_shows_it(tmp_path, width):
    """Every picture is drawn, nothing is fetched, nothing is complained of, and nothing sticks out on a small screen."""
    browser = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if browser is None:
        pytest.skip("no Chromium here")
    for source in ("s/visual", "s/audio"):
        write_set(tmp_path, source, rows_of(source[2:], emotions=EMOTIONS, looked_at=4))
    looked_at = tmp_path / "page.html"
    looked_at.write_text(
        page.corpus_page(tmp_path / "s").replace("</body>", LOOK + "</body>"), "utf-8"
    )
    words = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--enable-logging=stderr",
        "--v=0",
    ]
    words += [
        f"--user-data-dir={tmp_path}/profile",
        f"--window-size={width},900",
        "--virtual-time-budget=5000",
        "--dump-dom",
    ]
    finished = subprocess.run(
        [browser, *words, looked_at.as_uri()], capture_output=True, text=True, timeout=120
    )
    facts = json.loads(re.search(r"<body>(\{.*\})</body>", finished.stdout, re.DOTALL)[1])
    assert "CONSOLE" not in finished.stderr, finished.stderr
    assert facts["sections"] == 7 and facts["fetched"] == [] and facts["wide"] <= 0
    assert len(facts["images"]) == 2 * 10 + 10
    assert all(
        complete and wide > 0 and high > 0 and drawn >= 64
        for complete, wide, high, drawn in facts["images"]
    )
