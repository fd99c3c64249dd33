"""What an export says of where a model comes from: stages, corpora, scores, and by what its training clips are known again."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kerasemo.datasets import splits
from kerasemo.datasets.sources import manifest_hash, set_folder
from kerasemo.runs import lineage, run_folder
from kerasemo.serving import training_clips as training_clips_module
from pipelines.core import files
from pipelines.core.errors import InputError
from pipelines.records import reader

SAID = (
    "clips",
    "ua",
    "wa",
    "macro_f1",
    "chance",
    "emotions",
    "confusion",
    "pair_auc",
    "deduplicated",
)
"""What is said of each test score."""

FEW = 4
"""So many speakers of a side are named."""


def records_folder(of: lineage.Lineage, given: Path | None) -> Path:
    """Return the records that a lineage was trained on.

    Args:
        of: The stages.
        given: What the user names; None: where they were when the stage was trained.

    Raises:
        InputError: They are not there, or are not those.
    """
    stage = of.folders[-1] / "stage.json"
    recorded = (files.read_json(stage) or {}).get("records_folder")
    if given is None and recorded is None:
        raise InputError(
            f"{stage}: does not say where the records were; name them with --records DIR"
        )
    folder = given or Path(recorded)
    if not folder.is_dir():
        raise InputError(
            f"{folder}: the records that the stage was trained on are not there; name them with --records DIR"
        )
    for finished in of.stages:
        for source, digest in finished["key"]["records"].items():
            if manifest_hash(set_folder(folder, source)) != digest:
                where = f"{folder / source}: not the records that stage {finished['stage']!r} was trained on"
                raise InputError(f"{where}; name those with --records DIR, or train again")
    return folder


def training_clips(of: lineage.Lineage, folder: Path) -> dict[str, list[str]]:
    """Return the hashes of each clip of the train and validation sides of all stages."""
    sides = _sides(of, folder)
    rows: list[Mapping[str, Any]] = []
    for source in of.trained_on:
        ids = {id for side in ("train", "validation") for id in sides.ids[source][side]}
        rows += [row for row in _manifest(folder, source)["clips"] if row["id"] in ids]
    return training_clips_module.hash_training_clips(rows)


def is_synthetic(of: lineage.Lineage, folder: Path) -> bool:
    """Tell whether a corpus of a lineage was synthesised by `pipelines.sample`."""
    return any(_manifest(folder, source).get("synthetic", False) for source in of.trained_on)


def _sides(of: lineage.Lineage, folder: Path) -> splits.Sides:
    return of.sides(folder, asked=of.trained_on, there=lineage.sources_in(folder))


def _manifest(folder: Path, source: str) -> dict[str, Any]:
    return reader.read_manifest(set_folder(folder, source))


def speakers(of: lineage.Lineage, folder: Path) -> dict[str, dict[str, list[str] | int]]:
    """Return of each source whose speakers are known those of each side of the last stage: how many, or, where few of a published corpus
    are on a side that they share with no other, their names (`emodb:03`)."""
    sides = _sides(of, folder)
    found = {}
    for source in of.trained_on:
        manifest, corpus = _manifest(folder, source), source.partition("/")[0]
        who = {row["id"]: row["speaker"] for row in manifest["clips"]}
        on = {side: {who[id] for id in ids} for side, ids in sides.ids[source].items()}
        sides_of = Counter(name for names in on.values() for name in names)
        if "" in sides_of:
            continue
        public = manifest.get("kind") == corpus != "folder"  # not a folder that is named like one
        found[source] = {
            side: sorted(names)
            if public and len(names) <= FEW and all(sides_of[name] == 1 for name in names)
            else len(names)
            for side, names in on.items()
        }
    return found


def training(of: lineage.Lineage, folder: Path) -> dict[str, Any]:
    """Return what a bundle says of its training: the network, the speakers, and each stage with its settings, sides and test scores."""
    result = of.result
    return {
        "experiment": result.get("experiment", ""),
        "network": result["key"]["network"],
        "stage": result["stage"],
        "kind": result["kind"],
        "protocol": result["protocol"],
        "fold": result["fold"],
        "seed": result["key"]["seed"],
        "trained_on": of.trained_on,
        "speakers": speakers(of, folder),
        "stages": [_stage(stage) for stage in of.stages],
        "digest": run_folder.digest(result["key"]),
    }


def _stage(result: Mapping[str, Any]) -> dict[str, Any]:
    scores = {
        source: {key: score[key] for key in SAID if key in score}
        for source, score in result["sources"].items()
    }
    said = {
        key: result[key]
        for key in ("stage", "kind", "trained_on", "epochs", "best_epoch", "scored", "split")
    }
    return said | {"settings": result["key"]["stage"], "scores": scores}


def corpora(sources: Sequence[str]) -> list[str]:
    """Return the corpora of some sources, sorted."""
    return sorted({source.partition("/")[0] for source in sources})


def dump(path: Path, document: Any) -> None:
    """Write a JSON document in one line a hash: what is long is not to be read."""
    path.write_text(
        json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8"
    )
