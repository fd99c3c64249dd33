"""What a corpus loader finds: clips, and files it could not take."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

VIDEO_SUFFIXES = frozenset(
    {".avi", ".mp4", ".flv", ".mpg", ".mpeg", ".mov", ".mkv", ".webm", ".m4v", ".wmv"}
)
AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg", ".m4a", ".aac", ".opus"})
STILL_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})


@dataclasses.dataclass(frozen=True)
class Clip:
    """One media file's worth of one act of speaking, read in one domain."""

    id: str
    """The file's path below the media folder, with forward slashes: unique within a set."""
    path: Path
    corpus: str
    domain: str
    """`visual` or `audio`."""
    speaker: str
    """`corpus:id`, or empty when nobody knows."""
    emotion: str
    """A canonical emotion."""
    utterance: str
    """One act of speaking: corpus, speaker, emotion, intensity, sentence and take; shared by its audio and its video."""
    sentence: str = ""
    """The text that was spoken; never split on."""
    take: str = ""
    split: str = ""
    """The publisher's own side (`train`, `validation`, `test`), or empty."""


@dataclasses.dataclass(frozen=True)
class Reject:
    """A media file that a loader could not take, with the reason; it becomes a quarantine row."""

    id: str
    domain: str
    reason: str


class Defect(NamedTuple):
    """A known defect of a published corpus that a loader met."""

    kind: str
    """A few words that name the sort of it, such as `odd names`."""
    text: str
    """One line: how many clips, and how they were taken."""
    clips: tuple[str, ...] = ()
    """The ids of the files concerned, sorted."""


@dataclasses.dataclass(frozen=True)
class Found:
    """What a loader found in a media folder, sorted by id."""

    clips: tuple[Clip, ...]
    rejects: tuple[Reject, ...] = ()
    defects: tuple[Defect, ...] = ()
    """Known defects of the published corpus that were met and how they were taken."""


def domains_of(path: Path | PurePosixPath) -> tuple[str, ...]:
    """Return the domains that a file of this name can be read in; none for what is not media.

    >>> domains_of(Path("a.AVI")), domains_of(Path("a.wav")), domains_of(Path("a.txt"))
    (('visual', 'audio'), ('audio',), ())
    """
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return ("visual", "audio")
    if suffix in AUDIO_SUFFIXES:
        return ("audio",)
    return ("visual",) if suffix in STILL_SUFFIXES else ()


def speech_domains_of(path: PurePosixPath) -> tuple[str, ...]:
    """Return `domains_of(path)`, and none for a still: in a corpus of speech a picture is no clip."""
    return () if path.suffix.lower() in STILL_SUFFIXES else domains_of(path)


class Labels(NamedTuple):
    """What a loader reads from one file's name; speaker and utterance still without their `corpus:`."""

    speaker: str
    emotion: str
    utterance: str
    sentence: str = ""
    take: str = ""
    split: str = ""


class NotUnderstood(ValueError):
    """A name or label that a loader cannot take; the message becomes the reason of a Reject."""


def media_files(media: Path) -> list[str]:
    """Return the ids (POSIX paths below `media`) of all files that are not hidden, sorted.

    Links to folders are followed, but a folder is listed once. Raises OSError where a folder cannot be read.
    """

    def stop(error: OSError):
        raise error

    ids, seen = [], {os.path.realpath(media)}
    for folder, folders, names in os.walk(media, followlinks=True, onerror=stop):
        below = PurePosixPath(Path(folder).relative_to(media).as_posix())
        ids += [str(below / name) for name in names if not name.startswith(".")]
        fresh = []
        for name in sorted(folders):
            real = os.path.realpath(os.path.join(folder, name))
            if not name.startswith(".") and real not in seen:
                seen.add(real)
                fresh.append(name)
        folders[:] = fresh
    return sorted(ids)


def clips_of(
    id: str, path: Path, labels: Labels, *, corpus: str, domains: tuple[str, ...]
) -> list[Clip]:
    """Return a clip per domain of one file."""
    speaker = f"{corpus}:{labels.speaker}" if labels.speaker else ""
    labels = labels._replace(speaker=speaker, utterance=f"{corpus}:{labels.utterance}")
    return [Clip(id, path, corpus, domain, **labels._asdict()) for domain in domains]


def take_files(
    media: Path,
    labels_of: Callable[[PurePosixPath], Labels | None],
    *,
    corpus: str,
    domains_of: Callable[[PurePosixPath], tuple[str, ...]] = speech_domains_of,
) -> tuple[list[Clip], list[Reject]]:
    """Return the clips of every media file below `media` and the files that are not understood, sorted by id.

    `labels_of` takes a file's id as a path; it returns None to leave a file out and raises NotUnderstood to reject it.
    """
    clips, rejects = [], []
    for id in media_files(media):
        file = PurePosixPath(id)
        domains = domains_of(file)
        if not domains:
            continue
        try:
            id.encode()
            labels = labels_of(file)
        except UnicodeEncodeError:  # no record could hold such a name
            id = id.encode(errors="backslashreplace").decode()
            rejects += [
                Reject(id, domain, "name is not UTF-8; rename the file") for domain in domains
            ]
        except NotUnderstood as error:
            rejects += [Reject(id, domain, str(error)) for domain in domains]
        else:
            if labels is not None:
                clips += clips_of(id, media / id, labels, corpus=corpus, domains=domains)
    return clips, rejects
