"""Find the clips of a corpus by the names of its files.

Loaders read file names and CSV manifests. They never open media and never write. May import
`pipelines.core`.
"""

import inspect
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.core.domains import DOMAINS
from pipelines.core.errors import InputError
from pipelines.core.labels import EMOTIONS
from pipelines.core.text import pluralize
from pipelines.corpora import cremad, emodb, enterface, folder, ravdess, savee
from pipelines.corpora.clip import FoundClips, media_files

_MODULES = {
    "enterface": enterface,
    "savee": savee,
    "emodb": emodb,
    "ravdess": ravdess,
    "cremad": cremad,
    "folder": folder,
}
MAX_UNKNOWN_LABELS = 10
"""The most unknown labels that an error names."""
LOADERS = {kind: module.find_clips for kind, module in _MODULES.items()}
"""The function `find_clips(media, *, name, **options)` of each kind of corpus."""


def licence_of(name: str) -> str:
    """Return the licence of a corpus by its name in the sets.

    >>> licence_of("cremad")
    'ODbL 1.0 and DbCL 1.0'
    """
    if name in folder.LICENCES_BY_NAME:
        return folder.LICENCES_BY_NAME[name]
    return _MODULES.get(name, folder).LICENCE


def find_clips(
    kind: str,
    media: Path,
    *,
    name: str | None = None,
    domains: Sequence[str] = DOMAINS,
    **options: Any,
) -> FoundClips:
    """Return the clips of a corpus in some domains, sorted by id.

    Args:
        kind: A key of `LOADERS`.
        media: The folder with the corpus; for `folder` also a `.csv` manifest.
        name: The name of the corpus in clips, speakers and utterances; None: the kind.
        domains: Some of `pipelines.core.domains.DOMAINS`.
        options: Further options of the loader, such as `song=True` of `ravdess`, or
            `labels=LabelMap(...)` of `folder`.

    Raises:
        InputError: An argument is invalid, `media` does not exist, it has no clip, or more than
            half of its files have an unknown label.
        DataError: The manifest of a `folder` corpus is damaged.
    """
    if kind not in LOADERS:
        raise InputError(
            f"corpus must be one of {', '.join(LOADERS)}; received {kind!r}; "
            "for any other use folder"
        )
    name = kind if name is None else name
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise InputError(
            "name must be letters, digits, '_', '.', '-', the first a letter or digit; "
            f"received {name!r}"
        )
    if not domains or not set(domains) <= set(DOMAINS):
        raise InputError(
            f"domains must be some of {', '.join(DOMAINS)}; received {', '.join(domains) or 'none'}"
        )
    if unknown := sorted(set(options) - set(inspect.signature(LOADERS[kind]).parameters)):
        raise InputError(f"corpus {kind} has no option {unknown[0]!r}; leave it out")
    media, layout = Path(media), _MODULES[kind].LAYOUT
    if not media.is_dir() and not (
        kind == "folder" and media.is_file() and media.suffix.lower() == ".csv"
    ):
        received = "it is a file" if media.exists() else "it does not exist"
        raise InputError(
            f"media {media} must be a folder that holds {layout}; {received}; "
            "name the unpacked corpus"
        )

    found_clips = LOADERS[kind](media, name=name, **options)
    clips = sorted(
        (clip for clip in found_clips.clips if clip.domain in domains), key=lambda clip: clip.id
    )
    rejects = sorted(
        (reject for reject in found_clips.rejects if reject.domain in domains),
        key=lambda reject: reject.id,
    )
    _check_labels(media, found_clips)
    if not clips:
        raise InputError(
            f"no {' or '.join(domains)} clip of {kind} in {media}: expected {layout}; "
            f"found {_contents(media, found_clips)}; name the folder that holds this layout"
        )
    if len({(clip.id, clip.domain) for clip in clips}) < len(clips):
        raise RuntimeError(f"the loader of {kind} gave two clips one id")
    return FoundClips(tuple(clips), tuple(rejects), found_clips.defects)


def _check_labels(media: Path, found_clips: FoundClips) -> None:
    """Raise InputError if more than half of the files have an unknown label."""
    word_of = {
        reject.id: reject.unknown_label for reject in found_clips.rejects if reject.unknown_label
    }
    files = {clip.id for clip in found_clips.clips} | {reject.id for reject in found_clips.rejects}
    if 2 * len(word_of) <= len(files):
        return
    counts = Counter(word_of.values()).most_common()
    words = ", ".join(f"{word!r} ({count})" for word, count in counts[:MAX_UNKNOWN_LABELS])
    more = len(counts) - MAX_UNKNOWN_LABELS
    raise InputError(
        f"{media}: {len(word_of)} of {pluralize(len(files), 'file')} have an unknown label: "
        f"{words}{f' and {more} more' if more > 0 else ''}; write the words into a TOML file, "
        f'such as [labels] with the line "{counts[0][0]}" = "{EMOTIONS[0]}", and name the file '
        "with --labels; python -m pipelines.build --list-labels prints the known words"
    )


def _contents(media: Path, found_clips: FoundClips) -> str:
    """Return a short text about the contents of `media`, which has no clip."""
    if found_clips.clips:
        return (
            f"{pluralize(len(found_clips.clips), f'{found_clips.clips[0].domain} clip')}, "
            "but none in the requested domains"
        )
    if found_clips.rejects:
        ids, first = {reject.id for reject in found_clips.rejects}, found_clips.rejects[0]
        return (
            f"{pluralize(len(ids), 'file')} that cannot be used, "
            f"such as {first.id} ({first.reason})"
        )
    if found_clips.defects:
        return "; ".join(defect.text for defect in found_clips.defects)
    if media.is_file():
        return "no row below the header"
    files = media_files(media)
    return (
        f"{pluralize(len(files), 'file')}, none of this layout, such as {files[0]}"
        if files
        else "no file"
    )
