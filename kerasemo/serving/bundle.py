"""The exported model's contract: what a bundle holds, that it is whole, and how it is asked. Knows neither Keras nor the network.

`OUT/N/` is one version: a SavedModel with named signatures, `assets/` (what it is, and what it was trained on), `assets.extra/`
(warm-up requests for TF Serving) and `checksums.sha256`. `OUT/serving/` holds the configuration of a TF Serving.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from kerasemo.serving import training_clips
from pipelines.core.errors import InputError
from pipelines.core.tensorflow_loading import load_tensorflow

SCHEMA = 1
"""Raised whenever a bundle of before can no longer be read."""
DOCUMENT, CHECKSUMS = "assets/bundle.json", "checksums.sha256"
FORMATS = ("saved_model", "onnx", "litert")
_CONTRACT = r"saved_model\.pb|variables/.*|assets/.*|[^/]*\.onnx|model\.tflite|assets\.extra/tf_serving_warmup_requests"
"""The files that a checksum must be there for."""
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
    """An exported model: what it says of itself, and its answers.

    >>> Bundle.load("no-such-model")
    Traceback (most recent call last):
    pipelines.core.errors.InputError: no-such-model: no such bundle; expected the folder of one (python -m kerasemo.export makes it) or a shipped preset (emodb-speech)
    """

    def __init__(self, folder: Path):
        """Read what a version's folder says of itself; `load` also finds and checks it."""
        self.folder = folder
        self.document: dict[str, Any] = read_document(folder)
        self.labels: tuple[str, ...] = tuple(self.document["labels"])
        """The emotions that can be answered, in the order of every `probabilities`."""
        self.domains: tuple[str, ...] = tuple(self.document["domains"])
        self.fusion: dict[str, Any] = self.document["fusion"]
        self._signatures: Mapping[str, Any] | None = None

    @classmethod
    def load(cls, name: str | Path) -> "Bundle":
        """Load a bundle by the path of its folder or of one version of it, else a shipped preset by its name.

        Every file is checked against its checksum. TensorFlow is imported with the first question.

        Raises:
            InputError: There is none, it is damaged, of another version of the contract, or of a format that is not asked by
                TensorFlow.
        """
        folder = find(name)
        check_files(folder)
        bundle = cls(folder)
        if bundle.document["format"] != "saved_model":
            raise InputError(
                f"{folder}: is a bundle of {bundle.document['format']}, for a runtime of your own; this needs one that was exported with "
                "--format saved_model, the default"
            )
        return bundle

    from_preset = load

    @property
    def card(self) -> str:
        """The model card, Markdown."""
        return (self.folder / "assets" / "model_card.md").read_text(encoding="utf-8")

    def training_files(self) -> frozenset[str]:
        """Return the SHA-256 of the media files that the model was trained on, or that its epoch was chosen on."""
        return training_clips.read(self.folder / "assets" / "training_clips.json").files

    def __repr__(self) -> str:
        return f"Bundle({str(self.folder)!r}: {', '.join(self.labels)}; asked by {', '.join(self.signatures)})"

    @property
    def signatures(self) -> tuple[str, ...]:
        """The names of what can be asked."""
        return tuple(self.document["signatures"])

    def ask(self, signature: str, **inputs) -> dict[str, np.ndarray]:
        """Return the answers to some inputs; see the model card for the signatures.

        Args:
            signature: One of `signatures`, such as `faces` or `speech`.
            inputs: Arrays, by the names of the signature's inputs.

        Returns:
            An array for each output; text as an array of str.

        Raises:
            InputError: Unknown signature or input, what the graph says is wrong with the input, or a graph that cannot be loaded.
        """
        if signature not in self.signatures:
            raise InputError(
                f"{self.folder}: has no signature {signature!r}; expected one of {', '.join(self.signatures)}"
            )
        expected = self.document["signatures"][signature]["inputs"]
        if set(inputs) != set(expected):
            raise InputError(
                f"{signature}: expected the inputs {', '.join(expected)}; received {', '.join(inputs) or 'none'}"
            )
        load_tensorflow()
        import tensorflow as tf

        if self._signatures is None:
            self._signatures = self._graph().signatures
        try:
            tensors = {
                name: tf.constant(_of_type(name, value, expected[name][0]))
                for name, value in inputs.items()
            }
            answers = self._signatures[signature](**tensors)
        except (tf.errors.OpError, ValueError, TypeError) as error:
            raise InputError(f"{signature}: {told(error)}") from error
        return {name: _array(tensor.numpy()) for name, tensor in answers.items()}

    def weights(self) -> dict[str, np.ndarray]:
        """Return the network's weights by the paths of their variables."""
        return {path: variable.numpy() for path, variable in self._graph().weights.items()}

    def _graph(self) -> Any:
        """Return what TensorFlow loads, which is InputError where it cannot."""
        load_tensorflow()
        import tensorflow as tf

        try:
            graph = tf.saved_model.load(str(self.folder))
            if missing := set(self.signatures) - set(graph.signatures):
                raise ValueError(f"no signature {', '.join(sorted(missing))}")
            return graph
        except Exception as error:  # of a damaged file, whatever its bytes lead to
            raise InputError(
                f"{self.folder}: cannot be loaded ({told(error)}); export the model again"
            ) from error


def _of_type(name: str, value: Any, expected: str) -> np.ndarray:
    """Return an input as an array of the type that a signature expects; what would lose more than a float's digits is refused."""
    if expected == "string":
        return np.array(value, dtype=object)
    array = np.asarray(value)
    whole = np.issubdtype(expected, np.integer)
    if array.dtype.kind not in ("iu" if whole else "f") or not np.can_cast(
        array.dtype, expected, "same_kind"
    ):
        raise ValueError(f"{name}: expected {expected}; received {array.dtype}")
    if (
        whole
        and (wrong := (array < np.iinfo(expected).min) | (array > np.iinfo(expected).max)).any()
    ):
        raise ValueError(
            f"{name}: expected {expected}; received {array.dtype}, with {array[wrong][0]}"
        )
    with np.errstate(over="ignore"):  # the graph tells of infinity
        return array.astype(expected)


def _array(values: np.ndarray) -> np.ndarray:
    return (
        np.array([text.decode() for text in values.ravel()], dtype=np.str_).reshape(values.shape)
        if values.dtype == object
        else values
    )


def told(error: Exception) -> str:
    """Return what the graph, or TensorFlow, says of an input, in one line.

    >>> told(ValueError("assertion failed: [too long: expected at most] [9600000] [samples; received] [1 2]\\n\\t [[{{node x}}]]"))
    'too long: expected at most 9600000 samples; received 1 2'
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


def presets() -> dict[str, Path]:
    """Return the shipped presets: name -> folder."""
    folder = Path(str(resources.files("kerasemo") / "presets"))
    return (
        {path.name: path for path in sorted(folder.iterdir()) if path.is_dir() and versions(path)}
        if folder.is_dir()
        else {}
    )


def versions(folder: Path) -> list[int]:
    """Return the numbers of the versions in a bundle's folder, rising."""
    if not folder.is_dir():
        return []
    return sorted(
        int(path.name)
        for path in folder.iterdir()
        if path.is_dir() and re.fullmatch(r"[1-9]\d{0,17}", path.name)
    )


def find(name: str | Path) -> Path:
    """Return the folder of the version that a name or path means: the newest of a bundle, or the very version.

    Raises:
        InputError: Nothing of that name is a bundle.
    """
    path = Path(name)
    if (path / DOCUMENT).is_file():
        return path
    if numbers := versions(path):
        return path / str(numbers[-1])
    shipped = presets()
    if str(name) in shipped:
        return find(shipped[str(name)])
    wrong = "no bundle in it" if path.exists() else "no such bundle"
    made = "expected the folder of one (python -m kerasemo.export makes it) or a shipped preset"
    raise InputError(f"{name}: {wrong}; {made} ({', '.join(shipped) or 'none'})")


def read_document(folder: Path) -> dict[str, Any]:
    """Return what a version's folder says of itself; InputError where it is none, damaged, or of another version of the contract."""
    path = folder / DOCUMENT
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{folder}: no bundle in it ({DOCUMENT}: {error.strerror}); export the model again"
        ) from error
    except ValueError as error:
        raise InputError(f"{path}: damaged ({error}); export the model again") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        version = document.get("schema") if isinstance(document, dict) else None
        raise InputError(
            f"{path}: version {version} of the contract, expected {SCHEMA}; export the model again with this version"
        )
    if missing := _KEYS - document.keys():
        raise InputError(
            f"{path}: damaged (no {', '.join(sorted(missing))}); export the model again"
        )
    return document


def write_checksums(folder: Path) -> None:
    """Write the checksum of every file of a version's folder, as `sha256sum -c` takes it."""
    lines = [f"{_sha256(path)}  {path.relative_to(folder).as_posix()}" for path in _files(folder)]
    (folder / CHECKSUMS).write_text("\n".join(lines) + "\n", encoding="utf-8")


def check_files(folder: Path) -> None:
    """Check every file of a version's folder; InputError names the first that is missing, damaged, or on no list though it must be.

    A user may add files, such as `assets.extra/batching_params.pbtxt`, but none where those of the contract are.
    """
    try:
        lines = (folder / CHECKSUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{folder / CHECKSUMS}: cannot be read ({error}); export the model again"
        ) from error
    if wrong := [line for line in lines if not re.fullmatch(r"[0-9a-f]{64}  .+", line)] or (
        [] if lines else ["an empty file"]
    ):
        raise InputError(
            f"{folder / CHECKSUMS}: damaged (expected a checksum and a name; received {wrong[0]!r}); export the model again"
        )
    expected = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    there = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    for name, digest in expected.items():
        if name not in there:
            raise InputError(f"{folder / name}: missing; export the model again")
        if _sha256(there[name]) != digest:
            raise InputError(
                f"{folder / name}: damaged (its checksum is not that of {CHECKSUMS}); export the model again"
            )
    if unlisted := [
        name for name in there if re.fullmatch(_CONTRACT, name) and name not in expected
    ]:
        raise InputError(
            f"{folder / CHECKSUMS}: damaged (does not name {unlisted[0]}); export the model again"
        )


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != CHECKSUMS]


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
