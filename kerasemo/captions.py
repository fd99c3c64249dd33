"""What `kerasemo.predict` says of a clip -> what `pipelines.overlay` draws into its video."""

from collections.abc import Iterable, Mapping
from typing import Any


def captions(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the boxes of all faces and the bars of the main face, the voice and both, as plain data.

    Args:
        result: What was said of one clip that could be read.
    """
    visual, audio, fused = result["visual"], result["audio"], result["fused"]
    faces: dict[int, dict[str, list]] = {}
    for entry in sorted(visual["timeline"] if visual else (), key=lambda entry: entry["seconds"]):
        own = faces.setdefault(entry["face"], {"seconds": [], "boxes": [], "texts": []})
        own["seconds"].append(entry["seconds"])
        own["boxes"].append(list(entry["box"]))
        own["texts"].append(f"{entry['emotion']} {100 * entry['confidence']:.0f}%")
    bars = []
    if visual:
        main = visual["faces"][0]["face"]
        bars.append(
            _bars(
                "face",
                [
                    (entry["seconds"], entry)
                    for entry in visual["timeline"]
                    if entry["face"] == main
                ],
            )
        )
    if audio:
        bars.append(
            _bars(
                "voice",
                [
                    ((entry["seconds"] + entry["to_seconds"]) / 2, entry)
                    for entry in audio["timeline"]
                ],
            )
        )
    if fused:
        bars.append(_bars("both", [(entry["seconds"], entry) for entry in fused["timeline"]]))
    return {"faces": faces, "bars": [group for group in bars if group["seconds"]]}


def _bars(title: str, entries: Iterable[tuple[float, Mapping[str, Any]]]) -> dict[str, Any]:
    ordered = sorted(entries, key=lambda entry: entry[0])
    labels = list(ordered[0][1]["probabilities"]) if ordered else []
    values = [[entry["probabilities"][label] for label in labels] for _, entry in ordered]
    return {
        "title": title,
        "seconds": [seconds for seconds, _ in ordered],
        "labels": labels,
        "values": values,
    }
