"""Whose clips a model card says that it was trained and tested on."""

import json

from kerasemo.exporting import model_card, provenance
from kerasemo.runs import lineage


def test_the_card_names_few_speakers_of_published_corpora_alone(exported, monkeypatch):
    """Of one's own corpora, and of sides that share speakers, it says how many."""
    of, records, given = (
        lineage.find(exported.parent / "run", "joint"),
        exported.parent / "records",
        provenance._manifest,
    )
    document = json.loads((exported / "1" / "assets" / "bundle.json").read_text())
    said = document["training"]["speakers"]
    assert said == provenance.speakers(of, records) and said.keys() == {
        "enterface/visual",
        "savee/audio",
    }
    sides = of.sides(records, asked=of.trained_on, there=lineage.sources_in(records))
    for source, here in said.items():
        manifest = json.loads((records / source / "manifest.json").read_text())
        who = {clip["id"]: clip["speaker"] for clip in manifest["clips"]}
        on = {side: {who[id] for id in ids} for side, ids in sides.ids[source].items()}
        assert here["test"] == sorted(on["test"]) and {
            who for side in ("train", "validation") for who in on[side]
        }.isdisjoint(on["test"])
        assert f"; test {len(on['test'])} ({', '.join(here['test'])})." in model_card.model_card(
            document
        )
        assert [here[side] if isinstance(here[side], int) else len(here[side]) for side in on] == [
            len(names) for names in on.values()
        ]
    assert isinstance(said["savee/audio"]["train"], int)  # who speak in the validation clips, too
    monkeypatch.setattr(
        provenance, "_manifest", lambda *place: given(*place) | {"kind": "folder"}
    )  # with --name savee
    assert {n for own in provenance.speakers(of, records).values() for n in own.values()} <= {
        1,
        2,
        3,
        4,
    }
    counted = document | {
        "training": document["training"] | {"speakers": provenance.speakers(of, records)}
    }
    assert "(savee:" not in model_card.model_card(
        counted
    ) and "Speakers of savee/audio: train " in model_card.model_card(counted)
