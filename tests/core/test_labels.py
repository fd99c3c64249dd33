"""Emotions, their published synonyms, and the words of a user."""

import pytest

from helpers.messages import key_words
from pipelines.core.errors import DataError, InputError
from pipelines.core.labels import EMOTIONS, SYNONYMS, canonical_emotion, fold_word, read_label_map


@pytest.mark.parametrize(
    ("word", "emotion"),
    [
        ("scared", "fear"),
        ("Anxious", "fear"),
        ("joyful", "happiness"),
        ("EXCITED", "happiness"),
        ("sorrow", "sadness"),
        ("relaxed", "calm"),
        ("frustrated", "anger"),
        ("pleasant surprise", "surprise"),
        ("pleasant_surprised", "surprise"),
        ("ps", "surprise"),
        ("HAP", "happiness"),
        ("neu", "neutral"),
    ],
)
def test_words_of_published_corpora_are_known(word, emotion):
    assert canonical_emotion(word) == emotion


def test_every_synonym_is_folded_and_has_an_emotion():
    for synonym, emotion in SYNONYMS.items():
        assert fold_word(synonym) == synonym
        assert emotion in EMOTIONS
        assert synonym not in EMOTIONS


@pytest.mark.parametrize("spelling", ["Wütend", "WÜTEND", "wu\u0308tend", " wütend\u200b "])
def test_spellings_of_a_word_are_one_word(tmp_path, spelling):
    path = tmp_path / "labels.toml"
    path.write_text('[labels]\n"wütend" = "angry"\n', encoding="utf-8")
    assert read_label_map(path).emotion_of(spelling) == "anger"


def test_own_words_come_before_published_synonyms(tmp_path):
    path = tmp_path / "labels.toml"
    path.write_text('[labels]\nexcited = "surprise"\n"快乐" = "happiness"\n', encoding="utf-8")
    label_map = read_label_map(path)
    assert label_map.emotion_of("excited") == "surprise"
    assert label_map.emotion_of("快乐") == "happiness"
    assert label_map.emotion_of("sad") == "sadness"
    assert label_map.emotion_of("schadenfroh") is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ("[labels]",)),
        (b"[label]\na = 'fear'\n", ("[labels]", "'label'")),
        (b"[labels]\n", ("[labels]",)),
        (b"[labels]\na = 'fear'\n[more]\nb = 1\n", ("[labels]", "'more'")),
        (b"[labels]\nfroh = 'glad'\n", ("'froh'", "'glad'", "happiness")),
        (b"[labels]\nfroh = 1\n", ("'froh'", "1")),
        (b"[labels]\n' ' = 'fear'\n", ("' '",)),
        (b"[labels]\nAngst = 'fear'\nangst = 'anger'\n", ("'angst'", "fear", "anger")),
        (b"[labels\n", ("TOML",)),
        (b"[labels]\n\xff = 'fear'\n", ("UTF-8",)),
    ],
)
def test_wrong_label_map_is_refused(tmp_path, content, words):
    path = tmp_path / "labels.toml"
    path.write_bytes(content)
    with pytest.raises(DataError, match=key_words("labels.toml", *words)):
        read_label_map(path)


def test_missing_label_map_is_refused(tmp_path):
    with pytest.raises(InputError, match=key_words("none.toml", "[labels]")):
        read_label_map(tmp_path / "none.toml")
