"""Numbers, lists and foreign text as words for a reader."""

from collections.abc import Sequence


def spent(seconds: float) -> str:
    """Return a time in words.

    >>> spent(12.3), spent(192), spent(7500)
    ('12 s', '3 min 12 s', '2 h 5 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def spelt(numbers: Sequence[int]) -> str:
    """Return numbers as a text in which three or more in a row are one entry.

    >>> spelt([0, 1, 2, 3, 8]), spelt([4, 5])
    ('0-3, 8', '4, 5')
    """
    rows: list[list[int]] = []
    for number in sorted(numbers):
        if rows and number == rows[-1][-1] + 1:
            rows[-1].append(number)
        else:
            rows.append([number])
    return ", ".join(
        f"{row[0]}-{row[-1]}" if len(row) > 2 else ", ".join(map(str, row)) for row in rows
    )


def printable(text: str) -> str:
    r"""Return a text as one line that a terminal can show.

    >>> print(printable("new\nline"))
    new\nline
    """
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def counted(count: int, noun: str) -> str:
    """Return a count with its noun.

    >>> counted(1, "clip"), counted(30, "clip")
    ('1 clip', '30 clips')
    """
    return f"{count} {noun}{'s' * (count != 1)}"


def numbered(problems: Sequence[str]) -> str:
    """Return what is wrong as one text: a problem as it is, several with their number.

    >>> numbered(["one"]), numbered(["one", "two"])
    ('one', '2 problems: (1) one; (2) two')
    """
    told = "; ".join(f"({number}) {problem}" for number, problem in enumerate(problems, start=1))
    return problems[0] if len(problems) == 1 else f"{len(problems)} problems: {told}"
