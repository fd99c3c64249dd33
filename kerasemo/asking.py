"""Files -> the answers of a served model, each file in a request of its own."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kerasemo.wire import ServingError
from pipelines.cli import printable
from pipelines.spec import InputError

SUFFIXES = {".wav": "wav_bytes", ".jpg": "face_bytes", ".jpeg": "face_bytes", ".png": "face_bytes"}


def ask(
    client: Any,
    paths: Sequence[Path],
    *,
    tell: Callable[[dict[str, Any]], None] = lambda answer: None,
) -> list[dict[str, Any]]:
    """Ask the emotion of each file: WAV files as they are, JPEG and PNG files as face crops.

    Args:
        client: A `kerasemo.client.Client`.
        paths: The files.
        tell: Called with each answer when it is there.

    Returns:
        In the order of the paths, `{"path", "emotion", "confidence", "probabilities": {label: p}}`, or `{"path", "error": reason}` of a
        file that cannot be read or that the server refuses.

    Raises:
        ServingError: The server is not well, or has no such model.
    """
    from pipelines import progress

    answers = []
    with progress.bar("ask", unit="files") as shown:
        shown.start(len(paths))
        for path in paths:
            try:
                answer = {"path": str(path)} | _ask_file(client, path)
            except OSError as error:
                answer = {"path": str(path), "error": error.strerror or str(error)}
            except InputError as error:
                if isinstance(error, ServingError) and not error.refused:
                    raise
                answer = {"path": str(path), "error": str(error)}
            answers.append(answer)
            tell(answer)
            shown.advance(printable(path.name))
    return answers


def _ask_file(client: Any, path: Path) -> dict[str, Any]:
    method = SUFFIXES.get(path.suffix.lower())
    if method is None:
        raise InputError(
            f"expected a file with one of {', '.join(SUFFIXES)}; other media are asked with python -m kerasemo.predict"
        )
    found = getattr(client, method)([path.read_bytes()])
    probabilities = dict(
        zip(found["labels"][0].tolist(), found["probabilities"][0].tolist(), strict=True)
    )
    emotion = str(found["emotion"][0])
    return {
        "emotion": emotion,
        "confidence": probabilities[emotion],
        "probabilities": probabilities,
    }
