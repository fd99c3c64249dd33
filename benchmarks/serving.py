"""Time the signatures of an exported bundle against the Keras model and ONNX Runtime.

    python benchmarks/serving.py [--model BUNDLE] [--calls 100] [--rounds 5] [--only SIGNATURE...]

Without `--model` a network of the default size with random weights is exported: speed does not
depend on the weights. The Keras model is that of `kerasemo.presets.load_preset`, called as the
scores of a training call it. Its inputs are made as a build makes them: stills with OpenCV, audio
with soundfile, log-Mels with `pipelines.features.log_mel` in a compiled function. The segments of
all clips of a batch pass the network together. ONNX Runtime has the models of `--format onnx`, and
as many threads. A batch has 1 or 32 faces, segments, or clips of 3 s. Nothing goes over a network:
the figures are without the time that TF Serving adds.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import models
import timing

CORES = 2
BATCHES = (1, 32)
CLIP_SECONDS = 3.0


def make_inputs(folder: Path, count: int) -> dict[str, Any]:
    """Return random items by the name of the input: arrays, or files for the inputs that are bytes.

    Args:
        folder: Where the files are written.
        count: The number of items of each input.
    """
    import cv2
    import numpy as np

    from kerasemo.exporting.parity_cases import wav_file
    from pipelines.core.spec import Spec
    from pipelines.features import log_mel

    random, rate_hz = np.random.default_rng(0), Spec().sample_rate_hz
    n_samples = round(CLIP_SECONDS * rate_hz)
    waveforms = random.uniform(-0.5, 0.5, (count, n_samples)).astype(np.float32)
    faces = random.integers(0, 256, (count, 64, 64, 3), np.uint8)
    face_files = [folder / f"{number}.jpg" for number in range(count)]
    for path, face in zip(face_files, faces, strict=True):
        cv2.imwrite(str(path), cv2.resize(face, (128, 128)))
    wav_files = [folder / f"{number}.wav" for number in range(count)]
    for path, waveform in zip(wav_files, waveforms, strict=True):
        path.write_bytes(wav_file((32768 * waveform).astype("<i2"), rate_hz=rate_hz))
    segments = np.stack([log_mel.segments(log_mel.log_mel(wave))[0] for wave in waveforms])
    return {
        "faces": faces,
        "segments": segments,
        "waveform": waveforms,
        "face_bytes": face_files,
        "wav_bytes": wav_files,
    }


class KerasPredictor:
    """Predicts with the Keras model of a bundle what the signatures of the bundle predict.

    Args:
        folder: The bundle.
        labels: The labels of the bundle.

    Attributes:
        network: The network of the bundle.
    """

    def __init__(self, folder: Path, labels: Sequence[str]):
        import tensorflow as tf

        from kerasemo.presets import load_preset
        from pipelines.core.labels import EMOTIONS
        from pipelines.features import log_mel

        self.network = load_preset(folder)
        self._predict = self.network.predictor()
        self._columns = [EMOTIONS.index(label) for label in labels]
        self._segments = tf.function(
            lambda waveform: log_mel.segments(log_mel.log_mel(waveform)),
            [tf.TensorSpec([None], tf.float32)],
        )

    def functions(self) -> dict[str, Callable[[Any], Any]]:
        """Return by signature the function of its items."""
        from pipelines.media import audio

        return {
            "faces": lambda faces: self._probabilities(faces, "visual"),
            "face_bytes": lambda files: self._probabilities(self._read_faces(files), "visual"),
            "embed_faces": lambda faces: self._embedding(faces, "visual"),
            "segments": lambda segments: self._probabilities(segments, "audio"),
            "embed_segments": lambda segments: self._embedding(segments, "audio"),
            "speech": lambda waveforms: self._clip_means(waveforms, self._probabilities),
            "wav_bytes": lambda files: self._clip_means(
                [audio.read_waveform(file)[0] for file in files], self._probabilities
            ),
            "embed_speech": lambda waveforms: self._clip_means(waveforms, self._embedding),
        }

    def _probabilities(self, items, domain: str):
        import numpy as np

        from kerasemo.metrics import classification
        from pipelines.core.domains import DOMAINS

        logits = self._predict(items, DOMAINS.index(domain)).logits[:, self._columns]
        return classification.masked_softmax(logits, np.ones(len(self._columns), bool))

    def _embedding(self, items, domain: str):
        from pipelines.core.domains import DOMAINS

        return self._predict(items, DOMAINS.index(domain)).embedding

    def _clip_means(self, waveforms, predict: Callable[[Any, str], Any]):
        """Return the mean over the segments of each waveform."""
        import numpy as np

        from kerasemo.metrics import classification

        segments = [self._segments(waveform).numpy() for waveform in waveforms]
        clip_of = np.repeat(np.arange(len(segments)), list(map(len, segments)))
        return classification.clip_means(predict(np.concatenate(segments), "audio"), clip_of)

    def _read_faces(self, files: Sequence[Path]):
        import numpy as np

        from pipelines.faces import crops
        from pipelines.media import images

        return np.stack([crops.resize_face(images.read_still(file)) for file in files])


def onnx_functions(
    folder: Path, network, bundle, signatures: Sequence[str]
) -> dict[str, Callable[[Any], Any]]:
    """Return by signature the function of its items in ONNX Runtime.

    Args:
        folder: Where the models are written.
        network: The network of the bundle.
        bundle: The bundle.
        signatures: The signatures that are timed.

    Returns:
        Empty if a package is not installed, which is printed.
    """
    try:
        import onnxruntime
        import tf2onnx  # noqa: F401
    except ImportError as error:
        print(f"ONNX Runtime is left out: {error.name} is not installed (pip install '.[onnx]')")
        return {}
    from kerasemo.exporting import onnx_litert

    functions = onnx_litert.portable_functions(
        network, labels=bundle.labels, domains=bundle.domains
    )
    timed = {name: function for name, function in functions.items() if name in signatures}
    names = onnx_litert.write_onnx(folder, timed, labels=bundle.labels)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = CORES
    sessions = {
        name: onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), options) for name in names
    }
    print(f"onnxruntime {onnxruntime.__version__} with {CORES} threads", flush=True)
    return {
        name: lambda items, name=name: sessions[name].run(None, {name: items}) for name in names
    }


def compare(
    signature: str,
    functions: Mapping[str, Callable[[], object]],
    *,
    batch: int,
    calls: int,
    rounds: int,
) -> None:
    """Time functions in turns, and print rates, ratios, and the latency of each.

    Args:
        signature: The signature that they compute.
        functions: The functions by the name that is printed; the first is that of the bundle.
        batch: Items in a call.
        calls: Calls in a round.
        rounds: Rounds, after one that does not count.
    """
    import numpy as np

    latencies: dict[str, list[float]] = {name: [] for name in functions}

    def time_calls(name: str) -> None:
        for _ in range(calls):
            start = time.perf_counter()
            functions[name]()
            latencies[name].append(time.perf_counter() - start)

    turns = {name: lambda name=name: time_calls(name) for name in functions}
    seconds = timing.seconds_in_turns(turns, rounds)
    timing.report(f"{signature}, batch {batch}", seconds, amount=calls * batch, unit="items/s")
    for name, of_calls in latencies.items():
        milliseconds = 1000 * np.array(of_calls[calls:])  # without the round that does not count
        median, late = np.percentile(milliseconds, (50, 99))
        n_calls = rounds * calls
        print(f"  {name}: p50 {median:.2f} ms, p99 {late:.2f} ms of {n_calls} calls", flush=True)


def main() -> int:
    """Time every signature in batches of each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", type=Path, help="an exported bundle (default: one with random weights)"
    )
    parser.add_argument(
        "--calls",
        type=int,
        default=100,
        help="calls of each function in a round; an eighth for batches (default: %(default)s)",
    )
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="SIGNATURE", help="time only these"
    )
    arguments = timing.begin(parser, cores=CORES, packages=("tensorflow", "keras"))
    from kerasemo.serving.bundle import Bundle

    with models.bundle(arguments.model) as folder, tempfile.TemporaryDirectory() as scratch:
        bundle = Bundle.load(folder)
        keras_model = KerasPredictor(folder, bundle.labels)
        by_keras = keras_model.functions()
        signatures = [
            name
            for name in by_keras
            if name in bundle.signatures and name in (arguments.only or by_keras)
        ]
        by_onnx = onnx_functions(Path(scratch), keras_model.network, bundle, signatures)
        inputs = make_inputs(Path(scratch), max(BATCHES))
        for batch in BATCHES:
            for name in signatures:
                (key,) = bundle.document["signatures"][name]["inputs"]
                items = inputs[key][:batch]
                value = items
                if key.endswith("_bytes"):
                    value = [file.read_bytes() for file in items]
                functions = {
                    "exported": lambda name=name, key=key, value=value: bundle.ask(
                        name, **{key: value}
                    ),
                    "Keras": lambda name=name, items=items: by_keras[name](items),
                }
                if name in by_onnx:
                    functions["ONNX Runtime"] = lambda name=name, items=items: by_onnx[name](items)
                calls = max(1, arguments.calls // (8 if batch > 1 else 1))
                compare(name, functions, batch=batch, calls=calls, rounds=arguments.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
