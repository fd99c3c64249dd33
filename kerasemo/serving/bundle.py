"""Read, check and run an exported model, without Keras and without the network's code.

`OUT/N/` is one version of a bundle. It has a SavedModel with named signatures, `assets/` (the
document, the model card and the training clips), `assets.extra/` (warm-up requests for TF Serving)
and `checksums.sha256`. `OUT/serving/` has the configuration of a TF Serving.
"""

import json
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Self

import numpy as np

from kerasemo.serving import training_clips
from pipelines.core.errors import DataError, InputError
from pipelines.core.files import file_sha256
from pipelines.core.tensorflow_loading import load_tensorflow

SCHEMA = 1
"""The version of the format. It rises when older bundles can no longer be read."""
DOCUMENT, CHECKSUMS = "assets/bundle.json", "checksums.sha256"
FORMATS = ("saved_model", "onnx", "litert")
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
    pipelines.core.errors.InputError: no-such-model: no such bundle; expected the folder of one ...

    Args:
        folder: The folder of one version.

    Attributes:
        folder: The folder of one version.
        document: The contents of `assets/bundle.json`.
        labels: The emotions, in the order of every `probabilities`.
        domains: The domains that the model was trained on.
        fusion: The parameters of the fusion of face and voice.

    Raises:
        InputError: The folder has no bundle, or one of another version of the format.
        DataError: The document is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.document: dict[str, Any] = read_document(folder)
        self.labels: tuple[str, ...] = tuple(self.document["labels"])
        self.domains: tuple[str, ...] = tuple(self.document["domains"])
        self.fusion: dict[str, Any] = self.document["fusion"]
        self._signatures: Mapping[str, Any] | None = None

    @classmethod
    def load(cls, name: str | Path) -> Self:
        """Load a bundle by its folder or one of its versions, or a shipped preset by its name.

        The method checks each file by its checksum. The first prediction imports TensorFlow.

        Raises:
            InputError: The bundle does not exist, has another version of the format, or needs a
                runtime other than TensorFlow.
            DataError: The bundle is damaged.
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

    def training_files(self) -> frozenset[str]:
        """Return the SHA-256 of the media files in the training and the validation split."""
        return training_clips.read_training_clips(
            self.folder / "assets" / "training_clips.json"
        ).files

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
        if signature not in self.signatures:
            raise InputError(
                f"{self.folder}: has no signature {signature!r}; expected one of "
                f"{', '.join(self.signatures)}"
            )
        expected = self.document["signatures"][signature]["inputs"]
        if set(inputs) != set(expected):
            raise InputError(
                f"{signature}: expected the inputs {', '.join(expected)}; "
                f"received {', '.join(inputs) or 'none'}"
            )
        load_tensorflow()
        import tensorflow as tf

        if self._signatures is None:
            self._signatures = self._graph().signatures
        try:
            tensors = {
                name: tf.constant(_to_dtype(name, value, expected[name][0]))
                for name, value in inputs.items()
            }
            outputs = self._signatures[signature](**tensors)
        except (tf.errors.OpError, ValueError, TypeError) as error:
            raise InputError(f"{signature}: {graph_message(error)}") from error
        return {name: _to_str(tensor.numpy()) for name, tensor in outputs.items()}

    def weights(self) -> dict[str, np.ndarray]:
        """Return the weights of the network by the paths of their variables."""
        return {path: variable.numpy() for path, variable in self._graph().weights.items()}

    def _graph(self) -> Any:
        """Return the loaded SavedModel; raise DataError where it cannot be loaded."""
        load_tensorflow()
        import tensorflow as tf

        try:
            graph = tf.saved_model.load(str(self.folder))
            if missing := set(self.signatures) - set(graph.signatures):
                raise ValueError(f"no signature {', '.join(sorted(missing))}")
            return graph
        except Exception as error:  # the bytes of a damaged file can raise any error
            raise DataError(
                f"{self.folder}: cannot be loaded ({graph_message(error)}); export the model again"
            ) from error


def _to_dtype(name: str, value: Any, expected: str) -> np.ndarray:
    """Return an input as an array of the dtype of a signature.

    A float can lose digits.

    Raises:
        ValueError: Another conversion would change values.
    """
    if expected == "string":
        return np.array(value, dtype=object)
    array = np.asarray(value)
    is_integer = np.issubdtype(expected, np.integer)
    if array.dtype.kind not in ("iu" if is_integer else "f") or not np.can_cast(
        array.dtype, expected, "same_kind"
    ):
        raise ValueError(f"{name}: expected {expected}; received {array.dtype}")
    if is_integer:
        limits = np.iinfo(expected)
        is_wrong = (array < limits.min) | (array > limits.max)
        if is_wrong.any():
            raise ValueError(
                f"{name}: expected {expected}; received {array.dtype}, with {array[is_wrong][0]}"
            )
    with np.errstate(over="ignore"):  # the graph refuses infinity
        return array.astype(expected)


def _to_str(values: np.ndarray) -> np.ndarray:
    return (
        np.array([text.decode() for text in values.ravel()], dtype=np.str_).reshape(values.shape)
        if values.dtype == object
        else values
    )


def graph_message(error: Exception) -> str:
    """Return the message of the graph or of TensorFlow about an input, in one line.

    >>> text = "assertion failed: [too long: expected at most] [96] [samples; received] [1 2]"
    >>> graph_message(ValueError(text))
    'too long: expected at most 96 samples; received 1 2'
    """
    text = getattr(error, "message", None) or str(error)
    if found := re.search(r"assertion failed: \[(.*)\](?:\n|$)", text):
        return re.sub(r"\] \[", " ", found[1])
    lines = [
        line
        for line in text.splitlines()
        if line and not line.startswith(("Graph execution error", "Detected at node", "<stack"))
    ]
    return (
        re.sub(r"\s*\[\[\{\{node.*|\s*\[Op:.*", "", " ".join(lines)).strip() or type(error).__name__
    )


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
    wrong = "no bundle in it" if path.exists() else "no such bundle"
    made = "expected the folder of one (python -m kerasemo.export makes it) or a shipped preset"
    raise InputError(f"{name}: {wrong}; {made} ({', '.join(shipped) or 'none'})")


def read_document(folder: Path) -> dict[str, Any]:
    """Read the document of a bundle from the folder of one version.

    Raises:
        InputError: The folder has no bundle, or one of another version of the format.
        DataError: The document is damaged.
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
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        version = document.get("schema") if isinstance(document, dict) else None
        raise InputError(
            f"{path}: version {version} of the contract, expected {SCHEMA}; "
            "export the model again with this version"
        )
    if missing := _KEYS - document.keys():
        raise DataError(
            f"{path}: damaged (no {', '.join(sorted(missing))}); export the model again"
        )
    return document


def write_checksums(folder: Path) -> None:
    """Write the checksum of each file of a bundle in the format of `sha256sum -c`."""
    lines = [
        f"{file_sha256(path)}  {path.relative_to(folder).as_posix()}" for path in _files(folder)
    ]
    (folder / CHECKSUMS).write_text("\n".join(lines) + "\n", encoding="utf-8")


def check_files(folder: Path) -> None:
    """Check each file of a bundle by its checksum.

    A user can add files, such as `assets.extra/batching_params.pbtxt`, but not among the files of
    the model.

    Raises:
        DataError: A file is missing, damaged, or has no checksum.
    """
    try:
        lines = (folder / CHECKSUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{folder / CHECKSUMS}: cannot be read ({error}); export the model again"
        ) from error
    wrong_lines = [line for line in lines if not re.fullmatch(r"[0-9a-f]{64}  .+", line)]
    if wrong_lines or not lines:
        received = repr(wrong_lines[0]) if wrong_lines else "an empty file"
        raise DataError(
            f"{folder / CHECKSUMS}: damaged (expected a checksum and a name; received {received}); "
            "export the model again"
        )
    expected = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    existing = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    for name, digest in expected.items():
        if name not in existing:
            raise DataError(f"{folder / name}: missing; export the model again")
        if file_sha256(existing[name]) != digest:
            raise DataError(
                f"{folder / name}: damaged (its checksum is not that of {CHECKSUMS}); "
                "export the model again"
            )
    if unlisted := [
        name for name in existing if re.fullmatch(_LISTED_FILES, name) and name not in expected
    ]:
        raise DataError(
            f"{folder / CHECKSUMS}: damaged (does not name {unlisted[0]}); export the model again"
        )


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != CHECKSUMS]
