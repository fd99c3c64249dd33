"""Tests of the mean over a face and its mirror image: equal in scores, graph and reloaded graph."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasemo.config.schema import NetworkConfig
from kerasemo.exporting import onnx_litert
from kerasemo.exporting.graph import ServedModel
from kerasemo.networks.inference import TrainedNetwork
from kerasemo.networks.network import build_network
from pipelines.core.domains import DOMAINS
from pipelines.core.labels import EMOTIONS

NETWORK = NetworkConfig(widths=(8, 16), convolutions=1, groups=4, embedding=16)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(3)
    return keras.Model(*build_network(NETWORK))


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (5, 64, 64, 3)).astype(np.uint8)


def predict(model, items, domain, *, mirror):
    predictor = TrainedNetwork(model, test_mirror=mirror).predictor()
    return predictor(items, DOMAINS.index(domain))


def test_face_and_its_mirror_image_get_the_same_prediction(model, faces):
    """The logits are the mean over both faces; the embedding is of the face only."""
    mirrored = faces[:, :, ::-1]
    of_face = predict(model, faces, "visual", mirror=False)
    of_mirrored = predict(model, mirrored, "visual", mirror=False)
    assert (
        np.abs(of_face.logits - of_mirrored.logits).max() > 1e-2
    )  # else the mean shows no difference
    mean = predict(model, faces, "visual", mirror=True)
    mean_of_mirrored = predict(model, mirrored, "visual", mirror=True)
    expected = (of_face.logits + of_mirrored.logits) / 2
    np.testing.assert_allclose(mean.logits, expected, atol=1e-5)
    np.testing.assert_allclose(mean.logits, mean_of_mirrored.logits, atol=1e-5)
    np.testing.assert_array_equal(mean.embedding, of_face.embedding)


def test_audio_is_never_mirrored(model):
    segments = np.random.default_rng(4).normal(-40, 10, (4, 64, 64, 3)).astype(np.float32)
    without, with_mirror = (
        predict(model, segments, "audio", mirror=mirror) for mirror in (False, True)
    )
    np.testing.assert_array_equal(without.logits, with_mirror.logits)


def test_served_probabilities_equal_the_scored_probabilities(model, faces, tmp_path):
    """The graph is saved, loaded again, and called through the signature `faces`."""
    labels = ["anger", "fear", "neutral"]
    logits = predict(model, faces, "visual", mirror=True).logits
    network = TrainedNetwork(model, test_mirror=True)
    served = ServedModel(network, labels=labels, domains=["visual"])
    tf.saved_model.save(served, str(tmp_path), signatures=served.signatures())
    signature = tf.saved_model.load(str(tmp_path)).signatures["faces"]
    probabilities = signature(faces=tf.constant(faces))["probabilities"].numpy()
    columns = [EMOTIONS.index(label) for label in labels]
    expected = np.exp(logits[:, columns] - logits[:, columns].max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)


def test_portable_formats_mirror_faces_without_unsupported_operations(model, faces):
    """ONNX has no ReverseV2, and tf2onnx cannot convert it inside a branch."""
    expected = predict(model, faces, "visual", mirror=True).logits
    network = TrainedNetwork(model, test_mirror=True)
    functions = onnx_litert.portable_functions(network, labels=EMOTIONS, domains=["visual"])
    graph = functions["faces"].to_tensorflow().get_concrete_function()
    operations = {operation.type for operation in graph.graph.get_operations()}
    assert not operations & {"ReverseV2", "If", "StatelessIf"}
    probabilities = graph(tf.constant(faces))["probabilities"]
    np.testing.assert_allclose(probabilities, tf.nn.softmax(expected), atol=1e-5)
