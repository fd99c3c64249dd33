"""Tests of the speakers that a model card states for each split."""

import json
from pathlib import Path

import pytest

from kerasemo.datasets.catalog import RecordCatalog
from kerasemo.exporting.model_card import model_card
from kerasemo.exporting.provenance import speakers_by_split
from kerasemo.runs.lineage import Lineage, find_lineage


@pytest.fixture
def lineage(exported) -> Lineage:
    return find_lineage(exported.parent / "run", "joint")


@pytest.fixture
def catalog(exported) -> RecordCatalog:
    return RecordCatalog(exported.parent / "records")


def read_document(exported: Path) -> dict:
    return json.loads((exported / "1" / "assets" / "bundle.json").read_text())


def test_card_names_the_few_test_speakers_of_published_corpora(exported, lineage, catalog):
    """The card gives the number of speakers for splits that share speakers."""
    document = read_document(exported)
    stated = document["training"]["speakers"]
    assert stated == speakers_by_split(lineage, catalog)
    assert stated.keys() == {"enterface/visual", "savee/audio"}
    clip_ids = lineage.split(catalog).clip_ids
    for source, by_split in stated.items():
        speaker_of = {row["id"]: row["speaker"] for row in catalog.rows(source)}
        speakers = {
            split: {speaker_of[clip_id] for clip_id in ids}
            for split, ids in clip_ids[source].items()
        }
        assert by_split["test"] == sorted(speakers["test"])
        assert speakers["test"].isdisjoint(speakers["train"] | speakers["validation"])
        names = ", ".join(by_split["test"])
        assert f"test {len(speakers['test'])} ({names})" in model_card(document)
        for split, of_split in speakers.items():
            is_count = isinstance(by_split[split], int)
            assert (by_split[split] if is_count else len(by_split[split])) == len(of_split)
    # The validation clips of savee have the speakers of its training clips.
    assert isinstance(stated["savee/audio"]["train"], int)


def test_card_names_no_speaker_of_a_users_corpus(exported, lineage, catalog, monkeypatch):
    """The corpora get the kind that `--corpus folder --name savee` gives."""
    rows_of = catalog.rows
    monkeypatch.setattr(
        catalog, "rows", lambda source: [row | {"kind": "folder"} for row in rows_of(source)]
    )
    counts = speakers_by_split(lineage, catalog)
    assert all(
        isinstance(count, int) and count > 0
        for by_split in counts.values()
        for count in by_split.values()
    )
    document = read_document(exported)
    card = model_card(document | {"training": document["training"] | {"speakers": counts}})
    assert "(savee:" not in card
    assert f"train {counts['savee/audio']['train']}" in card
