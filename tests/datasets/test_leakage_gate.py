"""The leakage gate refuses planted leaks, or drops and counts them."""

import collections
import dataclasses
import random
from typing import NamedTuple

import pytest

from helpers.corpora_rows import (
    CORPORA,
    DEPENDENT,
    INDEPENDENT,
    SEVEN_EMOTIONS,
    Row,
    RowsBySource,
    assert_disjoint,
    corpus,
    row,
    stills,
)
from kerasemo.config.schema import PROTOCOLS
from kerasemo.datasets.leakage_gate import pass_gate, split_sources
from kerasemo.datasets.splits import SPLITS, CorpusSplit, split_corpus
from pipelines.core.errors import DataError

PUBLISHED = {name: {f"{name}/visual": stills(SPLITS, name=name)} for name in ("fer", "other")}


def built_sets(*corpus_names: str, kind: str = "") -> RowsBySource:
    """Return the sets of corpora as a build leaves them: each row has its content and `kind`."""
    return {
        source: [
            clip | {"content": f"content of {source} {clip['id']}", "kind": kind} for clip in rows
        ]
        for name in corpus_names
        for source, rows in (CORPORA | PUBLISHED)[name].items()
    }


class ClipName(NamedTuple):
    """The source and the id of a clip."""

    source: str
    clip_id: str

    def row_in(self, rows_by_source: RowsBySource) -> Row:
        return next(row for row in rows_by_source[self.source] if row["id"] == self.clip_id)


EMODB_TEST = ClipName("emodb/audio", "3/angera01-0.wav")
EMODB_TRAIN = ClipName("emodb/audio", "9/angera01-0.wav")
HALF_TEST = ClipName("half/audio", "01/anger01-0.wav")
HALF_TRAIN = ClipName("half/audio", "12/anger01-0.wav")
SAVEE_TEST = ClipName("savee/audio", "DC/angera-0.wav")
SAVEE_TRAIN = ClipName("savee/visual", "KL/surprisea-0.avi")


class Plant(NamedTuple):
    """A copy that is planted."""

    corpora: tuple[str, ...]
    copy: ClipName
    """The clip that becomes a copy of another clip."""
    leaking: ClipName
    """A clip of which the copy is a leak."""
    harmless: ClipName
    """A clip of which the copy is no leak."""


PLANTS = {
    "among the other speakers of a corpus": Plant(
        ("emodb",), EMODB_TRAIN, EMODB_TEST, ClipName("emodb/audio", "10/angera01-0.wav")
    ),
    "in another corpus": Plant(("emodb", "half"), HALF_TRAIN, EMODB_TEST, EMODB_TRAIN),
    "in the other domain": Plant(
        ("savee",), SAVEE_TRAIN, SAVEE_TEST, ClipName("savee/audio", "KL/surprisea-0.wav")
    ),
    "of a training clip in a publisher's test split": Plant(
        ("fer", "savee"), ClipName("fer/visual", "test/anger/0.jpg"), SAVEE_TRAIN, SAVEE_TEST
    ),
    "of a test clip in a publisher's training split": Plant(
        ("fer", "savee"), ClipName("fer/visual", "train/anger/0.jpg"), SAVEE_TEST, SAVEE_TRAIN
    ),
    "between two publishers' splits": Plant(
        ("fer", "other"),
        ClipName("other/visual", "test/fear/9.jpg"),
        ClipName("fer/visual", "train/anger/0.jpg"),
        ClipName("fer/visual", "test/anger/1.jpg"),
    ),
}


@pytest.mark.parametrize("hash_name", ["sha256", "content"])
@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
def test_copy_in_two_splits_is_refused(plant, hash_name):
    """`sha256`: the same file. `content`: the same decoded content, as of a WAV and its FLAC."""
    rows_by_source = built_sets(*plant.corpora)
    assert split_sources(rows_by_source, protocol=INDEPENDENT, fold=0)
    leaking_hash = plant.leaking.row_in(rows_by_source)[hash_name]
    plant.copy.row_in(rows_by_source)[hash_name] = leaking_hash
    with pytest.raises(
        DataError, match=rf"{hash_name} '.*' .*two splits.*copies.*build"
    ) as refused:
        split_sources(rows_by_source, protocol=INDEPENDENT, fold=0)
    for name in (plant.copy, plant.leaking):
        assert f"{name.source} {name.clip_id} (" in str(refused.value)


@pytest.mark.parametrize("hash_name", ["sha256", "content"])
@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
def test_copy_in_the_same_split_passes(plant, hash_name):
    rows_by_source = built_sets(*plant.corpora)
    harmless_hash = plant.harmless.row_in(rows_by_source)[hash_name]
    plant.copy.row_in(rows_by_source)[hash_name] = harmless_hash
    splits = split_sources(rows_by_source, protocol=INDEPENDENT, fold=0)
    assert not splits.report["deduplicated"]
    assert any(plant.copy.clip_id in ids for ids in splits.clip_ids[plant.copy.source].values())


@pytest.mark.parametrize("hash_name", ["sha256", "content"])
def test_copy_of_a_training_clip_in_a_foreign_corpus_is_refused(hash_name):
    rows_by_source = built_sets("emodb", "half")
    training_hash = EMODB_TRAIN.row_in(rows_by_source)[hash_name]
    HALF_TRAIN.row_in(rows_by_source)[hash_name] = training_hash
    assert split_sources(rows_by_source, protocol=INDEPENDENT, fold=0)
    two_files = rf"emodb/audio {EMODB_TRAIN.clip_id} \(train\) and half/audio .* \(test\)"
    with pytest.raises(DataError, match=rf"{hash_name} .*two splits: {two_files}"):
        split_sources(rows_by_source, protocol=INDEPENDENT, fold=0, foreign=["half"])


def test_speaker_in_different_splits_of_two_corpora_is_refused():
    """emodb:9 is trained on in emodb. In half that name is the first, so fold 0 tests it."""
    rows_by_source = built_sets("emodb", "half")
    HALF_TRAIN.row_in(rows_by_source)["speaker"] = "emodb:9"
    two_files = r"emodb/audio 9/.* \(train\) and half/audio 12/.* \(test\)"
    with pytest.raises(DataError, match=rf"speaker 'emodb:9' .*two splits: {two_files}"):
        split_sources(rows_by_source, protocol=INDEPENDENT, fold=0)


def test_speaker_in_the_same_split_of_two_corpora_passes():
    """Fold 0 tests emodb:3 in both corpora."""
    rows_by_source = built_sets("emodb", "half")
    HALF_TRAIN.row_in(rows_by_source)["speaker"] = "emodb:3"
    splits = split_sources(rows_by_source, protocol=INDEPENDENT, fold=0)
    assert HALF_TRAIN.clip_id in splits.clip_ids["half/audio"]["test"]
    assert EMODB_TEST.clip_id in splits.clip_ids["emodb/audio"]["test"]


def test_utterance_with_sound_in_train_and_video_in_test_is_refused():
    rows_by_source = built_sets("emodb", "half")
    rows_by_source["half/visual"] = [
        clip | {"id": clip["id"].replace(".wav", ".avi")}
        for clip in rows_by_source.pop("half/audio")
    ]
    video = ClipName("half/visual", "01/anger01-0.avi").row_in(rows_by_source)
    video["utterance"] = "emodb:9:anger:a01:0"
    two_files = (
        r"emodb/audio 9/angera01-0\.wav \(train\) and half/visual 01/anger01-0\.avi \(test\)"
    )
    with pytest.raises(DataError, match=f"utterance '{video['utterance']}' .*{two_files}.*domains"):
        split_sources(rows_by_source, protocol=INDEPENDENT, fold=0)
    video["utterance"] = "emodb:3:anger:a01:0"  # fold 0 tests speaker 3
    assert split_sources(rows_by_source, protocol=INDEPENDENT, fold=0)


def renamed_sets(
    rows_by_source: RowsBySource, old: str, new: str, *, speakers: tuple[str, ...] = ()
) -> RowsBySource:
    """Return the sets of a corpus as built again from other files, under the name `new`.

    With `speakers`, the sets have these speakers alone.
    """

    def renamed(clip: Row) -> Row:
        names = {
            name: clip[name].replace(f"{old}:", f"{new}:") for name in ("speaker", "utterance")
        }
        files = {name: f"another {name} of {clip['id']}" for name in ("sha256", "content")}
        return clip | names | files

    return {
        source.replace(old, new): [
            renamed(clip) for clip in rows if not speakers or clip["speaker"] in speakers
        ]
        for source, rows in rows_by_source.items()
    }


OTHER_SPEAKERS = tuple(f"emodb:{number}" for number in range(8, 17))
"""The speakers of emodb without speaker 3. Fold 0 tests speaker 8, which validates in emodb."""


def test_speaker_of_a_corpus_under_two_names_is_recognized():
    rows_by_source = built_sets("emodb", kind="emodb")
    again = renamed_sets(rows_by_source, "emodb", "again", speakers=OTHER_SPEAKERS)
    two_files = r"again/audio 8/.* \(test\) and emodb/audio 8/.* \(validation\)"
    with pytest.raises(DataError, match=rf"speaker 'emodb:8' .*two splits: {two_files}"):
        split_sources(rows_by_source | again, protocol=INDEPENDENT, fold=0)
    all_speakers = renamed_sets(rows_by_source, "emodb", "again")
    assert split_sources(rows_by_source | all_speakers, protocol=INDEPENDENT, fold=0)


@pytest.mark.parametrize("kind", ["", "folder"])
def test_speakers_of_unknown_corpora_with_the_same_names_are_different(kind):
    rows_by_source = built_sets("emodb", kind=kind)
    again = renamed_sets(rows_by_source, "emodb", "again", speakers=OTHER_SPEAKERS)
    assert split_sources(rows_by_source | again, protocol=INDEPENDENT, fold=0)


def test_utterance_of_a_corpus_whose_domains_have_two_names_is_recognized():
    """Two corpora are split apart, by hashes of their names; one corpus is split as a whole."""
    rows_by_source = built_sets("savee", kind="savee")
    video = renamed_sets({"savee/visual": rows_by_source["savee/visual"]}, "savee", "video")
    two_names = {"savee/audio": rows_by_source["savee/audio"]} | video
    two_files = r"savee/audio .*\.wav \(.*\) and video/visual .*\.avi"
    with pytest.raises(DataError, match=rf"utterance 'savee:.*' .*two splits: {two_files}"):
        split_sources(two_names, protocol=DEPENDENT, fold=0)
    assert split_sources(rows_by_source, protocol=DEPENDENT, fold=0)


@pytest.mark.parametrize("hash_name", ["sha256", "content"])
def test_copy_across_domains_of_a_publishers_split_is_dropped_from_both_domains(hash_name):
    """The sound of a training clip is a copy of a test video (a container without pictures)."""
    visual = [
        row(f"{split}/{i}.mp4", "", "fear", utterance=f"c:{split}{i}", split=split)
        for split in SPLITS
        for i in range(3)
    ]
    audio = [
        clip | {"id": clip["id"].replace("mp4", "wav"), "sha256": f"sound of {clip['id']}"}
        for clip in visual
    ]
    visual[-1][hash_name] = audio[0][hash_name] = "same content"
    rows_by_source = {"c/visual": visual, "c/audio": audio}
    splits = split_sources(rows_by_source, protocol=DEPENDENT, fold=0)
    assert splits.dropped_ids == {
        "c/audio": {"train": ("train/0.wav",), "validation": (), "test": ()},
        "c/visual": {"train": ("train/0.mp4",), "validation": (), "test": ()},
    }
    assert splits.report["deduplicated"]


def test_copy_within_a_domain_of_a_publishers_split_is_dropped_from_both_domains():
    visual = [
        row(f"{split}/{i}.mp4", "", "fear", utterance=f"c:{split}{i}", split=split)
        for split in SPLITS
        for i in range(2)
    ]
    audio = [clip | {"sha256": f"sound of {clip['id']}"} for clip in visual]
    visual[0]["sha256"] = visual[-1]["sha256"]
    rows_by_source = {"c/visual": visual, "c/audio": audio}
    splits = split_sources(rows_by_source, protocol=DEPENDENT, fold=0)
    assert splits.dropped_ids["c/visual"]["train"] == ("train/0.mp4",)
    assert splits.dropped_ids["c/audio"]["train"] == ("train/0.mp4",)


def test_publishers_clip_is_a_copy_by_its_file_or_by_its_content():
    """Train 0 has the bytes of validation 0, which has the content of test 0. Both are dropped."""
    row_by_id = {clip["id"]: clip for clip in built_sets("fer")["fer/visual"]}
    validation_clip = row_by_id["validation/anger/0.jpg"]
    row_by_id["train/anger/0.jpg"]["sha256"] = validation_clip["sha256"]
    validation_clip["content"] = row_by_id["test/anger/0.jpg"]["content"]
    rows_by_source = {"fer/visual": list(row_by_id.values())}
    splits = split_sources(rows_by_source, protocol=INDEPENDENT, fold=0)
    assert splits.dropped_ids["fer/visual"] == {
        "train": ("train/anger/0.jpg",),
        "validation": ("validation/anger/0.jpg",),
        "test": (),
    }


def sets_with_random_copies(trial: int) -> RowsBySource:
    """Return two corpora with up to two random copies; corpus b is published in odd trials."""
    random_choice = random.Random(trial).choice
    rows_by_source = corpus(
        "a",
        speakers="1234567",
        emotions=SEVEN_EMOTIONS[:2],
        sentences="xy",
        domains=("visual", "audio"),
    )
    if trial % 2:
        rows_by_source["b/visual"] = stills(SPLITS, name="b", per_class=3)
    else:
        rows_by_source |= corpus(
            "b", speakers="1234567", emotions=SEVEN_EMOTIONS[:2], sentences="xy"
        )
    for source, rows in rows_by_source.items():
        for clip in rows:
            clip["sha256"] = clip["content"] = f"{source} {clip['id']}"
    sources = list(rows_by_source)
    for _ in range(random_choice((0, 1, 1, 2))):
        first, second = (random_choice(rows_by_source[random_choice(sources)]) for _ in range(2))
        hash_name = random_choice(("sha256", "content"))
        first[hash_name] = second[hash_name]
    return rows_by_source


def test_splits_that_pass_are_disjoint_whatever_copies_are_planted():
    n_outcomes = collections.Counter()
    for trial in range(300):
        rows_by_source = sets_with_random_copies(trial)
        protocol = random.Random(trial).choice(PROTOCOLS)
        try:
            splits = split_sources(rows_by_source, protocol=protocol, fold=trial % 5)
        except DataError as error:
            assert "two splits" in str(error)
            n_outcomes["refused"] += 1
            continue
        n_outcomes["deduplicated" if splits.report["deduplicated"] else "passed"] += 1
        for name in ("sha256", "content", "utterance", "speaker"):
            values: dict[str, set[str]] = {split: set() for split in SPLITS}
            for source, rows in rows_by_source.items():
                corpus_split = splits.corpus_splits[source[0]]
                if name == "speaker" and (corpus_split.publisher or protocol == DEPENDENT):
                    continue
                for split in SPLITS:
                    clip_ids = splits.clip_ids[source][split]
                    values[split] |= {clip[name] for clip in rows if clip["id"] in clip_ids}
            assert_disjoint(values)
    assert min(n_outcomes[outcome] for outcome in ("refused", "deduplicated", "passed")) > 5


def test_copies_in_a_publishers_split_are_dropped_and_counted():
    """Clips with the same letter are copies.

    x: a test clip, a training clip of another emotion and a validation clip; two are dropped.
    y: a validation clip and a training clip, which is dropped. z: two training clips, which stay.
    """
    row_by_id = {clip["id"]: clip for clip in stills(SPLITS)}
    for clip_id, content in {
        "test/anger/0.jpg": "x",
        "train/fear/0.jpg": "x",
        "validation/fear/0.jpg": "x",
        "validation/fear/1.jpg": "y",
        "train/anger/1.jpg": "y",
        "train/anger/8.jpg": "z",
        "train/anger/9.jpg": "z",
    }.items():
        row_by_id[clip_id]["sha256"] = content
    rows_by_source = {"fer/visual": list(row_by_id.values())}
    splits = split_sources(rows_by_source, protocol=INDEPENDENT, fold=0)
    assert splits.dropped_ids["fer/visual"] == {
        "train": ("train/anger/1.jpg", "train/fear/0.jpg"),
        "validation": ("validation/fear/0.jpg",),
        "test": (),
    }
    facts = splits.facts("fer/visual")
    assert [facts[split] for split in SPLITS] == [18, 19, 20]
    assert (facts["dropped_train"], facts["dropped_validation"]) == (2, 1)
    assert splits.is_deduplicated("fer/visual")
    assert splits.report["deduplicated"]
    training_ids = splits.clip_ids["fer/visual"]["train"]
    assert {"train/anger/8.jpg", "train/anger/9.jpg"} <= set(training_ids)


def test_copies_of_fer_2013_are_dropped(fer2013_files):
    """Counted over the archive by SHA-256, without the gate.

    288 test images have a copy in train; 314 have a copy in train or validation.
    """
    rows, n_by_content = [], collections.defaultdict(collections.Counter)
    for name, content in fer2013_files:
        if name.endswith(".jpg"):
            split, emotion, _ = name.split("/")[-3:]
            rows.append(row(name, "", emotion, utterance=name, split=split, sha256=content))
            n_by_content[content][split] += 1
    counts = n_by_content.values()
    assert sum(n["test"] for n in counts if n["train"]) == 288
    assert sum(n["test"] for n in counts if n["train"] or n["validation"]) == 314
    splits = split_sources({"fer2013/visual": rows}, protocol=INDEPENDENT, fold=0)
    facts = splits.facts("fer2013/visual")
    assert [facts[split] for split in SPLITS] == [28006, 3543, 3589]
    assert (facts["dropped_train"], facts["dropped_validation"]) == (703, 46)
    assert splits.is_deduplicated("fer2013/visual")
    content_by_id = {row["id"]: row["sha256"] for row in rows}
    clip_ids = splits.clip_ids["fer2013/visual"]
    assert_disjoint(
        {split: {content_by_id[clip_id] for clip_id in clip_ids[split]} for split in SPLITS}
    )


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_copies_within_a_split_are_no_leak(protocol):
    """RAVDESS: two takes of actor 07 are byte-identical."""
    rows = corpus("r", speakers="12345", emotions=SEVEN_EMOTIONS, sentences="a", takes=2)["r/audio"]
    rows[0]["sha256"] = rows[1]["sha256"] = "twin takes"
    splits = split_sources({"r/audio": rows}, protocol=protocol, fold=0)
    assert not splits.is_deduplicated("r/audio")


def with_wrong_split(corpus_split: CorpusSplit, utterance: str, split: str) -> CorpusSplit:
    """Return a corpus split that has one utterance in a wrong split."""
    assert corpus_split.split_by_utterance[utterance] != split
    split_by_utterance = {**corpus_split.split_by_utterance, utterance: split}
    return dataclasses.replace(corpus_split, split_by_utterance=split_by_utterance)


@pytest.mark.parametrize(
    ("speaker", "wrong_split"),
    [(3, "train"), (3, "validation"), (8, "train"), (9, "validation"), (9, "test")],
)
def test_gate_refuses_a_speaker_in_two_splits(speaker, wrong_split):
    """Fold 0 tests speaker 3, validates on speaker 8 and trains on speaker 9."""
    rows_by_source = CORPORA["emodb"]
    corpus_split = split_corpus("emodb", rows_by_source, protocol=INDEPENDENT, fold=0)
    assert pass_gate({"emodb": corpus_split}, rows_by_source)
    wrong = with_wrong_split(corpus_split, f"emodb:{speaker}:anger:a01:0", wrong_split)
    two_files = rf"emodb/audio {speaker}/.* and emodb/audio {speaker}/"
    with pytest.raises(DataError, match=rf"speaker 'emodb:{speaker}' .*two splits: {two_files}"):
        pass_gate({"emodb": wrong}, rows_by_source)


def test_gate_refuses_a_test_speaker_in_validation_by_utterances():
    rows_by_source = CORPORA["savee"]
    corpus_split = split_corpus("savee", rows_by_source, protocol=INDEPENDENT, fold=0)
    assert corpus_split.validation_by == "utterances"
    assert pass_gate({"savee": corpus_split}, rows_by_source)
    wrong = with_wrong_split(corpus_split, "savee:DC:fear:a:0", "validation")
    with pytest.raises(DataError, match="speaker 'savee:DC' .*two splits"):
        pass_gate({"savee": wrong}, rows_by_source)


def test_gate_refuses_an_utterance_in_different_splits_of_two_corpora():
    rows = stills(SPLITS)
    again = [
        clip | {"id": f"again/{clip['id']}", "sha256": f"another file of {clip['id']}"}
        for clip in rows
    ]
    rows_by_source = {"fer/visual": rows, "fer2/visual": again}
    fer = split_corpus("fer", {"visual": rows}, protocol=INDEPENDENT, fold=0)
    fer2 = dataclasses.replace(fer, corpus="fer2")
    assert pass_gate({"fer": fer, "fer2": fer2}, rows_by_source)
    wrong = with_wrong_split(fer2, "fer:test/fear/3.jpg", "train")
    two_files = r"fer/visual .*\(test\) and fer2/visual .*\(train\)"
    with pytest.raises(
        DataError, match=rf"utterance 'fer:test/fear/3\.jpg' .*two splits: {two_files}"
    ):
        pass_gate({"fer": fer, "fer2": wrong}, rows_by_source)


def test_gate_refuses_an_utterance_that_was_not_split():
    rows_by_source = CORPORA["savee"]
    without_first = {"audio": rows_by_source["savee/audio"][1:]}
    corpus_split = split_corpus("savee", without_first, protocol=INDEPENDENT, fold=0)
    with pytest.raises(DataError, match="utterance 'savee:DC:anger:a:0' .*split of savee"):
        pass_gate({"savee": corpus_split}, rows_by_source)
