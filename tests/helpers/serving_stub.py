"""A server whose every answer is given beforehand."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LABELS = ["anger", "neutral"]
ANSWER = {"outputs": {"probabilities": [[0.25, 0.75]], "labels": [LABELS], "emotion": ["neutral"]}}
METADATA = {
    "model_spec": {"version": "3"},
    "metadata": {
        "signature_def": {
            "signature_def": {
                "speech_masked": {
                    "inputs": {
                        "mask": {
                            "dtype": "DT_FLOAT",
                            "tensor_shape": {"dim": [{"size": "-1"}, {"size": "-1"}]},
                        }
                    },
                    "outputs": {
                        "probabilities": {
                            "dtype": "DT_FLOAT",
                            "tensor_shape": {"dim": [{"size": "-1"}, {"size": "2"}]},
                        }
                    },
                },
                "__saved_model_init_op": {"inputs": {}, "outputs": {}},
            }
        }
    },
}


class Stub:
    """A server whose every answer is given beforehand; keeps what it was asked."""

    def __init__(self):
        self.asked: list[tuple[str, dict]] = []
        self.replies: dict[str, object] = {":predict": (200, ANSWER), "/metadata": (200, METADATA)}
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self._reply(None)

            def do_POST(self):
                self._reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def _reply(self, document):
                stub.asked.append((self.path, document))
                reply = next(
                    (reply for end, reply in stub.replies.items() if self.path.endswith(end)),
                    (404, {"error": "no such thing"}),
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
    """A stub that ends with the block."""
    stub = Stub()
    try:
        yield stub
    finally:
        stub.server.shutdown()
        stub.server.server_close()
