"""A bundle served as TensorFlow Serving serves it: every answer is the bundle's own, and what is wrong gets none."""

import inspect
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from helpers.paths import PYTHONPATH
from helpers.serving import Served, serving
from helpers.serving_asking import TOLERANCE, as_json, ask_as_a_user, assert_same, post
from helpers.serving_requests import (
    FACES,
    WRONG,
    right_requests,
    still,
    texts_that_are_no_requests,
    wav,
)
from kerasemo.serving.bundle import Bundle
from kerasemo.serving.client import Client
from kerasemo.serving.transport import ServingError

WIRES = ("rest", "grpc")
SIGNATURES = tuple(right_requests(1))


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
    """A function that asks a version of the bundle without a server."""
    loaded = {number: Bundle(bundle / str(number)) for number in (1, 2)}
    return lambda signature, inputs, *, version=2: loaded[version].predict(signature, **inputs)


@pytest.fixture(scope="module")
def served(bundle):
    with serving(bundle) as server:
        yield server


@pytest.fixture(scope="module")
def labels(direct) -> int:
    return direct("faces", {"faces": FACES})["probabilities"].shape[1]


def client_of(served: Served, wire: str, **words) -> Client:
    return Client(getattr(served, wire), timeout_seconds=120, **words)


# Answers.


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("signature", SIGNATURES)
def test_every_signature_answers_as_the_bundle_does(served, direct, labels, wire, signature):
    inputs = right_requests(labels, seed=7)[signature]
    with client_of(served, wire) as client:
        found = ask_as_a_user(client, signature, inputs)
    assert_same(found, direct(signature, inputs))
    if "probabilities" in found:
        np.testing.assert_allclose(found["probabilities"].sum(axis=-1), 1, atol=TOLERANCE)


@pytest.mark.parametrize("wire", WIRES)
def test_a_list_of_unequal_waveforms_is_answered_as_each_alone(served, direct, wire):
    waveforms = [
        np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)
        for seed, samples in enumerate((9000, 512, 40_001))
    ]
    with client_of(served, wire) as client:
        found = client.speech(waveforms)
    alone = [direct("speech", {"waveform": waveform[None]}) for waveform in waveforms]
    assert_same(
        found, {name: np.concatenate([answer[name] for answer in alone]) for name in alone[0]}
    )


@pytest.mark.parametrize("signature", SIGNATURES)
def test_rows_and_columns_are_answered_alike(served, direct, labels, signature):
    inputs = right_requests(labels, seed=3)[signature]
    client = client_of(served, "rest")
    plain = {name: as_json(array) for name, array in inputs.items()}
    rows = [dict(zip(plain, row)) for row in zip(*plain.values())]
    status, document = post(
        f"{served.rest}/v1/models/kerasemo:predict",
        json.dumps({"signature_name": signature, "instances": rows}).encode(),
    )
    assert status == 200, document
    by_row = document["predictions"]
    names = list(client.metadata()["signatures"][signature]["outputs"])
    columns = {
        name: np.array([row[name] if len(names) > 1 else row for row in by_row]) for name in names
    }
    expected = client.send(signature, inputs, names)
    for name in names:
        assert columns[name].tolist() == expected[name].tolist() or np.allclose(
            columns[name], expected[name], rtol=0, atol=1e-7
        )
    assert_same(expected, direct(signature, inputs))


@pytest.mark.parametrize("wire", WIRES)
def test_versions_are_asked_by_number_and_the_newest_without_one(served, direct, wire):
    first, second = (direct("faces", {"faces": FACES}, version=number) for number in (1, 2))
    assert np.abs(first["probabilities"] - second["probabilities"]).max() > 100 * TOLERANCE
    for version, expected in ((1, first), (2, second), (None, second)):
        with client_of(served, wire, version=version) as client:
            assert_same(client.faces(FACES), expected)
            assert client.metadata()["version"] == (version or 2)
            rows = [
                {"version": number, "state": "AVAILABLE", "error": ""}
                for number in ((version,) if version else (2, 1))
            ]
            assert client.status() == rows


@pytest.mark.parametrize("wire", WIRES)
def test_metadata_name_every_signature_as_the_bundle_does(served, bundle, labels, wire):
    with client_of(served, wire) as client:
        found = client.metadata()["signatures"]
    said = json.loads((bundle / "1" / "assets" / "bundle.json").read_text(encoding="utf-8"))[
        "signatures"
    ]
    assert set(said) == set(SIGNATURES) and set(found) == {*SIGNATURES, "serving_default"}
    for signature, inputs in right_requests(labels).items():
        for side in ("inputs", "outputs"):
            assert _types(found[signature][side]) == _types(said[signature][side])
        assert _types(found[signature]["inputs"]) == {
            name: _type(array) for name, array in inputs.items()
        }
        if "probabilities" in found[signature]["outputs"]:
            assert found[signature]["outputs"]["probabilities"][1][-1] == labels


def _types(tensors):
    return {name: dtype for name, (dtype, _) in tensors.items()}


def _type(array):
    return "string" if array.dtype == object else str(array.dtype)


def test_32_questions_at_once_each_get_their_own_answer(served, direct, labels):
    asked = [
        (
            SIGNATURES[number % len(SIGNATURES)],
            WIRES[number // 3 % 2],
            right_requests(labels, seed=number),
        )
        for number in range(32)
    ]
    clients = {wire: client_of(served, wire) for wire in WIRES}

    def ask(question):
        signature, wire, inputs = question
        return ask_as_a_user(clients[wire], signature, inputs[signature])

    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(ask, asked))
    assert {(signature, wire) for signature, wire, _ in asked} >= {
        (signature, wire) for signature in ("faces", "speech") for wire in WIRES
    }
    for (signature, _, inputs), answer in zip(asked, found, strict=True):
        assert_same(answer, direct(signature, inputs[signature]))


@pytest.mark.parametrize(("wire", "seconds"), [("rest", 15), ("grpc", 90)])
def test_a_request_above_four_megabytes_is_answered(served, direct, wire, seconds):
    """A sample takes some twenty bytes as JSON, four otherwise."""
    waveform = np.random.default_rng(0).normal(0, 0.1, (1, 16_000 * seconds)).astype(np.float32)
    assert (
        len(json.dumps(as_json(waveform), separators=(",", ":")))
        if wire == "rest"
        else waveform.nbytes
    ) > 4 * 2**20
    with client_of(served, wire) as client:
        assert_same(client.speech(waveform), direct("speech", {"waveform": waveform}))


# Warm-up.


def test_the_warm_up_requests_ask_every_signature_and_were_replayed(served):
    assert served.warm_ups == {"1": len(SIGNATURES), "2": len(SIGNATURES)}


@pytest.mark.endurance
def test_a_damaged_warm_up_keeps_the_server_from_starting(bundle, tmp_path):
    shutil.copytree(bundle / "2", tmp_path / "1")
    path = tmp_path / "1" / "assets.extra" / "tf_serving_warmup_requests"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(RuntimeError, match="corrupted record"), serving(tmp_path):
        pass


def test_a_warm_up_that_is_refused_is_no_warm_up(bundle, tmp_path):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    from helpers.serving_models import Refused, Version

    shutil.copytree(bundle / "2", tmp_path / "1")
    version = Version(tmp_path / "1")
    assert version.warm_up() == len(SIGNATURES)
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.signature_name = "speech"
    log.predict_log.request.inputs["waveform"].CopyFrom(
        tf.make_tensor_proto(np.zeros((1, 9000), np.float32))
    )
    with tf.io.TFRecordWriter(
        str(tmp_path / "1" / "assets.extra" / "tf_serving_warmup_requests")
    ) as writer:
        writer.write(log.SerializeToString())
    with pytest.raises(Refused, match="silent: expected sound"):
        version.warm_up()


def test_the_configuration_is_read_as_tensorflow_serving_reads_it_and_names_the_model_as_the_client_does(
    bundle,
):
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    text = (bundle / "serving" / "models.config").read_text(encoding="utf-8")
    (model,) = text_format.Parse(
        text, model_server_config_pb2.ModelServerConfig()
    ).model_config_list.config
    assert model.name == inspect.signature(Client).parameters["model"].default
    assert model.model_platform == "tensorflow" and model.base_path.startswith("/")


# What is wrong.


def assert_well(served: Served, direct, wire: str) -> None:
    with client_of(served, wire) as client:
        assert_same(client.faces(FACES), direct("faces", {"faces": FACES}))
    assert served.process.poll() is None


WRONG_BY_WIRE = [
    (wrong, wire)
    for wrong in WRONG
    for wire in WIRES
    if (wrong, wire) != ("over ten minutes", "rest")
]
"""All but ten minutes as JSON, which take a quarter of one to write and read."""


@pytest.mark.parametrize(("wrong", "wire"), WRONG_BY_WIRE)
def test_what_is_wrong_gets_an_error_that_names_what_was_expected(
    served, direct, labels, wrong, wire
):
    signature, inputs, expected = WRONG[wrong]
    with client_of(served, wire) as client, pytest.raises(ServingError, match=expected) as caught:
        client.send(signature, inputs(labels), ())
    text = str(caught.value)
    assert (
        text.startswith(f"{client.url}: {signature}: the server said")
        and "\n" not in text
        and "{{" not in text
        and len(text) < 900
    )
    assert_well(served, direct, wire)


@pytest.mark.parametrize("wrong", texts_that_are_no_requests([]))
def test_a_text_that_is_no_request_is_told_as_such(served, direct, wrong):
    body, said = texts_that_are_no_requests(FACES.tolist())[wrong]
    status, document = post(f"{served.rest}/v1/models/kerasemo:predict", body)
    assert status == 400 and set(document) == {"error"} and said in document["error"]
    assert_well(served, direct, "rest")


@pytest.mark.parametrize("wire", WIRES)
def test_an_unknown_model_or_version_is_told_with_its_name(served, direct, wire):
    for words, said in (({"model": "kerasemi"}, "kerasemi"), ({"version": 9}, "9")):
        with client_of(served, wire, **words) as client:
            for ask in (lambda client=client: client.faces(FACES), client.metadata, client.status):
                with pytest.raises(
                    ServingError,
                    match=rf"the server said .*{said}.*name a model and version that is served",
                ):
                    ask()
    assert_well(served, direct, wire)


def test_unknown_things_have_the_codes_of_tensorflow_serving(served):
    body = json.dumps({"signature_name": "feces", "inputs": [1]}).encode()
    assert post(f"{served.rest}/v1/models/kerasemo:predict", body)[0] == 400
    assert post(f"{served.rest}/v1/models/kerasemi:predict", body)[0] == 404
    assert post(f"{served.rest}/v1/models/kerasemo/versions/9:predict", body)[0] == 404
    assert post(f"{served.rest}/v2/models", body)[0] == 400


# The command.


@pytest.mark.parametrize("wire", WIRES)
def test_the_command_asks_a_server(served, direct, tmp_path, wire):
    (tmp_path / "a.wav").write_bytes(wav())
    (tmp_path / "b.png").write_bytes(still(".png"))
    (tmp_path / "c.jpg").write_bytes(still()[:-300])
    words = [
        sys.executable,
        "-m",
        "kerasemo.client",
        "--url",
        getattr(served, wire),
        "--json",
        "a.wav",
        "c.jpg",
        "b.png",
    ]
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    finished = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert finished.returncode == 0, finished.stderr
    sound, broken, face = map(json.loads, finished.stdout.splitlines())
    assert (
        broken["path"] == "c.jpg"
        and "the server said" in broken["error"]
        and "c.jpg: " in finished.stderr
    )
    for answer, signature, data in (
        (sound, "wav_bytes", wav()),
        (face, "face_bytes", still(".png")),
    ):
        expected = direct(signature, {signature: np.array([data], object)})
        assert answer["emotion"] == expected["emotion"][0] and answer["confidence"] == max(
            answer["probabilities"].values()
        )
        np.testing.assert_allclose(
            list(answer["probabilities"].values()), expected["probabilities"][0], atol=TOLERANCE
        )


# The real one.


def test_against_a_real_tf_serving():
    """A `tensorflow_model_server` of any bundle answers as that bundle does, and refuses what is wrong.

    TF_SERVING_URL=http://localhost:8501 names it, TF_SERVING_BUNDLE the folder of the version that it serves, and, where they are
    so, TF_SERVING_GRPC=grpc://localhost:8500 and TF_SERVING_MODEL=NAME.
    """
    named = {
        name: os.environ.get(f"TF_SERVING_{name}") for name in ("URL", "BUNDLE", "GRPC", "MODEL")
    }
    if not named["URL"] or not named["BUNDLE"]:
        pytest.skip(
            "no TensorFlow Serving named by TF_SERVING_URL=http://localhost:8501 and TF_SERVING_BUNDLE=DIR"
        )
    own = Bundle.load(named["BUNDLE"])
    for url in filter(None, (named["URL"], named["GRPC"])):
        with Client(url, model=named["MODEL"] or "kerasemo", timeout_seconds=120) as client:
            assert set(client.metadata()["signatures"]) == {*own.signatures, "serving_default"}
            for signature in own.signatures:
                inputs = right_requests(len(own.labels), seed=5)[signature]
                assert_same(
                    ask_as_a_user(client, signature, inputs), own.predict(signature, **inputs)
                )
            for wrong, (signature, inputs, expected) in WRONG.items():
                if signature in own.signatures or wrong == "unknown signature":
                    with pytest.raises(ServingError, match=expected):
                        client.send(signature, inputs(len(own.labels)), ())
