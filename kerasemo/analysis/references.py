"""Reference figures to read scores against: human listeners of EMO-DB, and published results.

`erkennung.txt` of EMO-DB has a row for each recorded utterance: its number, its file, the
percentage of about twenty listeners who named the intended emotion, and the percentage who found
the utterance natural. An utterance was published if these are at least 80 % and 60 %, so the
listeners' row is of clips that were chosen because they are understood (F. Burkhardt et al., "A
Database of German Emotional Speech", Interspeech 2005).
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from pipelines.core.errors import DataError, InputError

COLUMNS = ["Nr.", "Satz", "erkannt", "natuerlich"]
"""The columns of `erkennung.txt`."""

REMEDY = "give EMO-DB's erkennung.txt"


def read_listener_rates(path: Path) -> dict[str, float]:
    """Return the fraction of listeners who named the intended emotion, by file stem (`03a01Fa`).

    Args:
        path: `erkennung.txt`: ISO-8859-1, columns separated by white space, a decimal comma.

    Raises:
        InputError: The file cannot be read.
        DataError: The file is empty, or a line is no such row.
    """
    try:
        lines = path.read_text(encoding="iso-8859-1").splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}); {REMEDY}") from error
    header = lines[0] if lines else ""
    if header.split() != COLUMNS:
        raise DataError(
            f"{path}: the first line must be {' '.join(COLUMNS)}; received {header[:60]!r}; "
            f"{REMEDY}"
        )
    rates: dict[str, float] = {}
    for number, line in enumerate(lines[1:], start=2):
        if not line.split():
            continue
        try:
            _, file, recognised, _ = line.split()
            rate = float(recognised.replace(",", ".")) / 100
        except ValueError as error:
            raise DataError(
                f"{path}: line {number} must be a number, a file and two percentages; "
                f"received {line[:60]!r}; {REMEDY}"
            ) from error
        stem = PurePosixPath(file).stem
        if not 0 <= rate <= 1 or stem in rates:
            raise DataError(
                f"{path}: line {number} must give the percentage of a file, from 0 to 100, once; "
                f"received {line[:60]!r}; {REMEDY}"
            )
        rates[stem] = rate
    return rates


def listener_scores(rates: Mapping[str, float], emotions: Mapping[str, str]) -> dict[str, Any]:
    """Return the scores of the listeners for some clips, ready for JSON.

    UA is the mean over the emotions of the mean rate of their clips, WA the mean rate of all clips.
    The wrong choices of listeners are not known, so the document has no confusion matrix and no F1.
    A rate of 93 % means that 93 % of the listeners named the emotion, not that a listener is
    correct in 93 %.

    Args:
        rates: See `read_listener_rates`; may hold further files.
        emotions: The emotion of each clip, by file stem; at least one clip.

    Returns:
        `clips`, `ua`, `wa`, and `recalls`: the mean rate by emotion, sorted.

    Raises:
        DataError: A clip has no rate, or there are no clips.

    >>> score = listener_scores(
    ...     {"a": 1.0, "b": 0.5, "c": 0.5}, {"a": "anger", "b": "fear", "c": "fear"}
    ... )
    >>> score["ua"], round(score["wa"], 3), score["recalls"]
    (0.75, 0.667, {'anger': 1.0, 'fear': 0.5})
    """
    unknown = sorted(emotions.keys() - rates.keys())
    if unknown or not emotions:
        raise DataError(
            "the listeners' rates must hold every clip, at least one; missing are "
            f"{unknown[:5]} and {len(unknown[5:])} more; {REMEDY}"
        )
    rates_by_emotion = defaultdict(list)
    for stem, emotion in sorted(emotions.items()):
        rates_by_emotion[emotion].append(rates[stem])
    recalls = {
        emotion: sum(values) / len(values) for emotion, values in sorted(rates_by_emotion.items())
    }
    return {
        "clips": len(emotions),
        "ua": sum(recalls.values()) / len(recalls),
        "wa": sum(rates[stem] for stem in sorted(emotions)) / len(emotions),
        "recalls": recalls,
    }


class PublishedResult(NamedTuple):
    """A result that others report."""

    source: str
    """`CORPUS/DOMAIN`."""
    protocol: str
    who: str
    ua: float | None
    wa: float | None
    note: str = ""


_FIVE_FOLDS = "5 folds, all speakers in train and test"
_ONE_SPEAKER_OUT = "leave-one-speaker-out"
_RAVDESS = "6 speaker-disjoint folds of 4 actors"
_OWN_SPLIT = "the corpus's own"
_PAPER = "protocol unknown"
_UNSOURCED = "unsourced"
_AS_WA = "taken as WA"
_TWO_TARGETS = f"mean over its two visual targets, {_AS_WA}"

PUBLISHED = (
    PublishedResult("emodb/audio", _FIVE_FOLDS, "WavLM-large", 0.926, 0.927),
    PublishedResult("emodb/audio", _FIVE_FOLDS, "wav2vec2-base", 0.821, 0.831),
    PublishedResult(
        "emodb/audio", _ONE_SPEAKER_OUT, "attention CRNN", 0.80, None, f"80 to 85, {_UNSOURCED}"
    ),
    PublishedResult(
        "emodb/audio",
        _PAPER,
        "the paper, after eNTERFACE visual, SAVEE visual and SAVEE audio",
        None,
        0.89,
        _AS_WA,
    ),
    PublishedResult("savee/audio", _ONE_SPEAKER_OUT, "data2vec2-large", 0.758, 0.786),
    PublishedResult("savee/audio", _ONE_SPEAKER_OUT, "wav2vec2-base", 0.449, 0.498),
    PublishedResult(
        "savee/audio", _PAPER, "the paper, after the visual stages", None, 0.62, _AS_WA
    ),
    PublishedResult(
        "savee/visual",
        _PAPER,
        "the paper, after eNTERFACE visual",
        None,
        0.96,
        f"96 to 99, {_AS_WA}",
    ),
    PublishedResult("savee/visual", _PAPER, "the paper's joint model", None, 0.94, _TWO_TARGETS),
    PublishedResult("ravdess/audio", _RAVDESS, "Whisper-large-v3", 0.753, 0.759),
    PublishedResult("ravdess/audio", _RAVDESS, "wav2vec2-base", 0.543, 0.554),
    PublishedResult(
        "enterface/audio", "1 split, speakers shared", "Whisper-large-v3", 0.977, 0.977
    ),
    PublishedResult("enterface/audio", "1 split, speakers shared", "wav2vec2-base", 0.642, 0.641),
    PublishedResult("enterface/visual", _PAPER, "the paper", None, 0.93, _AS_WA),
    PublishedResult(
        "enterface/visual", _PAPER, "the paper's joint model", None, 0.94, _TWO_TARGETS
    ),
    PublishedResult(
        "fer2013/visual", _OWN_SPLIT, "a single network", None, 0.73, f"about 73, {_UNSOURCED}"
    ),
    PublishedResult(
        "fer2013/visual", _OWN_SPLIT, "DeepFace's model", None, 0.574, "by its own account"
    ),
    PublishedResult("fer2013/visual", _OWN_SPLIT, "the fer package", 0.524, 0.582),
)


def published_results(source: str) -> list[PublishedResult]:
    """Return what others report on a source.

    >>> [result.who for result in published_results("enterface/audio")]
    ['Whisper-large-v3', 'wav2vec2-base']
    """
    return [result for result in PUBLISHED if result.source == source]
