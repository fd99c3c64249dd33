"""Whose clips a model card says that it was trained and tested on."""

import json

from kerasemo.datasets.catalog import RecordCatalog
from kerasemo.exporting.model_card import model_card
from kerasemo.exporting.provenance import speakers_by_split
from kerasemo.runs.lineage import find_lineage


def test_card_names_only_few_speakers_of_published_corpora(exported, monkeypatch):
    """For a user's own corpora, and for splits that share speakers, it gives the number."""
    lineage = find_lineage(exported.parent / "run", "joint")
    catalog = RecordCatalog(exported.parent / "records")
    document = json.loads((exported / "1" / "assets" / "bundle.json").read_text())
    stated = document["training"]["speakers"]
    assert stated == speakers_by_split(lineage, catalog)
    assert stated.keys() == {"enterface/visual", "savee/audio"}
    splits = lineage.split(catalog)
    for source, of_splits in stated.items():
        speaker_of = {row["id"]: row["speaker"] for row in catalog.rows(source)}
        speakers = {
            split: {speaker_of[clip_id] for clip_id in ids}
            for split, ids in splits.clip_ids[source].items()
        }
        assert of_splits["test"] == sorted(speakers["test"])
        assert speakers["test"].isdisjoint(speakers["train"] | speakers["validation"])
        sentence = f"; test {len(speakers['test'])} ({', '.join(of_splits['test'])})."
        assert sentence in model_card(document)
        for split, names in speakers.items():
            stated_count = of_splits[split]
            if not isinstance(stated_count, int):
                stated_count = len(stated_count)
            assert stated_count == len(names)
    # The validation clips of savee have the speakers of its train clips.
    assert isinstance(stated["savee/audio"]["train"], int)

    published_rows = catalog.rows
    monkeypatch.setattr(
        catalog,
        "rows",
        lambda source: [row | {"kind": "folder"} for row in published_rows(source)],
    )  # as if built with --corpus folder --name savee
    counts = speakers_by_split(lineage, catalog)
    assert {count for of_splits in counts.values() for count in of_splits.values()} <= {1, 2, 3, 4}
    card = model_card(document | {"training": document["training"] | {"speakers": counts}})
    assert "(savee:" not in card
    assert "Speakers of savee/audio: train " in card
