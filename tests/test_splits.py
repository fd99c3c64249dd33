import collections
import dataclasses
import hashlib
import itertools
import json
import random
import tarfile

import pytest

from kerasemo import splits
from pipelines.spec import InputError

INDEPENDENT, DEPENDENT = splits.PROTOCOLS


def row(id, speaker, emotion, *, utterance, sentence="", split="", sha256=None):
    return {
        "id": id,
        "speaker": speaker,
        "emotion": emotion,
        "utterance": utterance,
        "sentence": sentence,
        "take": "",
        "split": split,
        "sha256": sha256 or f"content of {id}",
    }


def corpus(name, *, speakers, emotions, sentences, takes=1, domains=("audio",), suffixes=None):
    """The sets of a corpus in which each speaker says each sentence `takes` times with each emotion; a file for each domain."""
    suffixes = suffixes or {"audio": ".wav", "visual": ".avi"}
    sets = {}
    for domain in domains:
        sets[f"{name}/{domain}"] = [
            row(
                f"{speaker}/{emotion}{sentence}-{take}{suffixes[domain]}",
                f"{name}:{speaker}",
                emotion,
                utterance=f"{name}:{speaker}:{emotion}:{sentence}:{take}",
                sentence=sentence,
            )
            for speaker, emotion, sentence, take in itertools.product(speakers, emotions, sentences, range(takes))
        ]
    return sets


SEVEN = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
CORPORA = {
    "savee": corpus("savee", speakers=("DC", "JE", "JK", "KL"), emotions=SEVEN, sentences="abcdefghijklmno", domains=("visual", "audio")),
    "emodb": corpus("emodb", speakers=(3, *range(8, 17)), emotions=SEVEN, sentences=("a01", "a02", "b01"), takes=2),
    "ravdess": corpus("ravdess", speakers=[f"{i:02d}" for i in range(1, 25)], emotions=SEVEN, sentences=("01", "02"), takes=2),
    "half": corpus("half", speakers=[f"{i:02d}" for i in range(1, 13)], emotions=SEVEN, sentences=("01", "02"), takes=2),
    "enterface": corpus(
        "enterface", speakers=[i for i in range(1, 45) if i != 6], emotions=SEVEN[:6], sentences="12345", domains=("visual", "audio")
    ),
}
FOLDS = {"savee": 4, "emodb": 10, "ravdess": 6, "half": 6, "enterface": 6}


def placed(result, sets, *, by):
    """Return side -> the values of `by` among its clips, over all sources."""
    values = {side: set() for side in splits.SIDES}
    for source, rows in sets.items():
        value_of = {row["id"]: row[by] for row in rows}
        for side in splits.SIDES:
            values[side] |= {value_of[id] for id in result.ids[source][side]}
    return values


def assert_apart(values):
    for one, other in itertools.combinations(splits.SIDES, 2):
        assert not values[one] & values[other]


def folds_of(name, protocol):
    count = splits.fold_count(name, CORPORA[name], protocol=protocol)
    return [splits.sides(CORPORA[name], protocol=protocol, fold=fold) for fold in range(count)]


@pytest.mark.parametrize("name", CORPORA)
def test_speaker_independent_tests_every_speaker_once_and_never_trains_on_one(name):
    sets, tested = CORPORA[name], collections.Counter()
    folds = folds_of(name, INDEPENDENT)
    assert len(folds) == FOLDS[name]
    for fold in folds:
        speakers = placed(fold, sets, by="speaker")
        assert all(speakers.values())
        assert not speakers["test"] & (speakers["train"] | speakers["validation"])
        assert_apart(placed(fold, sets, by="utterance"))
        tested.update(speakers["test"])
    assert set(tested.values()) == {1} and tested.keys() == {row["speaker"] for rows in sets.values() for row in rows}


def test_validation_speakers_follow_the_test_speakers():
    """EMO-DB: 9 others, so one, the next in number and after 16 the first; RAVDESS: 20 others, so two, a man and a woman."""
    folds = [placed(fold, CORPORA["emodb"], by="speaker") for fold in folds_of("emodb", INDEPENDENT)]
    assert [fold["test"] for fold in folds[:3]] == [{"emodb:3"}, {"emodb:8"}, {"emodb:9"}]
    assert folds[0]["validation"] == {"emodb:8"} and folds[4]["validation"] == {"emodb:12"}
    assert folds[9]["test"] == {"emodb:16"} and folds[9]["validation"] == {"emodb:3"}
    folds = [placed(fold, CORPORA["ravdess"], by="speaker") for fold in folds_of("ravdess", INDEPENDENT)]
    assert folds[0]["test"] == {f"ravdess:0{i}" for i in (1, 2, 3, 4)} and folds[0]["validation"] == {"ravdess:05", "ravdess:06"}
    assert folds[5]["test"] == {f"ravdess:{i}" for i in (21, 22, 23, 24)} and folds[5]["validation"] == {"ravdess:01", "ravdess:02"}
    folds = [placed(fold, CORPORA["half"], by="speaker") for fold in folds_of("half", INDEPENDENT)]
    assert {len(fold["test"]) for fold in folds} == {len(fold["validation"]) for fold in folds} == {2}
    folds = [placed(fold, CORPORA["enterface"], by="speaker") for fold in folds_of("enterface", INDEPENDENT)]
    assert sorted(len(fold["test"]) for fold in folds) == [7, 7, 7, 7, 7, 8]
    assert folds[0]["test"] == {f"enterface:{i}" for i in (1, 2, 3, 4, 5, 7, 8)}
    assert folds[0]["validation"] == {"enterface:9", "enterface:10"}


@pytest.mark.parametrize(("speakers", "held"), [(2, 0), (4, 0), (5, 1), (10, 1), (11, 1), (12, 2)])
def test_validation_speakers_by_number(speakers, held):
    """Others left: 1, 3, 4, 9, then (blocks of 1 or 2) 11 - 1 = 10 or 11 - 2 = 9, and 12 - 2 = 10; 11's fold 1 tests two."""
    sets = corpus("c", speakers=range(speakers), emotions=SEVEN, sentences="ab")
    split = splits.split_corpus("c", sets, protocol=INDEPENDENT, fold=5 if speakers == 11 else 0)
    assert split.validation_by == ("speakers" if held else "utterances")
    result = placed(splits.sides(sets, protocol=INDEPENDENT, fold=split.fold), sets, by="speaker")
    assert len(result["validation"] - result["train"]) == held


def test_savee_holds_out_one_in_five_of_each_emotion_from_every_speaker():
    """3 speakers x 15 sentences = 45 utterances of an emotion: the 3rd, 8th ... 43rd, so 9, 3 of each speaker; in both domains alike."""
    result = splits.sides(CORPORA["savee"], protocol=INDEPENDENT, fold=1)
    rows = {row["id"]: row for row in CORPORA["savee"]["savee/audio"]}
    validation = [rows[id] for id in result.ids["savee/audio"]["validation"]]
    counts = collections.Counter((row["emotion"], row["speaker"]) for row in validation)
    assert len(counts) == 21 and set(counts.values()) == {3}
    assert [id.replace(".wav", ".avi") for id in result.ids["savee/audio"]["validation"]] == list(result.ids["savee/visual"]["validation"])
    assert result.splits["savee"].validation_by == "utterances"


@pytest.mark.parametrize("groups", [1, 2, 3, 8])
def test_validation_by_utterances_leaves_training_something_of_each_emotion(groups):
    """Of 1 group none, of 2 and 3 one, of 8 two (the 3rd and the 8th); both takes of a group stay together."""
    sets = corpus("c", speakers="ab", emotions=("anger",), sentences="abcdefgh"[:groups], takes=2)
    sets["c/audio"] += corpus("c", speakers="ab", emotions=("fear",), sentences="ab")["c/audio"]
    result = splits.sides(sets, protocol=INDEPENDENT, fold=0)
    anger = {side: [id for id in result.ids["c/audio"][side] if "anger" in id] for side in ("train", "validation")}
    assert len(anger["validation"]) == 2 * {1: 0, 2: 1, 3: 1, 8: 2}[groups] and len(anger["train"]) > 0
    assert_apart({side: {id.rpartition("-")[0] for id in result.ids["c/audio"][side]} for side in splits.SIDES})


@pytest.mark.parametrize("name", CORPORA)
def test_speaker_dependent_tests_every_utterance_once_with_all_its_takes(name):
    sets, tested, validated = CORPORA[name], collections.Counter(), collections.Counter()
    folds = folds_of(name, DEPENDENT)
    assert len(folds) == 5
    for fold in folds:
        utterances = placed(fold, sets, by="utterance")
        assert_apart(utterances)
        assert_apart({side: {utterance.rpartition(":")[0] for utterance in utterances[side]} for side in splits.SIDES})
        emotions = [collections.Counter(utterance.split(":")[2] for utterance in utterances[side]) for side in splits.SIDES]
        assert emotions[0].keys() == emotions[1].keys() == emotions[2].keys()
        assert abs(len(utterances["test"]) - sum(map(len, utterances.values())) / 5) <= 2
        tested.update(utterances["test"])
        validated.update(utterances["validation"])
    assert tested == validated and set(tested.values()) == {1}
    assert tested.keys() == {row["utterance"] for rows in sets.values() for row in rows}
    following = placed(folds[1], sets, by="utterance")["test"]
    assert placed(folds[0], sets, by="utterance")["validation"] == following


@pytest.mark.parametrize("protocol", splits.PROTOCOLS)
@pytest.mark.parametrize("name", CORPORA)
def test_sides_do_not_depend_on_the_order_of_rows_or_of_sets(name, protocol):
    expected = splits.sides(CORPORA[name], protocol=protocol, fold=1)
    shuffled = [(source, random.Random(0).sample(rows, len(rows))) for source, rows in CORPORA[name].items()]
    result = splits.sides(dict(reversed(shuffled)), protocol=protocol, fold=1)
    assert result == expected and result.digest == expected.digest
    assert list(result.splits[name].side_of) == sorted(result.splits[name].side_of)
    assert splits.sides(CORPORA[name], protocol=protocol, fold=2).digest != expected.digest


def test_sides_are_those_of_this_version():
    """Golden: a change of the dealing moves every published figure. Maker: this expression at the first commit; exact."""
    for protocol, digest in ((INDEPENDENT, "af3b2d0425f2"), (DEPENDENT, "ce90cf15361d")):
        assert splits.sides(CORPORA["savee"], protocol=protocol, fold=0).digest[:12] == digest


def test_fold_is_taken_modulo_each_corpus_folds():
    sets = CORPORA["savee"] | CORPORA["emodb"]
    result = splits.sides(sets, protocol=INDEPENDENT, fold=5)
    assert (result.splits["savee"].fold, result.splits["emodb"].fold) == (1, 5)
    assert result.ids["savee/audio"] == splits.sides(CORPORA["savee"], protocol=INDEPENDENT, fold=1).ids["savee/audio"]


def test_a_corpus_split_with_one_more_corpus_keeps_its_sides():
    alone = splits.sides(CORPORA["emodb"], protocol=INDEPENDENT, fold=0)
    together = splits.sides(CORPORA["emodb"] | CORPORA["half"], protocol=INDEPENDENT, fold=0)
    assert together.digests["emodb/audio"] == alone.digests["emodb/audio"] and together.digest != alone.digest


def test_report_is_json():
    result = splits.sides(CORPORA["savee"], protocol=INDEPENDENT, fold=0)
    report = json.loads(json.dumps(result.report))
    assert report["deduplicated"] is False and report["digest"] == result.digest
    assert report["sources"]["savee/visual"] == {
        "protocol": INDEPENDENT,
        "fold": 0,
        "folds": 4,
        "publisher": False,
        "validation_by": "utterances",
        "train": 252,
        "validation": 63,
        "test": 105,
        "dropped_train": 0,
        "dropped_validation": 0,
    }


def test_one_file_of_an_utterance_is_used_in_each_set():
    """RAVDESS: the sound of an 01 file and the 03 file are one utterance, and so are its 01 and 02 video."""
    audio = [row(id, "r:1", "calm", utterance="r:u") for id in ("01-x.mp4", "03-x.wav")] + [row("01-y.mp4", "r:1", "calm", utterance="r:v")]
    visual = [row(id, "r:1", "calm", utterance="r:u") for id in ("02-x.mp4", "01-x.mp4")]
    assert [kept["id"] for kept in splits.one_per_utterance(audio)] == ["03-x.wav", "01-y.mp4"]
    assert [kept["id"] for kept in splits.one_per_utterance(audio[::-1])] == ["01-y.mp4", "03-x.wav"]
    assert [kept["id"] for kept in splits.one_per_utterance(visual)] == ["01-x.mp4"]
    result = splits.sides({"r/audio": audio, "r/visual": visual}, protocol=INDEPENDENT, fold=0, foreign=["r"])
    assert result.ids == {
        "r/audio": {"train": (), "validation": (), "test": ("01-y.mp4", "03-x.wav")},
        "r/visual": {"train": (), "validation": (), "test": ("01-x.mp4",)},
    }


def stills(sides, *, name="fer", per_class=10):
    """A corpus that its publisher split: `per_class` stills of each of two emotions on each of `sides`."""
    return [
        row(id := f"{side}/{emotion}/{i}.jpg", "", emotion, utterance=f"{name}:{id}", split=side)
        for side, emotion, i in itertools.product(sides, ("anger", "fear"), range(per_class))
    ]


@pytest.mark.parametrize("protocol", splits.PROTOCOLS)
def test_a_publishers_split_is_kept_under_every_protocol(protocol):
    rows = stills(splits.SIDES)
    result = splits.sides({"fer/visual": rows}, protocol=protocol, fold=3)
    assert all(id.startswith(side) for side in splits.SIDES for id in result.ids["fer/visual"][side])
    split = result.splits["fer"]
    assert (split.fold, split.folds, split.publisher, split.validation_by) == (0, 1, True, "publisher")
    assert splits.fold_count("fer", {"visual": rows}, protocol=protocol) == 1 and not result.deduplicated


def test_a_publishers_split_may_share_speakers_between_sides():
    rows = [clip | {"speaker": "fer:1"} for clip in stills(splits.SIDES)]
    assert splits.sides({"fer/visual": rows}, protocol=INDEPENDENT, fold=0).report["sources"]["fer/visual"]["publisher"]


def test_a_publishers_split_without_validation_gets_one_from_train():
    """Of the 10 training stills of a class the 3rd and the 8th in the order of the hash."""
    result = splits.sides({"fer/visual": stills(("train", "test"))}, protocol=INDEPENDENT, fold=0)
    ids = result.ids["fer/visual"]
    assert [len(ids[side]) for side in splits.SIDES] == [16, 4, 20]
    assert all(id.startswith("train") for id in ids["validation"]) and sum("anger" in id for id in ids["validation"]) == 2


def test_copies_inside_a_publishers_split_are_dropped_and_counted():
    """A test item has copies in train (of another emotion) and validation, a validation item one in train; train 8 and 9 are copies too.

    Dropped: train/anger/0 and validation/fear/0 (of test/anger/0), train/anger/1 (of validation/fear/1). Kept: both of train 8 and 9.
    """
    rows = {clip["id"]: clip for clip in stills(splits.SIDES)}
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
    result = splits.sides({"fer/visual": list(rows.values())}, protocol=INDEPENDENT, fold=0)
    assert result.dropped["fer/visual"] == {
        "train": ("train/anger/0.jpg", "train/anger/1.jpg"),
        "validation": ("validation/fear/0.jpg",),
        "test": (),
    }
    counts = result.report["sources"]["fer/visual"]
    assert [counts[name] for name in (*splits.SIDES, "dropped_train", "dropped_validation")] == [18, 19, 20, 2, 1]
    assert result.deduplicated and result.report["deduplicated"]
    assert "train/anger/9.jpg" in result.ids["fer/visual"]["train"]


def test_the_copies_of_fer_2013(corpora):
    """Counted over the archive by sha256, apart from the gate: 288 test images have a copy in train; 314 in train or validation."""
    rows, sides_of = [], collections.defaultdict(collections.Counter)
    with tarfile.open(corpora / "fer2013.tar.xz") as archive:
        for member in archive:
            if member.isfile() and member.name.endswith(".jpg"):
                side, emotion, _ = member.name.split("/")[-3:]
                content = hashlib.sha256(archive.extractfile(member).read()).hexdigest()
                rows.append(row(member.name, "", emotion, utterance=member.name, split=side, sha256=content))
                sides_of[content][side] += 1
    assert sum(count["test"] for count in sides_of.values() if count["train"]) == 288
    assert sum(count["test"] for count in sides_of.values() if count["train"] or count["validation"]) == 314
    result = splits.sides({"fer2013/visual": rows}, protocol=INDEPENDENT, fold=0)
    counts = result.report["sources"]["fer2013/visual"]
    assert [counts[name] for name in (*splits.SIDES, "dropped_train", "dropped_validation")] == [28006, 3543, 3589, 703, 46]
    assert result.deduplicated
    content_of = {row["id"]: row["sha256"] for row in rows}
    assert_apart({side: {content_of[id] for id in result.ids["fer2013/visual"][side]} for side in splits.SIDES})


def test_copies_of_a_video_are_dropped_from_both_domains():
    clips = [row(f"{side}/{i}.mp4", "", "fear", utterance=f"c:{side}{i}", split=side) for side in splits.SIDES for i in range(2)]
    sounds = [dict(clip, sha256="sound " + clip["id"]) for clip in clips]
    clips[0]["sha256"] = clips[-1]["sha256"]
    result = splits.sides({"c/visual": clips, "c/audio": sounds}, protocol=DEPENDENT, fold=0)
    assert result.dropped["c/visual"]["train"] == result.dropped["c/audio"]["train"] == ("train/0.mp4",)


def test_a_foreign_corpus_is_all_test_unless_its_publisher_split_it():
    few = [row(f"{i}.flv", "cremad:1001", emotion, utterance=f"cremad:{i}") for i, emotion in enumerate(SEVEN[:6])]
    sets = CORPORA["emodb"] | {"cremad/visual": few, "fer/visual": stills(("train", "test"))}
    result = splits.sides(sets, protocol=INDEPENDENT, fold=0, foreign=("cremad", "fer"))
    assert [len(result.ids["cremad/visual"][side]) for side in splits.SIDES] == [0, 0, 6]
    assert [len(result.ids["fer/visual"][side]) for side in splits.SIDES] == [20, 0, 20]
    assert result.report["sources"]["cremad/visual"]["validation_by"] == "none"


@pytest.mark.parametrize("fold", range(5))
def test_speaker_dependent_keeps_copies_together(fold):
    rows = corpus("c", speakers="ab", emotions=SEVEN, sentences="abc")["c/audio"]
    rows[0]["sha256"] = rows[-1]["sha256"] = rows[20]["sha256"] = "copied"
    ids = splits.sides({"c/audio": rows}, protocol=DEPENDENT, fold=fold).ids["c/audio"]
    assert any({rows[0]["id"], rows[20]["id"], rows[-1]["id"]} <= set(ids[side]) for side in splits.SIDES)


def test_copies_within_a_side_are_no_leak():
    """RAVDESS: two takes of actor 07 are byte-identical."""
    rows = corpus("r", speakers="12345", emotions=SEVEN, sentences="a", takes=2)["r/audio"]
    rows[0]["sha256"] = rows[1]["sha256"] = "twin takes"
    for protocol in splits.PROTOCOLS:
        assert not splits.sides({"r/audio": rows}, protocol=protocol, fold=0).deduplicated


def wrong(split, utterance, side):
    """A split with one utterance on a wrong side."""
    return dataclasses.replace(split, side_of={**split.side_of, utterance: side})


def test_gate_refuses_a_speaker_on_two_sides():
    sets = CORPORA["emodb"]
    split = splits.split_corpus("emodb", sets, protocol=INDEPENDENT, fold=0)
    assert splits.gate({"emodb": split}, sets)
    for speaker, side in ((3, "train"), (3, "validation"), (8, "train"), (9, "validation"), (9, "test")):
        with pytest.raises(InputError, match=rf"speaker 'emodb:{speaker}' is on two sides: emodb/audio {speaker}/.* and emodb/audio"):
            splits.gate({"emodb": wrong(split, f"emodb:{speaker}:anger:a01:0", side)}, sets)


def test_gate_refuses_a_test_speaker_where_train_and_validation_share_speakers():
    sets = CORPORA["savee"]
    split = splits.split_corpus("savee", sets, protocol=INDEPENDENT, fold=0)
    assert split.validation_by == "utterances" and splits.gate({"savee": split}, sets)
    with pytest.raises(InputError, match=r"speaker 'savee:DC' is on two sides"):
        splits.gate({"savee": wrong(split, "savee:DC:fear:a:0", "validation")}, sets)


def test_gate_refuses_an_utterance_that_two_corpora_put_on_two_sides():
    rows = stills(splits.SIDES)
    again = [dict(clip, id="again/" + clip["id"], sha256="another file of " + clip["id"]) for clip in rows]
    split = splits.split_corpus("fer", {"visual": rows}, protocol=INDEPENDENT, fold=0)
    sets = {"fer/visual": rows, "fer2/visual": again}
    assert splits.gate({"fer": split, "fer2": split}, sets)
    other = wrong(dataclasses.replace(split, corpus="fer2"), "fer:test/fear/3.jpg", "train")
    with pytest.raises(
        InputError, match=r"utterance 'fer:test/fear/3.jpg' is on two sides: fer/visual .*\(test\) and fer2/visual .*\(train\)"
    ):
        splits.gate({"fer": split, "fer2": other}, sets)


def test_gate_refuses_copies_across_corpora_and_domains():
    one, other = stills(splits.SIDES), stills(splits.SIDES, name="other")
    other[-1]["sha256"] = one[0]["sha256"]
    assert one[0]["split"] == "train" and other[-1]["split"] == "test"
    with pytest.raises(
        InputError, match=r"train/anger/0.jpg \(train\) and other/visual test/fear/9.jpg \(test\); they are copies; remove one"
    ):
        splits.sides({"fer/visual": one, "other/visual": other}, protocol=INDEPENDENT, fold=0)
    sets = {source: [dict(clip) for clip in rows] for source, rows in CORPORA["savee"].items()}
    sets["savee/audio"][0]["sha256"] = sets["savee/visual"][-1]["sha256"]
    with pytest.raises(InputError, match=r"DC/angera-0.wav \(test\) and savee/visual KL/surpriseo-0.avi \((train|validation)\)"):
        splits.sides(sets, protocol=INDEPENDENT, fold=0)
    assert splits.sides(sets, protocol=DEPENDENT, fold=0)


def test_gate_refuses_copies_across_speakers():
    rows = corpus("c", speakers="abcde", emotions=SEVEN, sentences="a")["c/audio"]
    rows[0]["sha256"] = rows[-1]["sha256"]
    with pytest.raises(
        InputError, match=r"a/angera-0.wav \(test\) and c/audio e/surprisea-0.wav \(train\).*take the protocol speaker-dependent"
    ):
        splits.sides({"c/audio": rows}, protocol=INDEPENDENT, fold=0)


def test_gate_refuses_an_utterance_that_was_not_split():
    sets = CORPORA["savee"]
    split = splits.split_corpus("savee", {"audio": sets["savee/audio"][1:]}, protocol=INDEPENDENT, fold=0)
    with pytest.raises(InputError, match="utterance 'savee:DC:anger:a:0' is not in the split of savee"):
        splits.gate({"savee": split}, sets)


def small(**changes):
    """Three speakers' rows, the last of them changed."""
    rows = corpus("c", speakers="abd", emotions=SEVEN, sentences="ab")["c/audio"]
    return {"audio": [*rows[:-1], rows[-1] | changes]}


@pytest.mark.parametrize(
    ("rows", "protocol", "message"),
    [
        ({}, INDEPENDENT, "c: no clips to split; build the corpus first"),
        ({"audio": []}, DEPENDENT, "c: no clips to split"),
        (small(), "random", "protocol must be one of speaker-independent, speaker-dependent; received 'random'"),
        (small(speaker=""), INDEPENDENT, "1 of 42 utterances have none; take --protocol speaker-dependent, or a CSV manifest"),
        (
            corpus("c", speakers="a", emotions=SEVEN, sentences="ab"),
            INDEPENDENT,
            "needs at least 2 speakers; received 'c:a' alone; take --pro",
        ),
        (
            corpus("c", speakers="ab", emotions=("fear",), sentences="xy", takes=9),
            DEPENDENT,
            "needs at least 5 groups of takes; received 4",
        ),
        (corpus("c", speakers="ab", emotions=SEVEN, sentences="x"), INDEPENDENT, "validation needs two groups of training utterances"),
        (small(split="test"), INDEPENDENT, "c: 41 of 42 clips have no split; give every clip its publisher's split, or none"),
        (small(sha256=""), INDEPENDENT, "d/surpriseb-0.wav has split '', sha256 ''; build the corpus again"),
        ({"visual": stills(("train", "dev"))}, INDEPENDENT, "dev/anger/0.jpg has split 'dev'"),
        ({"visual": stills(("train", "validation"))}, INDEPENDENT, "must have train and test; it lacks test"),
        ({"visual": stills(("test",))}, INDEPENDENT, "must have train and test; it lacks train and validation"),
        ({**small(), "visual": small(speaker="c:a")["audio"]}, INDEPENDENT, "'c:d:surprise:b:0' has two values of speaker: 'c:d' .* 'c:a'"),
        (
            {**small(), "visual": small(emotion="calm")["audio"]},
            DEPENDENT,
            "two values of emotion: 'surprise' .* and 'calm' .* mend the labels",
        ),
    ],
)
def test_rows_that_cannot_be_split_are_refused(rows, protocol, message):
    with pytest.raises(InputError, match=message) as error:
        splits.split_corpus("c", rows, protocol=protocol, fold=0)
    assert "\n" not in str(error.value)


def test_a_negative_fold_is_refused():
    with pytest.raises(InputError, match="fold must be 0 or more; received -1"):
        splits.split_corpus("c", small(), protocol=INDEPENDENT, fold=-1)
