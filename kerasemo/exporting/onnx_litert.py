"""The network for other runtimes: ONNX (faces, log-Mel segments) and LiteRT (those and sound), which know no errors.

So each answer comes with `valid`; where it is false the probabilities are NaN.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import keras
import tensorflow as tf

from kerasemo.networks.inference import network_outputs
from kerasemo.serving.requests import MAX_PEAK, segment_range
from kerasemo.serving.signatures import select_signatures
from pipelines.core.domains import DOMAINS
from pipelines.core.errors import InputError
from pipelines.core.labels import EMOTIONS
from pipelines.core.spec import Spec
from pipelines.features import log_mel

ONNX_OPSET = 18

Function = tuple[Callable[[tf.Tensor], dict[str, tf.Tensor]], tf.TensorSpec]
"""What is computed of one input, and what that is."""


def functions(
    network: keras.Model, *, labels: Sequence[str], domains: Sequence[str], spec: Spec = Spec()
) -> dict[str, Function]:
    """Return what is exported, by name: `faces`, `segments` and `speech`, for the domains that the network was trained on."""
    columns = [EMOTIONS.index(label) for label in labels]

    def probabilities(images: tf.Tensor, domain: str) -> tf.Tensor:
        logits = network_outputs(network, images, DOMAINS.index(domain))["logits"]
        return tf.nn.softmax(tf.gather(logits, columns, axis=-1))

    def told(answers: tf.Tensor, valid: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return answers [..., labels] that are NaN where they are not valid [...]."""
        return {"probabilities": tf.where(valid[..., None], answers, float("nan")), "valid": valid}

    def faces(faces):
        pixels = tf.cast(faces, tf.float32)
        spread = tf.reduce_max(pixels, axis=[1, 2, 3]) - tf.reduce_min(pixels, axis=[1, 2, 3])
        return told(probabilities(pixels, "visual"), spread > 0)

    def segments(segments):
        least, most = segment_range(spec)
        valid = tf.math.is_finite(segments) & (segments >= least) & (segments <= most)
        return told(probabilities(segments, "audio"), tf.reduce_all(valid, axis=[1, 2, 3]))

    def speech(waveform):
        samples = tf.shape(waveform)[0]
        peak = tf.reduce_max(tf.abs(waveform))
        valid = (
            tf.reduce_all(tf.math.is_finite(waveform))
            & (peak <= MAX_PEAK)
            & (peak >= spec.silence_peak)
        )
        valid &= (samples >= spec.fft_samples) & (samples <= spec.part_samples)
        long_enough = tf.pad(
            waveform[: spec.part_samples], [[0, tf.maximum(0, spec.fft_samples - samples)]]
        )
        answers = probabilities(
            log_mel.segments(log_mel.log_mel(long_enough, spec=spec), spec=spec), "audio"
        )
        return told(tf.reduce_mean(answers, axis=0), valid)

    graph_functions = {"faces": faces, "segments": segments, "speech": speech}
    exported: dict[str, Function] = {}
    for name, signature in select_signatures("litert", domains=domains).items():
        (tensor,) = signature.inputs
        shape = tensor.shape(spec=spec, n_labels=len(labels))
        exported[name] = (graph_functions[name], tf.TensorSpec(shape, tensor.dtype, tensor.name))
    return exported


def write_onnx(folder: Path, found: Mapping[str, Function], *, labels: Sequence[str]) -> list[str]:
    """Write `NAME.onnx` for faces and log-Mel segments, with the labels among its properties; return the names.

    Raises:
        InputError: tf2onnx is not installed.
    """
    with _environment_kept():
        try:
            import onnx
            import tf2onnx
        except ImportError as error:
            raise InputError(
                "--format onnx needs the packages tf2onnx and onnxruntime; pip install 'kerasemo[onnx]'"
            ) from error
        names = [name for name in select_signatures("onnx", domains=DOMAINS) if name in found]
        for name in names:
            function, given = found[name]
            model, _ = tf2onnx.convert.from_function(
                tf.function(function, input_signature=[given]), [given], opset=ONNX_OPSET
            )
            for value in (*model.graph.input, *model.graph.output):
                value.type.tensor_type.shape.dim[0].dim_param = "n"
            onnx.helper.set_model_props(model, {"labels": json.dumps(list(labels))})
            onnx.checker.check_model(model)
            (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
        return names


@contextlib.contextmanager
def _environment_kept() -> Iterator[None]:
    """Take back what is set in this process's environment meanwhile: tf2onnx sets TensorFlow's log level for all that is started."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def write_litert(folder: Path, found: Mapping[str, Function], network: keras.Model) -> list[str]:
    """Write `model.tflite`, with a signature for each function of the network; return their names."""
    module = tf.Module()
    module.weights = [variable.value for variable in network.variables]
    concrete = {
        name: tf.function(function, input_signature=[given]).get_concrete_function()
        for name, (function, given) in found.items()
    }
    with tempfile.TemporaryDirectory() as saved:
        tf.saved_model.save(module, saved, signatures=concrete)
        converter = tf.lite.TFLiteConverter.from_saved_model(saved, signature_keys=list(concrete))
        (folder / "model.tflite").write_bytes(converter.convert())
    return list(concrete)
