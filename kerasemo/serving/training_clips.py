"""Which clips a network has seen, as hashes that say nothing else of them: what an exported model carries of its training clips."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipelines.core.errors import InputError

KEYS = ("files", "contents", "utterances", "speakers")


@dataclasses.dataclass(frozen=True)
class Seen:
    """The hashes of the clips that a network was trained or validated on."""

    files: frozenset[str]
    """SHA-256 of media files."""
    contents: frozenset[str]
    """Hashes of what was read of them; see `pipelines.building`."""
    utterances: frozenset[str]
    """SHA-256 of the utterances' names."""
    speakers: frozenset[str]
    """SHA-256 of the speakers' names."""

    def clip(self, row: Mapping[str, Any]) -> bool:
        """Tell whether a manifest's row is of a clip that was seen: the same file, content or utterance, in either domain."""
        content = row.get("content") in self.contents
        return row["sha256"] in self.files or content or digest(row["utterance"]) in self.utterances

    def speaker(self, row: Mapping[str, Any]) -> bool:
        """Tell whether the speaker of a manifest's row was seen; who has no name was not."""
        return bool(row["speaker"]) and digest(row["speaker"]) in self.speakers


def document(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the hashes of the clips of some manifests' rows, for JSON: the values of `Seen`, sorted.

    >>> row = {"sha256": "f00d", "content": "beef", "utterance": "a:1:anger:1", "speaker": "a:1"}
    >>> [len(values) for values in document([row, row | {"content": "cafe"}]).values()]
    [1, 2, 1, 1]
    """
    rows = list(rows)
    found = {
        "files": {row["sha256"] for row in rows},
        "contents": {row["content"] for row in rows if row.get("content")},
        "utterances": {digest(row["utterance"]) for row in rows},
        "speakers": {digest(row["speaker"]) for row in rows if row["speaker"]},
    }
    return {key: sorted(found[key]) for key in KEYS}


def parse(held: Any, *, where: Any) -> Seen:
    """Return what `document` made; InputError, which names `where` it was found, when it is not that."""
    if (
        not isinstance(held, dict)
        or not set(KEYS) <= set(held)
        or not all(_is_list_of_text(held[key]) for key in KEYS)
    ):
        raise InputError(
            f"{where}: expected lists of hashes, {', '.join(KEYS)}; the file is damaged: export the model again"
        )
    return Seen(**{key: frozenset(held[key]) for key in KEYS})


def read(path: Path) -> Seen:
    """Read the file that `document` was written to; InputError when it is missing or damaged."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: missing, so nothing shows which clips the model was trained on; export it again"
        ) from error
    except ValueError as error:
        raise InputError(f"{path}: damaged ({error}); export the model again") from error
    return parse(held, where=path)


def digest(name: str) -> str:
    """Return the SHA-256 of a name, in hexadecimal."""
    return hashlib.sha256(name.encode()).hexdigest()


def _is_list_of_text(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)
