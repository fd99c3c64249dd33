"""A server that sends prepared responses."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LABELS = ["anger", "neutral"]
RESPONSE = {
    "outputs": {"probabilities": [[0.25, 0.75]], "labels": [LABELS], "emotion": ["neutral"]}
}


def tensor_info(*sizes: int) -> dict:
    """Return a float input or output as the metadata of TensorFlow Serving describe it."""
    dim = [{"size": str(size)} for size in sizes]
    return {"dtype": "DT_FLOAT", "tensor_shape": {"dim": dim}}


def metadata_of(**signatures: dict) -> dict:
    """Return the metadata of a model with some signatures."""
    definitions = signatures | {"__saved_model_init_op": {"inputs": {}, "outputs": {}}}
    return {
        "model_spec": {"version": "3"},
        "metadata": {"signature_def": {"signature_def": definitions}},
    }


SPEECH_MASKED = {
    "inputs": {"mask": tensor_info(-1, -1)},
    "outputs": {"probabilities": tensor_info(-1, 2)},
}
METADATA = metadata_of(
    faces={"inputs": {}, "outputs": {}},
    wav_bytes={"inputs": {}, "outputs": {}},
    speech_masked=SPEECH_MASKED,
)


class Stub:
    """A server that sends prepared responses, and keeps the requests.

    `replies` has for the end of a path a status with a body, or a function of the handler.
    """

    def __init__(self):
        self.requests: list[tuple[str, dict | None]] = []
        self.replies: dict[str, object] = {
            ":predict": (200, RESPONSE),
            "/metadata": (200, METADATA),
        }
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self._reply(None)

            def do_POST(self):
                self._reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def _reply(self, document):
                stub.requests.append((self.path, document))
                reply = next(
                    (reply for end, reply in stub.replies.items() if self.path.endswith(end)),
                    (404, {"error": "unknown path"}),
                )
                if callable(reply):
                    reply(self)
                    return
                code, body = reply
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@contextlib.contextmanager
def running() -> Iterator[Stub]:
    """Yield a stub that runs until the block ends."""
    stub = Stub()
    try:
        yield stub
    finally:
        stub.server.shutdown()
        stub.server.server_close()
