"""The files of TF Serving beside a SavedModel: warm-up requests and configuration."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf import text_encoding
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from kerasemo.serving.parity import Call, Inputs
from pipelines.core.spec import Spec

WARM_UP = "assets.extra/tf_serving_warmup_requests"
"""The file of the warm-up requests of TF Serving."""

MODELS = """\
# tensorflow_model_server --model_config_file=models.config: serves the newest two versions, so that
# clients can return to the older one.
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
# The server merges requests of one signature that arrive at the same time. They succeed or fail
# together. So: - Let clients check their inputs first, as kerasemo.client does: a wrong request
# makes the merged requests fail, too. - Use faces, face_bytes, segments and wav_bytes, which always
# merge. Waveforms of unequal length do not merge: all fail   ("different shapes and padding is
# turned off"). Repeat the request, or send wav_bytes. - Leave padding off: padding would count as
# silence, and the prediction would be wrong.
max_batch_size { value: 32 }
batch_timeout_micros { value: 2000 }
max_enqueued_batches { value: 64 }
num_batch_threads { value: 2 }
pad_variable_length_inputs: false
"""


def write_warm_up(folder: Path, calls: Sequence[Call]) -> int:
    """Write a warm-up request for each call, and return their number.

    A request has one item, or one second of a waveform around its peak.

    Args:
        folder: The folder of the version.
        calls: A call for each signature.
    """
    path = folder / WARM_UP
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in calls:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "kerasemo"
            request.model_spec.signature_name = signature
            for name, value in _first_item(inputs).items():
                tensor = value if isinstance(value, np.ndarray) else np.array(value, dtype=object)
                request.inputs[name].CopyFrom(tf.make_tensor_proto(tensor))
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request)
            )
            writer.write(log.SerializeToString())
    return len(calls)


def _first_item(inputs: Inputs) -> dict[str, np.ndarray | Sequence[bytes]]:
    """Return the first item of every input, with at most the loudest second of a waveform."""
    item = {name: value[:1] for name, value in inputs.items()}
    if "waveform" in item:
        length = int(np.asarray(item["lengths"])[0]) if "lengths" in item else None
        waveform = np.asarray(item["waveform"])[:, :length]
        n_samples = min(waveform.shape[1], Spec().sample_rate_hz)
        peak = int(np.abs(waveform[0]).argmax())
        start = min(max(0, peak - n_samples // 2), waveform.shape[1] - n_samples)
        item["waveform"] = waveform[:, start : start + n_samples]
        if "lengths" in item:
            item["lengths"] = np.array([n_samples], np.int32)
    return item


def write_configuration(folder: Path, *, name: str) -> None:
    """Write `serving/` into the folder of a bundle.

    Files that exist stay, because a user may have changed them.

    Args:
        folder: The folder of the bundle.
        name: The name of the bundle, part of the path in a container.
    """
    serving = folder / "serving"
    serving.mkdir(exist_ok=True)
    for file, text in (
        ("models.config", MODELS.format(name=text_encoding.CEscape(name, as_utf8=True))),
        ("batching.config", BATCHING),
    ):
        if not (serving / file).exists():
            (serving / file).write_text(text, encoding="utf-8")
