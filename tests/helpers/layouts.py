"""Corpora of empty files for loaders, which never open media, and facts of the clips that a loader found_clips."""

import collections
from pathlib import Path


def lay_files(folder: Path, *ids: str) -> Path:
    """Make empty files in a folder and return the folder."""
    for id in ids:
        (folder / id).parent.mkdir(parents=True, exist_ok=True)
        (folder / id).touch()
    return folder


def count(found_clips, attribute: str) -> dict[str, int]:
    return dict(collections.Counter(getattr(clip, attribute) for clip in found_clips.clips))


def only(found_clips):
    """Return the only clip of a corpus without rejects and defects."""
    assert not found_clips.rejects and not found_clips.defects
    (clip,) = found_clips.clips
    return clip


def reason(found_clips) -> str:
    """Return the only reason of all rejects."""
    (text,) = {reject.reason for reject in found_clips.rejects}
    return text


def texts(found_clips) -> list[str]:
    return [defect.text for defect in found_clips.defects]
