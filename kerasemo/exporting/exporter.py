"""Export a trained stage as a bundle, after a comparison with the Keras model."""

import contextlib
import dataclasses
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasemo.serving.signatures import FORMATS
from pipelines.core import files
from pipelines.core.domains import DOMAINS
from pipelines.core.errors import DataError, InputError, RunError, StorageError
from pipelines.core.spec import Spec

if TYPE_CHECKING:
    from kerasemo.datasets.catalog import RecordCatalog
    from kerasemo.networks.inference import NetworkOutputs, TrainedNetwork
    from kerasemo.runs.lineage import Lineage

UNFINISHED = ".unfinished-"
"""The prefix of the folder, within the folder of a bundle, where a new version is written."""

ABANDONED_SECONDS = 24 * 3600
"""The age at which an unfinished folder is known to be of a killed export."""

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """The options of an export on the command line."""

    run: Path
    out: Path
    stage: str | None = None
    """None: `joint` if it is finished, else the stage that was finished last."""
    records: Path | None = None
    """The records of the training; None: the folder that the training used."""
    format: str = FORMATS[0]


def export_stage(options: ExportOptions) -> dict[str, Any]:
    """Write the next version of a bundle, if a new process predicts what the Keras model predicts.

    No file is overwritten. The version is written in an unfinished folder, and moved into place
    after the comparison.

    Args:
        options: The stage, the folder and the format.

    Returns:
        `{"out", "version", "differences", "format", "labels", "domains", "synthetic", "fusion"}`.
        `differences` is signature -> the largest difference from the Keras model.

    Raises:
        InputError: The stage does not exist or cannot be served, or the folder has other content.
        DataError: The records differ from the records of the training, or the weights are damaged.
        RunError: The exported model does not predict what the Keras model predicts.
        StorageError: The disk is full, or the folder cannot be written.
    """
    from kerasemo.evaluation.fused_scoring import fit_served_fusion
    from kerasemo.exporting import provenance
    from kerasemo.runs import run_folder
    from kerasemo.runs.lineage import find_lineage
    from kerasemo.serving import bundle

    lineage = find_lineage(options.run, options.stage)
    _check_can_be_served(lineage, options.format)
    catalog = provenance.find_training_records(lineage, options.records)
    _check_folder(options.out, options.format)
    network = lineage.load_network()
    stage = lineage.last
    trained_domains = network.trained_domains()
    document = {
        "schema": bundle.SCHEMA,
        "format": options.format,
        "name": options.out.resolve().name,
        "labels": list(stage.trained_emotions),
        "domains": [
            domain
            for domain, is_trained in zip(DOMAINS, trained_domains, strict=True)
            if is_trained
        ],
        "signatures": {},
        "fusion": dataclasses.asdict(fit_served_fusion(lineage, catalog)),
        "training": provenance.training_facts(lineage, catalog)
        | {"parameters": network.model.count_params()},
        "synthetic": provenance.is_synthetic(lineage, catalog),
        "versions": run_folder.package_versions(),
    }
    with _unfinished_folder(options.out) as folder, _storage_errors(options.out):
        differences = _write_version(folder, network, document, lineage, catalog)
        version = _move_into_place(folder, options.out)
    if options.format == "saved_model":
        from kerasemo.exporting import tf_serving

        tf_serving.write_configuration(options.out, name=options.out.resolve().name)
    names = ("format", "labels", "domains", "synthetic", "fusion")
    return {
        "out": str(options.out),
        "version": version,
        "differences": differences,
        **{name: document[name] for name in names},
    }


def _check_can_be_served(lineage: "Lineage", format: str) -> None:
    """Raise InputError if a stage cannot be served.

    A request has one clip and does not name its corpus.
    """
    stage = lineage.last
    if stage.key.heads:
        raise InputError(
            f"{stage.folder}: has a head for each of its sources, and a request does not name its "
            f"source; train the stage with --set \"{stage.name}.heads='masked'\" in another --run"
        )
    for trained_stage in lineage.stages:
        if trained_stage.config.speaker_normalization:
            raise InputError(
                f"{trained_stage.folder}: normalises audio by all clips of its speaker "
                "(speaker_normalization), and a request has one clip; train the stages without "
                "the setting in another --run"
            )
    if stage.config.kind == "contrastive" and format != "saved_model":
        raise InputError(
            f"{stage.folder}: a contrastive stage predicts no emotion; export it as saved_model, "
            "for embeddings"
        )


def _check_folder(out: Path, format: str) -> None:
    """Raise InputError if a folder holds anything but versions of a bundle in this format."""
    from kerasemo.serving import bundle

    if out.exists() and not out.is_dir():
        raise InputError(
            f"{out}: a file; expected the folder of a bundle, or a new folder; name another --out"
        )
    versions = bundle.versions(out)
    if versions:
        stored_format = bundle.read_document(out / str(versions[-1]))["format"]
        if stored_format != format:
            raise InputError(
                f"{out}: holds versions in the format {stored_format}; a bundle has one format; "
                "name another --out"
            )
    elif out.is_dir() and any(not path.name.startswith(".") for path in out.iterdir()):
        raise InputError(f"{out}: holds other files than a bundle; name another --out")


@contextlib.contextmanager
def _unfinished_folder(out: Path) -> Iterator[Path]:
    """Yield a new folder for a version; remove the folder afterwards unless it was moved.

    The temporary folder around it is private to the user. The yielded folder has the mode of any
    new folder, because a server must read it.
    """
    is_new = not out.exists()
    with files.storage_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    for path in out.glob(f"{UNFINISHED}*"):
        with contextlib.suppress(OSError):  # another export removes it at the same time
            if path.stat().st_mtime < time.time() - ABANDONED_SECONDS:
                shutil.rmtree(path)
    try:
        with tempfile.TemporaryDirectory(
            prefix=UNFINISHED, dir=out, ignore_cleanup_errors=True
        ) as temporary:
            folder = Path(temporary) / "version"
            folder.mkdir()
            yield folder
    finally:
        if is_new:
            with contextlib.suppress(OSError):  # a version is in the folder
                out.rmdir()


@contextlib.contextmanager
def _storage_errors(out: Path) -> Iterator[None]:
    """Raise StorageError when Python or TensorFlow cannot write."""
    import tensorflow as tf

    from kerasemo.serving.graph_messages import graph_message

    try:
        with files.storage_errors(out):
            yield
    except tf.errors.OpError as error:
        raise StorageError(
            f"{out}: cannot be written ({graph_message(error)}); free space, or name another --out"
        ) from error


def _write_version(
    folder: Path,
    network: "TrainedNetwork",
    document: dict[str, Any],
    lineage: "Lineage",
    catalog: "RecordCatalog",
) -> dict[str, float]:
    """Write a version, and return the differences of its predictions from the Keras model.

    Args:
        folder: The folder of the version.
        network: The network of the stage.
        document: The content of `bundle.json`; its signatures are filled in.
        lineage: The stage.
        catalog: The records of the training.

    Returns:
        Signature -> the largest difference.

    Raises:
        RunError: A difference is larger than `parity.TOLERANCE`.
    """
    from kerasemo.datasets.segmentation import Segmentation
    from kerasemo.exporting import model_card, parity_cases, provenance, tf_serving
    from kerasemo.serving import bundle, parity

    spec = Segmentation.for_scores(lineage.last.config).spec
    format, labels, domains = document["format"], document["labels"], document["domains"]
    logger.info("%s: writing %s of stage %r", format, ", ".join(domains), lineage.last.name)
    document["signatures"] = _write_model(
        folder, network, format, labels, domains, has_head=_has_head(lineage), spec=spec
    )
    signatures = list(document["signatures"])
    logger.info("comparing the predictions of a new process with the Keras model")
    cases = parity_cases.ParityCases(
        _finite_predictor(network, lineage.last.name),
        labels=labels,
        folder=catalog.folder,
        sources=lineage.trained_on,
        spec=spec,
    )
    if cases.n_resynthesized and format != "onnx":
        logger.info(
            "the records hold no waveforms; the waveforms of %d clips are made from their log-Mels "
            "(pipelines.build --waveform stores waveforms)",
            cases.n_resynthesized,
        )
    pairs = cases.calls(signatures) if format == "saved_model" else cases.portable_calls(signatures)
    calls, expected = [call for call, _ in pairs], [outputs for _, outputs in pairs]
    assets = folder / "assets"
    assets.mkdir(exist_ok=True)
    clips = json.dumps(
        provenance.training_clips(lineage, catalog), ensure_ascii=False, separators=(",", ":")
    )
    texts = {
        assets / "training_clips.json": clips + "\n",
        assets / "labels.txt": "\n".join(labels) + "\n",
        assets / "spec.json": json.dumps(dataclasses.asdict(spec), indent=1) + "\n",
        assets / "model_card.md": model_card.model_card(document),
        folder / bundle.DOCUMENT: json.dumps(document, indent=1, ensure_ascii=False) + "\n",
    }
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    if format == "saved_model":
        first_call = {call[0]: call for call in reversed(calls)}
        tf_serving.write_warm_up(folder, [first_call[name] for name in signatures])
    bundle.write_checksums(folder)
    differences = parity.parity_differences(folder, calls, expected)
    too_large = [
        f"{name} by {difference:.1e}"
        for name, difference in differences.items()
        if not difference <= parity.TOLERANCE
    ]
    if too_large:
        raise RunError(
            "the exported model does not predict what the Keras model predicts: "
            f"{', '.join(too_large)}, allowed {parity.TOLERANCE:.0e}"
        )
    return differences


def _has_head(lineage: "Lineage") -> bool:
    """Return whether the head was trained, so that the network can predict emotions."""
    return lineage.last.config.kind != "contrastive"


def _write_model(
    folder: Path,
    network: "TrainedNetwork",
    format: str,
    labels: Sequence[str],
    domains: Sequence[str],
    *,
    has_head: bool,
    spec: Spec,
) -> dict[str, Any]:
    """Write the model in a format, and return inputs and outputs of each signature."""
    from kerasemo.exporting import onnx_litert
    from kerasemo.serving.signatures import select_signatures

    if format == "saved_model":
        return _write_saved_model(folder, network, labels, domains, has_head, spec)
    functions = onnx_litert.portable_functions(network, labels=labels, domains=domains, spec=spec)
    if format == "onnx":
        names = onnx_litert.write_onnx(folder, functions, labels=labels)
    else:
        names = onnx_litert.write_litert(folder, functions, network.model)
    signatures = select_signatures(format, domains=domains)
    return {name: signatures[name].to_json(len(labels)) for name in names}


def _finite_predictor(network: "TrainedNetwork", stage: str) -> Callable[..., "NetworkOutputs"]:
    """Return a function that runs a network and raises DataError for infinite outputs or NaN."""
    import numpy as np

    from kerasemo.evaluation.scoring import head_logits

    predict = network.predictor()

    def predict_finite(items: np.ndarray, domain: int) -> "NetworkOutputs":
        outputs = predict(items, domain)
        values_by_name = {"logits": head_logits(outputs), "embedding": outputs.embedding}
        for name, values in values_by_name.items():
            if not np.isfinite(values).all():
                raise DataError(
                    f"stage {stage!r}: the {name} of the Keras model are NaN or infinite; its "
                    "weights are damaged: train the stage again"
                )
        return outputs

    return predict_finite


def _write_saved_model(
    folder: Path,
    network: "TrainedNetwork",
    labels: Sequence[str],
    domains: Sequence[str],
    has_head: bool,
    spec: Spec,
) -> dict[str, Any]:
    """Write the SavedModel, and return inputs and outputs of each signature."""
    import tensorflow as tf

    from kerasemo.exporting.graph import ServedModel

    served = ServedModel(network, labels=labels, domains=domains, has_head=has_head, spec=spec)
    signatures = served.signatures()
    tf.saved_model.save(served, str(folder), signatures=signatures)

    def describe(specs: Mapping[str, tf.TensorSpec]) -> dict[str, Any]:
        return {name: [spec.dtype.name, spec.shape.as_list()] for name, spec in specs.items()}

    return {
        name: {
            "inputs": describe(served.inputs[name]),
            "outputs": describe(function.structured_outputs),
        }
        for name, function in signatures.items()
        if name != "serving_default"
    }


def _move_into_place(folder: Path, out: Path) -> int:
    """Rename the folder of a finished version to the next free number, and return the number.

    Another export may take the number at the same time; then the next number is tried.
    """
    from kerasemo.serving import bundle

    while True:
        version = max(bundle.versions(out), default=0) + 1
        try:
            os.rename(folder, out / str(version))
        except OSError:
            if not (out / str(version)).exists():
                raise
        else:
            return version
