import collections
import json
import random

import pytest

from helpers.corpora_rows import (
    CORPORA,
    DEPENDENT,
    INDEPENDENT,
    SEVEN_EMOTIONS,
    RowsBySource,
    assert_disjoint,
    corpus,
    row,
    stills,
)
from kerasemo.config.schema import PROTOCOLS
from kerasemo.datasets.leakage_gate import GatedSplits, split_sources
from kerasemo.datasets.splits import SPLITS, fold_count, one_per_utterance, split_corpus
from pipelines.core.errors import DataError, InputError

FOLD_COUNTS = {"savee": 4, "emodb": 10, "ravdess": 6, "half": 6, "enterface": 6}


def values_by_split(
    splits: GatedSplits, rows_by_source: RowsBySource, name: str
) -> dict[str, set[str]]:
    """Return split -> the values of `name` of its clips, over all sources."""
    values: dict[str, set[str]] = {split: set() for split in SPLITS}
    for source, rows in rows_by_source.items():
        value_by_id = {row["id"]: row[name] for row in rows}
        for split in SPLITS:
            values[split] |= {value_by_id[clip_id] for clip_id in splits.clip_ids[source][split]}
    return values


def every_fold(corpus_name: str, protocol: str) -> list[GatedSplits]:
    rows_by_source = CORPORA[corpus_name]
    n_folds = fold_count(corpus_name, rows_by_source, protocol=protocol)
    return [split_sources(rows_by_source, protocol=protocol, fold=fold) for fold in range(n_folds)]


def speakers_of_every_fold(corpus_name: str) -> list[dict[str, set[str]]]:
    return [
        values_by_split(splits, CORPORA[corpus_name], "speaker")
        for splits in every_fold(corpus_name, INDEPENDENT)
    ]


@pytest.mark.parametrize("corpus_name", CORPORA)
def test_speaker_independent_folds_test_each_speaker_once(corpus_name):
    rows_by_source, n_tested = CORPORA[corpus_name], collections.Counter()
    folds = every_fold(corpus_name, INDEPENDENT)
    assert len(folds) == FOLD_COUNTS[corpus_name]
    for splits in folds:
        speakers = values_by_split(splits, rows_by_source, "speaker")
        assert all(speakers.values())
        assert not speakers["test"] & (speakers["train"] | speakers["validation"])
        assert_disjoint(values_by_split(splits, rows_by_source, "utterance"))
        n_tested.update(speakers["test"])
    assert set(n_tested.values()) == {1}
    assert n_tested.keys() == {row["speaker"] for rows in rows_by_source.values() for row in rows}


def test_one_of_nine_other_speakers_validates():
    """EMO-DB: the next speaker in number, and after 16 the first."""
    folds = speakers_of_every_fold("emodb")
    assert [fold["test"] for fold in folds[:3]] == [{"emodb:3"}, {"emodb:8"}, {"emodb:9"}]
    assert folds[0]["validation"] == {"emodb:8"}
    assert folds[4]["validation"] == {"emodb:12"}
    assert folds[9]["test"] == {"emodb:16"}
    assert folds[9]["validation"] == {"emodb:3"}


def test_two_of_twenty_other_speakers_validate():
    """RAVDESS: 24 actors in 6 blocks of 4; odd actors are men, so a man and a woman validate."""
    folds = speakers_of_every_fold("ravdess")
    assert folds[0]["test"] == {f"ravdess:0{i}" for i in (1, 2, 3, 4)}
    assert folds[0]["validation"] == {"ravdess:05", "ravdess:06"}
    assert folds[5]["test"] == {f"ravdess:{i}" for i in (21, 22, 23, 24)}
    assert folds[5]["validation"] == {"ravdess:01", "ravdess:02"}


def test_two_of_ten_other_speakers_validate():
    folds = speakers_of_every_fold("half")
    assert {len(fold["test"]) for fold in folds} == {2}
    assert {len(fold["validation"]) for fold in folds} == {2}


def test_speakers_are_in_the_order_of_their_numbers():
    """43 speakers in 6 blocks of 7 or 8. Number 6 is missing."""
    folds = speakers_of_every_fold("enterface")
    assert sorted(len(fold["test"]) for fold in folds) == [7, 7, 7, 7, 7, 8]
    assert folds[0]["test"] == {f"enterface:{i}" for i in (1, 2, 3, 4, 5, 7, 8)}
    assert folds[0]["validation"] == {"enterface:9", "enterface:10"}


@pytest.mark.parametrize(
    ("n_speakers", "fold", "n_validation"),
    [(2, 0, 0), (4, 0, 0), (5, 0, 1), (10, 0, 1), (11, 5, 1), (12, 0, 2)],
)
def test_number_of_validation_speakers_follows_the_number_of_others(n_speakers, fold, n_validation):
    """Others: 1, 3, 4 and 9; 11 - 2 = 9, as fold 5 of 11 speakers tests two; and 12 - 2 = 10."""
    rows_by_source = corpus(
        "c", speakers=range(n_speakers), emotions=SEVEN_EMOTIONS, sentences="ab"
    )
    corpus_split = split_corpus("c", rows_by_source, protocol=INDEPENDENT, fold=fold)
    assert corpus_split.fold == fold
    assert corpus_split.validation_by == ("speakers" if n_validation else "utterances")
    splits = split_sources(rows_by_source, protocol=INDEPENDENT, fold=fold)
    speakers = values_by_split(splits, rows_by_source, "speaker")
    assert len(speakers["validation"] - speakers["train"]) == n_validation


def test_validation_by_utterances_takes_a_fifth_of_each_emotion_and_speaker():
    """SAVEE: 3 speakers x 15 sentences = 45 training utterances of an emotion.

    The 3rd, 8th ... 43rd validate: 9, which is 3 of each speaker. Both domains are split alike.
    """
    splits = split_sources(CORPORA["savee"], protocol=INDEPENDENT, fold=1)
    assert splits.corpus_splits["savee"].validation_by == "utterances"
    audio_ids = splits.clip_ids["savee/audio"]["validation"]
    row_by_id = {row["id"]: row for row in CORPORA["savee"]["savee/audio"]}
    counts = collections.Counter(
        (row_by_id[clip_id]["emotion"], row_by_id[clip_id]["speaker"]) for clip_id in audio_ids
    )
    assert len(counts) == 7 * 3
    assert set(counts.values()) == {3}
    visual_ids = splits.clip_ids["savee/visual"]["validation"]
    assert [clip_id.replace(".wav", ".avi") for clip_id in audio_ids] == list(visual_ids)


@pytest.mark.parametrize(("n_groups", "n_validation"), [(1, 0), (2, 1), (3, 1), (8, 2)])
def test_validation_by_utterances_leaves_each_emotion_in_train(n_groups, n_validation):
    """Of 8 groups of takes the 3rd and the 8th validate. Both takes of a group stay together."""
    sentences = "abcdefgh"[:n_groups]
    rows_by_source = corpus("c", speakers="ab", emotions=("anger",), sentences=sentences, takes=2)
    other_emotion = corpus("c", speakers="ab", emotions=("fear",), sentences="ab")
    rows_by_source["c/audio"] += other_emotion["c/audio"]
    splits = split_sources(rows_by_source, protocol=INDEPENDENT, fold=0)
    clip_ids = splits.clip_ids["c/audio"]
    n_anger = {split: sum("anger" in clip_id for clip_id in clip_ids[split]) for split in SPLITS}
    assert n_anger["validation"] == 2 * n_validation
    assert n_anger["train"] > 0
    assert_disjoint(
        {split: {clip_id.rpartition("-")[0] for clip_id in clip_ids[split]} for split in SPLITS}
    )


@pytest.mark.parametrize("corpus_name", CORPORA)
def test_speaker_dependent_folds_test_each_utterance_once_with_all_its_takes(corpus_name):
    rows_by_source = CORPORA[corpus_name]
    n_tested, n_validated = collections.Counter(), collections.Counter()
    folds = every_fold(corpus_name, DEPENDENT)
    assert len(folds) == 5
    for splits in folds:
        utterances = values_by_split(splits, rows_by_source, "utterance")
        assert_disjoint(utterances)
        assert_disjoint(
            {split: {name.rpartition(":")[0] for name in utterances[split]} for split in SPLITS}
        )
        emotions = [{name.split(":")[2] for name in utterances[split]} for split in SPLITS]
        assert emotions[0] == emotions[1] == emotions[2]
        n_utterances = sum(len(names) for names in utterances.values())
        assert abs(len(utterances["test"]) - n_utterances / 5) <= 2
        n_tested.update(utterances["test"])
        n_validated.update(utterances["validation"])
    assert n_tested == n_validated
    assert set(n_tested.values()) == {1}
    assert n_tested.keys() == {row["utterance"] for rows in rows_by_source.values() for row in rows}


@pytest.mark.parametrize("corpus_name", CORPORA)
def test_speaker_dependent_validates_on_the_next_test_fold(corpus_name):
    first, second = (
        values_by_split(splits, CORPORA[corpus_name], "utterance")
        for splits in every_fold(corpus_name, DEPENDENT)[:2]
    )
    assert first["validation"] == second["test"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("corpus_name", CORPORA)
def test_splits_do_not_depend_on_the_order_of_rows_or_sets(corpus_name, protocol):
    rows_by_source = CORPORA[corpus_name]
    expected = split_sources(rows_by_source, protocol=protocol, fold=1)
    shuffled = {
        source: random.Random(0).sample(rows_by_source[source], len(rows_by_source[source]))
        for source in reversed(list(rows_by_source))
    }
    splits = split_sources(shuffled, protocol=protocol, fold=1)
    assert splits == expected
    assert splits.digest == expected.digest
    utterances = list(splits.corpus_splits[corpus_name].split_by_utterance)
    assert utterances == sorted(utterances)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("corpus_name", CORPORA)
def test_every_fold_has_another_digest(corpus_name, protocol):
    digests = [splits.digest for splits in every_fold(corpus_name, protocol)]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize(
    ("protocol", "digest"), [(INDEPENDENT, "af3b2d0425f2"), (DEPENDENT, "ce90cf15361d")]
)
def test_splits_are_those_of_earlier_releases(protocol, digest):
    """Golden digests: a changed fold assignment would move every published figure.

    Maker: this expression at the first commit. Tolerance: none.
    """
    splits = split_sources(CORPORA["savee"], protocol=protocol, fold=0)
    assert splits.digest[:12] == digest


def test_fold_is_taken_modulo_the_folds_of_each_corpus():
    rows_by_source = CORPORA["savee"] | CORPORA["emodb"]
    splits = split_sources(rows_by_source, protocol=INDEPENDENT, fold=5)
    assert splits.corpus_splits["savee"].fold == 1
    assert splits.corpus_splits["emodb"].fold == 5
    alone = split_sources(CORPORA["savee"], protocol=INDEPENDENT, fold=1)
    assert splits.clip_ids["savee/audio"] == alone.clip_ids["savee/audio"]


def test_another_corpus_does_not_change_the_splits_of_a_corpus():
    alone = split_sources(CORPORA["emodb"], protocol=INDEPENDENT, fold=0)
    both = split_sources(CORPORA["emodb"] | CORPORA["half"], protocol=INDEPENDENT, fold=0)
    assert both.digests["emodb/audio"] == alone.digests["emodb/audio"]
    assert both.digest != alone.digest


def test_report_is_json():
    splits = split_sources(CORPORA["savee"], protocol=INDEPENDENT, fold=0)
    report = json.loads(json.dumps(splits.report))
    assert report["deduplicated"] is False
    assert report["digest"] == splits.digest
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


def test_one_file_of_each_utterance_is_used_in_each_set():
    """RAVDESS: the sounds of an 01 and an 03 file are one utterance, as are 01 and 02 videos."""
    audio = [
        row("01-x.mp4", "r:1", "calm", utterance="r:u"),
        row("03-x.wav", "r:1", "calm", utterance="r:u"),
        row("01-y.mp4", "r:1", "calm", utterance="r:v"),
    ]
    visual = [row(name, "r:1", "calm", utterance="r:u") for name in ("02-x.mp4", "01-x.mp4")]
    assert [row["id"] for row in one_per_utterance(audio)] == ["03-x.wav", "01-y.mp4"]
    assert [row["id"] for row in one_per_utterance(audio[::-1])] == ["01-y.mp4", "03-x.wav"]
    assert [row["id"] for row in one_per_utterance(visual)] == ["01-x.mp4"]
    splits = split_sources(
        {"r/audio": audio, "r/visual": visual}, protocol=INDEPENDENT, fold=0, foreign=["r"]
    )
    assert splits.clip_ids == {
        "r/audio": {"train": (), "validation": (), "test": ("01-y.mp4", "03-x.wav")},
        "r/visual": {"train": (), "validation": (), "test": ("01-x.mp4",)},
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_publishers_split_is_used_under_every_protocol(protocol):
    rows = stills(SPLITS)
    splits = split_sources({"fer/visual": rows}, protocol=protocol, fold=3)
    for split in SPLITS:
        clip_ids = splits.clip_ids["fer/visual"][split]
        assert len(clip_ids) == 20
        assert all(clip_id.startswith(f"{split}/") for clip_id in clip_ids)
    corpus_split = splits.corpus_splits["fer"]
    assert corpus_split.publisher
    assert (corpus_split.fold, corpus_split.folds) == (0, 1)
    assert corpus_split.validation_by == "publisher"
    assert fold_count("fer", {"visual": rows}, protocol=protocol) == 1
    assert not splits.is_deduplicated("fer/visual")


def test_publishers_split_may_have_a_speaker_in_several_splits():
    rows = [clip | {"speaker": "fer:1"} for clip in stills(SPLITS)]
    splits = split_sources({"fer/visual": rows}, protocol=INDEPENDENT, fold=0)
    assert splits.facts("fer/visual")["publisher"]


def test_publishers_split_without_validation_gets_validation_from_train():
    """Of the 10 training stills of a class the 3rd and the 8th in the order of the hash."""
    rows = stills(("train", "test"))
    splits = split_sources({"fer/visual": rows}, protocol=INDEPENDENT, fold=0)
    clip_ids = splits.clip_ids["fer/visual"]
    assert [len(clip_ids[split]) for split in SPLITS] == [16, 4, 20]
    assert all(clip_id.startswith("train/") for clip_id in clip_ids["validation"])
    assert sum("anger" in clip_id for clip_id in clip_ids["validation"]) == 2


def test_foreign_corpus_is_all_test_unless_its_publisher_split_it():
    few_rows = [
        row(f"{i}.flv", "cremad:1001", emotion, utterance=f"cremad:{i}")
        for i, emotion in enumerate(SEVEN_EMOTIONS[:6])
    ]
    published = stills(("train", "test"))
    rows_by_source = CORPORA["emodb"] | {"cremad/visual": few_rows, "fer/visual": published}
    splits = split_sources(rows_by_source, protocol=INDEPENDENT, fold=0, foreign=("cremad", "fer"))
    counts = {
        source: [len(splits.clip_ids[source][split]) for split in SPLITS]
        for source in ("cremad/visual", "fer/visual")
    }
    assert counts == {"cremad/visual": [0, 0, 6], "fer/visual": [20, 0, 20]}
    assert splits.facts("cremad/visual")["validation_by"] == "none"


@pytest.mark.parametrize("hash_name", ["sha256", "content"])
@pytest.mark.parametrize("fold", range(5))
def test_speaker_dependent_keeps_copies_together(fold, hash_name):
    rows = corpus("c", speakers="ab", emotions=SEVEN_EMOTIONS, sentences="abc")["c/audio"]
    copies = [rows[0], rows[20], rows[-1]]
    for clip in copies:
        clip[hash_name] = "copied"
    splits = split_sources({"c/audio": rows}, protocol=DEPENDENT, fold=fold)
    copy_ids = {clip["id"] for clip in copies}
    assert any(copy_ids <= set(splits.clip_ids["c/audio"][split]) for split in SPLITS)


def changed_rows(**changes: str) -> RowsBySource:
    """Return the rows of three speakers, of which the last has `changes`."""
    rows = corpus("c", speakers="abd", emotions=SEVEN_EMOTIONS, sentences="ab")["c/audio"]
    return {"audio": [*rows[:-1], rows[-1] | changes]}


@pytest.mark.parametrize(
    ("rows_by_source", "protocol", "message"),
    [
        pytest.param({}, INDEPENDENT, r"c: no clips .*pipelines\.build", id="no set"),
        pytest.param({"audio": []}, DEPENDENT, "c: no clips", id="no clips"),
        pytest.param(
            changed_rows(),
            "random",
            "speaker-independent, speaker-dependent; received 'random'",
            id="unknown protocol",
        ),
        pytest.param(
            changed_rows(speaker=""),
            INDEPENDENT,
            "1 of 42 utterances .*--protocol speaker-dependent.*CSV manifest",
            id="no speaker",
        ),
        pytest.param(
            corpus("c", speakers="a", emotions=SEVEN_EMOTIONS, sentences="ab"),
            INDEPENDENT,
            "at least 2 speakers.* 'c:a'.*--protocol",
            id="one speaker",
        ),
        pytest.param(
            corpus("c", speakers="ab", emotions=("fear",), sentences="xy", takes=9),
            DEPENDENT,
            "at least 5 groups of takes; received 4",
            id="few groups of takes",
        ),
        pytest.param(
            corpus("c", speakers="ab", emotions=SEVEN_EMOTIONS, sentences="x"),
            INDEPENDENT,
            "two groups of training utterances",
            id="no validation",
        ),
    ],
)
def test_corpus_that_is_too_small_for_a_protocol_is_refused(rows_by_source, protocol, message):
    with pytest.raises(InputError, match=message) as refused:
        split_corpus("c", rows_by_source, protocol=protocol, fold=0)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("rows_by_source", "protocol", "message"),
    [
        pytest.param(
            changed_rows(split="test"),
            INDEPENDENT,
            "c: 41 of 42 clips have no split",
            id="some clips without split",
        ),
        pytest.param(
            changed_rows(sha256=""),
            INDEPENDENT,
            r"d/surpriseb-0\.wav .*split ''.* sha256 ''.*build",
            id="no hash",
        ),
        pytest.param(
            {"visual": stills(("train", "dev"))},
            INDEPENDENT,
            r"dev/anger/0\.jpg .*split 'dev'",
            id="unknown split",
        ),
        pytest.param(
            {"visual": stills(("train", "validation"))},
            INDEPENDENT,
            "train and test; .* no test;",
            id="no test",
        ),
        pytest.param(
            {"visual": stills(("test",))},
            INDEPENDENT,
            "train and test; .* no train and no validation;",
            id="no train",
        ),
        pytest.param(
            {**changed_rows(), "visual": changed_rows(speaker="c:a")["audio"]},
            INDEPENDENT,
            "'c:d:surprise:b:0' .*speaker: 'c:d' .* 'c:a'",
            id="two speakers of an utterance",
        ),
        pytest.param(
            {**changed_rows(), "visual": changed_rows(emotion="calm")["audio"]},
            DEPENDENT,
            "emotion: 'surprise' .* and 'calm' .* labels",
            id="two emotions of an utterance",
        ),
    ],
)
def test_rows_that_contradict_each_other_are_refused(rows_by_source, protocol, message):
    with pytest.raises(DataError, match=message) as refused:
        split_corpus("c", rows_by_source, protocol=protocol, fold=0)
    assert "\n" not in str(refused.value)


def test_negative_fold_is_refused():
    with pytest.raises(InputError, match="fold .*received -1"):
        split_corpus("c", changed_rows(), protocol=INDEPENDENT, fold=-1)
