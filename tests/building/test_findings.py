"""Findings of a set: each known defect, on synthetic rows and on real corpora."""

import hashlib
import json
import re
from pathlib import PurePosixPath

import av
import pytest

from helpers.manifests import manifest, row
from helpers.messages import mentions, message_with
from pipelines.building.findings import examine, finding_line, manifests_in
from pipelines.corpora import find_clips, folder
from pipelines.corpora.clip import Defect, Reject


def findings_of(*rows, **options):
    """Return the findings of a set by kind; none of them twice."""
    findings = examine(manifest(*rows), **options)
    assert len({finding["kind"] for finding in findings}) == len(findings)
    return {finding["kind"]: finding for finding in findings}


def only(findings_by_kind):
    (finding,) = findings_by_kind.values()
    return finding


def test_correct_set_has_no_findings():
    assert (
        examine(
            manifest(
                *(
                    row(f"{n}", content=f"c{n}", rate_hz=16_000, channels=1, looked_at=1)
                    for n in range(9)
                )
            )
        )
        == []
    )


def test_byte_copies():
    rows = [
        row("a", content="1"),
        row("b", content="2"),
        *(row(id, sha256="a", content="1") for id in "cd"),
    ]
    finding = only(findings_of(*rows, row("e", sha256=""), row("f", sha256="")))
    assert (finding["kind"], finding["grade"]) == ("byte copies", "defect")
    assert finding["groups"] == [["a", "c", "d"]]
    assert mentions(finding["text"], "3 files", "1 group")
    assert mentions(finding_line(finding), finding["text"], "a = c = d")


def test_copies_of_decoded_content():
    """Of the byte copies a and b, c has the sound in another file; d and e are the video and the sound of one utterance."""
    rows = [row("a", content="1"), row("b", content="1", sha256="a"), row("c", content="1")]
    rows += [row("d", content="2"), row("e", content="2", utterance="d")]
    findings = findings_of(*rows)
    assert findings["same content"]["groups"] == [["a", "b", "c"]]
    assert mentions(findings["same content"]["text"], "3 files", "1 group")
    assert findings["byte copies"]["groups"] == [["a", "b"]]
    assert findings["several files of an utterance"]["groups"] == [["d", "e"]]
    assert len(findings) == 3


def test_copies_with_conflicting_labels_and_speakers():
    """Once a group, whether its files are copies by bytes or by content; a speaker whom nobody knows is no other."""
    rows = [
        row("a", content="1"),
        row("b", sha256="a", content="1", emotion="fear"),
        row("c", content="1", speaker="s:2"),
    ]
    rows += [row("d"), row("e", sha256="d", speaker="")]
    findings = findings_of(*rows)
    assert (
        findings["conflicting labels"]["groups"]
        == findings["copies of several speakers"]["groups"]
        == [["a", "b", "c"]]
    )
    line = finding_line(findings["conflicting labels"])
    assert mentions(line, "1 group", "emotion", "a (anger) = b (fear) = c (anger)")
    assert findings["copies of several speakers"]["labels"] == [["s:1", "s:1", "s:2"]]


def test_copies_across_the_publishers_split():
    rows = [
        row("a", split="train"),
        row("b", sha256="a", split="test"),
        row("c", sha256="a", split="test"),
        row("d", split="validation"),
    ]
    findings = findings_of(*rows)
    assert mentions(findings["copies across splits"]["text"], "2 files", "test", "train")
    assert findings["copies across splits"]["groups"] == [["a", "b", "c"]]
    assert "copies across splits" not in findings_of(
        row("a", split="test"), row("b", sha256="a", split="test")
    )


def test_copies_in_another_corpus_and_in_the_other_domain():
    """By bytes or by content; the one video that both domains are read from is no copy of itself."""
    rows = [row("a.mp4"), row("b.wav", content="2"), row("c.wav")]
    faces = manifest(row("a.mp4", sha256="a.mp4"), row("z.mp4", sha256="c.wav"), source="s/visual")
    sounds = manifest(row("x.flac", content="2"), row("a.mp4"), source="t/audio")
    findings = examine(manifest(*rows), other_manifests={"s/visual": faces, "t/audio": sounds})
    in_faces, in_sounds = (
        finding for finding in findings if finding["kind"] == "copies in another set"
    )
    assert mentions(in_faces["text"], "1 clip", "s/visual")
    assert in_faces["groups"] == [["c.wav", "s/visual: z.mp4"]]
    assert mentions(in_sounds["text"], "2 clips", "t/audio")
    assert in_sounds["groups"] == [["a.mp4", "t/audio: a.mp4"], ["b.wav", "t/audio: x.flac"]]


def test_utterances_of_both_domains_are_a_fact_and_of_several_files_a_notice():
    rows = [
        row("a.wav", utterance="a"),
        row("a.avi", utterance="a"),
        row("b.wav", utterance="b"),
        row("c.wav", utterance="c"),
    ]
    faces = manifest(
        row("a.avi", utterance="a", sha256="a.avi"), row("b.avi", utterance="b"), source="s/visual"
    )
    findings = findings_of(
        *rows,
        other_manifests={
            "s/visual": faces,
            "t/visual": faces | {"corpus": "t", "clips": faces["clips"][1:]},
        },
    )
    assert len(findings) == 2
    shared = findings["utterances in both domains"]
    assert shared["grade"] == "fact"
    assert mentions(shared["text"], "2 of 3 utterances", "s/visual")
    several = findings["several files of an utterance"]
    assert several["grade"] == "notice"
    assert several["groups"] == [["a.wav", "a.avi"]]
    assert mentions(several["text"], "1 clip", "utterance")


def test_a_stereo_file_among_mono():
    rows = [row(f"{n}.wav", rate_hz=16_000, channels=1) for n in range(60)]
    finding = only(findings_of(*rows, row("s.wav", rate_hz=48_000, channels=2)))
    assert (finding["kind"], finding["grade"], finding["clips"]) == (
        "odd sound format",
        "defect",
        ["s.wav"],
    )
    assert mentions(finding["text"], "1 .wav file", "48 kHz stereo", "60 of 61", "16 kHz mono")
    assert only(findings_of(*rows, row("r.wav", rate_hz=16_000, channels=6)))["text"].startswith(
        "1 .wav file"
    )
    assert (
        only(findings_of(*rows[:2], row("s.wav", rate_hz=16_000, channels=2)))["kind"]
        == "odd sound format"
    )
    assert (
        only(findings_of(*rows[:1], row("s.wav", rate_hz=16_000, channels=2)))["kind"]
        == "sound formats"
    )
    halves = [row(f"{n}.flv", rate_hz=44_100, channels=1) for n in range(30)]
    fact = only(findings_of(*rows, *halves))
    assert (fact["kind"], fact["grade"], len(fact["clips"])) == ("sound formats", "fact", 30)
    assert mentions(fact["text"], "30 .flv files", "44.1 kHz mono", "60 of 90", "16 kHz mono")


@pytest.mark.parametrize(
    ("rows", "kind", "pattern"),
    [
        (
            [row("a", padded=True), row("b", padded=False)],
            "padded clips",
            "1 clip.*shorter.*segment.*padded.*floor: a",
        ),
        (
            [row("a", looked_at=2), row("b", looked_at=1)],
            "frames without a face",
            "1 clip.*fewer faces.*frames looked.*: a",
        ),
        (
            [row("a", undecodable=3), row("b", undecodable=1), row("c", undecodable=0)],
            "undecodable parts",
            "2 clips .* .4 in all.: a, b",
        ),
        (
            [row("a", missing_seconds=0.7), row("b", missing_seconds=0.0)],
            "truncated files",
            "1 file.*cut off: .*: a",
        ),
        (
            [row("a"), row("b"), row("c", emotion="fear")],
            "uneven emotions",
            "emotion anger.*2.0 times.*clips.*fear .2.*1.",
        ),
        (
            [row("a"), row("b"), row("c", speaker="s:2"), row("d", speaker="")],
            "uneven speakers",
            "speaker s:1.*2.0 times.*clips.*s:2",
        ),
    ],
)
def test_each_defect_of_rows_is_found(rows, kind, pattern):
    finding = only(findings_of(*rows))
    assert finding["kind"] == kind
    assert re.search(pattern, finding_line(finding))


def test_defects_of_the_loader_and_quarantined_files_are_findings():
    bad = [
        {"path": "y", "reason": "no end", "sha256": "h", "retry": "time"},
        {"path": "x", "reason": "broken", "sha256": "i"},
    ]
    findings = examine(
        manifest(row("a"), quarantined=bad),
        rejects=[Reject("z", "audio", "odd")],
        defects=[Defect("odd names", "1 file", ("a",))],
    )
    assert [(finding["kind"], finding["grade"], finding["clips"]) for finding in findings] == [
        ("odd names", "defect", ["a"]),
        ("quarantined", "fact", ["x", "y", "z"]),
    ]
    assert mentions(findings[1]["text"], "3 of 4 files", "1 of them")


def test_manifests_are_those_of_the_whole_sets_in_a_folder(tmp_path):
    for source in ("other/visual", "other/audio", "broken/audio", "other/notes", "deep/er/audio"):
        (tmp_path / source).mkdir(parents=True)
        document = manifest(row("a"), source=source) | {"schema": 1, "spec": {}, "shards": []}
        (tmp_path / source / "manifest.json").write_text(
            "{" if source.startswith("broken") else json.dumps(document)
        )
    manifests = manifests_in(tmp_path)
    assert list(manifests) == ["other/audio", "other/visual"]
    assert manifests["other/audio"]["clips"][0]["id"] == "a"


def test_set_is_not_compared_with_itself():
    document = manifest(row("a"), row("b"))
    assert examine(document, other_manifests={"s/audio": document}) == []


def test_real_ravdess(corpora):
    """Two takes that are one file, and one file that is still as it was published, 48 kHz stereo; two videos of that sound too."""
    rows = []
    for clip in find_clips("ravdess", corpora / "ravdess", domains=("audio",)).clips:
        with av.open(str(clip.path)) as container:
            sound = {
                "rate_hz": container.streams.audio[0].rate,
                "channels": container.streams.audio[0].channels,
            }
        digest = hashlib.sha256(clip.path.read_bytes()).hexdigest()
        rows.append(
            row(
                clip.id,
                sha256=digest,
                utterance=clip.utterance,
                emotion=clip.emotion,
                speaker=clip.speaker,
                **sound,
            )
        )
    findings = examine(manifest(*rows))
    (copies,) = (finding for finding in findings if finding["kind"] == "byte copies")
    assert copies["groups"] == [
        ["Actor_07/03-01-03-01-02-01-07.flac", "Actor_07/03-01-03-01-02-02-07.flac"]
    ]
    odd = {
        PurePosixPath(finding["clips"][0]).suffix: finding["clips"]
        for finding in findings
        if finding["kind"] == "odd sound format"
    }
    assert (
        len(odd[".mp4"]) == 3
        and odd[".wav"] == ["Actor_01/03-01-02-01-01-02-01.wav"]
        and len(odd) == 2
    )
    assert not {"conflicting labels", "copies of several speakers"} & {
        finding["kind"] for finding in findings
    }


def test_real_fer2013(fer2013_files):
    """1 516 groups of byte-identical files, 57 of them with conflicting labels; 288 test images are copies of training images."""
    rows = []
    for name, digest in fer2013_files:
        id = PurePosixPath(name).relative_to("fer2013")
        labels = folder.labels_of(id)
        rows.append(
            row(str(id), sha256=digest, speaker="", emotion=labels.emotion, split=labels.split)
        )
    findings = examine(manifest(*rows))
    copies, conflicts = (finding["text"] for finding in findings[:2])
    assert mentions(copies, "3369 files", "1516 groups")
    assert mentions(conflicts, "57 groups", "emotion")
    texts = [finding["text"] for finding in findings]
    assert message_with(texts, "288 files", "test", "train")
    assert (len(rows), len(findings[0]["groups"]), sum(map(len, findings[0]["groups"]))) == (
        35_887,
        1516,
        3369,
    )
    assert all(len(set(labels)) > 1 for labels in findings[1]["labels"])
