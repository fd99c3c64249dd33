"""Find, check and run exported bundles. Knows neither Keras nor the network.

`OUT/N/` is a version: a SavedModel with named signatures, `assets/` (the document, the model card
and the hashes of the training clips), `assets.extra/` (warm-up requests for TensorFlow Serving) and
`checksums.sha256`. `OUT/serving/` holds the configuration of a TensorFlow Serving.
"""

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from kerasemo.serving.runtimes import SavedModelPredictor
from kerasemo.serving.training_clips import TRAINING_CLIPS, TrainingClips, read_training_clips
from pipelines.core.errors import DataError, InputError
from pipelines.core.files import file_sha256, storage_errors, write_text

BUNDLE_SCHEMA = 1
"""The version of the document. It is raised when older bundles can no longer be read."""
BUNDLE_DOCUMENT = "assets/bundle.json"
CHECKSUMS = "checksums.sha256"
_CHECKED_FILES = (
    r"saved_model\.pb|variables/.*|assets/.*|[^/]*\.onnx|model\.tflite|"
    r"assets\.extra/tf_serving_warmup_requests"
)
"""Files that must have a checksum."""
_DOCUMENT_KEYS = {
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
    """An exported model that predicts with TensorFlow.

    Args:
        folder: The folder of a version. `load` also finds and checks it.

    Attributes:
        folder: The folder of the version.
        document: Its `bundle.json`.
        labels: The emotions of the model, in the order of `probabilities`.
        domains: The domains that the model was trained on.
        fusion: The fields of `kerasemo.metrics.fusion.Fusion`.

    >>> Bundle.load("no-such-model")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    pipelines.core.errors.InputError: no-such-model: no such bundle; expected the folder of ...
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.document: dict[str, Any] = read_bundle_document(folder)
        self.labels: tuple[str, ...] = tuple(self.document["labels"])
        self.domains: tuple[str, ...] = tuple(self.document["domains"])
        self.fusion: dict[str, Any] = self.document["fusion"]
        self._predictor = SavedModelPredictor(folder, self.document["signatures"])

    @classmethod
    def load(cls, name: str | Path) -> "Bundle":
        """Load a bundle and check every file against its checksum.

        TensorFlow is imported with the first prediction.

        Args:
            name: The folder of a bundle or of a version, or the name of a shipped preset.

        Raises:
            InputError: The bundle does not exist, or is for another runtime than TensorFlow.
            DataError: The bundle is damaged, or of another version of the schema.
        """
        folder = find_bundle_version(name)
        check_bundle_files(folder)
        bundle = cls(folder)
        if bundle.document["format"] != "saved_model":
            raise InputError(
                f"{folder}: is a bundle of {bundle.document['format']}, for another runtime; "
                "expected a bundle that was exported with --format saved_model, the default"
            )
        return bundle

    from_preset = load

    @property
    def card(self) -> str:
        """The model card, Markdown."""
        return (self.folder / "assets" / "model_card.md").read_text(encoding="utf-8")

    @property
    def signatures(self) -> tuple[str, ...]:
        """The names of the signatures."""
        return tuple(self.document["signatures"])

    def __repr__(self) -> str:
        return (
            f"Bundle({str(self.folder)!r}: {', '.join(self.labels)}; "
            f"signatures {', '.join(self.signatures)})"
        )

    def training_clips(self) -> TrainingClips:
        """Return the hashes of the clips that the model was trained or validated on.

        Raises:
            DataError: The file is missing or damaged.
        """
        return read_training_clips(self.folder / TRAINING_CLIPS)

    def predict(self, signature: str, **inputs: Any) -> dict[str, np.ndarray]:
        """Return the outputs of a signature; the model card lists the signatures.

        Args:
            signature: One of `signatures`, such as `faces` or `speech`.
            inputs: An array for each input of the signature.

        Returns:
            An array for each output; text as an array of str.

        Raises:
            InputError: Unknown signature or input, or an input that the graph rejects.
            DataError: The graph cannot be loaded.
        """
        return self._predictor.predict(signature, **inputs)

    def weights(self) -> dict[str, np.ndarray]:
        """Return the network's weights by the paths of their variables.

        Raises:
            DataError: The graph cannot be loaded.
        """
        return self._predictor.weights()


def shipped_presets() -> dict[str, Path]:
    """Return the folder of each shipped preset by its name."""
    folder = Path(str(resources.files("kerasemo") / "presets"))
    if not folder.is_dir():
        return {}
    return {
        path.name: path
        for path in sorted(folder.iterdir())
        if path.is_dir() and bundle_versions(path)
    }


def bundle_versions(folder: Path) -> list[int]:
    """Return the numbers of the versions in a bundle's folder, ascending."""
    if not folder.is_dir():
        return []
    return sorted(
        int(path.name)
        for path in folder.iterdir()
        if path.is_dir() and re.fullmatch(r"[1-9]\d{0,17}", path.name)
    )


def find_bundle_version(name: str | Path) -> Path:
    """Return the folder of a version.

    Args:
        name: The folder of a version; the folder of a bundle, for its newest version; or the name
            of a shipped preset. A path comes before a preset.

    Raises:
        InputError: No bundle has that path or name.
    """
    path = Path(name)
    if (path / BUNDLE_DOCUMENT).is_file():
        return path
    numbers = bundle_versions(path)
    if numbers:
        return path / str(numbers[-1])
    presets = shipped_presets()
    if str(name) in presets:
        return find_bundle_version(presets[str(name)])
    problem = "no bundle in it" if path.exists() else "no such bundle"
    raise InputError(
        f"{name}: {problem}; expected the folder of a bundle (python -m kerasemo.export makes it) "
        f"or a shipped preset ({', '.join(presets) or 'none'})"
    )


def read_bundle_document(folder: Path) -> dict[str, Any]:
    """Return the document of a version's folder.

    Raises:
        InputError: The folder holds no bundle.
        DataError: The document is damaged, or of another version of the schema.
    """
    path = folder / BUNDLE_DOCUMENT
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{folder}: no bundle in it ({BUNDLE_DOCUMENT}: {error.strerror}); "
            "export the model again"
        ) from error
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error}); export the model again") from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != BUNDLE_SCHEMA:
        raise DataError(
            f"{path}: schema version {schema}, expected {BUNDLE_SCHEMA}; "
            "export the model again with this version of kerasemo"
        )
    missing = sorted(_DOCUMENT_KEYS - document.keys())
    if missing:
        raise DataError(f"{path}: damaged (no {', '.join(missing)}); export the model again")
    return document


def write_checksums(folder: Path) -> None:
    """Write the checksum of every file of a version's folder in the format of `sha256sum`.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    lines = [f"{file_sha256(folder / name)}  {name}\n" for name in _file_names(folder)]
    with storage_errors(folder / CHECKSUMS):
        write_text(folder / CHECKSUMS, "".join(lines))


def check_bundle_files(folder: Path) -> None:
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
        if re.fullmatch(_CHECKED_FILES, name) and name not in checksums:
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
