"""RAVDESS, the Ryerson audio-visual database of emotional speech and song: 24 actors, 8 emotions.

Layout: `Actor_NN/MM-VC-EE-II-SS-RR-AA.ext`, such as `Actor_01/03-01-05-01-02-01-01.wav`: modality
(01 audio and video, 02 video only, 03 audio only), vocal channel (01 speech, 02 song), emotion,
intensity (01 normal, 02 strong), sentence, repetition, actor. The three modalities of one code are
one utterance. A video-only file is listed as audio too: its sound track, if any, is digital
silence, which the decoder names. The actor is the name's last field, as published; the folder is
only compared with it. Source: S. Livingstone and F. Russo, "The Ryerson Audio-Visual Database of
Emotional Speech and Song", PLoS ONE 13(5), 2018.
"""

import re
from pathlib import Path, PurePosixPath

from pipelines.core.text import pluralize
from pipelines.corpora.clip import Defect, FoundClips, LabelError, Labels, read_names

LAYOUT = "Actor_NN/MM-VC-EE-II-SS-RR-AA.<wav|mp4>, such as Actor_01/03-01-05-01-02-01-01.wav"
LICENCE = "CC BY-NC-SA 4.0, no commercial use"
EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happiness",
    "04": "sadness",
    "05": "anger",
    "06": "fear",
    "07": "disgust",
    "08": "surprise",
}
_FIELDS = {
    "modality": 3,
    "vocal channel": 2,
    "emotion": 8,
    "intensity": 2,
    "sentence": 2,
    "repetition": 2,
    "actor": 24,
}
"""Each field of a name and its last number; the first is 1."""


def labels_of(file: PurePosixPath) -> Labels:
    """Return the labels in the name of a file.

    >>> labels = labels_of(PurePosixPath("Actor_07/03-01-06-02-01-02-07.wav"))
    >>> labels.speaker, labels.emotion, labels.utterance
    ('07', 'fear', '01-06-02-01-02-07')
    >>> labels.sentence, labels.take
    ('01', '02')
    """
    fields = file.stem.split("-")
    if len(fields) != len(_FIELDS) or not re.fullmatch(r"(\d\d-){6}\d\d", file.stem, re.ASCII):
        raise LabelError("name is not RAVDESS's MM-VC-EE-II-SS-RR-AA, seven numbers of two digits")
    for (field, last), value in zip(_FIELDS.items(), fields, strict=True):
        if not 1 <= int(value) <= last:
            raise LabelError(f"{field} {value} is not among RAVDESS's 01 to {last:02d}")
    _, _, emotion, _, sentence, take, actor = fields
    return Labels(actor, EMOTIONS[emotion], "-".join(fields[1:]), sentence, take)


def find_clips(media: Path, *, name: str, song: bool = False) -> FoundClips:
    """Return the speech below `media`, and the song (vocal channel 02) when `song`."""
    songs, copies, elsewhere, known_names = [], [], [], set()

    def labels_or_none(file: PurePosixPath) -> Labels | None:
        labels = labels_of(file)
        if labels.utterance.startswith("02-") and not song:
            songs.append(file)
            return None
        if file.stem in known_names:  # a common repackaging has every Actor_NN twice
            copies.append(file)
            return None
        known_names.add(file.stem)
        folder = re.fullmatch(r"actor_?(\d+)", file.parent.name, re.IGNORECASE)
        if folder and int(folder[1]) != int(labels.speaker):
            elsewhere.append(file)
        return labels

    clips, rejects = read_names(media, labels_or_none, corpus=name)
    defects = [
        Defect(kind, f"{pluralize(len(files), noun)} {description}", tuple(map(str, files)))
        for kind, files, noun, description in (
            ("songs", songs, "song file", "left out, as song was not asked for"),
            ("files held twice", copies, "file", "left out, as copies of a file of the same name"),
            ("odd folders", elsewhere, "file", "in another actor's folder, taken by the name"),
        )
        if files
    ]
    return FoundClips(tuple(clips), tuple(rejects), tuple(defects))
