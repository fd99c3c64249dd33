"""Any collection of labelled media: class folders, or a CSV manifest.

Layout: `CLASS/...` or `train|validation|test/CLASS/...`. CLASS is an emotion, a synonym
(`pipelines.core.labels`) or a word of the user's own label map. Folders may be nested below a
class. The speakers are unknown, and each path without its suffix is one utterance.

Or a manifest: a `.csv` file, or a folder with a `manifest.csv`. The header names the columns `path`
(relative to the folder of the manifest) and `emotion` (or `label`), and may name `speaker` (or
`subject`), `utterance`, `domain`, `split`, `sentence` and `take`. Commas, semicolons or tabs are
between the fields; the encoding is UTF-8.

Source: the class folders are those of FER-2013 (I.
Goodfellow et al., "Challenges in Representation Learning", ICONIP 2013) as it is passed on.
"""

import csv
import functools
import io
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pipelines.core.domains import DOMAINS
from pipelines.core.errors import DataError
from pipelines.core.labels import EMOTIONS, PUBLISHED_WORDS, LabelMap
from pipelines.core.text import pluralize
from pipelines.corpora.clip import (
    Clip,
    FoundClips,
    LabelError,
    Labels,
    Reject,
    clips_of,
    domains_of,
    read_names,
)

LAYOUT = (
    "CLASS/..., train|validation|test/CLASS/..., such as train/happy/1.jpg, "
    "or a manifest.csv (path, emotion, ...)"
)
LICENCE = "ask who gave it to you"
LICENCES_BY_NAME = {
    "fer2013": (
        "DbCL 1.0 as published for the competition, its images gathered from the web for research"
    )
}
"""The licences of published collections in class folders, by the name that a build gives them."""
SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
    "testing": "test",
}
COLUMNS = ("path", "emotion", "speaker", "utterance", "domain", "split", "sentence", "take")
COLUMN_SYNONYMS = {"label": "emotion", "subject": "speaker"}
"""Further names of columns of a manifest."""


def labels_of(file: PurePosixPath, *, label_map: LabelMap = PUBLISHED_WORDS) -> Labels:
    """Return the labels in the names of a file's folders.

    Args:
        file: The path of the file below the media folder.
        label_map: The emotions of the user's own words.

    >>> labels = labels_of(PurePosixPath("val/Happy/7.jpg"))
    >>> labels.speaker, labels.emotion, labels.utterance
    ('', 'happiness', 'val/Happy/7')
    >>> labels.split, labels.take
    ('validation', '')
    """
    folders = file.parts[:-1]
    split = SPLITS.get(folders[0].lower(), "") if folders else ""
    classes = folders[1:] if split else folders
    if not classes:
        raise LabelError("lies in no class folder; expected CLASS/ or train|validation|test/CLASS/")
    return Labels("", _emotion(classes[0], label_map), str(file.with_suffix("")), split=split)


def find_clips(media: Path, *, name: str, labels: LabelMap = PUBLISHED_WORDS) -> FoundClips:
    """Return the clips below `media`, a folder or a manifest.

    Args:
        media: A folder, or a CSV manifest.
        name: The name of the corpus.
        labels: The emotions of the user's own words.

    Raises:
        DataError: The manifest is damaged, or some clips have a split and others have none.
    """
    manifest = media if media.is_file() else media / "manifest.csv"
    if manifest.is_file():
        clips, rejects = _read_manifest(manifest, labels, corpus=name)
    else:
        clips, rejects = read_names(
            media,
            functools.partial(labels_of, label_map=labels),
            corpus=name,
            domains_of=domains_of,
        )
    without = [clip.id for clip in clips if not clip.split]
    if 0 < len(without) < len(clips):
        raise DataError(
            f"{media}: all clips must have a split, or none; {len(without)} of "
            f"{pluralize(len(clips), 'clip')} have none, such as {without[0]}; "
            "give every clip a split (train, validation, test), or remove the splits"
        )
    return FoundClips(tuple(clips), tuple(rejects))


def _emotion(word: str, label_map: LabelMap) -> str:
    emotion = label_map.emotion_of(word)
    if emotion is None:
        raise LabelError(
            f"unknown emotion {word!r}; expected {', '.join(EMOTIONS)} or a synonym",
            unknown_label=word,
        )
    return emotion


def _read_manifest(
    manifest: Path, label_map: LabelMap, *, corpus: str
) -> tuple[list[Clip], list[Reject]]:
    clips: list[Clip] = []
    rejects: list[Reject] = []
    lines: dict[tuple[str, str], int] = {}
    for line, row in _rows(manifest):
        id = row["path"] or f"{manifest.name}:{line}"
        domains: tuple[str, ...] = DOMAINS
        try:
            if not row["path"]:
                raise LabelError("has no path")
            if row["surplus"]:
                raise LabelError(f"has more fields than the header, such as {row['surplus']!r}")
            domains = domains_of(PurePosixPath(id)) or DOMAINS
            id = _id_below(manifest.parent, row["path"])
            domains = _domains(id, row["domain"])
            labels = _labels(id, row, label_map)
            if not (path := manifest.parent / id).is_file():
                raise LabelError(f"file is missing: {path}")
            if first := next(
                (lines[id, domain] for domain in domains if (id, domain) in lines), None
            ):
                raise LabelError(f"path is listed already, in line {first}")
        except LabelError as error:
            reason = f"line {line} of {manifest.name}: {error}"
            rejects += [Reject(id, domain, reason, error.unknown_label) for domain in domains]
        else:
            lines |= {(id, domain): line for domain in domains}
            clips += clips_of(id, path, labels, corpus=corpus, domains=domains)
    return clips, rejects


def _rows(manifest: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line number and fields of each row that is not blank.

    `surplus` is what the header has no column for.
    """
    try:
        text = manifest.read_text(encoding="utf-8-sig")
        delimiter = max(",;\t", key=text.partition("\n")[0].count)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        names = [column.strip().lower() for column in next(reader, [])]
        columns = [COLUMN_SYNONYMS.get(name, name) for name in names]
        _check_columns(columns, manifest)
        for line in reader:
            fields = [field.strip() for field in line]
            if any(fields):
                surplus = "".join(fields[len(columns) :])
                row = dict(zip(columns, fields, strict=False))
                yield reader.line_num, dict.fromkeys(COLUMNS, "") | row | {"surplus": surplus}
    except UnicodeDecodeError as error:
        raise DataError(
            f"{manifest} must be UTF-8, but byte {error.start} is not; save the file as UTF-8"
        ) from None
    except csv.Error as error:
        raise DataError(
            f"{manifest} is not valid CSV near line {reader.line_num}: {error}; correct that line"
        ) from None


def _check_columns(columns: list[str], manifest: Path) -> None:
    unknown = [column for column in columns if column not in COLUMNS]
    missing = [column for column in ("path", "emotion") if column not in columns]
    if unknown or missing or len(set(columns)) < len(columns):
        wrong = [f"unknown column {name!r}" for name in unknown] + [
            f"no column {name!r}" for name in missing
        ]
        raise DataError(
            f"the first line of {manifest} must name the columns path and emotion, and may name "
            f"{', '.join(COLUMNS[2:])}; it has {', '.join(wrong) or 'a column twice'}; "
            "correct that line"
        )


def _id_below(folder: Path, path: str) -> str:
    for base in (os.path.abspath(folder), os.path.realpath(folder)):
        below = Path(os.path.relpath(os.path.join(base, path), base))
        if below.parts and below.parts[0] != "..":
            return below.as_posix()
    raise LabelError(f"path is outside the manifest's folder {folder}; move the file there")


def _domains(id: str, domain: str) -> tuple[str, ...]:
    readable = domains_of(PurePosixPath(id))
    if not readable:
        raise LabelError("is not media by its suffix; expected video, audio or a still")
    if domain and domain.lower() not in readable:
        raise LabelError(f"bad domain {domain!r}; expected {' or '.join(readable)} for this file")
    return (domain.lower(),) if domain else readable


def _labels(id: str, row: dict[str, str], label_map: LabelMap) -> Labels:
    split = SPLITS.get(row["split"].lower(), "")
    if row["split"] and not split:
        raise LabelError(f"bad split {row['split']!r}; expected train, validation or test")
    utterance = row["utterance"] or str(PurePosixPath(id).with_suffix(""))
    emotion = _emotion(row["emotion"], label_map)
    return Labels(row["speaker"], emotion, utterance, row["sentence"], row["take"], split)
