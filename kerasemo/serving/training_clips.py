"""The clips that an exported model was trained on, as hashes that reveal no names."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipelines.core.errors import DataError
from pipelines.core.files import text_sha256

TRAINING_CLIPS = "assets/training_clips.json"
"""The file in the folder of one version."""
KEYS = ("files", "contents", "utterances", "speakers")


@dataclasses.dataclass(frozen=True)
class TrainingClips:
    """The hashes of the clips in the training and the validation split of a network.

    Attributes:
        files: SHA-256 of the media files.
        contents: Hashes of the decoded contents; see `pipelines.building`.
        utterances: SHA-256 of the names of the utterances.
        speakers: SHA-256 of the names of the speakers.
    """

    files: frozenset[str]
    contents: frozenset[str]
    utterances: frozenset[str]
    speakers: frozenset[str]

    def has_clip(self, row: Mapping[str, Any]) -> bool:
        """Return whether the file, the contents or the utterance of a manifest row is known."""
        return (
            row["sha256"] in self.files
            or row.get("content") in self.contents
            or text_sha256(row["utterance"]) in self.utterances
        )

    def has_speaker(self, row: Mapping[str, Any]) -> bool:
        """Return whether the speaker of a manifest row is known; a missing name never is."""
        return bool(row["speaker"]) and text_sha256(row["speaker"]) in self.speakers


def training_clips_document(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the hashes of the clips of manifest rows for JSON, sorted.

    >>> row = {"sha256": "f00d", "content": "beef", "utterance": "a:1:anger:1", "speaker": "a:1"}
    >>> document = training_clips_document([row, row | {"content": "cafe"}])
    >>> [len(hashes) for hashes in document.values()]
    [1, 2, 1, 1]
    """
    rows = list(rows)
    hashes = {
        "files": {row["sha256"] for row in rows},
        "contents": {row["content"] for row in rows if row.get("content")},
        "utterances": {text_sha256(row["utterance"]) for row in rows},
        "speakers": {text_sha256(row["speaker"]) for row in rows if row["speaker"]},
    }
    return {key: sorted(hashes[key]) for key in KEYS}


def parse_training_clips(document: Any, *, place: object) -> TrainingClips:
    """Return the training clips of a document.

    Args:
        document: The value of `training_clips_document`.
        place: The file of the document, for the message of an error.

    Raises:
        DataError: The document is damaged.
    """
    if (
        not isinstance(document, dict)
        or not set(KEYS) <= set(document)
        or not all(_is_list_of_str(document[key]) for key in KEYS)
    ):
        raise DataError(
            f"{place}: expected lists of hashes, {', '.join(KEYS)}; "
            "the file is damaged: export the model again"
        )
    return TrainingClips(**{key: frozenset(document[key]) for key in KEYS})


def read_training_clips(path: Path) -> TrainingClips:
    """Read the training clips of a bundle.

    Raises:
        DataError: The file is missing or damaged.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: missing, so nothing shows which clips the model was trained on; "
            "export it again"
        ) from error
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error}); export the model again") from error
    return parse_training_clips(document, place=path)


def _is_list_of_str(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)
