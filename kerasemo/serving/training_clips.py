"""The training clips of an exported model, as hashes that reveal nothing else about them."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipelines.core.errors import DataError
from pipelines.core.files import text_sha256

TRAINING_CLIPS = "assets/training_clips.json"
"""The file in the folder of a version."""
KEYS = ("files", "contents", "utterances", "speakers")


@dataclasses.dataclass(frozen=True)
class TrainingClips:
    """The hashes of the clips that a network was trained or validated on."""

    files: frozenset[str]
    """SHA-256 of media files."""
    contents: frozenset[str]
    """Hashes of the decoded content; see `pipelines.building`."""
    utterances: frozenset[str]
    """SHA-256 of the utterances' names."""
    speakers: frozenset[str]
    """SHA-256 of the speakers' names."""

    def has_clip(self, row: Mapping[str, Any]) -> bool:
        """Return whether the clip of a manifest's row is a training clip.

        A clip with the same file, content or utterance is the same clip. The utterance is the same
        in both domains.
        """
        return (
            row["sha256"] in self.files
            or row.get("content") in self.contents
            or text_sha256(row["utterance"]) in self.utterances
        )

    def has_speaker(self, row: Mapping[str, Any]) -> bool:
        """Return whether the speaker of a manifest's row is a training speaker.

        A speaker without a name is none.
        """
        return bool(row["speaker"]) and text_sha256(row["speaker"]) in self.speakers


def hash_training_clips(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the JSON document of `TrainingClips` for manifests' rows: sorted hashes.

    >>> row = {"sha256": "f00d", "content": "beef", "utterance": "a:1:anger:1", "speaker": "a:1"}
    >>> document = hash_training_clips([row, row | {"content": "cafe"}])
    >>> {key: len(hashes) for key, hashes in document.items()}
    {'files': 1, 'contents': 2, 'utterances': 1, 'speakers': 1}
    """
    rows = list(rows)
    hashes = {
        "files": {row["sha256"] for row in rows},
        "contents": {row["content"] for row in rows if row.get("content")},
        "utterances": {text_sha256(row["utterance"]) for row in rows},
        "speakers": {text_sha256(row["speaker"]) for row in rows if row["speaker"]},
    }
    return {key: sorted(hashes[key]) for key in KEYS}


def parse_training_clips(document: Any, *, source: Any) -> TrainingClips:
    """Return the training clips of a document that `hash_training_clips` made.

    Args:
        document: The parsed JSON.
        source: Where it comes from, for the message.

    Raises:
        DataError: The document has another form.
    """
    is_complete = isinstance(document, dict) and set(KEYS) <= set(document)
    if not is_complete or not all(_is_text_list(document[key]) for key in KEYS):
        raise DataError(
            f"{source}: expected lists of hashes, {', '.join(KEYS)}; the file is damaged: "
            "export the model again"
        )
    return TrainingClips(**{key: frozenset(document[key]) for key in KEYS})


def read_training_clips(path: Path) -> TrainingClips:
    """Return the training clips in a file.

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
    return parse_training_clips(document, source=path)


def _is_text_list(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)
