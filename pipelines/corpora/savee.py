"""SAVEE: 4 speakers, 7 emotions, 480 utterances, each as wav and as avi.

Layout: `AudioData/<speaker>/<emotion><NN>.wav` and `AudioVisualClip/<speaker>/<emotion><NN>.avi`,
speaker DC, JE, JK or KL. The speaker is the folder that holds the file, so either half may be
missing and the folders above do not matter. A wav and the avi of the same speaker and name are one
utterance. Source: S. Haq and P. Jackson, "Multimodal Emotion Recognition", 2010, and the page of
the database (registration).
"""

import re
from pathlib import Path, PurePosixPath

from pipelines.corpora.clip import FoundClips, LabelError, Labels, read_names

LAYOUT = (
    "AudioData/<DC|JE|JK|KL>/<emotion><NN>.wav and AudioVisualClip/<...>/<emotion><NN>.avi, "
    "such as DC/sa01.wav"
)
SPEAKERS = ("DC", "JE", "JK", "KL")
LICENCE = "by its owners' registration"
EMOTIONS = {
    "a": "anger",
    "d": "disgust",
    "f": "fear",
    "h": "happiness",
    "n": "neutral",
    "sa": "sadness",
    "su": "surprise",
}
_NAME = re.compile(r"([a-z]{1,2})(\d\d)", re.IGNORECASE)


def labels_of(file: PurePosixPath) -> Labels:
    """Return the labels in the names of a file and its folder.

    The sentences are numbered within an emotion.

    >>> labels = labels_of(PurePosixPath("AudioVisualClip/DC/su07.avi"))
    >>> labels.speaker, labels.emotion, labels.utterance
    ('DC', 'surprise', 'DC:surprise:su07')
    >>> labels.sentence, labels.take
    ('su07', '')
    """
    match = _NAME.fullmatch(file.stem)
    if not match:
        raise LabelError("name is not SAVEE's <emotion><NN>, such as sa01.wav")
    code, number = match[1].lower(), int(match[2])
    if code not in EMOTIONS:
        expected = ", ".join(f"{code} ({emotion})" for code, emotion in EMOTIONS.items())
        raise LabelError(f"unknown emotion code {code!r}; expected {expected}")
    if not 1 <= number <= (last := 30 if code == "n" else 15):
        raise LabelError(f"number {match[2]} is not among SAVEE's 01 to {last} of {EMOTIONS[code]}")
    speaker = file.parent.name.upper()
    if speaker not in SPEAKERS:
        raise LabelError(
            f"folder {file.parent.name!r} names no speaker; expected {', '.join(SPEAKERS)}"
        )
    sentence = f"{code}{number:02d}"
    return Labels(speaker, EMOTIONS[code], f"{speaker}:{EMOTIONS[code]}:{sentence}", sentence)


def find_clips(media: Path, *, name: str) -> FoundClips:
    """Return the clips below `media`."""
    clips, rejects = read_names(media, labels_of, corpus=name)
    return FoundClips(tuple(clips), tuple(rejects))
