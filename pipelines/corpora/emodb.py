"""EMO-DB, the Berlin database: 10 speakers, 10 sentences, 7 emotions, audio only.

Layout: `wav/<speaker><text><emotion><version>.wav`, such as `wav/03a01Fa.wav`; the folder's name
does not matter. The letter is the first of the German word: W Wut, L Langeweile, E Ekel, A Angst, F
Freude, N neutral, T Trauer. Source: F. Burkhardt et al., "A Database of German Emotional Speech",
Interspeech 2005, and the page of the database.
"""

import re
from pathlib import Path, PurePosixPath

from pipelines.corpora.clip import FoundClips, LabelError, Labels, read_names

LAYOUT = "wav/<speaker><text><emotion><version>.wav, such as wav/03a01Fa.wav"
LICENCE = "CC0-1.0 (audEERING's data card)"
EMOTIONS = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happiness",
    "N": "neutral",
    "T": "sadness",
}
_NAME = re.compile(r"(\d\d)([ab](?:0[1-9]|10))([A-Z])([a-z])")


def labels_of(file: PurePosixPath) -> Labels:
    """Return the labels in the name of a file.

    >>> labels = labels_of(PurePosixPath("wav/03a01Wc.wav"))
    >>> labels.speaker, labels.emotion, labels.utterance
    ('03', 'anger', '03:anger:a01:c')
    >>> labels.sentence, labels.take
    ('a01', 'c')
    """
    match = _NAME.fullmatch(file.stem)
    if not match:
        raise LabelError(
            "name is not EMO-DB's <speaker><text><emotion><version>.wav, such as 03a01Fa.wav"
        )
    speaker, sentence, letter, take = match.groups()
    if letter not in EMOTIONS:
        expected = ", ".join(f"{letter} ({emotion})" for letter, emotion in EMOTIONS.items())
        raise LabelError(f"unknown emotion letter {letter!r}; expected {expected}")
    emotion = EMOTIONS[letter]
    return Labels(speaker, emotion, f"{speaker}:{emotion}:{sentence}:{take}", sentence, take)


def find_clips(media: Path, *, name: str) -> FoundClips:
    """Return the clips below `media`."""
    clips, rejects = read_names(media, labels_of, corpus=name)
    return FoundClips(tuple(clips), tuple(rejects))
