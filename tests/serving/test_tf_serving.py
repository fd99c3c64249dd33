"""A served bundle responds with the outputs of the bundle, and rejects wrong requests."""

import inspect
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from helpers.messages import key_words
from helpers.paths import PYTHONPATH
from helpers.serving_clients import (
    TOLERANCE,
    as_json,
    assert_same,
    call_client_method,
    post,
)
from helpers.serving_process import ServerProcess, serve_bundle
from helpers.serving_requests import (
    FACES,
    WRONG_REQUESTS,
    malformed_bodies,
    still,
    valid_requests,
    wav,
)
from kerasemo.serving.bundle import Bundle
from kerasemo.serving.client import Client
from kerasemo.serving.signatures import SIGNATURES
from kerasemo.serving.transport import FailureReason, ModelVersionStatus, ServingError

TRANSPORTS = ("rest", "grpc")
SIGNATURE_NAMES = tuple(SIGNATURES)


@pytest.fixture(scope="module")
def bundle(exported, tmp_path_factory) -> Path:
    """The folder of an exported bundle, with a second version of other weights."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("served") / "bundle"
    shutil.copytree(exported, folder)
    changed = tf.saved_model.load(str(folder / "1"))
    for weight in changed.weights.values():
        if weight.dtype.is_floating:
            weight.assign(weight * 0.5)
    tf.saved_model.save(changed, str(folder / "2"), signatures=dict(changed.signatures))
    for name in ("assets", "assets.extra"):
        shutil.copytree(folder / "1" / name, folder / "2" / name, dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def direct(bundle):
    """A function that runs a signature of a version without a server."""
    loaded = {number: Bundle(bundle / str(number)) for number in (1, 2)}
    return lambda signature, inputs, *, version=2: loaded[version].predict(signature, **inputs)


@pytest.fixture(scope="module")
def served(bundle):
    with serve_bundle(bundle) as server:
        yield server


@pytest.fixture(scope="module")
def n_labels(direct) -> int:
    return direct("faces", {"faces": FACES})["probabilities"].shape[1]


def client_of(served: ServerProcess, transport: str, **arguments) -> Client:
    return Client(getattr(served, transport), timeout_seconds=120, **arguments)


# Outputs.


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("signature", SIGNATURE_NAMES)
def test_every_signature_has_the_outputs_of_the_bundle(
    served, direct, n_labels, transport, signature
):
    inputs = valid_requests(n_labels, seed=7)[signature]
    with client_of(served, transport) as client:
        outputs = call_client_method(client, signature, inputs)
    assert_same(outputs, direct(signature, inputs))
    if "probabilities" in outputs:
        np.testing.assert_allclose(outputs["probabilities"].sum(axis=-1), 1, atol=TOLERANCE)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_unequal_waveforms_have_the_outputs_of_each_alone(served, direct, transport):
    waveforms = [
        np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)
        for seed, samples in enumerate((9000, 512, 40_001))
    ]
    with client_of(served, transport) as client:
        outputs = client.speech(waveforms)
    alone = [direct("speech", {"waveform": waveform[None]}) for waveform in waveforms]
    assert_same(outputs, {name: np.concatenate([row[name] for row in alone]) for name in alone[0]})


@pytest.mark.parametrize("signature", SIGNATURE_NAMES)
def test_rows_and_columns_have_equal_outputs(served, direct, n_labels, signature):
    inputs = valid_requests(n_labels, seed=3)[signature]
    client = client_of(served, "rest")
    plain = {name: as_json(array) for name, array in inputs.items()}
    rows = [dict(zip(plain, row)) for row in zip(*plain.values())]
    status, document = post(
        f"{served.rest}/v1/models/kerasemo:predict",
        json.dumps({"signature_name": signature, "instances": rows}).encode(),
    )
    assert status == 200, document
    by_row = document["predictions"]
    names = list(client.metadata().signatures[signature].outputs)
    columns = {
        name: np.array([row[name] if len(names) > 1 else row for row in by_row]) for name in names
    }
    expected = client.send(signature, inputs, names)
    for name in names:
        assert columns[name].tolist() == expected[name].tolist() or np.allclose(
            columns[name], expected[name], rtol=0, atol=1e-7
        )
    assert_same(expected, direct(signature, inputs))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_version_is_chosen_by_number_else_the_newest(served, direct, transport):
    first, second = (direct("faces", {"faces": FACES}, version=number) for number in (1, 2))
    assert np.abs(first["probabilities"] - second["probabilities"]).max() > 100 * TOLERANCE
    for version, expected in ((1, first), (2, second), (None, second)):
        with client_of(served, transport, version=version) as client:
            assert_same(client.faces(FACES), expected)
            assert client.metadata().version == (version or 2)
            numbers = (version,) if version else (2, 1)
            expected_status = [ModelVersionStatus(number, "AVAILABLE", "") for number in numbers]
            assert client.status() == expected_status


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_metadata_list_the_signatures_of_the_bundle(served, bundle, n_labels, transport):
    with client_of(served, transport) as client:
        signatures = client.metadata().signatures
    text = (bundle / "1" / "assets" / "bundle.json").read_text(encoding="utf-8")
    document = json.loads(text)["signatures"]
    assert set(document) == set(SIGNATURE_NAMES) and set(signatures) == {
        *SIGNATURE_NAMES,
        "serving_default",
    }
    for name, inputs in valid_requests(n_labels).items():
        served_signature = signatures[name]
        assert _dtypes(served_signature.inputs) == _document_dtypes(document[name]["inputs"])
        assert _dtypes(served_signature.outputs) == _document_dtypes(document[name]["outputs"])
        assert _dtypes(served_signature.inputs) == {
            name: _type(array) for name, array in inputs.items()
        }
        if "probabilities" in served_signature.outputs:
            assert served_signature.outputs["probabilities"].shape[-1] == n_labels


def _dtypes(tensors):
    return {name: tensor.dtype for name, tensor in tensors.items()}


def _document_dtypes(tensors):
    return {name: dtype for name, (dtype, _) in tensors.items()}


def _type(array):
    return "string" if array.dtype == object else str(array.dtype)


def test_32_requests_at_once_each_get_their_outputs(served, direct, n_labels):
    requests = [
        (
            SIGNATURE_NAMES[number % len(SIGNATURE_NAMES)],
            TRANSPORTS[number // 3 % 2],
            valid_requests(n_labels, seed=number),
        )
        for number in range(32)
    ]
    clients = {transport: client_of(served, transport) for transport in TRANSPORTS}

    def send(request):
        signature, transport, inputs = request
        return call_client_method(clients[transport], signature, inputs[signature])

    with ThreadPoolExecutor(32) as pool:
        responses = list(pool.map(send, requests))
    assert {(signature, transport) for signature, transport, _ in requests} >= {
        (signature, transport) for signature in ("faces", "speech") for transport in TRANSPORTS
    }
    for (signature, _, inputs), outputs in zip(requests, responses, strict=True):
        assert_same(outputs, direct(signature, inputs[signature]))


@pytest.mark.parametrize(("transport", "seconds"), [("rest", 15), ("grpc", 90)])
def test_request_above_four_megabytes_succeeds(served, direct, transport, seconds):
    """A sample takes about twenty bytes as JSON, and four bytes over gRPC."""
    waveform = np.random.default_rng(0).normal(0, 0.1, (1, 16_000 * seconds)).astype(np.float32)
    text = json.dumps(as_json(waveform), separators=(",", ":"))
    request_bytes = len(text) if transport == "rest" else waveform.nbytes
    assert request_bytes > 4 * 2**20
    with client_of(served, transport) as client:
        assert_same(client.speech(waveform), direct("speech", {"waveform": waveform}))


# Warm-up.


def test_warm_up_requests_of_every_signature_are_replayed(served):
    assert served.warm_ups == {"1": len(SIGNATURE_NAMES), "2": len(SIGNATURE_NAMES)}


@pytest.mark.endurance
def test_damaged_warm_up_keeps_the_server_from_starting(bundle, tmp_path):
    shutil.copytree(bundle / "2", tmp_path / "1")
    path = tmp_path / "1" / "assets.extra" / "tf_serving_warmup_requests"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with (
        pytest.raises(RuntimeError, match=key_words("corrupted", "record")),
        serve_bundle(tmp_path),
    ):
        pass


def test_rejected_warm_up_request_fails(bundle, tmp_path):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    from helpers.serving_models import Refused, Version

    shutil.copytree(bundle / "2", tmp_path / "1")
    version = Version(tmp_path / "1")
    assert version.warm_up() == len(SIGNATURE_NAMES)
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.signature_name = "speech"
    log.predict_log.request.inputs["waveform"].CopyFrom(
        tf.make_tensor_proto(np.zeros((1, 9000), np.float32))
    )
    path = tmp_path / "1" / "assets.extra" / "tf_serving_warmup_requests"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(log.SerializeToString())
    with pytest.raises(Refused, match=key_words("silent", "expected sound")):
        version.warm_up()


def test_configuration_has_the_default_model_of_the_client(bundle):
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    text = (bundle / "serving" / "models.config").read_text(encoding="utf-8")
    (model,) = text_format.Parse(
        text, model_server_config_pb2.ModelServerConfig()
    ).model_config_list.config
    assert model.name == inspect.signature(Client).parameters["model"].default
    assert model.model_platform == "tensorflow" and model.base_path.startswith("/")


# Wrong requests.


def assert_serves(served: ServerProcess, direct, transport: str) -> None:
    with client_of(served, transport) as client:
        assert_same(client.faces(FACES), direct("faces", {"faces": FACES}))
    assert served.process.poll() is None


WRONG_BY_TRANSPORT = [
    (name, transport)
    for name in WRONG_REQUESTS
    for transport in TRANSPORTS
    if (name, transport) != ("over ten minutes", "rest")
]
"""All but ten minutes of sound as JSON, which take 15 s to write and read."""


@pytest.mark.parametrize(("name", "transport"), WRONG_BY_TRANSPORT)
def test_error_of_a_wrong_request_says_what_was_expected(served, direct, n_labels, name, transport):
    signature, inputs_for, words = WRONG_REQUESTS[name]
    with (
        client_of(served, transport) as client,
        pytest.raises(ServingError, match=key_words(*words)) as caught,
    ):
        client.send(signature, inputs_for(n_labels), ())
    error = caught.value
    is_unknown = name == "unknown signature"
    assert error.is_refused != is_unknown
    assert (error.reason is FailureReason.SIGNATURE_NOT_FOUND) == is_unknown
    message = str(error)
    assert message.startswith(f"{client.url}: {signature}: ")
    assert "\n" not in message and "{{" not in message and len(message) < 900
    assert_serves(served, direct, transport)


@pytest.mark.parametrize("name", malformed_bodies([]))
def test_malformed_request_is_rejected(served, direct, name):
    body, words = malformed_bodies(FACES.tolist())[name]
    status, document = post(f"{served.rest}/v1/models/kerasemo:predict", body)
    assert status == 400 and set(document) == {"error"}
    assert all(word in document["error"] for word in words)
    assert_serves(served, direct, "rest")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_unknown_model_or_version_is_missing(served, direct, transport):
    for arguments, word in (({"model": "kerasemi"}, "kerasemi"), ({"version": 9}, "9")):
        with client_of(served, transport, **arguments) as client:
            for request in (partial(client.faces, FACES), client.metadata, client.status):
                with pytest.raises(ServingError, match=key_words(word)) as caught:
                    request()
                assert caught.value.reason is FailureReason.MODEL_NOT_FOUND
    assert_serves(served, direct, transport)


def test_unknown_names_have_the_status_of_tensorflow_serving(served):
    body = json.dumps({"signature_name": "feces", "inputs": [1]}).encode()
    assert post(f"{served.rest}/v1/models/kerasemo:predict", body)[0] == 400
    assert post(f"{served.rest}/v1/models/kerasemi:predict", body)[0] == 404
    assert post(f"{served.rest}/v1/models/kerasemo/versions/9:predict", body)[0] == 404
    assert post(f"{served.rest}/v2/models", body)[0] == 400


# The command.


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_command_predicts_files(served, direct, tmp_path, transport):
    (tmp_path / "a.wav").write_bytes(wav())
    (tmp_path / "b.png").write_bytes(still(".png"))
    (tmp_path / "c.jpg").write_bytes(still()[:-300])
    command = [
        sys.executable,
        "-m",
        "kerasemo.client",
        "--url",
        getattr(served, transport),
        "--json",
        "a.wav",
        "c.jpg",
        "b.png",
    ]
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    finished = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert finished.returncode == 0, finished.stderr
    sound, broken, face = map(json.loads, finished.stdout.splitlines())
    assert broken["path"] == "c.jpg"
    assert "JPEG" in broken["error"] and "PNG" in broken["error"]
    assert f"c.jpg: {broken['error']}" in finished.stderr
    for prediction, signature, data in (
        (sound, "wav_bytes", wav()),
        (face, "face_bytes", still(".png")),
    ):
        expected = direct(signature, {signature: np.array([data], object)})
        probabilities = list(prediction["probabilities"].values())
        assert prediction["emotion"] == expected["emotion"][0]
        assert prediction["confidence"] == max(probabilities)
        np.testing.assert_allclose(probabilities, expected["probabilities"][0], atol=TOLERANCE)


# A `tensorflow_model_server`.


def test_tf_serving_has_the_outputs_of_its_bundle_and_rejects_wrong_requests():
    """Test a running `tensorflow_model_server`; skipped if no variable names it.

    TF_SERVING_URL=http://localhost:8501 names the server and TF_SERVING_BUNDLE the folder of the
    served version. TF_SERVING_GRPC=grpc://localhost:8500 and TF_SERVING_MODEL=NAME are optional.
    """
    settings = {
        name: os.environ.get(f"TF_SERVING_{name}") for name in ("URL", "BUNDLE", "GRPC", "MODEL")
    }
    if not settings["URL"] or not settings["BUNDLE"]:
        pytest.skip(
            "no TensorFlow Serving: set TF_SERVING_URL=http://localhost:8501 and "
            "TF_SERVING_BUNDLE=DIR"
        )
    local = Bundle.load(settings["BUNDLE"])
    for url in filter(None, (settings["URL"], settings["GRPC"])):
        with Client(url, model=settings["MODEL"] or "kerasemo", timeout_seconds=120) as client:
            assert set(client.metadata().signatures) == {*local.signatures, "serving_default"}
            for signature in local.signatures:
                inputs = valid_requests(len(local.labels), seed=5)[signature]
                outputs = call_client_method(client, signature, inputs)
                assert_same(outputs, local.predict(signature, **inputs))
            for name, (signature, inputs_for, words) in WRONG_REQUESTS.items():
                if signature in local.signatures or name == "unknown signature":
                    with pytest.raises(ServingError, match=key_words(*words)):
                        client.send(signature, inputs_for(len(local.labels)), ())
