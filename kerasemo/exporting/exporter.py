"""Export a trained stage as a bundle: SavedModel, ONNX or LiteRT, verified before it is put in place."""

import contextlib
import dataclasses
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kerasemo.serving.signatures import select_signatures
from pipelines.core.domains import DOMAINS
from pipelines.core.errors import InputError
from pipelines.core.spec import Spec

UNFINISHED = ".unfinished-"
"""How the folder begins, in a bundle's, that a version is made in."""
ABANDONED_SECONDS = 24 * 3600
"""Older than this, an unfinished folder is that of an export that was killed."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What an export is asked for."""

    run: Path
    out: Path
    stage: str | None = None
    """None: joint if it is done, else the stage that was finished last."""
    records: Path | None = None
    """None: where they were when the stage was trained."""
    format: str = "saved_model"


def export(options: Options, *, log: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Write the next version of a bundle, load it anew in a fresh process, and compare every answer with the Keras model's.

    Nothing is written over: the bundle is made under another name and takes its place only when it has proved right.

    Args:
        options: What to export.
        log: Called with each line about what is done.

    Returns:
        `{"out", "version", "format", "labels", "domains", "differences": {signature: largest difference}, "synthetic"}`.

    Raises:
        InputError: No such stage, nothing of it that can be asked, other records than those of the training, answers that differ, or no
            space to write to.
    """
    from kerasemo.evaluation import fused_scoring
    from kerasemo.exporting import provenance
    from kerasemo.runs import lineage, run_folder
    from kerasemo.serving import bundle

    of = lineage.find(options.run, options.stage)
    result = of.result
    if run_folder.heads_of(result["key"]):
        stage = result["stage"]
        raise InputError(
            f"{of.folders[-1]}: has a head for each of its sources, and whoever asks a service names none; train the stage with "
            f"--set \"{stage}.heads='masked'\" in another --run"
        )
    for folder, stage in zip(of.folders, of.stages, strict=True):
        if stage["key"]["stage"].get("speaker_normalization"):
            raise InputError(
                f"{folder}: its sound is normalised by each speaker's own clips (speaker_normalization), of which a service is sent one; "
                "train the stages without it in another --run"
            )
    records = provenance.records_folder(of, options.records)
    _check_place(options.out, options.format)
    network = run_folder.load_network(of.folders[-1], result)
    domains = [
        domain
        for domain, seen in zip(DOMAINS, run_folder.seen_domains(network), strict=True)
        if seen
    ]
    answers = result["kind"] != "contrastive"
    if not answers and options.format != "saved_model":
        raise InputError(
            f"{of.folders[-1]}: a contrastive stage answers nothing; export it as saved_model, for embeddings"
        )
    fusion = fused_scoring.fitted(options.run, of.folders[-1].name, records)
    document = {
        "schema": bundle.BUNDLE_SCHEMA,
        "format": options.format,
        "name": options.out.resolve().name,
        "labels": result["trained_emotions"],
        "domains": domains,
        "signatures": {},
        "fusion": dataclasses.asdict(fusion),
        "training": provenance.training(of, records) | {"parameters": network.count_params()},
        "synthetic": provenance.is_synthetic(of, records),
        "versions": run_folder.versions(),
    }
    with _unfinished(options.out) as unfinished:
        worst = _write(
            unfinished, network, document, of, records, out=options.out, answers=answers, log=log
        )
        version = _put_in_place(unfinished, options.out)
    if options.format == "saved_model":
        from kerasemo.exporting import tf_serving

        tf_serving.write_configuration(options.out, name=document["name"])
    said = {key: document[key] for key in ("format", "labels", "domains", "synthetic", "fusion")}
    return {"out": str(options.out), "version": version, "differences": worst, **said}


def _check_place(out: Path, format: str) -> None:
    from kerasemo.serving import bundle

    if out.exists() and not out.is_dir():
        raise InputError(
            f"{out}: a file; expected the folder of a bundle, or none yet; name another --out"
        )
    if numbers := bundle.bundle_versions(out):
        held = bundle.read_bundle_document(out / str(numbers[-1]))["format"]
        if held != format:
            raise InputError(
                f"{out}: holds versions in the format {held}, and one bundle has one format; name another --out"
            )
    elif out.is_dir() and any(not path.name.startswith(".") for path in out.iterdir()):
        raise InputError(f"{out}: holds something else than a bundle; name another --out")


@contextlib.contextmanager
def _unfinished(out: Path) -> Iterator[Path]:
    """Make a folder for a version in a bundle's; of what is not put in place nothing stays, nor a bundle's folder made for it.

    It stands in a temporary folder, whose mode lets nobody else in; its own mode is that of any new folder, as a server needs it.
    """
    made = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    for path in out.glob(f"{UNFINISHED}*"):
        with contextlib.suppress(OSError):  # another export removes it as well
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
        if made:
            with contextlib.suppress(OSError):  # not empty
                out.rmdir()


@contextlib.contextmanager
def _told_of_disk(out: Path) -> Iterator[None]:
    """Turn what TensorFlow raises where it cannot write into the one error of a user's mistake."""
    import tensorflow as tf

    from kerasemo.serving import graph_messages

    try:
        yield
    except tf.errors.OpError as error:
        raise InputError(
            f"{out}: cannot be written ({graph_messages.describe_graph_error(error)}); "
            "free space there, or name another --out"
        ) from error


def _write(
    folder: Path,
    network,
    document: dict[str, Any],
    of,
    records: Path,
    *,
    out: Path,
    answers: bool,
    log,
) -> dict[str, float]:
    """Write a version of the bundle `out`, prove it, and return the largest difference of each signature's answers."""
    from kerasemo.datasets.segmentation import Cut
    from kerasemo.exporting import model_card, onnx_litert, parity_cases, provenance, tf_serving
    from kerasemo.networks import inference
    from kerasemo.serving import bundle, parity

    spec = Cut.of(of.result["key"]["stage"]).spec  # what is served is cut as what was scored
    format, labels, domains = document["format"], document["labels"], document["domains"]
    log(f"{format}: writes {', '.join(domains)} of stage {of.result['stage']!r}")
    if format == "saved_model":
        with _told_of_disk(out):
            document["signatures"] = _write_saved_model(
                folder, network, labels, domains, answers, spec
            )
        names = list(document["signatures"])
    else:
        found = onnx_litert.functions(network, labels=labels, domains=domains, spec=spec)
        write = {"onnx": onnx_litert.write_onnx, "litert": onnx_litert.write_litert}[format]
        with _told_of_disk(out):
            names = (
                write(folder, found, labels=labels)
                if format == "onnx"
                else write(folder, found, network)
            )
        signatures = select_signatures(format, domains=domains)
        document["signatures"] = {
            name: signatures[name].to_json(spec=spec, n_labels=len(labels)) for name in names
        }
    log("compares its answers, loaded anew, with the Keras model's")
    predict = _of_numbers(inference.predictor(network), of.result["stage"])
    probe = parity_cases.Probes(
        predict, labels=labels, folder=records, sources=of.trained_on, spec=spec
    )
    if probe.resynthesised and format != "onnx":
        made = f"that of {probe.resynthesised} clips is made anew from their log-Mels"
        log(f"the records keep no sound: {made} (pipelines.build --waveform keeps it)")
    pairs = probe.calls(names) if format == "saved_model" else probe.portable_calls(names)
    calls, expected = [call for call, _ in pairs], [answer for _, answer in pairs]
    assets = folder / "assets"
    assets.mkdir(exist_ok=True)
    provenance.dump(assets / "training_clips.json", provenance.training_clips(of, records))
    (assets / "labels.txt").write_text("\n".join(labels) + "\n", encoding="utf-8")
    (assets / "spec.json").write_text(
        json.dumps(dataclasses.asdict(spec), indent=1) + "\n", encoding="utf-8"
    )
    (assets / "model_card.md").write_text(model_card.model_card(document), encoding="utf-8")
    (folder / bundle.BUNDLE_DOCUMENT).write_text(
        json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    if format == "saved_model":
        first = {call.signature: call for call in reversed(calls)}  # one of each
        with _told_of_disk(out):
            tf_serving.write_warm_up(folder, [first[name] for name in names])
    bundle.write_checksums(folder)
    worst = parity.max_output_differences(folder, calls, expected)
    if wrong := [
        f"{name} by {difference:.1e}"
        for name, difference in worst.items()
        if not difference <= parity.TOLERANCE
    ]:
        raise InputError(
            f"the exported model's answers are not the Keras model's: {', '.join(wrong)}, allowed {parity.TOLERANCE:.0e}"
        )
    return worst


def _of_numbers(
    predict: Callable[..., dict[str, Any]], stage: str
) -> Callable[..., dict[str, Any]]:
    """Return what runs a network and takes no answer that is NaN or infinite: what is exported would give as little."""
    import numpy as np

    def checked(items, domain: int) -> dict[str, Any]:
        outputs = predict(items, domain)
        for name, values in outputs.items():
            if not np.isfinite(values).all():
                raise InputError(
                    f"stage {stage!r}: the Keras model's own {name} are no numbers; its weights are broken, train it again"
                )
        return outputs

    return checked


def _write_saved_model(
    folder: Path, network, labels: Sequence[str], domains: Sequence[str], answers: bool, spec: Spec
) -> dict[str, Any]:
    """Write the SavedModel and return what its signatures take and give."""
    import tensorflow as tf

    from kerasemo.exporting.graph import Served

    served = Served(network, labels=labels, domains=domains, answers=answers, spec=spec)
    signatures = served.signatures()
    tf.saved_model.save(served, str(folder), signatures=signatures)

    def described(specs) -> dict[str, Any]:
        return {name: [spec.dtype.name, spec.shape.as_list()] for name, spec in specs.items()}

    return {
        name: {
            "inputs": described(served.inputs[name]),
            "outputs": described(function.structured_outputs),
        }
        for name, function in signatures.items()
        if name != "serving_default"
    }


def _put_in_place(unfinished: Path, out: Path) -> int:
    """Give a finished version the next free number, also while another export does the same."""
    from kerasemo.serving import bundle

    while True:
        version = max(bundle.bundle_versions(out), default=0) + 1
        try:
            os.rename(unfinished, out / str(version))
        except OSError:
            if not (out / str(version)).exists():
                raise
        else:
            return version
