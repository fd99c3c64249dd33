"""Copies inside a publisher's split that stay in training because they were asked to: counted, stamped, and nothing else with them."""

import pytest

from kerasemo.config import schema
from kerasemo.datasets import leakage_gate
from pipelines.core.errors import DataError


def row(id, side, content, *, corpus="fer"):
    return {
        "id": id,
        "speaker": "",
        "emotion": "anger",
        "utterance": f"{corpus}:{id}",
        "sentence": "",
        "split": side,
        "sha256": content,
    }


def rows(corpus="fer"):
    """A copy of a test image in train and one in validation, a copy of a validation image in train, and others."""
    sides = {"train": "abcxyz", "validation": "defxz", "test": "ghixy"}
    return [
        row(f"{side}/{content}.jpg", side, f"{corpus} {content}", corpus=corpus)
        for side, own in sides.items()
        for content in own
    ]


@pytest.mark.parametrize("protocol", schema.PROTOCOLS)
def test_they_stay_where_they_are_and_are_counted(protocol):
    """x is in all three, y in train and test, z in train and validation: of test clips there are 2 copies in train, 1 in validation."""
    usual = leakage_gate.split_sources({"fer/visual": rows()}, protocol=protocol, fold=0)
    kept = leakage_gate.split_sources(
        {"fer/visual": rows()}, protocol=protocol, fold=0, keep_copies=True
    )
    assert {side: len(ids) for side, ids in usual.clip_ids["fer/visual"].items()} == {
        "train": 3,
        "validation": 4,
        "test": 5,
    }
    assert {side: len(ids) for side, ids in kept.clip_ids["fer/visual"].items()} == {
        "train": 6,
        "validation": 5,
        "test": 5,
    }
    assert usual.clip_ids["fer/visual"]["test"] == kept.clip_ids["fer/visual"]["test"]
    assert kept.copy_ids["fer/visual"] == {
        "train": ("train/x.jpg", "train/y.jpg"),
        "validation": ("validation/x.jpg",),
        "test": (),
    }
    assert (
        usual.report["deduplicated"]
        and not kept.report["deduplicated"]
        and usual.digest != kept.digest
    )
    facts, usually = (sides.report["sources"]["fer/visual"] for sides in (kept, usual))
    assert "2 copies of test clips" in leakage_gate.copies_stamp(facts)
    assert "1 in validation" in leakage_gate.copies_stamp(facts)
    assert "deduplicated: 4 copies" in leakage_gate.copies_stamp(usually)


def test_they_do_not_stay_where_another_corpus_has_the_content_on_another_side():
    other = rows("other")
    other[0]["sha256"] = "fer y"  # of fer's test side, and of its train side
    sets = {"fer/visual": rows(), "other/visual": other}
    with pytest.raises(
        DataError,
        match=r"sha256 'fer y' is in two splits: fer/visual test/y.jpg \(test\) and other/visual train/a.jpg",
    ):
        leakage_gate.split_sources(sets, protocol="speaker-independent", fold=0, keep_copies=True)
    other[0]["sha256"], other[-1]["sha256"] = "other a", "fer y"
    with pytest.raises(
        DataError,
        match=r"sha256 'fer y' is in two splits: fer/visual train/y.jpg \(train\) and other/visual test/y.jpg",
    ):
        leakage_gate.split_sources(sets, protocol="speaker-independent", fold=0, keep_copies=True)
    assert leakage_gate.split_sources(
        {**sets, "other/visual": rows("other")},
        protocol="speaker-independent",
        fold=0,
        keep_copies=True,
    )


def test_nothing_changes_where_no_publisher_split_the_corpus():
    clips = [
        row(f"{who}{number}.wav", "", f"{who}{number}") | {"speaker": f"c:{who}"}
        for who in "abcdef"
        for number in range(3)
    ]
    one, other = (
        leakage_gate.split_sources(
            {"c/audio": clips}, protocol="speaker-independent", fold=1, keep_copies=keep
        )
        for keep in (False, True)
    )
    assert one.clip_ids == other.clip_ids and one.digest == other.digest
    clips[0]["sha256"] = clips[-1]["sha256"]
    with pytest.raises(DataError, match="is in two splits"):
        leakage_gate.split_sources(
            {"c/audio": clips}, protocol="speaker-independent", fold=0, keep_copies=True
        )
