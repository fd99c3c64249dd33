import hashlib
import json

import pytest

from kerasemo.serving import training_clips
from pipelines.core.errors import DataError


def row(number, **changes):
    names = {
        "sha256": f"file {number}",
        "content": f"content {number}",
        "utterance": f"a:{number}",
        "speaker": f"a:s{number}",
    }
    return names | changes


TRAINED = [
    row(1),
    row(2),
    row(2, sha256="other file of 2"),
    row(3, speaker=""),
    {**row(4), "content": ""},
]


@pytest.fixture
def known():
    return training_clips.parse_training_clips(
        json.loads(json.dumps(training_clips.training_clips_document(TRAINED))), where="here"
    )


@pytest.mark.parametrize("same", ["sha256", "content", "utterance"])
def test_a_clip_was_seen_by_its_file_or_its_content_or_its_utterance(known, same):
    """In the other domain a clip has another file and content: its utterance tells."""
    assert known.has_clip(row(9) | {same: TRAINED[1][same]})


def test_every_training_clip_was_seen_and_no_other(known):
    assert all(map(known.has_clip, TRAINED))
    assert not known.has_clip(row(9)) and not known.has_clip(row(9, speaker=TRAINED[0]["speaker"]))
    without = row(9)
    del without["content"]  # a set of another build
    assert not known.has_clip(without) and not known.has_clip(row(9, content=""))


def test_speakers_are_told_by_name_and_who_has_none_is_nobody(known):
    assert (
        known.has_speaker(row(1))
        and not known.has_speaker(row(9))
        and not known.has_speaker(row(9, speaker=""))
    )


def test_the_document_holds_hashes_alone_sorted_each_once():
    document = training_clips.training_clips_document(TRAINED)
    assert {key: len(values) for key, values in document.items()} == {
        "files": 5,
        "contents": 3,
        "utterances": 4,
        "speakers": 3,
    }
    assert document["utterances"] == sorted(
        hashlib.sha256(f"a:{number}".encode()).hexdigest() for number in (1, 2, 3, 4)
    )
    assert "a:" not in json.dumps(document)
    assert training_clips.training_clips_document(reversed(TRAINED)) == document
    assert training_clips.training_clips_document([]) == {
        "files": [],
        "contents": [],
        "utterances": [],
        "speakers": [],
    }


@pytest.mark.parametrize(
    "held",
    [
        [],
        {},
        {"files": []},
        {**training_clips.training_clips_document([]), "files": "f00d"},
        {**training_clips.training_clips_document([]), "speakers": [1]},
    ],
)
def test_what_is_no_such_document_is_refused(held):
    with pytest.raises(
        DataError,
        match="1/assets/x.json: expected lists of hashes, files, contents, utterances, speakers; .*export",
    ):
        training_clips.parse_training_clips(held, where="1/assets/x.json")
