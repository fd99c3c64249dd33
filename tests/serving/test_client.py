"""The client against a server that fails in every way, and its command."""

import contextlib
import json
import re
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from helpers import serving_stub
from helpers.messages import key_words
from helpers.serving_requests import still, wav
from helpers.serving_stub import LABELS, METADATA, RESPONSE, SPEECH_MASKED, metadata_of
from kerasemo.client import main
from kerasemo.serving.client import Client
from kerasemo.serving.signatures import SIGNATURES
from kerasemo.serving.transport import FailureReason, ServedTensor, ServingError
from pipelines.core.errors import InputError, RunError

FACES = np.zeros((1, 64, 64, 3), np.uint8)


@pytest.fixture
def stub():
    with serving_stub.running() as server:
        yield server


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def failed_request(client, reason, *words):
    """Return the error of a request; check its reason, its form, and words of its message."""
    with pytest.raises(ServingError) as caught:
        client.faces(FACES)
    error = caught.value
    assert error.reason is reason
    message = str(error)
    assert message.startswith(f"{client.url}: faces: ") and "\n" not in message and "; " in message
    assert re.search(key_words(*words), message), message
    assert error.__suppress_context__ or error.__context__ is None
    return error


# Failures.


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_absent_server_is_unreachable(scheme):
    with Client(f"{scheme}://127.0.0.1:{closed_port()}", timeout_seconds=5) as client:
        error = failed_request(client, FailureReason.UNREACHABLE, "tensorflow_model_server", "url")
        assert not error.is_refused and error.status is None and error.server_text
        assert isinstance(error, RunError)
        for name in ("status", "metadata"):
            with pytest.raises(ServingError, match=key_words(f": {name}: ")) as caught:
                getattr(client, name)()
            assert caught.value.reason is FailureReason.UNREACHABLE


def test_unknown_host_is_unreachable():
    client = Client("http://no-such-host.invalid:8501", timeout_seconds=20)
    failed_request(client, FailureReason.UNREACHABLE)


def reply_late(handler):
    time.sleep(2)


def reply_in_drips(handler, code=200):
    """Send a byte now and then, each before the socket's timeout."""
    handler.send_response(code)
    handler.end_headers()
    with contextlib.suppress(OSError):
        for _ in range(50):
            handler.wfile.write(b" ")
            time.sleep(0.05)


def reply_error_in_drips(handler):
    reply_in_drips(handler, 500)


@pytest.mark.parametrize("reply", [reply_late, reply_in_drips, reply_error_in_drips])
def test_slow_server_times_out(stub, reply):
    stub.replies[":predict"] = reply
    start = time.monotonic()
    client = Client(stub.url, timeout_seconds=0.3)
    failed_request(client, FailureReason.TIMEOUT, "0.3 s", "--timeout")
    assert time.monotonic() - start < 1.5


def test_slow_grpc_server_times_out():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with Client(f"grpc://127.0.0.1:{silent.getsockname()[1]}", timeout_seconds=0.3) as client:
            failed_request(client, FailureReason.TIMEOUT, "0.3 s")


def hang_up(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"outputs"')


def break_off_error(handler):
    """Send an error whose body ends early."""
    handler.send_response(400)
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    handler.wfile.write(b'{"err')


def speak_http2(handler):
    handler.wfile.write(b"PRI * HTTP/2.0 this is another protocol\r\n\r\n")


NODES = (
    "{{function_node __inference_f_1}} assertion failed: [expected faces; received] [1 2]"
    "\n\t [[{{node f/Assert}}]]"
)
UNEXPECTED = FailureReason.UNEXPECTED_RESPONSE
FAILURES = {
    "unknown model": (
        (404, {"error": "Servable not found for request: Latest(x)"}),
        FailureReason.MODEL_NOT_FOUND,
        ("Latest(x)", "--model", "--version"),
    ),
    "graph's text": (
        (400, {"error": NODES}),
        FailureReason.REQUEST_REFUSED,
        ("'expected faces; received 1 2'", "faces uint8 [n, 64, 64, 3]"),
    ),
    "escaped as C does": (
        (400, rb'{ "error": "can\'t" }'),
        FailureReason.REQUEST_REFUSED,
        ('"can\'t"',),
    ),
    "merged with other lengths": (
        (400, {"error": "Tensors have different shapes and padding is turned off."}),
        FailureReason.UNEQUAL_LENGTHS,
        ("wav_bytes",),
    ),
    "overloaded": (
        (503, {"error": "queue full"}),
        FailureReason.SERVER_FAILED,
        ("queue full", "log"),
    ),
    "gateway": ((502, b"<html>\n<h1>Bad Gateway</h1></html>"), UNEXPECTED, ("502 <html> <h1>Bad",)),
    "empty error": ((500, b""), UNEXPECTED, ("500",)),
    "page": ((200, b"<html>hello</html>"), UNEXPECTED, ("<html>hello", "8501")),
    "no UTF-8": ((200, b"\xff\xfe\x00"), UNEXPECTED, ("JSON",)),
    "half a response": (hang_up, UNEXPECTED, ("IncompleteRead",)),
    "half an error": (
        break_off_error,
        UNEXPECTED,
        (
            "5 bytes",
            "95 more",
        ),
    ),
    "another protocol": (speak_http2, UNEXPECTED, ("BadStatusLine", "8501")),
    "another service": ((200, {"result": 1}), UNEXPECTED, ('{"result": 1}',)),
    "a list": ((200, [1]), UNEXPECTED, ("[1]",)),
    "another model": (
        (200, {"outputs": [[1.0]]}),
        UNEXPECTED,
        ("probabilities", "emotion", "1 rows", "kerasemo.export"),
    ),
    "a row too many": (
        (200, {"outputs": {**RESPONSE["outputs"], "emotion": ["neutral"] * 2}}),
        UNEXPECTED,
        ("[2]",),
    ),
    "null for a label": (
        (200, {"outputs": {**RESPONSE["outputs"], "emotion": [None]}}),
        UNEXPECTED,
        ("emotion",),
    ),
}
"""What is wrong -> the server's reply, the reason of the error, and words of its message."""


@pytest.mark.parametrize("name", FAILURES)
def test_failure_has_a_reason_a_status_and_a_remedy(stub, name):
    reply, reason, words = FAILURES[name]
    stub.replies[":predict"] = reply
    error = failed_request(Client(stub.url), reason, *words)
    is_bad_request = isinstance(reply, tuple) and reply[0] == 400
    assert error.is_refused == is_bad_request
    if isinstance(reply, tuple) and reply[0] != 200:
        assert error.status == reply[0]


@pytest.mark.parametrize("status", [400, 412])
def test_error_of_an_unknown_signature_lists_the_signatures_of_the_model(stub, status):
    stub.replies[":predict"] = (status, {"error": "error text"})
    stub.replies["/metadata"] = (200, metadata_of(speech_masked=SPEECH_MASKED))
    error = failed_request(Client(stub.url), FailureReason.SIGNATURE_NOT_FOUND, "speech_masked")
    assert not error.is_refused and error.status == status
    assert error.server_text == "error text"


def test_rejection_stays_without_metadata(stub):
    stub.replies[":predict"] = (400, {"error": "error text"})
    stub.replies["/metadata"] = (500, b"")
    failed_request(Client(stub.url), FailureReason.REQUEST_REFUSED, "error text")


def test_unexpected_status_and_metadata_fail(stub):
    stub.replies |= {
        "/metadata": (200, {"metadata": []}),
        "/kerasemo": (200, {"model_version_status": [{}]}),
    }
    client = Client(stub.url)
    for name in ("metadata", "status"):
        with pytest.raises(ServingError, match=key_words(f": {name}: ")) as caught:
            getattr(client, name)()
        assert caught.value.reason is UNEXPECTED


@pytest.mark.parametrize(
    "outputs",
    [{}, {"probabilities": {"dtype": "DT_FLOAT", "tensor_shape": {"unknown_rank": True}}}],
)
def test_model_without_number_of_labels_fails(stub, outputs):
    speech = SPEECH_MASKED | {"outputs": outputs}
    stub.replies["/metadata"] = (200, metadata_of(speech_masked=speech))
    with pytest.raises(ServingError, match=key_words("speech_masked", "labels")) as caught:
        Client(stub.url).speech([np.full(600, 0.5), np.full(512, 0.5)])
    assert caught.value.reason is UNEXPECTED


def test_unequal_waveforms_need_the_masked_signature(stub):
    stub.replies["/metadata"] = (200, metadata_of(faces=SPEECH_MASKED))
    with pytest.raises(ServingError, match=key_words("speech_masked", "faces")) as caught:
        Client(stub.url).speech([np.full(600, 0.5), np.full(512, 0.5)])
    assert caught.value.reason is FailureReason.SIGNATURE_NOT_FOUND


# Requests and responses.


def test_request_names_model_version_and_signature(stub):
    client = Client(stub.url + "/", model="my model", version=7)
    outputs = client.face_bytes([still()])
    path, document = stub.requests[-1]
    assert path == "/v1/models/my%20model/versions/7:predict"
    assert document["signature_name"] == "face_bytes"
    assert set(document["inputs"]["face_bytes"][0]) == {"b64"}
    assert outputs["probabilities"].dtype == np.float32
    assert outputs["probabilities"].tolist() == [[0.25, 0.75]]
    assert outputs["labels"].tolist() == [LABELS]
    assert outputs["emotion"][0] == "neutral" and outputs["emotion"].dtype.kind == "U"
    client.faces(FACES)
    assert np.array_equal(stub.requests[-1][1]["inputs"]["faces"], FACES)


def test_every_signature_has_a_method():
    assert all(callable(getattr(Client, name)) for name in SIGNATURES)


def test_predict_takes_any_signature_by_name(stub):
    outputs = Client(stub.url).predict("faces", faces=FACES)
    assert outputs["emotion"].tolist() == ["neutral"]


@pytest.mark.parametrize(
    ("signature", "inputs", "word"),
    [("laughter", {}, "laughter"), ("faces", {"images": FACES}, "images"), ("faces", {}, "none")],
)
def test_unknown_signature_or_input_of_predict_is_an_error(stub, signature, inputs, word):
    with pytest.raises(InputError, match=key_words(word)):
        Client(stub.url).predict(signature, **inputs)
    assert not stub.requests


def test_unequal_waveforms_are_padded_and_masked(stub):
    two_rows = {name: rows * 2 for name, rows in RESPONSE["outputs"].items()}
    stub.replies[":predict"] = (200, {"outputs": two_rows})
    client = Client(stub.url)
    client.speech([np.full(600, 0.5), np.full(512, -0.5)])
    document = stub.requests[-1][1]
    assert document["signature_name"] == "speech_masked"
    assert document["inputs"]["lengths"] == [600, 512]
    assert document["inputs"]["mask"] == [[1, 1], [1, 1]]
    assert document["inputs"]["waveform"] == [[0.5] * 600, [-0.5] * 512 + [0] * 88]
    client.speech([np.full(600, 0.5), np.full(600, -0.5)])
    assert stub.requests[-1][1]["signature_name"] == "speech"
    paths = [path for path, _ in stub.requests]
    assert paths.count("/v1/models/kerasemo/metadata") == 1


def test_metadata_has_dtypes_and_shapes(stub):
    stub.replies["/metadata"] = (200, METADATA)
    metadata = Client(stub.url).metadata()
    assert metadata.version == 3
    assert set(metadata.signatures) == {"faces", "wav_bytes", "speech_masked"}
    speech_masked = metadata.signatures["speech_masked"]
    assert speech_masked.inputs == {"mask": ServedTensor("float32", (-1, -1))}
    assert speech_masked.outputs == {"probabilities": ServedTensor("float32", (-1, 2))}


# Invalid arguments.

INVALID_URLS = [
    "",
    "localhost:8501",
    "ftp://a:1",
    "http://",
    "http://a:x",
    "http://a b",
    "grpc://a/b",
    "http://a/?q",
    None,
    3,
]


@pytest.mark.parametrize("url", INVALID_URLS)
def test_invalid_url_is_an_error(url):
    with pytest.raises(InputError, match=key_words("url", "http://HOST:8501")):
        Client(url)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"model": ""}, "model"),
        ({"model": "a/b"}, "model"),
        ({"version": "1"}, "version"),
        ({"version": -1}, "version"),
        ({"version": True}, "version"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"timeout_seconds": float("nan")}, "timeout_seconds"),
    ],
)
def test_invalid_argument_is_an_error(arguments, name):
    with pytest.raises(InputError, match=key_words(name, "must be")):
        Client("http://localhost:8501", **arguments)


def test_rest_needs_neither_tensorflow_nor_keras(stub, tmp_path):
    (tmp_path / "a.wav").write_bytes(wav())
    code = """
import sys
from kerasemo.client import main

assert "numpy" not in sys.modules
main(sys.argv[1:])
print(*sorted({name.split(".")[0] for name in sys.modules}))
"""
    words = [sys.executable, "-c", code, "--url", stub.url, str(tmp_path / "a.wav")]
    finished = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "neutral" in finished.stdout
    modules = finished.stdout.splitlines()[-1].split()
    assert not {"tensorflow", "keras", "grpc", "cv2", "av"} & set(modules)


def test_grpc_without_its_package_names_the_remedies(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.raises(InputError, match=key_words("tensorflow-serving-api", "http://a:8501")):
        Client("grpc://a:8500")


# The command.


def test_command_continues_after_bad_files(stub, tmp_path, capsys):
    (tmp_path / "a.wav").write_bytes(wav())
    (tmp_path / "b.JPG").write_bytes(still())
    (tmp_path / "c.wav").write_bytes(b"text")
    (tmp_path / "e.mp4").write_bytes(b"text")
    files = [str(tmp_path / name) for name in ("c.wav", "a.wav", "missing.wav", "e.mp4", "b.JPG")]
    assert main(["--url", stub.url, "--json", *files]) == 0
    printed = capsys.readouterr()
    rows = [json.loads(line) for line in printed.out.splitlines()]
    assert [row["path"] for row in rows] == files
    prediction = {
        "emotion": "neutral",
        "confidence": 0.75,
        "probabilities": {"anger": 0.25, "neutral": 0.75},
    }
    assert rows[1] == {"path": files[1]} | prediction
    assert rows[4] == {"path": files[4]} | prediction
    words = ["WAV file", "No such", "kerasemo.predict"]
    for row, word in zip((rows[0], rows[2], rows[3]), words, strict=True):
        assert set(row) == {"path", "error"} and word in row["error"]
        assert f"{row['path']}: {row['error']}" in printed.err
    signatures = [document["signature_name"] for _, document in stub.requests]
    assert signatures == ["wav_bytes", "face_bytes"]


def test_command_prints_a_table(stub, tmp_path, capsys):
    (tmp_path / "a.wav").write_bytes(wav())
    assert main(["--url", stub.url, str(tmp_path / "a.wav")]) == 0
    table = capsys.readouterr().out
    for word in ("file", "emotion", "confidence", "anger", "neutral", "0.750", "0.250"):
        assert word in table


def test_command_fails_if_the_server_rejects_every_file(stub, tmp_path, capsys):
    (tmp_path / "a.wav").write_bytes(wav())
    stub.replies[":predict"] = (400, {"error": "silent waveform"})
    assert main(["--url", stub.url, *[str(tmp_path / "a.wav")] * 2]) == 1
    assert capsys.readouterr().err.count("silent waveform") == 2


def test_command_stops_if_the_server_lacks_the_model(stub, tmp_path, capsys):
    (tmp_path / "a.wav").write_bytes(wav())
    stub.replies[":predict"] = (404, {"error": "Servable not found for request: Latest(kerasemo)"})
    assert main(["--url", stub.url, *[str(tmp_path / "a.wav")] * 3]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and "Latest(kerasemo)" in printed.err
    assert len(stub.requests) == 1
