"""What a TF Serving wants beside a SavedModel: warm-up requests, and its configuration."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf import text_encoding
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from kerasemo.serving.parity import Inputs, SignatureCall
from pipelines.core.spec import Spec

WARM_UP = "assets.extra/tf_serving_warmup_requests"
"""Where TF Serving looks for them."""

MODELS = """\
# tensorflow_model_server --model_config_file=models.config: the newest two versions, so that one can be gone back to.
model_config_list {{
  config {{
    name: "kerasemo"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
    model_version_policy {{ latest {{ num_versions: 2 }} }}
  }}
}}
"""

BATCHING = """\
# tensorflow_model_server --enable_batching --batching_parameters_file=batching.config
# Requests of one signature that come at once are answered together, and fail together. So:
# - let clients check their inputs first, as kerasemo.client does: a wrong request takes along those that it meets;
# - ask for faces, face_bytes, segments and wav_bytes, which merge whatever they hold. Waveforms of unequal length that meet are
#   all refused ("different shapes and padding is turned off"): ask again, or send wav_bytes. Padding stays off, because what is
#   padded would be heard as silence, and the answer would be wrong.
max_batch_size { value: 32 }
batch_timeout_micros { value: 2000 }
max_enqueued_batches { value: 64 }
num_batch_threads { value: 2 }
pad_variable_length_inputs: false
"""


def write_warm_up(folder: Path, calls: Sequence[SignatureCall]) -> int:
    """Write a request for each call into a version's folder, of one item, or a second of sound about its peak; return how many."""
    path = folder / WARM_UP
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in calls:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "kerasemo"
            request.model_spec.signature_name = signature
            for name, value in _of_one(inputs).items():
                tensor = value if isinstance(value, np.ndarray) else np.array(value, dtype=object)
                request.inputs[name].CopyFrom(tf.make_tensor_proto(tensor))
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request)
            )
            writer.write(log.SerializeToString())
    return len(calls)


def _of_one(inputs: Inputs) -> dict[str, np.ndarray | Sequence[bytes]]:
    """Return the first item of every input, of a waveform a second at most, which is not silent."""
    one = {name: value[:1] for name, value in inputs.items()}
    if "waveform" in one:
        spoken = one["waveform"][:, : one["lengths"][0] if "lengths" in one else None]
        samples = min(spoken.shape[1], Spec().sample_rate_hz)
        start = min(
            max(0, int(np.abs(spoken[0]).argmax()) - samples // 2), spoken.shape[1] - samples
        )
        one["waveform"] = spoken[:, start : start + samples]
        if "lengths" in one:
            one["lengths"] = np.array([samples], np.int32)
    return one


def write_configuration(folder: Path, *, name: str) -> None:
    """Write `serving/` into a bundle's folder, unless it is there: what a user has changed stays."""
    serving = folder / "serving"
    serving.mkdir(exist_ok=True)
    for file, text in (
        ("models.config", MODELS.format(name=text_encoding.CEscape(name, as_utf8=True))),
        ("batching.config", BATCHING),
    ):
        if not (serving / file).exists():
            (serving / file).write_text(text, encoding="utf-8")
