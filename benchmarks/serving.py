"""Times the signatures of an exported bundle against the Keras model itself and against ONNX Runtime, in batches of 1 and of 32.

    python benchmarks/serving.py [--model BUNDLE] [--calls 100] [--rounds 5] [--only SIGNATURE...]

Without `--model` a network of the default size with random weights is exported and asked: speed does not depend on the weights.
The Keras model is that of `kerasemo.presets.from_preset`, run as the training's scores run it (`inference.predictor`), with the
inputs made as a build makes them: stills by OpenCV, sound by soundfile, log-Mels by `pipelines.features.log_mel` in a compiled function, the
segments of all clips of a batch through the network at once. ONNX Runtime has the models of `--format onnx`, with as many threads.
Items are faces, segments, or clips of 3 s. Nothing goes over a network: what TF Serving adds is not in these figures.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import models
import timing

CORES = 2
BATCHES = (1, 32)
CLIP_SECONDS = 3.0


def make_inputs(folder: Path, most: int) -> dict[str, object]:
    """Return `most` items of each kind of input: raw for the signatures that take arrays, files for those that take bytes."""
    import cv2
    import numpy as np

    from kerasemo.exporting.parity_cases import wav_file
    from pipelines.core.spec import Spec
    from pipelines.features import log_mel

    random, rate_hz = np.random.default_rng(0), Spec().sample_rate_hz
    waves = random.uniform(-0.5, 0.5, (most, round(CLIP_SECONDS * rate_hz))).astype(np.float32)
    faces = random.integers(0, 256, (most, 64, 64, 3), np.uint8)
    stills, sounds = (
        [folder / f"{number}.{suffix}" for number in range(most)] for suffix in ("jpg", "wav")
    )
    for still, sound, face, wave in zip(stills, sounds, faces, waves, strict=True):
        cv2.imwrite(str(still), cv2.resize(face, (128, 128)))
        sound.write_bytes(wav_file((32768 * wave).astype("<i2"), rate_hz=rate_hz))
    segments = np.stack([log_mel.segments(log_mel.log_mel(wave))[0] for wave in waves])
    return {
        "faces": faces,
        "segments": segments,
        "waveform": waves,
        "face_bytes": stills,
        "wav_bytes": sounds,
    }


def keras_calls(folder: Path, labels: tuple[str, ...]) -> tuple[object, dict[str, Callable]]:
    """Return the Keras model, and what it answers to the inputs of each signature."""
    import numpy as np
    import tensorflow as tf

    from kerasemo import presets
    from kerasemo.metrics import classification
    from kerasemo.networks import inference
    from pipelines.core.domains import DOMAINS
    from pipelines.core.labels import EMOTIONS
    from pipelines.faces import crops
    from pipelines.features import log_mel
    from pipelines.media import audio, images

    network = presets.from_preset(folder)
    predict = inference.predictor(network)
    columns, every = [EMOTIONS.index(label) for label in labels], np.ones(len(labels), bool)
    segments_of = tf.function(
        lambda wave: log_mel.segments(log_mel.log_mel(wave)), [tf.TensorSpec([None], tf.float32)]
    )

    def outputs(items, domain):
        return predict(items, DOMAINS.index(domain))

    def answers(items, domain):
        return classification.masked_softmax(outputs(items, domain)["logits"][:, columns], every)

    def speech(waves, of_segments=answers):
        parts = [segments_of(wave).numpy() for wave in waves]
        of = of_segments(np.concatenate(parts), "audio")
        return classification.clip_means(
            of, np.repeat(np.arange(len(parts)), list(map(len, parts)))
        )

    return network, {
        "faces": lambda items: answers(items, "visual"),
        "face_bytes": lambda files: answers(
            np.stack([crops.resize_face(images.read_still(file)) for file in files]), "visual"
        ),
        "embed_faces": lambda items: outputs(items, "visual")["embedding"],
        "segments": lambda items: answers(items, "audio"),
        "embed_segments": lambda items: outputs(items, "audio")["embedding"],
        "speech": speech,
        "wav_bytes": lambda files: speech([audio.read_waveform(file)[0] for file in files]),
        "embed_speech": lambda waves: speech(
            waves, lambda items, domain: outputs(items, domain)["embedding"]
        ),
    }


def onnx_calls(folder: Path, network, bundle, wanted: list[str]) -> dict[str, Callable]:
    """Return what asks the ONNX models of wanted signatures; nothing, and says so, where a package for them is missing."""
    try:
        import onnxruntime
        import tf2onnx  # noqa: F401
    except ImportError as error:
        print(f"ONNX Runtime is left out: {error.name} is not installed (pip install '.[onnx]')")
        return {}
    from kerasemo.exporting import onnx_litert

    found = onnx_litert.functions(network, labels=bundle.labels, domains=bundle.domains)
    names = onnx_litert.write_onnx(
        folder, {name: found[name] for name in wanted if name in found}, labels=bundle.labels
    )
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
    sides: Mapping[str, Callable[[], object]],
    *,
    batch: int,
    calls: int,
    rounds: int,
) -> None:
    """Time the sides in turns, `calls` calls each, and print the rates, the ratios and each side's latency."""
    import numpy as np

    seconds: dict[str, list[float]] = {name: [] for name in sides}

    def several(name: str) -> None:
        for _ in range(calls):
            began = time.perf_counter()
            sides[name]()
            seconds[name].append(time.perf_counter() - began)

    taken = timing.seconds_in_turns(
        {name: lambda name=name: several(name) for name in sides}, rounds
    )
    timing.report(f"{signature}, batch {batch}", taken, amount=calls * batch, unit="items/s")
    for name, all_calls in seconds.items():
        middle, late = np.percentile(
            1000 * np.array(all_calls[calls:]), (50, 99)
        )  # without those of the unmeasured round
        print(
            f"  {name}: p50 {middle:.2f} ms, p99 {late:.2f} ms of {rounds * calls} calls",
            flush=True,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", type=Path, help="an exported bundle (default: one with random weights)"
    )
    parser.add_argument(
        "--calls",
        type=int,
        default=100,
        help="of each side a round; of batches an eighth (default: %(default)s)",
    )
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="SIGNATURE", help="these signatures alone"
    )
    arguments = timing.begin(parser, cores=CORES, packages=("tensorflow", "keras"))
    from kerasemo.serving.bundle import Bundle

    with models.bundle(arguments.model) as folder, tempfile.TemporaryDirectory() as scratch:
        network, by_keras = keras_calls(folder, (bundle := Bundle.load(folder)).labels)
        wanted = [
            name
            for name in by_keras
            if name in bundle.signatures and name in (arguments.only or by_keras)
        ]
        by_onnx, inputs = (
            onnx_calls(Path(scratch), network, bundle, wanted),
            make_inputs(Path(scratch), max(BATCHES)),
        )
        for batch in BATCHES:
            for name in wanted:
                (key,) = bundle.document["signatures"][name]["inputs"]
                items = inputs[key][:batch]
                asked = {
                    key: [file.read_bytes() for file in items] if key.endswith("_bytes") else items
                }
                sides = {"exported": lambda name=name, asked=asked: bundle.predict(name, **asked)}
                sides["Keras"] = lambda name=name, items=items: by_keras[name](items)
                if name in by_onnx:
                    sides["ONNX Runtime"] = lambda name=name, items=items: by_onnx[name](items)
                calls = max(1, arguments.calls // (8 if batch > 1 else 1))
                compare(name, sides, batch=batch, calls=calls, rounds=arguments.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
