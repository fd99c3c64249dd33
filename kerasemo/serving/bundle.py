"""Read, check and run an exported model, without Keras and without the network's code.

`OUT/N/` is one version of a bundle. It has a SavedModel with named signatures, `assets/` (the
document, the model card and the training clips), `assets.extra/` (warm-up requests for TF Serving)
and `checksums.sha256`. `OUT/serving/` has the configuration of a TF Serving.
"""

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any, Self

import numpy as np

from kerasemo.serving.runtimes import SavedModelPredictor
from kerasemo.serving.training_clips import TRAINING_CLIPS, TrainingClips, read_training_clips
from pipelines.core.errors import DataError, InputError
from pipelines.core.files import file_sha256, storage_errors, write_text

SCHEMA = 1
"""The version of the format. It rises when older bundles can no longer be read."""
DOCUMENT, CHECKSUMS = "assets/bundle.json", "checksums.sha256"
_LISTED_FILES = (
    r"saved_model\.pb|variables/.*|assets/.*|[^/]*\.onnx|model\.tflite|"
    r"assets\.extra/tf_serving_warmup_requests"
)
"""The files that must have a checksum."""
_KEYS = {
    "schema",
    "format",
    "name",
    "labels",
    "domains",
    "signatures",
    "fusion",
    "training",
    "synthetic",
    "versions",
}


class Bundle:
    """An exported model.

    `Bundle.load` finds a bundle and checks its files. The class itself only reads the document.

    >>> Bundle.load("no-such-model")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    pipelines.core.errors.InputError: no-such-model: no such bundle; expected the folder of a ...

    Args:
        folder: The folder of one version.

    Attributes:
        folder: The folder of one version.
        document: The contents of `assets/bundle.json`.
        labels: The emotions, in the order of every `probabilities`.
        domains: The domains that the model was trained on.
        fusion: The parameters of the fusion of face and voice.

    Raises:
        InputError: The folder has no bundle.
        DataError: The document is damaged, or of another version of the format.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.document: dict[str, Any] = read_document(folder)
        self.labels: tuple[str, ...] = tuple(self.document["labels"])
        self.domains: tuple[str, ...] = tuple(self.document["domains"])
        self.fusion: dict[str, Any] = self.document["fusion"]
        self._predictor = SavedModelPredictor(folder, self.document["signatures"])

    @classmethod
    def load(cls, name: str | Path) -> Self:
        """Load a bundle by its folder or one of its versions, or a shipped preset by its name.

        The method checks each file by its checksum. The first prediction imports TensorFlow.

        Raises:
            InputError: The bundle does not exist, or needs a runtime other than TensorFlow.
            DataError: The bundle is damaged, or of another version of the format.
        """
        folder = find_bundle(name)
        check_files(folder)
        bundle = cls(folder)
        if bundle.document["format"] != "saved_model":
            raise InputError(
                f"{folder}: is a bundle of {bundle.document['format']}, for a runtime of your own; "
                "this needs one that was exported with --format saved_model, the default"
            )
        return bundle

    from_preset = load

    @property
    def card(self) -> str:
        """The model card in Markdown."""
        return (self.folder / "assets" / "model_card.md").read_text(encoding="utf-8")

    def training_clips(self) -> TrainingClips:
        """Return the hashes of the clips in the training and the validation split.

        Raises:
            DataError: The file is missing or damaged.
        """
        return read_training_clips(self.folder / TRAINING_CLIPS)

    def __repr__(self) -> str:
        """Return the folder, the labels and the signatures."""
        labels, signatures = ", ".join(self.labels), ", ".join(self.signatures)
        return f"Bundle({str(self.folder)!r}: {labels}; signatures {signatures})"

    @property
    def signatures(self) -> tuple[str, ...]:
        """The names of the signatures."""
        return tuple(self.document["signatures"])

    def predict(self, signature: str, **inputs: Any) -> dict[str, np.ndarray]:
        """Return the outputs of a signature; the model card describes the signatures.

        Args:
            signature: One of `signatures`, such as `faces` or `speech`.
            inputs: Arrays by the names of the signature's inputs.

        Returns:
            An array for each output; text as an array of str.

        Raises:
            InputError: The signature or an input is unknown, or the graph refuses an input.
            DataError: The graph cannot be loaded.
        """
        return self._predictor.predict(signature, **inputs)

    def weights(self) -> dict[str, np.ndarray]:
        """Return the weights of the network by the paths of their variables.

        Raises:
            DataError: The graph cannot be loaded.
        """
        return self._predictor.weights()


def shipped_presets() -> dict[str, Path]:
    """Return the folder of each shipped preset by its name."""
    folder = Path(str(resources.files("kerasemo") / "presets"))
    return (
        {path.name: path for path in sorted(folder.iterdir()) if path.is_dir() and versions(path)}
        if folder.is_dir()
        else {}
    )


def versions(folder: Path) -> list[int]:
    """Return the versions in the folder of a bundle, rising."""
    if not folder.is_dir():
        return []
    return sorted(
        int(path.name)
        for path in folder.iterdir()
        if path.is_dir() and re.fullmatch(r"[1-9]\d{0,17}", path.name)
    )


def find_bundle(name: str | Path) -> Path:
    """Return the folder of the newest version of a bundle or a shipped preset.

    The folder of one version is returned unchanged.

    Raises:
        InputError: No bundle has this name or path.
    """
    path = Path(name)
    if (path / DOCUMENT).is_file():
        return path
    if numbers := versions(path):
        return path / str(numbers[-1])
    shipped = shipped_presets()
    if str(name) in shipped:
        return find_bundle(shipped[str(name)])
    problem = "no bundle in it" if path.exists() else "no such bundle"
    raise InputError(
        f"{name}: {problem}; expected the folder of a bundle, which python -m kerasemo.export "
        f"makes, or a shipped preset ({', '.join(shipped) or 'none'})"
    )


def read_document(folder: Path) -> dict[str, Any]:
    """Read the document of a bundle from the folder of one version.

    Raises:
        InputError: The folder has no bundle.
        DataError: The document is damaged, or of another version of the format.
    """
    path = folder / DOCUMENT
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{folder}: no bundle in it ({DOCUMENT}: {error.strerror}); export the model again"
        ) from error
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error}); export the model again") from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise DataError(
            f"{path}: version {schema} of the format, expected {SCHEMA}; "
            "export the model again with this version"
        )
    if missing := _KEYS - document.keys():
        raise DataError(
            f"{path}: damaged (no {', '.join(sorted(missing))}); export the model again"
        )
    return document


def write_checksums(folder: Path) -> None:
    """Write the checksum of every file of a version's folder in the format of `sha256sum`.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    lines = [f"{file_sha256(folder / name)}  {name}\n" for name in _file_names(folder)]
    with storage_errors(folder / CHECKSUMS):
        write_text(folder / CHECKSUMS, "".join(lines))


def check_files(folder: Path) -> None:
    """Check every file of a version's folder against its checksum.

    Files that a user adds, such as `assets.extra/batching_params.pbtxt`, need no checksum.

    Raises:
        DataError: A file is missing, damaged, or must have a checksum and has none.
    """
    checksums = _read_checksums(folder)
    names = _file_names(folder)
    for name, checksum in checksums.items():
        if name not in names:
            raise DataError(
                f"{folder / name}: missing ({CHECKSUMS} lists it); export the model again"
            )
        if file_sha256(folder / name) != checksum:
            raise DataError(
                f"{folder / name}: damaged (its checksum is not that in {CHECKSUMS}); "
                "export the model again"
            )
    for name in names:
        if re.fullmatch(_LISTED_FILES, name) and name not in checksums:
            raise DataError(
                f"{folder / CHECKSUMS}: damaged (does not name {name}); export the model again"
            )


def _read_checksums(folder: Path) -> dict[str, str]:
    """Return the listed checksum of each file name."""
    path = folder / CHECKSUMS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); export the model again") from error
    checksums = {}
    for line in lines or ["an empty file"]:
        if not re.fullmatch(r"[0-9a-f]{64}  .+", line):
            raise DataError(
                f"{path}: damaged (expected a checksum and a name; received {line!r}); "
                "export the model again"
            )
        checksum, _, name = line.partition("  ")
        checksums[name] = checksum
    return checksums


def _file_names(folder: Path) -> list[str]:
    """Return the names of all files in a folder but the checksums, sorted by path."""
    return [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != CHECKSUMS
    ]
