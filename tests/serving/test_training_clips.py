"""The training clips of an exported model are recognised by hashes."""

import hashlib
import json

import pytest

from helpers.messages import key_words
from kerasemo.serving.training_clips import (
    KEYS,
    TrainingClips,
    parse_training_clips,
    read_training_clips,
    training_clips_document,
)
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
    row(2, sha256="copy of 2"),
    row(3, speaker=""),
    {**row(4), "content": ""},
]


@pytest.fixture
def training_clips() -> TrainingClips:
    document = json.loads(json.dumps(training_clips_document(TRAINED)))
    return parse_training_clips(document, place="clips.json")


@pytest.mark.parametrize("same", ["sha256", "content", "utterance"])
def test_clip_is_recognised_by_file_content_or_utterance(training_clips, same):
    """In the other domain a clip has another file and content, and the same utterance."""
    assert training_clips.has_clip(row(9) | {same: TRAINED[1][same]})


def test_every_training_clip_is_recognised(training_clips):
    assert all(map(training_clips.has_clip, TRAINED))


def test_clip_outside_the_training_is_not_recognised(training_clips):
    assert not training_clips.has_clip(row(9))
    assert not training_clips.has_clip(row(9, speaker=TRAINED[0]["speaker"]))
    assert not training_clips.has_clip(row(9, content=""))
    without_content = row(9)
    del without_content["content"]  # a set of an older build
    assert not training_clips.has_clip(without_content)


def test_speakers_are_recognised_by_name(training_clips):
    assert training_clips.has_speaker(row(1))
    assert not training_clips.has_speaker(row(9))
    assert not training_clips.has_speaker(row(9, speaker=""))


def test_document_holds_only_sorted_unique_hashes():
    document = training_clips_document(TRAINED)
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
    assert training_clips_document(reversed(TRAINED)) == document
    empty = {"files": [], "contents": [], "utterances": [], "speakers": []}
    assert training_clips_document([]) == empty


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"files": []},
        {**training_clips_document([]), "files": "f00d"},
        {**training_clips_document([]), "speakers": [1]},
    ],
)
def test_malformed_document_is_an_error(document):
    with pytest.raises(DataError, match=key_words("1/assets/x.json", *KEYS)):
        parse_training_clips(document, place="1/assets/x.json")


@pytest.mark.parametrize(("text", "word"), [(None, "missing"), ("{", "damaged")])
def test_unreadable_file_is_an_error(tmp_path, text, word):
    path = tmp_path / "training_clips.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=key_words(str(path), word)):
        read_training_clips(path)
