"""Numbers, lists and foreign text as words for a reader."""

from collections.abc import Sequence


def pluralize(count: int, noun: str) -> str:
    """Return a count with its noun.

    >>> pluralize(1, "clip"), pluralize(30, "clip")
    ('1 clip', '30 clips')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def number_problems(problems: Sequence[str]) -> str:
    """Return several problems as one text, numbered if there are two or more.

    >>> number_problems(["one"]), number_problems(["one", "two"])
    ('one', '2 problems: (1) one; (2) two')
    """
    if len(problems) == 1:
        return problems[0]
    numbered = "; ".join(f"({number}) {text}" for number, text in enumerate(problems, start=1))
    return f"{len(problems)} problems: {numbered}"


def format_duration(seconds: float) -> str:
    """Return a duration in its two largest units.

    >>> format_duration(12.3), format_duration(192), format_duration(7500)
    ('12 s', '3 min 12 s', '2 h 5 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def format_ranges(numbers: Sequence[int]) -> str:
    """Return numbers in ascending order; three or more in a row become a range.

    >>> format_ranges([0, 1, 2, 3, 8]), format_ranges([4, 5])
    ('0-3, 8', '4, 5')
    """
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    parts: list[str] = []
    for run in runs:
        parts += [f"{run[0]}-{run[-1]}"] if len(run) > 2 else map(str, run)
    return ", ".join(parts)


def printable(text: str) -> str:
    r"""Return a text as one line that a terminal can show; control characters are escaped.

    >>> print(printable("new\nline"))
    new\nline
    """
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
