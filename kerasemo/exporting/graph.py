"""The network as a graph for a service: faces, stills and audio in, named probabilities out.

Every signature uses the definitions that made the inputs of the training
(`pipelines.features.log_mel`, `pipelines.features.face`) and one network. The graph itself checks
its inputs, so that every client gets the same errors.
"""

import dataclasses
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kerasemo.losses.classification import mask_logits
from kerasemo.networks.inference import TrainedNetwork
from kerasemo.serving.requests import MAX_PEAK, segment_range, segment_range_text
from kerasemo.serving.signatures import MAX_SOUND_SECONDS, select_signatures
from pipelines.core.domains import DOMAINS
from pipelines.core.labels import EMOTIONS
from pipelines.core.spec import Spec
from pipelines.features import face, log_mel

Check = tuple[tf.Tensor, list[Any]]
"""A condition, and the parts of the message if it is false."""

Outputs = dict[str, tf.Tensor]


def checks_shapes(
    function: Callable[..., Outputs], inputs: Mapping[str, tf.TensorSpec]
) -> tf.types.experimental.PolymorphicFunction:
    """Return a function of a signature that accepts any shape and refuses wrong ones itself.

    A server does not check the shapes of a signature, and the optimiser of the graph relies on
    them.

    Args:
        function: Computes the outputs for inputs of the right shapes.
        inputs: Name -> spec, in the order of the function's arguments.
    """

    def checked_function(*tensors: tf.Tensor) -> Outputs:
        return function(
            *(
                _with_shape(tensor, spec)
                for tensor, spec in zip(tensors, inputs.values(), strict=True)
            )
        )

    return tf.function(
        checked_function,
        input_signature=[tf.TensorSpec(None, spec.dtype, spec.name) for spec in inputs.values()],
    )


def _with_shape(tensor: tf.Tensor, spec: tf.TensorSpec) -> tf.Tensor:
    """Return a tensor after a check of its shape; a size that the spec leaves open may be any.

    The operations that use the tensor are in a separate branch. A control dependency does not
    suffice, because TensorFlow may still run the operations before the check.
    """
    shape = spec.shape.as_list()
    sizes = ", ".join("n" if size is None else str(size) for size in shape)
    message = f"{spec.name}: expected the shape [{sizes}]; received"

    def fail() -> tf.Tensor:
        assertion = tf.debugging.Assert(False, [message, tf.shape(tensor)], summarize=8)
        with tf.control_dependencies([assertion]):
            return tf.zeros([0 if size is None else size for size in shape], spec.dtype)

    def check_sizes() -> tf.Tensor:
        received = tf.shape(tensor)
        are_equal = [
            tf.equal(received[axis], size) for axis, size in enumerate(shape) if size is not None
        ]
        return tf.cond(tf.reduce_all(are_equal), lambda: tf.ensure_shape(tensor, shape), fail)

    # TensorFlow 2.21 replaces tf.rank by what the branch will ensure.
    rank = tf.shape(tf.shape(tensor))[0]
    return tf.ensure_shape(tf.cond(tf.equal(rank, len(shape)), check_sizes, fail), shape)


def with_checks(tensor: tf.Tensor, checks: Sequence[Check]) -> tf.Tensor:
    """Return a tensor after checks, one after the other.

    The first that fails raises its message.
    """
    for condition, message in checks:
        with tf.control_dependencies([tf.debugging.Assert(condition, message, summarize=8)]):
            tensor = tf.identity(tensor)
    return tensor


def not_empty(tensor: tf.Tensor, item: str) -> Check:
    """Return the check that a batch has an item."""
    message = [f"empty: expected at least one {item}; received the shape", tf.shape(tensor)]
    return tf.shape(tensor)[0] > 0, message


def is_finite(tensor: tf.Tensor) -> Check:
    """Return the check that no value is NaN or infinite."""
    return tf.reduce_all(tf.math.is_finite(tensor)), ["expected numbers; received NaN or infinity"]


class ServedModel(tf.Module):
    """The saved object: the weights by their paths, and a function for each signature.

    Args:
        network: A network with one head.
        labels: The emotions that it was trained on, the only ones that it predicts.
        domains: The domains that it was trained on.
        has_head: Whether the head was trained; if not, there are only signatures of embeddings.
        spec: The spec of its inputs.

    Attributes:
        inputs: Signature -> name of each input -> its `tf.TensorSpec`.
    """

    def __init__(
        self,
        network: TrainedNetwork,
        *,
        labels: Sequence[str],
        domains: Sequence[str],
        has_head: bool = True,
        spec: Spec = Spec(),
    ) -> None:
        super().__init__()
        self.weights = {variable.path: variable.value for variable in network.model.variables}
        self._spec = spec
        self._labels = list(labels)
        self._columns = [EMOTIONS.index(label) for label in labels]
        # Proxies, because TensorFlow saves a mapping that is an attribute.
        self._shared = types.MappingProxyType(self._shared_functions(network))
        signatures = select_signatures("saved_model", domains=domains, has_head=has_head)
        self.inputs = types.MappingProxyType(
            {
                signature.name: {
                    tensor.name: tf.TensorSpec(
                        tensor.shape_for(len(labels)), tensor.dtype, tensor.name
                    )
                    for tensor in signature.inputs
                }
                for signature in signatures.values()
            }
        )
        self._functions = types.MappingProxyType(
            {
                name: checks_shapes(getattr(self, name), inputs)
                for name, inputs in self.inputs.items()
            }
        )

    def _shared_functions(self, network: TrainedNetwork) -> dict[str, Any]:
        """Return functions that are saved once, whatever signatures call them."""
        spec = self._spec
        image = tf.TensorSpec([None, spec.face_size, spec.face_size, 3], tf.float32)
        static = tf.TensorSpec([None, spec.mel_filters], tf.float32)

        def cut_segments(spec: Spec) -> tf.types.experimental.PolymorphicFunction:
            return tf.function(lambda frames: log_mel.segments(frames, spec=spec), [static])

        shared = {
            "outputs": tf.function(network.outputs, [image, tf.TensorSpec([], tf.int32)]),
            "log_mel": tf.function(
                lambda waveform: log_mel.log_mel(waveform, spec=spec),
                [tf.TensorSpec([None], tf.float32)],
            ),
            "segments": cut_segments(spec),
        }
        # A timeline has no gaps, so pauses are cut into segments, too.
        all_segments = shared["segments"]
        if spec.active_share:
            all_segments = cut_segments(dataclasses.replace(spec, active_share=0.0))
        return {**shared, "all_segments": all_segments}

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """Return the function of every signature, and the first one as `serving_default`."""
        concrete = {
            name: function.get_concrete_function() for name, function in self._functions.items()
        }
        return concrete | {"serving_default": next(iter(concrete.values()))}

    # The signatures, by the names of the table.

    def faces(self, faces: tf.Tensor) -> Outputs:
        """Return the probabilities of faces."""
        return self._named(self._probabilities(self._checked_faces(faces), "visual"))

    def face_bytes(self, face_bytes: tf.Tensor) -> Outputs:
        """Return the probabilities of faces in JPEG or PNG files."""
        files = with_checks(face_bytes, [not_empty(face_bytes, "image")])
        size = self._spec.face_size
        faces = tf.map_fn(
            lambda file: face.decode_face(file, spec=self._spec),
            files,
            fn_output_signature=tf.TensorSpec([size, size, 3], tf.uint8),
        )
        return self._named(self._probabilities(faces, "visual"))

    def faces_masked(self, faces: tf.Tensor, mask: tf.Tensor) -> Outputs:
        """Return the probabilities of faces over some of the labels."""
        faces_mask = self._checked_mask(mask, faces)
        checked_faces = self._checked_faces(faces)
        return self._named(self._probabilities(checked_faces, "visual", faces_mask))

    def embed_faces(self, faces: tf.Tensor) -> Outputs:
        """Return the embeddings of faces."""
        return {"embedding": self._embedding(self._checked_faces(faces), "visual")}

    def speech(self, waveform: tf.Tensor) -> Outputs:
        """Return the probabilities of waveforms of one length."""
        waveform = self._checked_waveforms(waveform)
        return self._named(self._map_clips(self._clip_probabilities, waveform))

    def wav_bytes(self, wav_bytes: tf.Tensor) -> Outputs:
        """Return the probabilities of WAV files."""
        files = with_checks(wav_bytes, [not_empty(wav_bytes, "WAV file")])
        return self._named(
            self._map_clips(lambda file: self._clip_probabilities(self._decode_wav(file)), files)
        )

    def speech_masked(self, waveform: tf.Tensor, lengths: tf.Tensor, mask: tf.Tensor) -> Outputs:
        """Return the probabilities of waveforms of several lengths over some of the labels."""
        waveform, lengths = self._checked_padded_waveforms(waveform, lengths)
        mask = self._checked_mask(mask, waveform)
        return self._named(
            self._map_clips(
                lambda row: self._clip_probabilities(row[0][: row[1]], row[2]),
                (waveform, lengths, mask),
            )
        )

    def embed_speech(self, waveform: tf.Tensor) -> Outputs:
        """Return the embeddings of waveforms of one length."""
        waveform = self._checked_waveforms(waveform)
        embeddings = tf.map_fn(
            self._clip_embedding,
            waveform,
            fn_output_signature=tf.TensorSpec([None], tf.float32),
        )
        return {"embedding": tf.math.l2_normalize(embeddings, axis=-1)}

    def segments(self, segments: tf.Tensor) -> Outputs:
        """Return the probabilities of log-Mel segments."""
        return self._named(self._probabilities(self._checked_segments(segments), "audio"))

    def embed_segments(self, segments: tf.Tensor) -> Outputs:
        """Return the embeddings of log-Mel segments."""
        return {"embedding": self._embedding(self._checked_segments(segments), "audio")}

    def timeline(self, waveform: tf.Tensor) -> Outputs:
        """Return the probabilities and the start of every segment of waveforms of one part.

        The weight of a segment is 1 if the segment counts in the prediction of the clip, else 0.
        """
        spec, max_samples = self._spec, self._spec.part_samples
        is_short = tf.shape(waveform)[-1] <= max_samples
        message = [
            f"too long: expected at most {max_samples} samples; received",
            tf.shape(waveform),
        ]
        waveform = self._checked_waveforms(
            with_checks(waveform, [(is_short, message)]), may_be_silent=True
        )
        segment = tf.TensorSpec([None, spec.mel_filters, spec.segment_frames, 3], tf.float32)
        weight = tf.TensorSpec([None], tf.float32)

        def cut(row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            static = self._shared["log_mel"](row)
            is_active = log_mel.active_segments(log_mel.padded(static, spec=spec), spec=spec)
            return self._shared["all_segments"](static), tf.cast(is_active, tf.float32)

        segments, weights = tf.map_fn(cut, waveform, fn_output_signature=(segment, weight))
        batch, count = tf.shape(segments)[0], tf.shape(segments)[1]
        flat_segments = tf.reshape(segments, [-1, *segments.shape[2:]])
        probabilities = self._probabilities(flat_segments, "audio")
        n_frames = tf.maximum(
            1 + (tf.shape(waveform)[1] - spec.fft_samples) // spec.hop_samples, spec.segment_frames
        )
        starts = tf.minimum(
            tf.range(count) * spec.segment_hop_frames, n_frames - spec.segment_frames
        )
        seconds = tf.cast(starts, tf.float32) * spec.hop_seconds
        return {
            "probabilities": tf.reshape(probabilities, [batch, count, len(self._labels)]),
            "starts": tf.broadcast_to(seconds, [batch, count]),
            "weights": weights,
        }

    def _map_clips(self, function: Callable[[Any], tf.Tensor], clips: Any) -> tf.Tensor:
        """Return the probabilities of each clip: [clips, labels]."""
        return tf.map_fn(
            function,
            clips,
            fn_output_signature=tf.TensorSpec([len(self._labels)], tf.float32),
        )

    def _named(self, probabilities: tf.Tensor) -> Outputs:
        """Return probabilities [n, labels], the label of each, and the most probable label."""
        labels = tf.constant(self._labels)
        return {
            "probabilities": probabilities,
            "labels": tf.broadcast_to(labels, tf.shape(probabilities)),
            "emotion": tf.gather(labels, tf.argmax(probabilities, axis=-1)),
        }

    def _probabilities(
        self, images: tf.Tensor, domain: str, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Return the softmax over the labels: [n, labels]."""
        outputs = self._outputs(images, domain)
        logits = _finite_outputs(tf.gather(outputs["logits"], self._columns, axis=-1))
        return tf.nn.softmax(logits if mask is None else mask_logits(logits, mask))

    def _embedding(self, images: tf.Tensor, domain: str) -> tf.Tensor:
        return _finite_outputs(self._outputs(images, domain)["embedding"])

    def _outputs(self, images: tf.Tensor, domain: str) -> Outputs:
        return self._shared["outputs"](tf.cast(images, tf.float32), DOMAINS.index(domain))

    def _clip_probabilities(self, waveform: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        """Return the mean probabilities over the segments of a waveform [samples]: [labels]."""
        return self._mean_over_segments(
            waveform,
            lambda segments: self._probabilities(segments, "audio", mask),
            len(self._labels),
        )

    def _clip_embedding(self, waveform: tf.Tensor) -> tf.Tensor:
        """Return the mean embedding over the segments of a waveform [samples]."""
        outputs = self._shared["outputs"].get_concrete_function().structured_outputs
        return self._mean_over_segments(
            waveform,
            lambda segments: self._embedding(segments, "audio"),
            outputs["embedding"].shape[-1],
        )

    def _mean_over_segments(
        self, waveform: tf.Tensor, of_segments: Callable[[tf.Tensor], tf.Tensor], size: int
    ) -> tf.Tensor:
        """Return the mean over the segments, part by part, as records divide long clips.

        Args:
            waveform: [samples].
            of_segments: Segments -> [segments, size].
            size: The size of the result.
        """
        static = self._shared["log_mel"](waveform)  # [frames, mel_filters]
        n_frames = tf.shape(static)[0]
        n_parts = -(-n_frames // self._spec.frame_count(self._spec.part_samples))

        def edge(part: tf.Tensor) -> tf.Tensor:
            exact = tf.cast(part * n_frames, tf.float64) / tf.cast(n_parts, tf.float64)
            return tf.cast(tf.round(exact), tf.int32)

        def add_part(
            part: tf.Tensor, total: tf.Tensor, count: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            values = of_segments(self._shared["segments"](static[edge(part) : edge(part + 1)]))
            return part + 1, total + tf.reduce_sum(values, axis=0), count + tf.shape(values)[0]

        start = (tf.constant(0), tf.zeros([size]), tf.constant(0))
        _, total, count = tf.while_loop(
            lambda part, *_: part < n_parts, add_part, start, parallel_iterations=1
        )
        return total / tf.cast(count, tf.float32)

    def _checked_faces(self, faces: tf.Tensor) -> tf.Tensor:
        return with_checks(faces, [not_empty(faces, "face")])

    def _checked_segments(self, segments: tf.Tensor) -> tf.Tensor:
        least, most = segment_range(self._spec)
        is_inside = tf.reduce_all((segments >= least) & (segments <= most))
        message = [
            f"segments: expected {segment_range_text(self._spec)}; received",
            tf.reduce_min(segments, [0, 1, 2]),
            "to",
            tf.reduce_max(segments, [0, 1, 2]),
        ]
        return with_checks(
            segments,
            [not_empty(segments, "segment"), is_finite(segments), (is_inside, message)],
        )

    def _checked_waveforms(self, waveform: tf.Tensor, *, may_be_silent: bool = False) -> tf.Tensor:
        """Return waveforms after checks; a part of a recording may be silent."""
        lengths = tf.fill(tf.shape(waveform)[:1], tf.shape(waveform)[-1])
        *checks, is_audible = self._sound_checks(waveform, lengths)
        if not may_be_silent:
            checks.append(is_audible)
        return with_checks(waveform, [not_empty(waveform, "waveform"), *checks])

    def _checked_padded_waveforms(
        self, waveform: tf.Tensor, lengths: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return waveforms that are 0 after their lengths, and the lengths, after checks."""
        n_rows, n_samples = tf.shape(waveform)[0], tf.shape(waveform)[1]
        is_one_each = (
            tf.equal(tf.size(lengths), n_rows),
            ["lengths: expected one for each of", n_rows, "waveforms; received", tf.size(lengths)],
        )
        is_inside = (
            tf.reduce_all(lengths <= n_samples),
            ["lengths: expected at most", n_samples, "samples of the waveform; received", lengths],
        )
        lengths = with_checks(lengths, [not_empty(waveform, "waveform"), is_one_each, is_inside])
        waveform = tf.where(tf.sequence_mask(lengths, n_samples), waveform, 0.0)
        return with_checks(waveform, self._sound_checks(waveform, lengths)), lengths

    def _sound_checks(self, waveform: tf.Tensor, lengths: tf.Tensor) -> list[Check]:
        """Return the checks of waveforms [batch, samples]; the last is that they are not silent."""
        spec = self._spec
        max_samples = round(MAX_SOUND_SECONDS * spec.sample_rate_hz)
        peaks = tf.reduce_max(tf.abs(waveform), axis=-1)
        silence_db = 20 * np.log10(spec.silence_peak)
        too_short = (
            f"too short: expected at least {spec.fft_samples} samples ({spec.sample_rate_hz} Hz); "
            "received"
        )
        too_long = (
            f"too long: expected at most {max_samples} samples ({MAX_SOUND_SECONDS:g} s at "
            f"{spec.sample_rate_hz} Hz); received"
        )
        too_loud = (
            "expected samples in [-1, 1] (divide 16-bit integers by 32768); received a peak of"
        )
        silent = (
            f"silent: expected sound above {silence_db:.0f} dB of full scale; received a peak of"
        )
        return [
            (tf.reduce_all(lengths >= spec.fft_samples), [too_short, lengths]),
            (tf.reduce_all(lengths <= max_samples), [too_long, lengths]),
            is_finite(waveform),
            (tf.reduce_all(peaks <= MAX_PEAK), [too_loud, peaks]),
            (tf.reduce_all(peaks >= spec.silence_peak), [silent, peaks]),
        ]

    def _decode_wav(self, file: tf.Tensor) -> tf.Tensor:
        """Return the waveform [samples] of a checked WAV file, 16 bits and mono."""
        head = tf.strings.substr(file, 0, tf.minimum(12, tf.strings.length(file)))
        is_wav = tf.strings.regex_full_match(head, r"(?s)RIFF\C{4}WAVE")
        message = [
            "expected the bytes of a WAV file; received",
            tf.strings.length(file),
            "bytes of another format",
        ]
        file = with_checks(file, [(is_wav, message)])
        sound, rate_hz = tf.audio.decode_wav(file)  # [samples, channels]
        expected = (
            f"expected a WAV file of {self._spec.sample_rate_hz} Hz, mono, 16-bit PCM; received"
        )
        n_channels = tf.shape(sound)[1]
        has_format = tf.equal(rate_hz, self._spec.sample_rate_hz) & tf.equal(n_channels, 1)
        message = [expected, rate_hz, "Hz in", n_channels, "channels"]
        waveform = with_checks(sound, [(has_format, message)])[:, 0]
        checks = self._sound_checks(waveform[None], tf.shape(waveform)[:1])
        return with_checks(waveform, checks)

    def _checked_mask(self, mask: tf.Tensor, inputs: tf.Tensor) -> tf.Tensor:
        """Return a mask after checks.

        Args:
            mask: float32 [n, labels].
            inputs: [n, ...].
        """
        n_rows = tf.shape(inputs)[0]
        n_mask_rows = tf.shape(mask)[0]
        is_one_each = (
            tf.equal(n_mask_rows, n_rows),
            ["mask: expected a row for each of", n_rows, "inputs; received", n_mask_rows],
        )
        is_binary = (
            tf.reduce_all(tf.equal(mask, 0.0) | tf.equal(mask, 1.0)),
            ["mask: expected 1 for each label that can be predicted, else 0; received", mask],
        )
        has_label = (
            tf.reduce_all(tf.reduce_any(mask > 0, axis=-1)),
            ["mask: expected at least one 1 in every row; received", mask],
        )
        return with_checks(mask, [is_one_each, is_binary, has_label])


def _finite_outputs(outputs: tf.Tensor) -> tf.Tensor:
    """Return the outputs of the network after the check that they are finite."""
    message = ["the network gives NaN or infinity for this input"]
    return with_checks(outputs, [(tf.reduce_all(tf.math.is_finite(outputs)), message)])
