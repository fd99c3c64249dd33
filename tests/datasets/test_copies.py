"""Copies inside a publisher's split that stay in training because they were asked to: counted, stamped, and nothing else with them."""

import pytest

from kerasemo.config import schema
from kerasemo.datasets import leakage_gate, splits
from pipelines.core.errors import InputError


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
    assert {side: len(ids) for side, ids in usual.ids["fer/visual"].items()} == {
        "train": 3,
        "validation": 4,
        "test": 5,
    }
    assert {side: len(ids) for side, ids in kept.ids["fer/visual"].items()} == {
        "train": 6,
        "validation": 5,
        "test": 5,
    }
    assert usual.ids["fer/visual"]["test"] == kept.ids["fer/visual"]["test"]
    assert kept.left_in["fer/visual"] == {
        "train": ("train/x.jpg", "train/y.jpg"),
        "validation": ("validation/x.jpg",),
        "test": (),
    }
    assert usual.deduplicated and not kept.deduplicated and usual.digest != kept.digest
    facts, usually = (sides.report["sources"]["fer/visual"] for sides in (kept, usual))
    assert (
        leakage_gate.copies_stamp(facts)
        == "as published: 2 copies of test clips stay in training, 1 in validation"
    )
    assert (
        leakage_gate.copies_stamp(usually)
        == "deduplicated: 4 copies of clips on a later side left out"
    )


def test_they_do_not_stay_where_another_corpus_has_the_content_on_another_side():
    other = rows("other")
    other[0]["sha256"] = "fer y"  # of fer's test side, and of its train side
    sets = {"fer/visual": rows(), "other/visual": other}
    with pytest.raises(
        InputError,
        match=r"sha256 'fer y' is on two sides: fer/visual test/y.jpg \(test\) and other/visual train/a.jpg",
    ):
        leakage_gate.split_sources(sets, protocol="speaker-independent", fold=0, keep_copies=True)
    other[0]["sha256"], other[-1]["sha256"] = "other a", "fer y"
    with pytest.raises(
        InputError,
        match=r"sha256 'fer y' is on two sides: fer/visual train/y.jpg \(train\) and other/visual test/y.jpg",
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
    assert one.ids == other.ids and one.digest == other.digest
    clips[0]["sha256"] = clips[-1]["sha256"]
    with pytest.raises(InputError, match="is on two sides"):
        leakage_gate.split_sources(
            {"c/audio": clips}, protocol="speaker-independent", fold=0, keep_copies=True
        )
