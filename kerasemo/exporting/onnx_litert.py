"""The network for ONNX Runtime (faces, log-Mel segments) and LiteRT (these and waveforms).

These runtimes have no errors. So each prediction comes with `valid`; if it is false, the
probabilities are NaN.
"""

import contextlib
import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from kerasemo.networks.inference import TrainedNetwork
from kerasemo.serving.requests import MAX_PEAK, segment_range
from kerasemo.serving.signatures import select_signatures
from pipelines.core.domains import DOMAINS
from pipelines.core.errors import InputError
from pipelines.core.labels import EMOTIONS
from pipelines.core.spec import Spec
from pipelines.features import log_mel

ONNX_OPSET = 18

Outputs = dict[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class PortableFunction:
    """A function of one input that returns `probabilities` and `valid`."""

    function: Callable[[tf.Tensor], Outputs]
    input: tf.TensorSpec

    def to_tensorflow(self) -> Any:
        """Return it as a `tf.function`."""
        return tf.function(self.function, input_signature=[self.input])


def portable_functions(
    network: TrainedNetwork, *, labels: Sequence[str], domains: Sequence[str], spec: Spec = Spec()
) -> dict[str, PortableFunction]:
    """Return `faces`, `segments` and `speech`, for the domains that the network was trained on.

    Args:
        network: A network with one head.
        labels: The emotions that it was trained on.
        domains: The domains that it was trained on.
        spec: How audio is cut into segments.
    """
    columns = [EMOTIONS.index(label) for label in labels]

    def probabilities(images: tf.Tensor, domain: str) -> tf.Tensor:
        logits = network.outputs(images, DOMAINS.index(domain))["logits"]
        return tf.nn.softmax(tf.gather(logits, columns, axis=-1))

    def with_validity(of_items: tf.Tensor, is_valid: tf.Tensor) -> Outputs:
        """Return probabilities [..., labels] that are NaN where `is_valid` [...] is false."""
        return {
            "probabilities": tf.where(is_valid[..., None], of_items, float("nan")),
            "valid": is_valid,
        }

    def faces(faces: tf.Tensor) -> Outputs:
        pixels = tf.cast(faces, tf.float32)
        contrast = tf.reduce_max(pixels, axis=[1, 2, 3]) - tf.reduce_min(pixels, axis=[1, 2, 3])
        return with_validity(probabilities(pixels, "visual"), contrast > 0)

    def segments(segments: tf.Tensor) -> Outputs:
        least, most = segment_range(spec)
        is_valid = tf.math.is_finite(segments) & (segments >= least) & (segments <= most)
        return with_validity(
            probabilities(segments, "audio"), tf.reduce_all(is_valid, axis=[1, 2, 3])
        )

    def speech(waveform: tf.Tensor) -> Outputs:
        n_samples = tf.shape(waveform)[0]
        peak = tf.reduce_max(tf.abs(waveform))
        is_valid = (
            tf.reduce_all(tf.math.is_finite(waveform))
            & (peak <= MAX_PEAK)
            & (peak >= spec.silence_peak)
        )
        is_valid &= (n_samples >= spec.fft_samples) & (n_samples <= spec.part_samples)
        missing = tf.maximum(0, spec.fft_samples - n_samples)
        long_enough = tf.pad(waveform[: spec.part_samples], [[0, missing]])
        static = log_mel.log_mel(long_enough, spec=spec)
        of_segments = probabilities(log_mel.segments(static, spec=spec), "audio")
        return with_validity(tf.reduce_mean(of_segments, axis=0), is_valid)

    # `speech` takes a single waveform: these runtimes do not run the loop over a batch.
    of_signatures = {"faces": faces, "segments": segments, "speech": speech}
    functions = {}
    for name, signature in select_signatures("litert", domains=domains).items():
        (tensor,) = signature.inputs
        spec_of_input = tf.TensorSpec(tensor.shape_for(len(labels)), tensor.dtype, tensor.name)
        functions[name] = PortableFunction(of_signatures[name], spec_of_input)
    return functions


def write_onnx(
    folder: Path, functions: Mapping[str, PortableFunction], *, labels: Sequence[str]
) -> list[str]:
    """Write `NAME.onnx` for faces and log-Mel segments, with the labels in its metadata.

    Returns:
        The names.

    Raises:
        InputError: tf2onnx is not installed.
    """
    with _environment_restored():
        try:
            import onnx
            import tf2onnx
        except ImportError as error:
            raise InputError(
                "--format onnx needs the packages tf2onnx and onnxruntime; install them with "
                "pip install 'kerasemo[onnx]'"
            ) from error
        names = [name for name in select_signatures("onnx", domains=DOMAINS) if name in functions]
        for name in names:
            model, _ = tf2onnx.convert.from_function(
                functions[name].to_tensorflow(), [functions[name].input], opset=ONNX_OPSET
            )
            for value in (*model.graph.input, *model.graph.output):
                value.type.tensor_type.shape.dim[0].dim_param = "n"
            onnx.helper.set_model_props(model, {"labels": json.dumps(list(labels))})
            onnx.checker.check_model(model)
            (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
        return names


@contextlib.contextmanager
def _environment_restored() -> Iterator[None]:
    """Restore the environment after the block, because tf2onnx sets TensorFlow's log level."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def write_litert(
    folder: Path, functions: Mapping[str, PortableFunction], network: keras.Model
) -> list[str]:
    """Write `model.tflite` with a signature for each function, and return their names.

    Args:
        folder: Where to write.
        functions: See `portable_functions`.
        network: The network, whose weights are saved.
    """
    module = tf.Module()
    module.weights = [variable.value for variable in network.variables]
    concrete = {
        name: function.to_tensorflow().get_concrete_function()
        for name, function in functions.items()
    }
    with tempfile.TemporaryDirectory() as saved_model:
        tf.saved_model.save(module, saved_model, signatures=concrete)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            saved_model, signature_keys=list(concrete)
        )
        (folder / "model.tflite").write_bytes(converter.convert())
    return list(concrete)
