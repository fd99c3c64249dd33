"""Faces that are answered together with their mirror image: the same in scores, in the graph and after a reload."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasemo.config import schema
from kerasemo.exporting import onnx_litert
from kerasemo.exporting.graph import ServedModel
from kerasemo.networks import inference
from kerasemo.networks.network import build_network
from pipelines.core.domains import DOMAINS
from pipelines.core.labels import EMOTIONS

NETWORK = schema.NetworkConfig(widths=(8, 16), convolutions=1, groups=4, embedding=16)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(3)
    return keras.Model(*build_network(NETWORK))


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (5, 64, 64, 3)).astype(np.uint8)


def asked(network, items, domain, *, mirror):
    network.mirror = mirror
    return inference.predictor(network)(items, DOMAINS.index(domain))


def test_a_face_and_its_mirror_image_get_the_same_answer(network, faces):
    """The mean of both logits; the embedding stays the face's own."""
    plain, turned = (
        asked(network, items, "visual", mirror=False) for items in (faces, faces[:, :, ::-1])
    )
    assert np.abs(plain["logits"] - turned["logits"]).max() > 1e-2  # else there is nothing to see
    both, again = (
        asked(network, items, "visual", mirror=True) for items in (faces, faces[:, :, ::-1])
    )
    np.testing.assert_allclose(both["logits"], (plain["logits"] + turned["logits"]) / 2, atol=1e-5)
    np.testing.assert_allclose(both["logits"], again["logits"], atol=1e-5)
    np.testing.assert_array_equal(both["embedding"], plain["embedding"])


def test_sound_has_no_mirror_image(network):
    segments = np.random.default_rng(4).normal(-40, 10, (4, 64, 64, 3)).astype(np.float32)
    plain, both = (asked(network, segments, "audio", mirror=mirror) for mirror in (False, True))
    np.testing.assert_array_equal(plain["logits"], both["logits"])


def test_what_is_served_is_what_is_scored(network, faces, tmp_path):
    """Saved and loaded anew, through the signature `faces`."""
    labels = ["anger", "fear", "neutral"]
    logits = asked(network, faces, "visual", mirror=True)["logits"]
    served = ServedModel(network, labels=labels, domains=["visual"])
    tf.saved_model.save(served, str(tmp_path), signatures=served.signatures())
    answers = (
        tf.saved_model.load(str(tmp_path))
        .signatures["faces"](faces=tf.constant(faces))["probabilities"]
        .numpy()
    )
    columns = [0, 5, 7]
    expected = np.exp(logits[:, columns] - logits[:, columns].max(axis=1, keepdims=True))
    np.testing.assert_allclose(answers, expected / expected.sum(axis=1, keepdims=True), atol=1e-5)


def test_other_formats_get_it_without_what_they_do_not_have(network, faces):
    """ONNX has neither ReverseV2 nor, in a branch, what tf2onnx would make of it."""
    expected = asked(network, faces, "visual", mirror=True)["logits"]
    given, _ = onnx_litert.portable_functions(network, labels=EMOTIONS, domains=["visual"])["faces"]
    graph = tf.function(given).get_concrete_function(tf.TensorSpec([None, 64, 64, 3], tf.uint8))
    assert not {operation.type for operation in graph.graph.get_operations()} & {
        "ReverseV2",
        "If",
        "StatelessIf",
    }
    np.testing.assert_allclose(
        graph(tf.constant(faces))["probabilities"], tf.nn.softmax(expected), atol=1e-5
    )
