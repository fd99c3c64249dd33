"""The network as a service's graph: raw faces, stills and sound in, probabilities with their names out, and errors for all else.

Every signature is built on the definitions that made the training's inputs (`pipelines.features.log_mel`, `pipelines.features.face`) and on the one network.
What is wrong with an input is found in the graph, so that it is told whoever loads it.
"""

import dataclasses
import types
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from kerasemo.losses.classification import mask_logits
from kerasemo.networks.inference import network_outputs
from kerasemo.serving.requests import MAX_PEAK, describe_segment_range, segment_range
from kerasemo.serving.signatures import MAX_SOUND_SECONDS, select_signatures
from pipelines.core.domains import DOMAINS
from pipelines.core.labels import EMOTIONS
from pipelines.core.spec import Spec
from pipelines.features import face, log_mel

Check = tuple[tf.Tensor, list]
"""What must hold, and what is said with what came where it does not."""


def of_any_shape(
    function: Callable, inputs: Mapping[str, tf.TensorSpec]
) -> tf.types.experimental.PolymorphicFunction:
    """Return a function of a signature that takes any shape and itself says which were right.

    What a signature's shapes say is not checked by whoever runs the graph, and taken as true while it is optimised.
    """

    def of_right_shape(*given):
        return function(
            *(_of_shape(tensor, spec) for tensor, spec in zip(given, inputs.values(), strict=True))
        )

    return tf.function(
        of_right_shape,
        input_signature=[tf.TensorSpec(None, spec.dtype, spec.name) for spec in inputs.values()],
    )


def _of_shape(tensor: tf.Tensor, spec: tf.TensorSpec) -> tf.Tensor:
    """Return a tensor whose shape, but for the sizes that a spec leaves open, is the spec's.

    What goes on with it stands in a branch of its own: an operation that only waits for a check may be tried before it.
    """
    shape = spec.shape.as_list()
    told = [
        f"{spec.name}: expected the shape [{', '.join('n' if size is None else str(size) for size in shape)}]; received"
    ]

    def refused():
        with tf.control_dependencies(
            [tf.debugging.Assert(False, [*told, tf.shape(tensor)], summarize=8)]
        ):
            return tf.zeros([0 if size is None else size for size in shape], spec.dtype)

    def of_rank():
        sizes = tf.shape(tensor)
        fixed = [tf.equal(sizes[axis], size) for axis, size in enumerate(shape) if size is not None]
        return tf.cond(tf.reduce_all(fixed), lambda: tf.ensure_shape(tensor, shape), refused)

    rank = tf.shape(tf.shape(tensor))[
        0
    ]  # TensorFlow 2.21 takes tf.rank for what the branch below will ensure
    return tf.ensure_shape(tf.cond(tf.equal(rank, len(shape)), of_rank, refused), shape)


def checked(tensor: tf.Tensor, checks: Sequence[Check]) -> tf.Tensor:
    """Return a tensor that is there only where everything holds, one check after the other."""
    for holds, told in checks:
        with tf.control_dependencies([tf.debugging.Assert(holds, told, summarize=8)]):
            tensor = tf.identity(tensor)
    return tensor


def some(tensor: tf.Tensor, what: str) -> list[Check]:
    """Return the check that a batch is not empty."""
    return [
        (
            tf.shape(tensor)[0] > 0,
            [f"empty: expected at least one {what}; received the shape", tf.shape(tensor)],
        )
    ]


def finite(tensor: tf.Tensor) -> Check:
    """Return the check that there is neither NaN nor infinity."""
    return tf.reduce_all(tf.math.is_finite(tensor)), ["expected numbers; received NaN or infinity"]


class Served(tf.Module):
    """What is saved: the weights by their paths, and a function for each signature.

    Args:
        network: Of `kerasemo.networks.network.build_network`, with one head.
        labels: The emotions that it was trained on, which alone can be answered.
        domains: Those that it was trained on.
        answers: False for a network whose head was not trained: it embeds, and answers nothing.
        spec: The numbers of its inputs.
    """

    def __init__(
        self,
        network: keras.Model,
        *,
        labels: Sequence[str],
        domains: Sequence[str],
        answers: bool = True,
        spec: Spec = Spec(),
    ):
        super().__init__()
        self.weights = {variable.path: variable.value for variable in network.variables}
        self._spec = spec
        self._labels = list(labels)
        self._columns = [EMOTIONS.index(label) for label in labels]
        size = spec.face_size
        image = tf.TensorSpec([None, size, size, 3], tf.float32)
        sound = tf.TensorSpec([None, spec.mel_filters], tf.float32)
        shared = {
            "outputs": tf.function(
                lambda image, domain: network_outputs(network, image, domain),
                [image, tf.TensorSpec([], tf.int32)],
            ),
            "log_mel": tf.function(
                lambda waveform: log_mel.log_mel(waveform, spec=spec),
                [tf.TensorSpec([None], tf.float32)],
            ),
            "segments": tf.function(lambda static: log_mel.segments(static, spec=spec), [sound]),
        }
        every = dataclasses.replace(spec, active_share=0.0)  # a timeline has no gaps
        shared["every_segment"] = (
            tf.function(lambda static: log_mel.segments(static, spec=every), [sound])
            if spec.active_share
            else shared["segments"]
        )
        self._shared = types.MappingProxyType(
            shared
        )  # functions of their own: written once, whatever calls them; no proxy is saved itself
        signatures = select_signatures("saved_model", domains=domains, has_head=answers)
        self.inputs = types.MappingProxyType(
            {
                name: {
                    tensor.name: tf.TensorSpec(
                        tensor.shape(spec=spec, n_labels=len(labels)), tensor.dtype, tensor.name
                    )
                    for tensor in signature.inputs
                }
                for name, signature in signatures.items()
            }
        )
        """Of each signature, what it takes: a `tf.TensorSpec` an input."""
        graph_functions = self._graph_functions()
        self._functions = types.MappingProxyType(
            {
                name: of_any_shape(graph_functions[name], inputs)
                for name, inputs in self.inputs.items()
            }
        )

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """Return every signature, and the first as what is served by default."""
        concrete = {
            name: function.get_concrete_function() for name, function in self._functions.items()
        }
        return concrete | {"serving_default": next(iter(concrete.values()))}

    def _graph_functions(self) -> dict[str, Callable[..., dict[str, tf.Tensor]]]:
        """Return the function that computes each signature of the table from its inputs."""
        probabilities = tf.TensorSpec([len(self._labels)], tf.float32)

        def faces(faces):
            return self._named(self._probabilities(self._faces(faces), "visual"))

        def face_bytes(face_bytes):
            face_bytes = checked(face_bytes, some(face_bytes, "image"))
            decode = lambda one: face.decode_face(one, spec=self._spec)  # noqa: E731
            size = self._spec.face_size
            decoded = tf.map_fn(
                decode, face_bytes, fn_output_signature=tf.TensorSpec([size, size, 3], tf.uint8)
            )
            return self._named(self._probabilities(decoded, "visual"))

        def faces_masked(faces, mask):
            return self._named(
                self._probabilities(self._faces(faces), "visual", self._mask(mask, faces))
            )

        def embed_faces(faces):
            return {"embedding": self._embedding(self._faces(faces), "visual")}

        def speech(waveform):
            waveform = self._waveforms(waveform)
            return self._named(
                tf.map_fn(self._clip_probabilities, waveform, fn_output_signature=probabilities)
            )

        def wav_bytes(wav_bytes):
            wav_bytes = checked(wav_bytes, some(wav_bytes, "WAV file"))
            clip = lambda file: self._clip_probabilities(self._decoded(file))  # noqa: E731
            return self._named(tf.map_fn(clip, wav_bytes, fn_output_signature=probabilities))

        def speech_masked(waveform, lengths, mask):
            waveform, lengths = self._padded_waveforms(waveform, lengths)
            mask = self._mask(mask, waveform)
            clip = lambda row: self._clip_probabilities(row[0][: row[1]], row[2])  # noqa: E731
            return self._named(
                tf.map_fn(clip, (waveform, lengths, mask), fn_output_signature=probabilities)
            )

        def embed_speech(waveform):
            waveform = self._waveforms(waveform)
            embedding = tf.TensorSpec([None], tf.float32)
            return {
                "embedding": tf.math.l2_normalize(
                    tf.map_fn(self._clip_embedding, waveform, fn_output_signature=embedding),
                    axis=-1,
                )
            }

        def segments(segments):
            return self._named(self._probabilities(self._segments(segments), "audio"))

        def embed_segments(segments):
            return {"embedding": self._embedding(self._segments(segments), "audio")}

        return {
            "faces": faces,
            "face_bytes": face_bytes,
            "faces_masked": faces_masked,
            "embed_faces": embed_faces,
            "speech": speech,
            "wav_bytes": wav_bytes,
            "speech_masked": speech_masked,
            "embed_speech": embed_speech,
            "segments": segments,
            "embed_segments": embed_segments,
            "timeline": self._timeline,
        }

    def _named(self, probabilities: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return probabilities [n, labels] with the name of each, and of the largest."""
        labels = tf.constant(self._labels)
        return {
            "probabilities": probabilities,
            "labels": tf.broadcast_to(labels, tf.shape(probabilities)),
            "emotion": tf.gather(labels, tf.argmax(probabilities, axis=-1)),
        }

    def _probabilities(
        self, images: tf.Tensor, domain: str, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Return the softmax over the labels, [n, labels]."""
        outputs = self._shared["outputs"](tf.cast(images, tf.float32), DOMAINS.index(domain))
        logits = _numbers(tf.gather(outputs["logits"], self._columns, axis=-1))
        return tf.nn.softmax(logits if mask is None else mask_logits(logits, mask))

    def _embedding(self, images: tf.Tensor, domain: str) -> tf.Tensor:
        return _numbers(
            self._shared["outputs"](tf.cast(images, tf.float32), DOMAINS.index(domain))["embedding"]
        )

    def _clip_probabilities(self, waveform: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        """Return the mean over the segments of a waveform [samples] of their probabilities, [labels]."""
        return self._mean_over_segments(
            waveform,
            lambda segments: self._probabilities(segments, "audio", mask),
            len(self._labels),
        )

    def _clip_embedding(self, waveform: tf.Tensor) -> tf.Tensor:
        size = (
            self._shared["outputs"]
            .get_concrete_function()
            .structured_outputs["embedding"]
            .shape[-1]
        )
        return self._mean_over_segments(
            waveform, lambda segments: self._embedding(segments, "audio"), size
        )

    def _mean_over_segments(
        self, waveform: tf.Tensor, of_segments: Callable[[tf.Tensor], tf.Tensor], size: int
    ) -> tf.Tensor:
        """Return the mean of what is computed of the segments, part by part, as records cut what is long."""
        static = self._shared["log_mel"](waveform)  # [frames, mel_filters]
        frames = tf.shape(static)[0]
        parts = -(-frames // self._spec.frame_count(self._spec.part_samples))

        def edge(part):
            return tf.cast(
                tf.round(tf.cast(part * frames, tf.float64) / tf.cast(parts, tf.float64)), tf.int32
            )

        def add(part, total, count):
            found = of_segments(
                self._shared["segments"](static[edge(part) : edge(part + 1)])
            )  # [segments, size]
            return part + 1, total + tf.reduce_sum(found, axis=0), count + tf.shape(found)[0]

        start = (tf.constant(0), tf.zeros([size]), tf.constant(0))
        _, total, count = tf.while_loop(
            lambda part, *_: part < parts, add, start, parallel_iterations=1
        )
        return total / tf.cast(count, tf.float32)

    def _timeline(self, waveform: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return of every segment of sound of one part its probabilities, its begin, and 1 where it counts in the clip's answer."""
        spec, most = self._spec, self._spec.part_samples
        short = tf.shape(waveform)[-1] <= most
        told = [f"too long: expected at most {most} samples; received", tf.shape(waveform)]
        waveform = self._waveforms(checked(waveform, [(short, told)]), whole=False)
        size = tf.TensorSpec([None, spec.mel_filters, spec.segment_frames, 3], tf.float32)
        weights = tf.TensorSpec([None], tf.float32)

        def cut(row):
            static = self._shared["log_mel"](row)
            active = log_mel.active_segments(log_mel.padded(static, spec=spec), spec=spec)
            return self._shared["every_segment"](static), tf.cast(active, tf.float32)

        segments, weights = tf.map_fn(cut, waveform, fn_output_signature=(size, weights))
        batch, count = tf.shape(segments)[0], tf.shape(segments)[1]
        answers = self._probabilities(tf.reshape(segments, [-1, *segments.shape[2:]]), "audio")
        frames = tf.maximum(
            1 + (tf.shape(waveform)[1] - spec.fft_samples) // spec.hop_samples, spec.segment_frames
        )
        starts = tf.minimum(tf.range(count) * spec.segment_hop_frames, frames - spec.segment_frames)
        seconds = tf.cast(starts, tf.float32) * spec.hop_seconds
        return {
            "probabilities": tf.reshape(answers, [batch, count, len(self._labels)]),
            "starts": tf.broadcast_to(seconds, [batch, count]),
            "weights": weights,
        }

    def _faces(self, faces: tf.Tensor) -> tf.Tensor:
        return checked(faces, some(faces, "face"))

    def _segments(self, segments: tf.Tensor) -> tf.Tensor:
        least, most = segment_range(self._spec)
        inside = tf.reduce_all((segments >= least) & (segments <= most))
        told = [
            f"segments: expected {describe_segment_range(self._spec)}; received",
            tf.reduce_min(segments, [0, 1, 2]),
        ]
        told += ["to", tf.reduce_max(segments, [0, 1, 2])]
        return checked(segments, [*some(segments, "segment"), finite(segments), (inside, told)])

    def _waveforms(self, waveform: tf.Tensor, *, whole: bool = True) -> tf.Tensor:
        """Return waveforms that are right; a part of a recording, other than the whole, may be silent."""
        lengths = tf.fill(tf.shape(waveform)[:1], tf.shape(waveform)[-1])
        *others, audible = self._sound_checks(waveform, lengths)
        return checked(
            waveform, [*some(waveform, "waveform"), *others, *([audible] if whole else [])]
        )

    def _padded_waveforms(
        self, waveform: tf.Tensor, lengths: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return waveforms that are silent behind their lengths, and the lengths."""
        rows, samples = tf.shape(waveform)[0], tf.shape(waveform)[1]
        each = (
            tf.equal(tf.size(lengths), rows),
            ["lengths: expected one for each of", rows, "waveforms; received", tf.size(lengths)],
        )
        inside = (
            tf.reduce_all(lengths <= samples),
            ["lengths: expected at most", samples, "the samples there are; received", lengths],
        )
        lengths = checked(lengths, [*some(waveform, "waveform"), each, inside])
        waveform = tf.where(tf.sequence_mask(lengths, samples), waveform, 0.0)
        return checked(waveform, self._sound_checks(waveform, lengths)), lengths

    def _sound_checks(self, waveform: tf.Tensor, lengths: tf.Tensor) -> list[Check]:
        spec = self._spec
        most = round(MAX_SOUND_SECONDS * spec.sample_rate_hz)
        peaks = tf.reduce_max(tf.abs(waveform), axis=-1)
        return [
            (
                tf.reduce_all(lengths >= spec.fft_samples),
                [
                    f"too short: expected at least {spec.fft_samples} samples ({spec.sample_rate_hz} Hz); received",
                    lengths,
                ],
            ),
            (
                tf.reduce_all(lengths <= most),
                [
                    f"too long: expected at most {most} samples ({MAX_SOUND_SECONDS:g} s at {spec.sample_rate_hz} Hz); received",
                    lengths,
                ],
            ),
            finite(waveform),
            (
                tf.reduce_all(peaks <= MAX_PEAK),
                [
                    "expected samples in [-1, 1] (16-bit integers are to be divided by 32768); received a peak of",
                    peaks,
                ],
            ),
            (
                tf.reduce_all(peaks >= spec.silence_peak),
                [
                    f"silent: expected sound above {20 * np.log10(spec.silence_peak):.0f} dB of full scale; received a peak of",
                    peaks,
                ],
            ),
        ]

    def _decoded(self, file: tf.Tensor) -> tf.Tensor:
        """Return the waveform [samples] of a WAV file of 16 bits, at the spec's rate, with one channel."""
        head = tf.strings.substr(file, 0, tf.minimum(12, tf.strings.length(file)))
        is_wav = tf.strings.regex_full_match(head, r"(?s)RIFF\C{4}WAVE")
        told = [
            "expected the bytes of a WAV file; received",
            tf.strings.length(file),
            "bytes of something else",
        ]
        file = checked(file, [(is_wav, told)])
        sound, rate_hz = tf.audio.decode_wav(file)  # [samples, channels]
        expected = (
            f"expected a WAV file of {self._spec.sample_rate_hz} Hz, mono, 16-bit PCM; received"
        )
        right = tf.equal(rate_hz, self._spec.sample_rate_hz) & tf.equal(tf.shape(sound)[1], 1)
        sound = checked(
            sound, [(right, [expected, rate_hz, "Hz in", tf.shape(sound)[1], "channels"])]
        )[:, 0]
        return checked(sound, self._sound_checks(sound[None], tf.shape(sound)[:1]))

    def _mask(self, mask: tf.Tensor, beside: tf.Tensor) -> tf.Tensor:
        rows = tf.shape(beside)[0]
        zeros_and_ones = tf.reduce_all(tf.equal(mask, 0.0) | tf.equal(mask, 1.0))
        return checked(
            mask,
            [
                (
                    tf.equal(tf.shape(mask)[0], rows),
                    [
                        "mask: expected a row for each of",
                        rows,
                        "inputs; received",
                        tf.shape(mask)[0],
                    ],
                ),
                (
                    zeros_and_ones,
                    ["mask: expected 1 for what can be answered, else 0; received", mask],
                ),
                (
                    tf.reduce_all(tf.reduce_any(mask > 0, axis=-1)),
                    ["mask: expected at least one 1 in every row; received", mask],
                ),
            ],
        )


def _numbers(outputs: tf.Tensor) -> tf.Tensor:
    """Return the network's outputs, which are there only where they are numbers: no emotion is named of what is none."""
    return checked(
        outputs,
        [
            (
                tf.reduce_all(tf.math.is_finite(outputs)),
                ["the network gives no number for this input"],
            )
        ],
    )
