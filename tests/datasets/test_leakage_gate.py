"""Leaks that are planted, each of a kind: the gate refuses them, or drops them and says how many; beside each one that is none."""

import collections
import dataclasses
import random

import pytest

from helpers.corpora_rows import (
    CORPORA,
    DEPENDENT,
    INDEPENDENT,
    SEVEN,
    assert_apart,
    corpus,
    row,
    stills,
)
from kerasemo.config import schema
from kerasemo.datasets import leakage_gate, splits
from pipelines.core.errors import DataError

PUBLISHED = {
    name: {f"{name}/visual": stills(splits.SPLITS, name=name)} for name in ("fer", "other")
}


def built(*names, kinds=()):
    """The sets of some corpora as a build leaves them, each row with its own content, and with its kind where `kinds` tells it."""
    sets = {}
    for name in names:
        for source, rows in (CORPORA | PUBLISHED)[name].items():
            kind = dict(kinds).get(name, "")
            sets[source] = [
                clip | {"content": f"what was read of {source} {clip['id']}", "kind": kind}
                for clip in rows
            ]
    return sets


def of(sets, source, id):
    return next(clip for clip in sets[source] if clip["id"] == id)


EMODB_TEST, EMODB_TRAIN = ("emodb/audio", "3/angera01-0.wav"), ("emodb/audio", "9/angera01-0.wav")
HALF_TRAIN = ("half/audio", "12/anger01-0.wav")
SAVEE_TEST, SAVEE_TRAIN = ("savee/audio", "DC/angera-0.wav"), ("savee/visual", "KL/surprisea-0.avi")
PLANTED = {
    "a copy among the other speakers of a corpus": (
        ["emodb"],
        (*EMODB_TRAIN,),
        EMODB_TEST,
        ("emodb/audio", "10/angera01-0.wav"),
    ),
    "a copy in another corpus": (["emodb", "half"], HALF_TRAIN, EMODB_TEST, EMODB_TRAIN),
    "a copy in the other domain": (
        ["savee"],
        SAVEE_TRAIN,
        SAVEE_TEST,
        ("savee/audio", "KL/surprisea-0.wav"),
    ),
    "a training clip's copy on a publisher's test side": (
        ["fer", "savee"],
        ("fer/visual", "test/anger/0.jpg"),
        SAVEE_TRAIN,
        SAVEE_TEST,
    ),
    "a test clip's copy on a publisher's training side": (
        ["fer", "savee"],
        ("fer/visual", "train/anger/0.jpg"),
        SAVEE_TEST,
        SAVEE_TRAIN,
    ),
    "a copy between two publishers' splits": (
        ["fer", "other"],
        ("other/visual", "test/fear/9.jpg"),
        ("fer/visual", "train/anger/0.jpg"),
        ("fer/visual", "test/anger/1.jpg"),
    ),
}
"""What is planted: the corpora, the clip that is made a copy, of what it is a leak, of what it is none."""


@pytest.mark.parametrize("by", ["sha256", "content"])
@pytest.mark.parametrize("name", PLANTED)
def test_planted_copies_are_refused(name, by):
    """By `sha256` the file is the same, by `content` only what was read of it: a WAV and a FLAC of one sound."""
    names, place, leak, none = PLANTED[name]
    sets = built(*names)
    assert leakage_gate.split_sources(sets, protocol=INDEPENDENT, fold=0)
    of(sets, *place)[by] = of(sets, *leak)[by]
    with pytest.raises(
        DataError,
        match=rf"^{by} '.*' is in two splits: .*\) and .*\); they are copies; remove one and build",
    ) as error:
        leakage_gate.split_sources(sets, protocol=INDEPENDENT, fold=0)
    for source, id in (place, leak):
        assert f"{source} {id} (" in str(error.value)
    of(sets, *place)[by] = of(sets, *none)[by]
    result = leakage_gate.split_sources(sets, protocol=INDEPENDENT, fold=0)
    assert not result.report["deduplicated"] and any(
        place[1] in ids for ids in result.clip_ids[place[0]].values()
    )


@pytest.mark.parametrize("by", ["sha256", "content"])
def test_a_planted_copy_in_a_corpus_that_is_only_scored_is_refused(by):
    sets = built("emodb", "half")
    of(sets, *HALF_TRAIN)[by] = of(sets, *EMODB_TRAIN)[by]
    assert leakage_gate.split_sources(sets, protocol=INDEPENDENT, fold=0)
    with pytest.raises(
        DataError,
        match=rf"{by} .* is in two splits: emodb/audio {EMODB_TRAIN[1]} \(train\) and half/audio .* \(test\)",
    ):
        leakage_gate.split_sources(sets, protocol=INDEPENDENT, fold=0, foreign=["half"])


def test_a_planted_speaker_of_another_corpus_is_refused():
    """Emodb:9 is trained on; in the other corpus the name comes first, so it is tested there. Emodb:3 is tested in both."""
    sets = built("emodb", "half")
    of(sets, *HALF_TRAIN)["speaker"] = "emodb:9"
    with pytest.raises(
        DataError,
        match=r"speaker 'emodb:9' is in two splits: emodb/audio 9/.* \(train\) and half/audio 12/.* \(test\)",
    ):
        leakage_gate.split_sources(sets, protocol=INDEPENDENT, fold=0)
    of(sets, *HALF_TRAIN)["speaker"] = "emodb:3"
    assert leakage_gate.split_sources(sets, protocol=INDEPENDENT, fold=0)


def test_a_planted_utterance_whose_sound_is_trained_on_and_whose_video_is_tested_is_refused():
    sets = built("emodb", "half")
    videos = {
        "half/visual": [
            clip | {"id": clip["id"].replace("wav", "avi")} for clip in sets.pop("half/audio")
        ]
    }
    tested = of(videos, "half/visual", "01/anger01-0.avi")
    tested["utterance"] = "emodb:9:anger:a01:0"
    two = r"emodb/audio 9/angera01-0.wav \(train\) and half/visual 01/anger01-0.avi \(test\); split a corpus once, for all of its domains"
    with pytest.raises(
        DataError, match=rf"utterance 'emodb:9:anger:a01:0' is in two splits: {two}"
    ):
        leakage_gate.split_sources(sets | videos, protocol=INDEPENDENT, fold=0)
    tested["utterance"] = "emodb:3:anger:a01:0"  # which is tested
    assert leakage_gate.split_sources(sets | videos, protocol=INDEPENDENT, fold=0)


def renamed(sets, old, new, *, speakers=None):
    """The sets of a corpus as built once more under another name: other names, other files, of some of its speakers."""
    return {
        source.replace(old, new): [
            clip
            | {name: clip[name].replace(f"{old}:", f"{new}:") for name in ("speaker", "utterance")}
            | {"sha256": f"another file of {clip['id']}", "content": f"another {clip['id']}"}
            for clip in rows
            if speakers is None or clip["speaker"] in speakers
        ]
        for source, rows in sets.items()
    }


def test_the_speakers_of_a_corpus_under_two_names_are_the_same():
    """Without speaker 3 the first one tested is 8, which fold 0 of the whole corpus validates on."""
    sets = built("emodb", kinds={"emodb": "emodb"})
    again = renamed(
        sets, "emodb", "again", speakers=[f"emodb:{speaker}" for speaker in range(8, 17)]
    )
    with pytest.raises(
        DataError,
        match=r"speaker 'emodb:8' is in two splits: again/audio 8/.* \(test\) and emodb/audio 8/.* \(validation\)",
    ):
        leakage_gate.split_sources(sets | again, protocol=INDEPENDENT, fold=0)
    assert leakage_gate.split_sources(
        sets | renamed(sets, "emodb", "again"), protocol=INDEPENDENT, fold=0
    )
    for kind in ("", "folder"):  # of which nobody knows whether two names mean one person
        other = {
            source: [clip | {"kind": kind} for clip in rows]
            for source, rows in (sets | again).items()
        }
        assert leakage_gate.split_sources(other, protocol=INDEPENDENT, fold=0)


def test_the_utterances_of_a_corpus_whose_domains_have_two_names_are_the_same():
    """Each is dealt by itself, by a hash of its names; as one corpus they are dealt together."""
    sets = built("savee", kinds={"savee": "savee"})
    video = renamed({"savee/visual": sets["savee/visual"]}, "savee", "video")
    with pytest.raises(
        DataError,
        match=r"utterance 'savee:.*' is in two splits: savee/audio .*\.wav \(.*\) and video/visual .*\.avi",
    ):
        leakage_gate.split_sources(
            {"savee/audio": sets["savee/audio"]} | video, protocol=DEPENDENT, fold=0
        )
    assert leakage_gate.split_sources(sets, protocol=DEPENDENT, fold=0)


@pytest.mark.parametrize("by", ["sha256", "content"])
def test_copies_across_the_domains_of_a_publishers_split_are_dropped_from_both(by):
    """The sound of a training clip is a copy of the video of a test clip (a container without pictures is read as sound alone)."""
    visual = [
        row(f"{side}/{i}.mp4", "", "fear", utterance=f"c:{side}{i}", split=side)
        for side in splits.SPLITS
        for i in range(3)
    ]
    audio = [
        clip | {"id": clip["id"].replace("mp4", "wav"), "sha256": f"sound of {clip['id']}"}
        for clip in visual
    ]
    visual[-1][by] = audio[0][by] = "one content"
    result = leakage_gate.split_sources(
        {"c/visual": visual, "c/audio": audio}, protocol=DEPENDENT, fold=0
    )
    assert result.dropped_ids["c/audio"] == {
        "train": ("train/0.wav",),
        "validation": (),
        "test": (),
    }
    assert (
        result.dropped_ids["c/visual"] == {"train": ("train/0.mp4",), "validation": (), "test": ()}
        and result.report["deduplicated"]
    )


def test_a_publishers_file_is_a_copy_by_its_bytes_or_by_what_was_read():
    """Train 0 has the bytes of validation 0, which has the content of test 0 as another file: both are dropped, for another reason each."""
    rows = {clip["id"]: clip for clip in built("fer")["fer/visual"]}
    rows["train/anger/0.jpg"]["sha256"] = rows["validation/anger/0.jpg"]["sha256"]
    rows["validation/anger/0.jpg"]["content"] = rows["test/anger/0.jpg"]["content"]
    result = leakage_gate.split_sources(
        {"fer/visual": list(rows.values())}, protocol=INDEPENDENT, fold=0
    )
    assert result.dropped_ids["fer/visual"] == {
        "train": ("train/anger/0.jpg",),
        "validation": ("validation/anger/0.jpg",),
        "test": (),
    }


def test_what_passes_is_apart_however_copies_are_planted():
    """Two corpora of two domains, one of them its publisher's in half of the trials, with copies planted at random."""
    outcomes = collections.Counter()
    for trial in range(300):
        draw = random.Random(trial)
        sets = corpus(
            "a", speakers="1234567", emotions=SEVEN[:2], sentences="xy", domains=("visual", "audio")
        )
        sets |= (
            {"b/visual": stills(splits.SPLITS, name="b", per_class=3)}
            if trial % 2
            else corpus("b", speakers="1234567", emotions=SEVEN[:2], sentences="xy")
        )
        sets = {
            source: [
                clip | {"sha256": f"{source} {clip['id']}", "content": f"{source} {clip['id']}"}
                for clip in sets[source]
            ]
            for source in sets
        }
        for _ in range(draw.choice((0, 1, 1, 2))):
            (one, other), by = (
                (draw.choice(sets[draw.choice(list(sets))]) for _ in range(2)),
                draw.choice(("sha256", "content")),
            )
            one[by] = other[by]
        protocol = draw.choice(schema.PROTOCOLS)
        try:
            result = leakage_gate.split_sources(sets, protocol=protocol, fold=trial % 5)
        except DataError as error:
            assert "is in two splits" in str(error)
            outcomes["refused"] += 1
            continue
        outcomes["deduplicated" if result.report["deduplicated"] else "passed"] += 1
        for by in (
            "sha256",
            "content",
            "utterance",
            *(["speaker"] if protocol == INDEPENDENT else []),
        ):
            values = {side: set() for side in splits.SPLITS}
            for source, rows in sets.items():
                if by == "speaker" and result.corpus_splits[source[0]].publisher:
                    continue
                for side in splits.SPLITS:
                    values[side] |= {
                        clip[by] for clip in rows if clip["id"] in result.clip_ids[source][side]
                    }
            assert_apart(values)
    assert min(outcomes[name] for name in ("refused", "deduplicated", "passed")) > 5


def wrong(split, utterance, side):
    """A split with one utterance on a wrong side."""
    return dataclasses.replace(
        split, split_by_utterance={**split.split_by_utterance, utterance: side}
    )


def test_copies_inside_a_publishers_split_are_dropped_and_counted():
    """A test item has copies in train (of another emotion) and validation, a validation item one in train; train 8 and 9 are copies too.

    Dropped: train/anger/0 and validation/fear/0 (of test/anger/0), train/anger/1 (of validation/fear/1). Kept: both of train 8 and 9.
    """
    rows = {clip["id"]: clip for clip in stills(splits.SPLITS)}
    for id, content in {
        "test/anger/0.jpg": "x",
        "train/anger/0.jpg": "x",
        "validation/fear/0.jpg": "x",
        "validation/fear/1.jpg": "y",
        "train/anger/1.jpg": "y",
        "train/anger/8.jpg": "z",
        "train/anger/9.jpg": "z",
    }.items():
        rows[id]["sha256"] = content
    result = leakage_gate.split_sources(
        {"fer/visual": list(rows.values())}, protocol=INDEPENDENT, fold=0
    )
    assert result.dropped_ids["fer/visual"] == {
        "train": ("train/anger/0.jpg", "train/anger/1.jpg"),
        "validation": ("validation/fear/0.jpg",),
        "test": (),
    }
    counts = result.report["sources"]["fer/visual"]
    assert [counts[name] for name in (*splits.SPLITS, "dropped_train", "dropped_validation")] == [
        18,
        19,
        20,
        2,
        1,
    ]
    assert result.report["deduplicated"] and result.report["deduplicated"]
    assert "train/anger/9.jpg" in result.clip_ids["fer/visual"]["train"]


def test_the_copies_of_fer_2013(fer2013_files):
    """Counted over the archive by sha256, apart from the gate: 288 test images have a copy in train; 314 in train or validation."""
    rows, sides_of = [], collections.defaultdict(collections.Counter)
    for name, content in fer2013_files:
        if name.endswith(".jpg"):
            side, emotion, _ = name.split("/")[-3:]
            rows.append(row(name, "", emotion, utterance=name, split=side, sha256=content))
            sides_of[content][side] += 1
    assert sum(count["test"] for count in sides_of.values() if count["train"]) == 288
    assert (
        sum(count["test"] for count in sides_of.values() if count["train"] or count["validation"])
        == 314
    )
    result = leakage_gate.split_sources({"fer2013/visual": rows}, protocol=INDEPENDENT, fold=0)
    counts = result.report["sources"]["fer2013/visual"]
    assert [counts[name] for name in (*splits.SPLITS, "dropped_train", "dropped_validation")] == [
        28006,
        3543,
        3589,
        703,
        46,
    ]
    assert result.report["deduplicated"]
    content_of = {row["id"]: row["sha256"] for row in rows}
    assert_apart(
        {
            side: {content_of[id] for id in result.clip_ids["fer2013/visual"][side]}
            for side in splits.SPLITS
        }
    )


def test_copies_of_a_video_are_dropped_from_both_domains():
    clips = [
        row(f"{side}/{i}.mp4", "", "fear", utterance=f"c:{side}{i}", split=side)
        for side in splits.SPLITS
        for i in range(2)
    ]
    sounds = [dict(clip, sha256="sound " + clip["id"]) for clip in clips]
    clips[0]["sha256"] = clips[-1]["sha256"]
    result = leakage_gate.split_sources(
        {"c/visual": clips, "c/audio": sounds}, protocol=DEPENDENT, fold=0
    )
    assert (
        result.dropped_ids["c/visual"]["train"]
        == result.dropped_ids["c/audio"]["train"]
        == ("train/0.mp4",)
    )


def test_copies_within_a_side_are_no_leak():
    """RAVDESS: two takes of actor 07 are byte-identical."""
    rows = corpus("r", speakers="12345", emotions=SEVEN, sentences="a", takes=2)["r/audio"]
    rows[0]["sha256"] = rows[1]["sha256"] = "twin takes"
    for protocol in schema.PROTOCOLS:
        assert not leakage_gate.split_sources({"r/audio": rows}, protocol=protocol, fold=0).report[
            "deduplicated"
        ]


def test_gate_refuses_a_speaker_on_two_sides():
    sets = CORPORA["emodb"]
    split = splits.split_corpus("emodb", sets, protocol=INDEPENDENT, fold=0)
    assert leakage_gate.pass_gate({"emodb": split}, sets)
    for speaker, side in (
        (3, "train"),
        (3, "validation"),
        (8, "train"),
        (9, "validation"),
        (9, "test"),
    ):
        with pytest.raises(
            DataError,
            match=rf"speaker 'emodb:{speaker}' is in two splits: emodb/audio {speaker}/.* and emodb/audio",
        ):
            leakage_gate.pass_gate(
                {"emodb": wrong(split, f"emodb:{speaker}:anger:a01:0", side)}, sets
            )


def test_gate_refuses_a_test_speaker_where_train_and_validation_share_speakers():
    sets = CORPORA["savee"]
    split = splits.split_corpus("savee", sets, protocol=INDEPENDENT, fold=0)
    assert split.validation_by == "utterances" and leakage_gate.pass_gate({"savee": split}, sets)
    with pytest.raises(DataError, match=r"speaker 'savee:DC' is in two splits"):
        leakage_gate.pass_gate({"savee": wrong(split, "savee:DC:fear:a:0", "validation")}, sets)


def test_gate_refuses_an_utterance_that_two_corpora_put_on_two_sides():
    rows = stills(splits.SPLITS)
    again = [
        dict(clip, id="again/" + clip["id"], sha256="another file of " + clip["id"])
        for clip in rows
    ]
    split = splits.split_corpus("fer", {"visual": rows}, protocol=INDEPENDENT, fold=0)
    sets = {"fer/visual": rows, "fer2/visual": again}
    assert leakage_gate.pass_gate({"fer": split, "fer2": split}, sets)
    other = wrong(dataclasses.replace(split, corpus="fer2"), "fer:test/fear/3.jpg", "train")
    with pytest.raises(
        DataError,
        match=r"utterance 'fer:test/fear/3.jpg' is in two splits: fer/visual .*\(test\) and fer2/visual .*\(train\)",
    ):
        leakage_gate.pass_gate({"fer": split, "fer2": other}, sets)


def test_gate_refuses_an_utterance_that_was_not_split():
    sets = CORPORA["savee"]
    split = splits.split_corpus(
        "savee", {"audio": sets["savee/audio"][1:]}, protocol=INDEPENDENT, fold=0
    )
    with pytest.raises(
        DataError, match="utterance 'savee:DC:anger:a:0' is not in the split of savee"
    ):
        leakage_gate.pass_gate({"savee": split}, sets)
