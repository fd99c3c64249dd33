"""With `keep_copies`, copies in a publisher's split stay in training and are counted."""

import pytest

from helpers.corpora_rows import INDEPENDENT, Row, row
from kerasemo.config.schema import PROTOCOLS
from kerasemo.datasets.leakage_gate import copies_stamp, split_sources
from pipelines.core.errors import DataError

LETTERS_BY_SPLIT = {"train": "abcxyz", "validation": "defxz", "test": "ghixy"}
"""Clips with the same letter are copies.

Of test clips train has two copies (x, y) and validation has one (x). Of a validation clip train has
another copy (z).
"""


def published_rows(corpus: str = "fer") -> list[Row]:
    return [
        row(
            f"{split}/{letter}.jpg",
            "",
            "anger",
            utterance=f"{corpus}:{split}/{letter}.jpg",
            split=split,
            sha256=f"{corpus} {letter}",
        )
        for split, letters in LETTERS_BY_SPLIT.items()
        for letter in letters
    ]


def clip_counts(clip_ids: dict[str, tuple[str, ...]]) -> list[int]:
    return [len(clip_ids[split]) for split in LETTERS_BY_SPLIT]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_kept_copies_stay_in_their_splits_and_are_counted(protocol):
    rows_by_source = {"fer/visual": published_rows()}
    without = split_sources(rows_by_source, protocol=protocol, fold=0)
    splits = split_sources(rows_by_source, protocol=protocol, fold=0, keep_copies=True)
    assert clip_counts(without.clip_ids["fer/visual"]) == [3, 4, 5]
    assert clip_counts(splits.clip_ids["fer/visual"]) == [6, 5, 5]
    assert without.clip_ids["fer/visual"]["test"] == splits.clip_ids["fer/visual"]["test"]
    assert splits.copy_ids["fer/visual"] == {
        "train": ("train/x.jpg", "train/y.jpg"),
        "validation": ("validation/x.jpg",),
        "test": (),
    }
    assert without.is_deduplicated("fer/visual")
    assert not splits.is_deduplicated("fer/visual")
    assert without.digest != splits.digest


def test_stamp_counts_the_copies():
    rows_by_source = {"fer/visual": published_rows()}
    without = split_sources(rows_by_source, protocol=INDEPENDENT, fold=0)
    splits = split_sources(rows_by_source, protocol=INDEPENDENT, fold=0, keep_copies=True)
    stamp = copies_stamp(splits.facts("fer/visual"))
    assert "2 copies of test clips" in stamp
    assert "1 in validation" in stamp
    assert "deduplicated: 4 copies" in copies_stamp(without.facts("fer/visual"))


@pytest.mark.parametrize(
    ("index", "fer_split", "other_split"), [(0, "test", "train"), (-1, "train", "test")]
)
def test_copy_of_another_corpus_in_another_split_is_refused(index, fer_split, other_split):
    """The content y is in train and test of fer."""
    other_rows = published_rows("other")
    rows_by_source = {"fer/visual": published_rows(), "other/visual": other_rows}
    assert split_sources(rows_by_source, protocol=INDEPENDENT, fold=0, keep_copies=True)
    other_rows[index]["sha256"] = "fer y"
    two_files = rf"fer/visual {fer_split}/y\.jpg .*other/visual {other_rows[index]['id']}"
    with pytest.raises(DataError, match=rf"sha256 'fer y' .*two splits: {two_files}") as refused:
        split_sources(rows_by_source, protocol=INDEPENDENT, fold=0, keep_copies=True)
    assert f"({fer_split})" in str(refused.value)
    assert f"({other_split})" in str(refused.value)


def test_keep_copies_changes_nothing_without_a_publishers_split():
    rows = [
        row(f"{speaker}{number}.wav", f"c:{speaker}", "anger", utterance=f"c:{speaker}{number}.wav")
        for speaker in "abcdef"
        for number in range(3)
    ]
    rows_by_source = {"c/audio": rows}
    without = split_sources(rows_by_source, protocol=INDEPENDENT, fold=1)
    splits = split_sources(rows_by_source, protocol=INDEPENDENT, fold=1, keep_copies=True)
    assert without.clip_ids == splits.clip_ids
    assert without.digest == splits.digest
    rows[0]["sha256"] = rows[-1]["sha256"]
    with pytest.raises(DataError, match="two splits"):
        split_sources(rows_by_source, protocol=INDEPENDENT, fold=0, keep_copies=True)
