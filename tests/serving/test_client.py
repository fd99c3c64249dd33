"""The client against a server that fails in every way: one line each, without a traceback; and its command."""

import contextlib
import json
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from helpers import serving_stub
from helpers.serving_requests import still, wav
from helpers.serving_stub import ANSWER, LABELS, METADATA
from kerasemo.client import main
from kerasemo.serving.client import Client
from kerasemo.serving.transport import ServingError
from pipelines.core.errors import InputError

FACES = np.zeros((1, 64, 64, 3), np.uint8)


@pytest.fixture
def stub():
    with serving_stub.running() as one:
        yield one


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def refused(client, *said):
    """The one line that a question is refused with; what it must say besides the url and the signature."""
    with pytest.raises(ServingError) as caught:
        client.faces(FACES)
    text = str(caught.value)
    assert text.startswith(f"{client.url}: faces: ") and "\n" not in text and "; " in text
    for part in said:
        assert part in text, text
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value


# Failures.


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_server_that_is_not_there(scheme):
    with Client(f"{scheme}://127.0.0.1:{closed_port()}", timeout_seconds=5) as client:
        error = refused(client, "not reachable", "start tensorflow_model_server", "correct the url")
        assert not error.is_refused
        with pytest.raises(ServingError, match="status: not reachable"):
            client.status()
        with pytest.raises(ServingError, match="metadata: not reachable"):
            client.metadata()


def test_a_host_that_does_not_exist():
    refused(Client("http://no-such-host.invalid:8501", timeout_seconds=20), "not reachable")


def sleeps(handler):
    time.sleep(2)


def drips(handler, code=200):
    """A byte now and then, each before the socket's own timeout."""
    handler.send_response(code)
    handler.end_headers()
    with contextlib.suppress(OSError):
        for _ in range(50):
            handler.wfile.write(b" ")
            time.sleep(0.05)


def drips_an_error(handler):
    drips(handler, 500)


@pytest.mark.parametrize("slow", [sleeps, drips, drips_an_error])
def test_a_server_that_takes_too_long(stub, slow):
    stub.replies[":predict"] = slow
    began = time.monotonic()
    refused(Client(stub.url, timeout_seconds=0.3), "no answer within 0.3 s", "--timeout")
    assert time.monotonic() - began < 1.5


def test_a_grpc_server_that_takes_too_long():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with Client(f"grpc://127.0.0.1:{silent.getsockname()[1]}", timeout_seconds=0.3) as client:
            refused(client, "no answer within 0.3 s")


def hangs_up(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"outputs"')


def breaks_off(handler):
    """An error whose body ends early."""
    handler.send_response(400)
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    handler.wfile.write(b'{"err')


def speaks_otherwise(handler):
    handler.wfile.write(b"PRI * HTTP/2.0 this is another protocol\r\n\r\n")


NODES = "{{function_node __inference_f_1}} assertion failed: [expected faces; received] [1 2]\n\t [[{{node f/Assert}}]]"


FAILURES = {
    "unknown model": (
        (404, {"error": "Servable not found for request: Latest(x)"}),
        ("Latest(x)", "--model, --version"),
    ),
    "the graph's text": (
        (400, {"error": NODES}),
        ("said 'expected faces; received 1 2'; it takes faces uint8 [n, 64, 64, 3]",),
    ),
    "escaped as C does": ((400, rb'{ "error": "can\'t" }'), ('said "can\'t"',)),
    "merged": (
        (400, {"error": "Tensors have different shapes and padding is turned off."}),
        ("send it again, or use wav_bytes",),
    ),
    "overloaded": ((503, {"error": "queue full"}), ("queue full", "try again later")),
    "a gateway": (
        (502, b"<html>\n<h1>Bad Gateway</h1></html>"),
        ("502 <html> <h1>Bad Gateway", "not JSON"),
    ),
    "an empty error": ((500, b""), ("500", "not JSON")),
    "a page": ((200, b"<html>hello</html>"), ("<html>hello", "not JSON", "8501")),
    "no UTF-8": ((200, b"\xff\xfe\x00"), ("not JSON",)),
    "half of it": (hangs_up, ("IncompleteRead", "not JSON")),
    "half an error": (breaks_off, ("IncompleteRead(5 bytes read, 95 more expected)", "not JSON")),
    "another protocol": (speaks_otherwise, ("BadStatusLine", "8501")),
    "another service": ((200, {"result": 1}), ('{"result": 1}', "not JSON as TensorFlow Serving")),
    "a list": ((200, [1]), ("[1]",)),
    "another model": (
        (200, {"outputs": [[1.0]]}),
        ("answered", "not probabilities, labels, emotion of 1 rows", "kerasemo.export"),
    ),
    "a row too many": (
        (200, {"outputs": {**ANSWER["outputs"], "emotion": ["neutral"] * 2}}),
        ("[2]",),
    ),
    "words for numbers": (
        (200, {"outputs": {**ANSWER["outputs"], "emotion": [None]}}),
        ("answered",),
    ),
}
"""What is wrong -> what a server replies, and what is said of it."""


@pytest.mark.parametrize("wrong", FAILURES)
def test_a_failure_is_one_line_that_names_the_url_the_signature_what_was_said_and_the_remedy(
    stub, wrong
):
    reply, said = FAILURES[wrong]
    stub.replies[":predict"] = reply
    error = refused(Client(stub.url), *said)
    assert error.is_refused == (isinstance(reply, tuple) and reply[0] == 400)


def test_an_unknown_signature_is_told_with_those_there_are(stub):
    stub.replies[":predict"] = (
        400,
        {"error": 'Serving signature name: "faces" not found in signature def'},
    )
    refused(
        Client(stub.url),
        "no such signature; it has speech_masked: a domain that was not trained has none",
    )
    stub.replies["/metadata"] = (500, b"")
    refused(Client(stub.url), "not found in signature def")


def test_strange_statuses_and_metadata_are_refused(stub):
    stub.replies |= {
        "/metadata": (200, {"metadata": []}),
        "/kerasemo": (200, {"model_version_status": [{}]}),
    }
    client = Client(stub.url)
    with pytest.raises(ServingError, match="metadata: the server said"):
        client.metadata()
    with pytest.raises(ServingError, match="status: the server said"):
        client.status()


def test_a_model_that_does_not_tell_its_labels_is_refused(stub):
    waveforms = [np.full(600, 0.5), np.full(512, 0.5)]
    signature = METADATA["metadata"]["signature_def"]["signature_def"]["speech_masked"]
    for outputs in (
        {},
        {"probabilities": {"dtype": "DT_FLOAT", "tensor_shape": {"unknown_rank": True}}},
    ):
        found = {"speech_masked": signature | {"outputs": outputs}}
        stub.replies["/metadata"] = (
            200,
            METADATA | {"metadata": {"signature_def": {"signature_def": found}}},
        )
        with pytest.raises(
            ServingError,
            match="speech_masked: the server reports .* the number of labels; name a model",
        ):
            Client(stub.url).speech(waveforms)
    stub.replies["/metadata"] = (
        200,
        METADATA | {"metadata": {"signature_def": {"signature_def": {"faces": signature}}}},
    )
    with pytest.raises(ServingError, match="no such signature; it has faces"):
        Client(stub.url).speech(waveforms)


# What is sent.


def test_what_is_sent_and_what_comes_back(stub):
    client = Client(stub.url + "/", model="my model", version=7)
    found = client.face_bytes([still()])
    path, document = stub.asked[-1]
    assert path == "/v1/models/my%20model/versions/7:predict"
    assert document["signature_name"] == "face_bytes" and set(
        document["inputs"]["face_bytes"][0]
    ) == {"b64"}
    assert found["probabilities"].dtype == np.float32 and found["probabilities"].tolist() == [
        [0.25, 0.75]
    ]
    assert (
        found["labels"].tolist() == [LABELS]
        and found["emotion"][0] == "neutral"
        and found["emotion"].dtype.kind == "U"
    )
    client.faces(FACES)
    assert np.array_equal(stub.asked[-1][1]["inputs"]["faces"], FACES)


def test_a_list_of_unequal_waveforms_goes_padded_with_its_lengths_and_a_mask_of_the_model_s_width(
    stub,
):
    stub.replies[":predict"] = (
        200,
        {"outputs": {name: rows * 2 for name, rows in ANSWER["outputs"].items()}},
    )
    client = Client(stub.url)
    client.speech([np.full(600, 0.5), np.full(512, -0.5)])
    document = stub.asked[-1][1]
    assert document["signature_name"] == "speech_masked"
    assert document["inputs"]["lengths"] == [600, 512] and document["inputs"]["mask"] == [
        [1, 1],
        [1, 1],
    ]
    assert document["inputs"]["waveform"] == [[0.5] * 600, [-0.5] * 512 + [0] * 88]
    client.speech([np.full(600, 0.5), np.full(600, -0.5)])
    assert stub.asked[-1][1]["signature_name"] == "speech"
    assert [path for path, _ in stub.asked].count("/v1/models/kerasemo/metadata") == 1
    assert client.metadata() == {
        "version": 3,
        "signatures": {
            "speech_masked": {
                "inputs": {"mask": ["float32", [-1, -1]]},
                "outputs": {"probabilities": ["float32", [-1, 2]]},
            }
        },
    }


# What is off.

NO_URLS = [
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


@pytest.mark.parametrize("url", NO_URLS)
def test_a_url_that_is_none(url):
    with pytest.raises(InputError, match="url must be http://HOST:8501"):
        Client(url)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"model": ""}, "model must be"),
        ({"model": "a/b"}, "model must be"),
        ({"version": "1"}, "version must be"),
        ({"version": -1}, "version must be"),
        ({"version": True}, "version must be"),
        ({"timeout_seconds": 0}, "timeout_seconds must be"),
        ({"timeout_seconds": float("nan")}, "timeout_seconds must be"),
    ],
)
def test_arguments_that_are_off(words, expected):
    with pytest.raises(InputError, match=expected):
        Client("http://localhost:8501", **words)


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
    assert not {"tensorflow", "keras", "grpc", "cv2", "av"} & set(
        finished.stdout.splitlines()[-1].split()
    )


# The command.


def test_the_command_asks_each_file_and_goes_on_after_one_that_is_refused(stub, tmp_path, capsys):
    (tmp_path / "a.wav").write_bytes(wav())
    (tmp_path / "b.JPG").write_bytes(still())
    (tmp_path / "c.wav").write_bytes(b"text")
    (tmp_path / "e.mp4").write_bytes(b"text")
    files = [str(tmp_path / name) for name in ("c.wav", "a.wav", "missing.wav", "e.mp4", "b.JPG")]
    assert main(["--url", stub.url, "--json", *files]) == 0
    printed = capsys.readouterr()
    rows = [json.loads(line) for line in printed.out.splitlines()]
    assert [row["path"] for row in rows] == files
    answer = {
        "emotion": "neutral",
        "confidence": 0.75,
        "probabilities": {"anger": 0.25, "neutral": 0.75},
    }
    assert rows[1] == {"path": files[1]} | answer and rows[4] == {"path": files[4]} | answer
    reasons = ["must be a WAV file", "No such file", "python -m kerasemo.predict"]
    for row, reason in zip((rows[0], rows[2], rows[3]), reasons, strict=True):
        assert set(row) == {"path", "error"} and reason in row["error"]
        assert f"{row['path']}: " in printed.err and reason in printed.err
    assert [document["signature_name"] for _, document in stub.asked] == ["wav_bytes", "face_bytes"]
    assert main(["--url", stub.url, *files]) == 0
    table = capsys.readouterr().out
    for word in ("file", "emotion", "confidence", "anger", "neutral", "0.750", "0.250"):
        assert word in table
    stub.replies[":predict"] = (400, {"error": "silent: expected sound"})
    assert main(["--url", stub.url, files[1]]) == 1
    assert "silent: expected sound" in capsys.readouterr().err


def test_the_command_stops_when_the_server_is_not_well(stub, tmp_path, capsys):
    (tmp_path / "a.wav").write_bytes(wav())
    stub.replies[":predict"] = (404, {"error": "Servable not found for request: Latest(kerasemo)"})
    assert main(["--url", stub.url, *[str(tmp_path / "a.wav")] * 3]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and "Latest(kerasemo)" in printed.err
    assert len(stub.asked) == 1


def test_grpc_without_its_package_names_it_and_the_rest_url(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.raises(
        InputError,
        match=r"grpc://a:8500: .*pip install tensorflow-serving-api, or name the REST url http://a:8501",
    ):
        Client("grpc://a:8500")
