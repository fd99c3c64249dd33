"""The gRPC interface of a TensorFlow Serving, `grpc://HOST:8500`; the protos of tensorflow-serving-api import tensorflow."""

from collections.abc import Callable, Mapping
from typing import Any

from kerasemo import wire
from pipelines.cli import load_tensorflow
from pipelines.spec import InputError

UNLIMITED = -1
"""Messages of any size: gRPC's own limit is 4 MiB, half a minute of sound."""


class Grpc:
    """What `wire.Rest` is, over gRPC."""

    def __init__(
        self,
        url: str,
        *,
        host: str,
        port: int,
        model: str,
        version: int | None,
        timeout_seconds: float,
    ):
        load_tensorflow()
        try:
            import grpc
            from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
        except ImportError as error:
            raise InputError(
                f"{url}: {error}; pip install tensorflow-serving-api, or name the REST url http://{host}:8501"
            ) from error
        self.url, self._model, self._version, self._timeout_seconds = (
            url,
            model,
            version,
            timeout_seconds,
        )
        options = {
            "grpc.max_send_message_length": UNLIMITED,
            "grpc.max_receive_message_length": UNLIMITED,
        }
        if host in wire.LOOPBACK:
            options["grpc.enable_http_proxy"] = 0
        self._channel = grpc.insecure_channel(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}", list(options.items())
        )
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def predict(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the outputs of a signature as arrays by name, strings as bytes."""
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest(
            inputs={name: tf.make_tensor_proto(array) for name, array in inputs.items()}
        )
        self._name_model(request.model_spec)
        request.model_spec.signature_name = signature
        answer = self._ask(signature, self._predictions.Predict, request)
        return {name: tf.make_ndarray(tensor) for name, tensor in answer.outputs.items()}

    def status(self) -> list[dict[str, Any]]:
        """Return the versions that the server knows: `{"version", "state", "error"}`."""
        from tensorflow_serving.apis import get_model_status_pb2

        request = get_model_status_pb2.GetModelStatusRequest()
        self._name_model(request.model_spec)
        rows = self._ask("status", self._models.GetModelStatus, request).model_version_status
        state = get_model_status_pb2.ModelVersionStatus.State
        return [
            {
                "version": row.version,
                "state": state.Name(row.state),
                "error": row.status.error_message,
            }
            for row in rows
        ]

    def metadata(self) -> dict[str, Any]:
        """Return `{"version", "signatures": {name: {"inputs": {name: [dtype, shape]}, "outputs": ...}}}`; -1: any size, None: any shape."""
        from google.protobuf.json_format import MessageToDict
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._name_model(request.model_spec)
        answer = self._ask("metadata", self._predictions.GetModelMetadata, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(signatures)
        found = MessageToDict(signatures, preserving_proto_field_name=True).get("signature_def", {})
        return {"version": answer.model_spec.version.value, "signatures": wire.signatures_of(found)}

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _name_model(self, spec: Any) -> None:
        spec.name = self._model
        if self._version is not None:
            spec.version.value = self._version

    def _ask(self, signature: str, method: Callable, request: Any) -> Any:
        import grpc

        try:
            return method(request, timeout=self._timeout_seconds)
        except grpc.RpcError as error:
            code, text = error.code(), error.details() or ""
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            raise wire.late(self.url, signature, self._timeout_seconds)
        if code == grpc.StatusCode.UNAVAILABLE:
            raise wire.unreachable(self.url, signature, text, "port")
        refused = code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE)
        raise wire.refusal(
            self.url,
            signature,
            text or code.name,
            refused=refused,
            missing=code == grpc.StatusCode.NOT_FOUND,
        )
