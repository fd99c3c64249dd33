"""How often people name the emotion that was meant: the listeners' row of a table, from the rates that EMO-DB comes with.

`erkennung.txt` of EMO-DB has a row a recorded utterance: its number, its file, the percentage of some twenty listeners who named the
emotion that the actor meant, and the percentage who found it natural. The utterances that were published are those of at least 80 %
and 60 %, so the listeners' row is of clips that were chosen for being understood (F. Burkhardt et al., "A Database of German
Emotional Speech", Interspeech 2005).
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pipelines.spec import InputError

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
