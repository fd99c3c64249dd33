"""Corpora of empty files, for loaders, which never open media, and what tests look at in what they find."""

import collections
from pathlib import Path


def lay_files(folder: Path, *ids: str) -> Path:
    """Make empty files in a folder and return the folder."""
    for id in ids:
        (folder / id).parent.mkdir(parents=True, exist_ok=True)
        (folder / id).touch()
    return folder


def count(found, attribute: str) -> dict[str, int]:
    return dict(collections.Counter(getattr(clip, attribute) for clip in found.clips))


def only(found):
    """The one clip of `found`, which has nothing else."""
    assert not found.rejects and not found.defects
    (clip,) = found.clips
    return clip


def reason(found) -> str:
    """The one reason of all rejects."""
    (text,) = {reject.reason for reject in found.rejects}
    return text


def texts(found) -> list[str]:
    return [defect.text for defect in found.defects]
