"""How often people name the emotion that was meant: the listeners' row of a table, from the rates that EMO-DB comes with.

`erkennung.txt` of EMO-DB has a row a recorded utterance: its number, its file, the percentage of some twenty listeners who named the
emotion that the actor meant, and the percentage who found it natural. The utterances that were published are those of at least 80 %
and 60 %, so the listeners' row is of clips that were chosen for being understood (F. Burkhardt et al., "A Database of German
Emotional Speech", Interspeech 2005).
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from pipelines.core.errors import InputError

COLUMNS = ["Nr.", "Satz", "erkannt", "natuerlich"]


def read_rates(path: Path) -> dict[str, float]:
    """Return the share of listeners, in [0, 1], who named the emotion that was meant, of each file's stem, such as `03a01Fa`.

    Args:
        path: `erkennung.txt`: ISO-8859-1, white space between the columns, a decimal comma.

    Raises:
        InputError: The file cannot be read, or a line is not such a row; the message names the line.
    """
    try:
        header, *lines = path.read_text(encoding="iso-8859-1").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read, or is empty ({error}); give EMO-DB's erkennung.txt"
        ) from error
    if header.split() != COLUMNS:
        raise InputError(
            f"{path}: the first line must be {' '.join(COLUMNS)}; received {header[:60]!r}; give EMO-DB's erkennung.txt"
        )
    rates = {}
    for number, line in enumerate(lines, start=2):
        if not (columns := line.split()):
            continue
        try:
            _, file, recognised, _ = columns
            rate = float(recognised.replace(",", ".")) / 100
        except ValueError as error:
            raise InputError(
                f"{path}: line {number} must be a number, a file and two percentages; received {line[:60]!r}"
            ) from error
        stem = PurePosixPath(file).stem
        if not 0 <= rate <= 1 or stem in rates:
            raise InputError(
                f"{path}: line {number} must give a file's percentage, from 0 to 100, once; received {line[:60]!r}"
            )
        rates[stem] = rate
    return rates


def listeners_score(rates: Mapping[str, float], emotions: Mapping[str, str]) -> dict[str, Any]:
    """Return the scores of the listeners on some clips, ready for JSON.

    UA is the mean over the emotions of the mean rate of their clips, WA the mean rate of all clips. What was named instead is not
    known, so there is neither a confusion matrix nor F1, and 93 % of the listeners is not a listener who is right in 93 %.

    Args:
        rates: of `read_rates`; it may hold more files than these.
        emotions: the stem of each clip's file -> its emotion; at least one.

    Returns:
        `clips`, `ua`, `wa`, and `recalls`: emotion -> mean rate, the emotions sorted.

    Raises:
        InputError: A clip has no rate, or there is none.

    >>> score = listeners_score({"a": 1.0, "b": 0.5, "c": 0.5}, {"a": "anger", "b": "fear", "c": "fear"})
    >>> score["ua"], round(score["wa"], 3), score["recalls"]
    (0.75, 0.667, {'anger': 1.0, 'fear': 0.5})
    """
    unknown = sorted(emotions.keys() - rates.keys())
    if unknown or not emotions:
        raise InputError(
            f"listeners' rates must hold every clip, at least one; none for {unknown[:5]} and {len(unknown[5:])} more of them"
        )
    of_emotion = defaultdict(list)
    for stem, emotion in sorted(emotions.items()):
        of_emotion[emotion].append(rates[stem])
    recalls = {emotion: sum(own) / len(own) for emotion, own in sorted(of_emotion.items())}
    return {
        "clips": len(emotions),
        "ua": sum(recalls.values()) / len(recalls),
        "wa": sum(rates[stem] for stem in sorted(emotions)) / len(emotions),
        "recalls": recalls,
    }


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
