"""A process that serves a bundle as TensorFlow Serving does, for tests.

The command is `python -m helpers.serving_process FOLDER --rest PORT --grpc PORT`. The process loads
every numbered version with TensorFlow and replays the warm-up requests. It prints its ports as one
line of JSON. It stands for `tensorflow_model_server`, which the package index does not have.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

from helpers.paths import PYTHONPATH

START_SECONDS = 300


@dataclasses.dataclass(frozen=True)
class ServerProcess:
    """A running server.

    Attributes:
        rest: The URL of the REST interface.
        grpc: The URL of the gRPC interface.
        warm_ups: Version -> the number of its warm-up requests.
        process: The process.
    """

    rest: str
    grpc: str
    warm_ups: dict[str, int]
    process: subprocess.Popen


@contextlib.contextmanager
def serve_bundle(folder: Path, *, model: str = "kerasemo") -> Iterator[ServerProcess]:
    """Serve the versions in a bundle's folder in a separate process until the block ends."""
    command = [
        sys.executable,
        "-m",
        "helpers.serving_process",
        str(folder),
        "--rest",
        "0",
        "--grpc",
        "0",
        "--model",
        model,
    ]
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "TF_CPP_MIN_LOG_LEVEL": "2"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            log_lines: list[str] = []
            reader = threading.Thread(target=lambda: log_lines.extend(process.stderr), daemon=True)
            reader.start()
            line = process.stdout.readline()
            if not line:
                process.wait(START_SECONDS)
                reader.join(10)
                raise RuntimeError(f"exit status {process.returncode}: {''.join(log_lines[-20:])}")
            ready = json.loads(line)
            yield ServerProcess(
                f"http://127.0.0.1:{ready['rest']}",
                f"grpc://127.0.0.1:{ready['grpc']}",
                ready["warm_ups"],
                process,
            )
        finally:
            process.kill()


def _grpc_server(models, port: int):
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_service_pb2_grpc,
    )

    from helpers.serving_models import Refused, arrays

    def name_and_version(spec) -> tuple[str, int | None]:
        return spec.name, spec.version.value if spec.HasField("version") else None

    def aborts_if_refused(method):
        def call(self, request, context):
            try:
                return method(self, request, context)
            except Refused as error:
                context.abort(getattr(grpc.StatusCode, error.code), error.text)

        return call

    class Predictions(prediction_service_pb2_grpc.PredictionServiceServicer):
        @aborts_if_refused
        def Predict(self, request, context):
            version = models.find(*name_and_version(request.model_spec))
            outputs = version.predict(request.model_spec.signature_name, arrays(request.inputs))
            response = predict_pb2.PredictResponse(
                outputs={name: tf.make_tensor_proto(array) for name, array in outputs.items()}
            )
            response.model_spec.CopyFrom(request.model_spec)
            response.model_spec.version.value = version.number
            return response

        @aborts_if_refused
        def GetModelMetadata(self, request, context):
            version = models.find(*name_and_version(request.model_spec))
            if not request.metadata_field:
                raise Refused(
                    "INVALID_ARGUMENT",
                    "GetModelMetadataRequest must specify at least one metadata_field",
                )
            for field in request.metadata_field:
                if field != "signature_def":
                    raise Refused("INVALID_ARGUMENT", f"Metadata field {field} is not supported")
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.model_spec.name = request.model_spec.name
            response.model_spec.version.value = version.number
            response.metadata["signature_def"].Pack(
                get_model_metadata_pb2.SignatureDefMap(signature_def=version.signatures)
            )
            return response

    class Statuses(model_service_pb2_grpc.ModelServiceServicer):
        @aborts_if_refused
        def GetModelStatus(self, request, context):
            response = get_model_status_pb2.GetModelStatusResponse()
            for number in models.known(*name_and_version(request.model_spec)):
                response.model_version_status.add(
                    version=number, state=get_model_status_pb2.ModelVersionStatus.AVAILABLE
                )
            return response

    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(32), options=options)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Predictions(), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Statuses(), server)
    return server, server.add_insecure_port(f"127.0.0.1:{port}")


def main() -> None:
    """Load, warm up, print the ports, and respond until the process is killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rest", type=int, default=8501)
    parser.add_argument("--grpc", type=int, default=8500)
    parser.add_argument("--model", default="kerasemo")
    arguments = parser.parse_args()

    from helpers import serving_rest
    from helpers.serving_models import Models

    models = Models(arguments.folder, name=arguments.model)
    warm_ups = {str(number): version.warm_up() for number, version in models.versions.items()}
    rest_server = serving_rest.server(models, arguments.rest)
    grpc_server, grpc_port = _grpc_server(models, arguments.grpc)
    grpc_server.start()
    ready = {"rest": rest_server.server_port, "grpc": grpc_port, "warm_ups": warm_ups}
    print(json.dumps(ready), flush=True)
    rest_server.serve_forever()


if __name__ == "__main__":
    main()
