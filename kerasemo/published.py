"""What others reach, with the protocols they state, and what the paper says: printed beside our own figures, never mixed with them.

The figures of others are those of a study report on the paper; where it names no source, the row says so. The paper's protocol is not
known. A figure of another protocol is no yardstick: with speakers shared between training and test every network scores higher.
"""

from typing import NamedTuple


class Published(NamedTuple):
    """A row of a table of others."""

    source: str
    """`NAME/DOMAIN`."""
    protocol: str
    who: str
    ua: float | None
    wa: float | None
    note: str = ""


_FIVE = "5 folds, all speakers in train and test"
_OWN = "the corpus's own"
_PAPER = "protocol unknown"
_UNSOURCED = "unsourced"
_AS_WA = "taken as WA"

PUBLISHED = (
    Published("emodb/audio", _FIVE, "WavLM-large", 0.926, 0.927),
    Published("emodb/audio", _FIVE, "wav2vec2-base", 0.821, 0.831),
    Published(
        "emodb/audio",
        "leave-one-speaker-out",
        "attention CRNN",
        0.80,
        None,
        f"80 to 85, {_UNSOURCED}",
    ),
    Published(
        "emodb/audio",
        _PAPER,
        "the paper, after eNTERFACE visual, SAVEE visual and SAVEE audio",
        None,
        0.89,
        _AS_WA,
    ),
    Published("savee/audio", "leave-one-speaker-out", "data2vec2-large", 0.758, 0.786),
    Published("savee/audio", "leave-one-speaker-out", "wav2vec2-base", 0.449, 0.498),
    Published("savee/audio", _PAPER, "the paper, after the visual stages", None, 0.62, _AS_WA),
    Published(
        "savee/visual",
        _PAPER,
        "the paper, after eNTERFACE visual",
        None,
        0.96,
        f"96 to 99, {_AS_WA}",
    ),
    Published(
        "savee/visual",
        _PAPER,
        "the paper's joint model",
        None,
        0.94,
        f"mean over its two visual targets, {_AS_WA}",
    ),
    Published(
        "ravdess/audio", "6 speaker-disjoint folds of 4 actors", "Whisper-large-v3", 0.753, 0.759
    ),
    Published(
        "ravdess/audio", "6 speaker-disjoint folds of 4 actors", "wav2vec2-base", 0.543, 0.554
    ),
    Published("enterface/audio", "1 split, speakers shared", "Whisper-large-v3", 0.977, 0.977),
    Published("enterface/audio", "1 split, speakers shared", "wav2vec2-base", 0.642, 0.641),
    Published("enterface/visual", _PAPER, "the paper", None, 0.93, _AS_WA),
    Published(
        "enterface/visual",
        _PAPER,
        "the paper's joint model",
        None,
        0.94,
        f"mean over its two visual targets, {_AS_WA}",
    ),
    Published("fer2013/visual", _OWN, "a single network", None, 0.73, f"about 73, {_UNSOURCED}"),
    Published("fer2013/visual", _OWN, "DeepFace's model", None, 0.574, "by its own account"),
    Published("fer2013/visual", _OWN, "the fer package", 0.524, 0.582),
)


def of_source(source: str) -> list[Published]:
    """Return the rows of a source.

    >>> [row.who for row in of_source("enterface/audio")]
    ['Whisper-large-v3', 'wav2vec2-base']
    """
    return [row for row in PUBLISHED if row.source == source]
