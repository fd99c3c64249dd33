"""The result of a corpus loader: clips, and files that it could not read."""

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
    """One media file of one utterance, read in one domain.

    Attributes:
        id: The path of the file below the media folder, with forward slashes; unique within a set.
        path: The file.
        corpus: The name of the corpus.
        domain: `visual` or `audio`.
        speaker: `corpus:id`, or empty for an unknown speaker.
        emotion: A canonical emotion.
        utterance: The corpus, speaker, emotion, intensity, sentence and take. The audio and the
            video of one utterance have the same value.
        sentence: The spoken text. No split depends on the sentence.
        take: The number of the repetition.
        split: The split of the publisher (`train`, `validation`, `test`), or empty.
    """

    id: str
    path: Path
    corpus: str
    domain: str
    speaker: str
    emotion: str
    utterance: str
    sentence: str = ""
    take: str = ""
    split: str = ""


@dataclasses.dataclass(frozen=True)
class Reject:
    """A media file that a loader could not read. The set quarantines the file.

    Attributes:
        id: The path of the file below the media folder.
        domain: `visual` or `audio`.
        reason: Why the file could not be read.
        unknown_label: The word that no emotion has, if that is the reason.
    """

    id: str
    domain: str
    reason: str
    unknown_label: str = ""


class Defect(NamedTuple):
    """A known defect of a published corpus that a loader met.

    Attributes:
        kind: The kind of the defect in a few words, such as `odd names`.
        text: One line with the number of clips and how they were read.
        clips: The ids of the files, sorted.
    """

    kind: str
    text: str
    clips: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class FoundClips:
    """The clips in a media folder, sorted by id.

    Attributes:
        clips: The clips.
        rejects: The files that could not be read.
        defects: The known defects of the published corpus.
    """

    clips: tuple[Clip, ...]
    rejects: tuple[Reject, ...] = ()
    defects: tuple[Defect, ...] = ()


def domains_of(path: Path | PurePosixPath) -> tuple[str, ...]:
    """Return the domains of a file by its name; none for a file that is no media.

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
    """Return `domains_of(path)`, but none for a still picture, which is no clip of speech."""
    return () if path.suffix.lower() in STILL_SUFFIXES else domains_of(path)


class Labels(NamedTuple):
    """The labels in the name of a file; speaker and utterance do not have `corpus:` yet."""

    speaker: str
    emotion: str
    utterance: str
    sentence: str = ""
    take: str = ""
    split: str = ""


class LabelError(ValueError):
    """A loader cannot read a name or a label; the message becomes the reason of a Reject.

    Attributes:
        unknown_label: The word that no emotion has, if that is the reason.
    """

    def __init__(self, reason: str, *, unknown_label: str = "") -> None:
        super().__init__(reason)
        self.unknown_label = unknown_label


def media_files(media: Path) -> list[str]:
    """Return the ids (POSIX paths below `media`) of all files that are not hidden, sorted.

    Links to folders are followed, but each folder is listed once.

    Raises:
        OSError: A folder cannot be read.
    """

    def stop(error: OSError) -> None:
        raise error

    ids, visited = [], {os.path.realpath(media)}
    for folder, folders, names in os.walk(media, followlinks=True, onerror=stop):
        below = PurePosixPath(Path(folder).relative_to(media).as_posix())
        ids += [str(below / name) for name in names if not name.startswith(".")]
        fresh = []
        for name in sorted(folders):
            real = os.path.realpath(os.path.join(folder, name))
            if not name.startswith(".") and real not in visited:
                visited.add(real)
                fresh.append(name)
        folders[:] = fresh
    return sorted(ids)


def clips_of(
    id: str, path: Path, labels: Labels, *, corpus: str, domains: tuple[str, ...]
) -> list[Clip]:
    """Return the clip of each domain of a file."""
    speaker = f"{corpus}:{labels.speaker}" if labels.speaker else ""
    labels = labels._replace(speaker=speaker, utterance=f"{corpus}:{labels.utterance}")
    return [Clip(id, path, corpus, domain, **labels._asdict()) for domain in domains]


def read_names(
    media: Path,
    labels_of: Callable[[PurePosixPath], Labels | None],
    *,
    corpus: str,
    domains_of: Callable[[PurePosixPath], tuple[str, ...]] = speech_domains_of,
) -> tuple[list[Clip], list[Reject]]:
    """Return the clips of the media files below `media`, and the rejected files, sorted by id.

    Args:
        media: The folder.
        labels_of: Takes the id of a file as a path. It returns None to leave the file out, and
            raises LabelError to reject the file.
        corpus: The name of the corpus.
        domains_of: Returns the domains of a file.
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
        except UnicodeEncodeError:  # a record cannot hold such a name
            readable_id = id.encode(errors="backslashreplace").decode()
            rejects += [
                Reject(readable_id, domain, "name is not UTF-8; rename the file")
                for domain in domains
            ]
        except LabelError as error:
            rejects += [Reject(id, domain, str(error), error.unknown_label) for domain in domains]
        else:
            if labels is not None:
                clips += clips_of(id, media / id, labels, corpus=corpus, domains=domains)
    return clips, rejects
