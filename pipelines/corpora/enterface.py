"""eNTERFACE'05: 44 subjects, 6 emotions, 5 sentences each, sound and picture in one avi.

Layout: `subject N/<emotion>/sentence K/sN_<em>_K.avi` below any folder, such as `subject 1/anger/
sentence 1/s1_an_1.avi`. The labels come from the folders. The name is only compared with them,
because the published copy has these defects:

- The folder `subject 11` has 30 clips with names `s12_*`, and no folder `subject 12` exists.
- Files of `subject 6` are not cut into sentences: `subject 6/<emotion>/*.avi`. They have an empty
  sentence and the take `unsegmented`.
- Some names are odd, such as `s_3_su_4.avi`, and `s16_su_3avi` without the dot of its suffix.

Each defect that is met is in `FoundClips.defects`. Every emotion has its own five texts, so
`sentence` is the code of the emotion and the number.

Source: O. Martin et al., "The eNTERFACE'05 Audio-Visual Emotion Database", ICDE Workshops 2006
(registration).
"""

import collections
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from pipelines.core.domains import DOMAINS
from pipelines.core.labels import canonical_emotion
from pipelines.core.text import pluralize
from pipelines.corpora.clip import (
    Defect,
    FoundClips,
    LabelError,
    Labels,
    read_names,
    speech_domains_of,
)

LAYOUT = (
    "subject N/<emotion>/sentence K/sN_<em>_K.avi, such as subject 1/anger/sentence 1/s1_an_1.avi"
)
LICENCE = "by its owners' registration"
EMOTIONS = {
    "an": "anger",
    "di": "disgust",
    "fe": "fear",
    "ha": "happiness",
    "sa": "sadness",
    "su": "surprise",
}
_CODES = {emotion: code for code, emotion in EMOTIONS.items()}
_FOLDERS = re.compile(
    r"(?:.*/)?subject[ _]*0*(\d+)/([^/]+)/(?:sentence[ _]*0*(\d+)/)?[^/]+", re.IGNORECASE
)
_NAME = re.compile(r"s\d+_[a-z]{2}_\d+\.[a-z0-9]+", re.IGNORECASE)
_ODD_NAME = re.compile(r"s_?0*(\d+)_([a-z]{2})_?0*(\d*)", re.IGNORECASE)


def labels_of(file: PurePosixPath) -> Labels:
    """Return the labels in the names of a file's folders.

    >>> labels_of(PurePosixPath("subject 11/anger/sentence 2/s12_an_2.avi"))
    Labels(speaker='11', emotion='anger', utterance='11:anger:2', sentence='an2', take='', split='')
    """
    match = _FOLDERS.fullmatch(str(file))
    if not match:
        raise LabelError("its folders are not eNTERFACE's subject N/<emotion>/sentence K/")
    subject, folder, number = match.groups()
    emotion = canonical_emotion(folder)
    if emotion not in _CODES:
        raise LabelError(f"unknown emotion folder {folder!r}; expected {', '.join(_CODES)}")
    if number is None:
        return Labels(subject, emotion, f"{subject}:{emotion}:unsegmented", take="unsegmented")
    return Labels(subject, emotion, f"{subject}:{emotion}:{number}", f"{_CODES[emotion]}{number}")


def find_clips(media: Path, *, name: str) -> FoundClips:
    """Return the clips below `media`."""
    clips, rejects = read_names(media, labels_of, corpus=name, domains_of=_domains_of)
    return FoundClips(
        tuple(clips), tuple(rejects), tuple(_defects(dict.fromkeys(clip.id for clip in clips)))
    )


def _domains_of(file: PurePosixPath) -> tuple[str, ...]:
    in_sentence = file.parent.name.lower().startswith("sentence")
    if in_sentence and not file.suffix and file.name.lower().endswith("avi"):
        return DOMAINS  # the name of this avi lacks the dot
    return speech_domains_of(file)


def _defects(ids: Iterable[str]) -> list[Defect]:
    subjects, renamed = set(), collections.defaultdict(list)
    unsegmented, odd, emotions, sentences = [], [], [], []
    for id in ids:
        file = PurePosixPath(id)
        labels = labels_of(file)
        subjects.add(int(labels.speaker))
        if labels.take:
            unsegmented.append(id)
        elif not _NAME.fullmatch(file.name):
            odd.append(id)
        match = _ODD_NAME.match(file.name)
        if not match:
            continue
        subject, code, number = match.groups()
        if subject != labels.speaker:
            renamed[int(labels.speaker), int(subject)].append(id)
        if EMOTIONS.get(code.lower()) != labels.emotion:
            emotions.append(id)
        if not labels.take and number and labels.sentence != f"{_CODES[labels.emotion]}{number}":
            sentences.append(id)
    defects = [
        Defect(
            "names of another subject",
            f"{pluralize(len(files), 'file')} of folder subject {folder}, named s{name_subject}_*, "
            f"taken as subject {folder}",
            tuple(files),
        )
        for (folder, name_subject), files in sorted(renamed.items())
    ]
    if {11, 13} <= subjects and 12 not in subjects:
        defects.append(
            Defect("missing subject", "folder subject 12 is missing, as in the published copy")
        )
    for kind, files, description in (
        (
            "unsegmented",
            unsegmented,
            "not cut into sentences, taken whole, with take `unsegmented`",
        ),
        ("odd names", odd, "with an odd name, taken as the folders say"),
        (
            "names of another emotion",
            emotions,
            "named after another emotion than the folder, taken as the folder says",
        ),
        (
            "names of another sentence",
            sentences,
            "named after another sentence than the folder, taken as the folder says",
        ),
    ):
        if files:
            defects.append(
                Defect(kind, f"{pluralize(len(files), 'file')} {description}", tuple(files))
            )
    return defects
