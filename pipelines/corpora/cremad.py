"""CREMA-D: crowd-sourced clips of 91 actors, 12 sentences, 6 emotions, 7 442 clips.

Layout: `VideoFlash/AAAA_SSS_EEE_LL.flv` and `AudioWAV/AAAA_SSS_EEE_LL.wav`, such as
`VideoFlash/1001_DFA_ANG_XX.flv`: actor, sentence, emotion (ANG DIS FEA HAP NEU SAD), intensity (LO,
MD, HI, XX unspecified). A flv and the wav of the same name are one utterance. `AudioMP3` holds the
sound of `AudioWAV` once more and is left out where `AudioWAV` is there. Source: H. Cao et al.,
"CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset", IEEE Transactions on Affective
Computing 5(4), 2014, and the page of the database.
"""

import re
from pathlib import Path, PurePosixPath

from pipelines.core.text import pluralize
from pipelines.corpora.clip import Defect, FoundClips, LabelError, Labels, read_names

LAYOUT = (
    "VideoFlash/AAAA_SSS_EEE_LL.flv and AudioWAV/AAAA_SSS_EEE_LL.wav, "
    "such as VideoFlash/1001_DFA_ANG_XX.flv"
)
LICENCE = "ODbL 1.0 and DbCL 1.0"
EMOTIONS = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happiness",
    "NEU": "neutral",
    "SAD": "sadness",
}
_NAME = re.compile(
    r"(\d{4})_([A-Z]{3})_([A-Z]{3})_(LO|MD|HI|XX?)"
)  # a published name ends in a single X


def labels_of(file: PurePosixPath) -> Labels:
    """Return the labels in the name of a file.

    >>> labels = labels_of(PurePosixPath("VideoFlash/1001_IEO_SAD_HI.flv"))
    >>> labels.speaker, labels.emotion, labels.utterance
    ('1001', 'sadness', '1001:sadness:HI:IEO')
    >>> labels.sentence, labels.take
    ('IEO', '')
    """
    match = _NAME.fullmatch(file.stem)
    if not match:
        raise LabelError(
            "name is not CREMA-D's AAAA_SSS_EEE_LL, such as 1001_DFA_ANG_XX.flv (LL: LO, MD, HI, "
            "XX)"
        )
    actor, sentence, code, level = match.groups()
    if code not in EMOTIONS:
        expected = ", ".join(f"{code} ({emotion})" for code, emotion in EMOTIONS.items())
        raise LabelError(f"unknown emotion code {code!r}; expected {expected}")
    level = "XX" if level == "X" else level
    return Labels(actor, EMOTIONS[code], f"{actor}:{EMOTIONS[code]}:{level}:{sentence}", sentence)


def find_clips(media: Path, *, name: str) -> FoundClips:
    """Return the clips below `media`."""
    clips, rejects = read_names(media, labels_of, corpus=name)
    defects = []
    second = {clip.id for clip in clips if _is_below("audiomp3", clip.id)}
    if second and any(_is_below("audiowav", clip.id) for clip in clips):
        clips = [clip for clip in clips if clip.id not in second]
        rejects = [reject for reject in rejects if not _is_below("audiomp3", reject.id)]
        files = pluralize(len(second), "file")
        text = f"{files} of AudioMP3 left out, as AudioWAV holds the same sound"
        defects.append(Defect("sound held twice", text, tuple(sorted(second))))
    if single := sorted({clip.id for clip in clips if clip.id.rpartition(".")[0].endswith("_X")}):
        files = pluralize(len(single), "file")
        text = f"{files} with a name that ends in a single X, taken as intensity XX"
        defects.append(Defect("odd names", text, tuple(single)))
    return FoundClips(tuple(clips), tuple(rejects), tuple(defects))


def _is_below(folder: str, id: str) -> bool:
    return folder in id.lower().split("/")[:-1]
