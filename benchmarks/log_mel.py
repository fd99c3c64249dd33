"""Times sound files to log-Mels, without and with deltas, against librosa, in turns, on one processor.

    python benchmarks/log_mel.py [--clips 10] [--seconds 4] [--rounds 5]

Ours is `pipelines.media.audio` and `pipelines.features.log_mel` as one tf.function; librosa's is load (16 kHz), melspectrogram, power_to_db and
delta. Where tensorflow-io's compiled ops load, `--audio-decoder tfio` is timed as well. Clips are synthesised; where
KERASEMO_CORPORA names the real ones, they are timed too. The figures of both sides are checked to agree within 1e-3 dB.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import timing

REAL = {
    "EMO-DB, WAV, 16 kHz": "emodb/wav/*.wav",
    "RAVDESS, FLAC, 16 kHz": "ravdess/Actor_*/*.flac",
    "RAVDESS, WAV, 48 kHz": "ravdess/Actor_*/*.wav",
}


def write_clips(folder: Path, clips: int, seconds: float) -> dict[str, list[Path]]:
    """Write clips of noise in every format that librosa reads by itself."""
    import numpy as np
    import soundfile

    kinds = {
        "WAV, 44.1 kHz, mono": ("wav", "PCM_16", 44_100, 1),
        "WAV, 48 kHz, stereo": ("wav", "PCM_16", 48_000, 2),
        "FLAC, 44.1 kHz, mono": ("flac", "PCM_16", 44_100, 1),
        "MP3, 44.1 kHz, mono": ("mp3", None, 44_100, 1),
    }
    random = np.random.default_rng(0)
    written = {}
    for kind, (suffix, subtype, rate_hz, channels) in kinds.items():
        written[kind] = [folder / f"{rate_hz}-{channels}-{clip}.{suffix}" for clip in range(clips)]
        for path in written[kind]:
            soundfile.write(
                path,
                0.1 * random.standard_normal((round(rate_hz * seconds), channels)),
                rate_hz,
                subtype=subtype,
            )
    return written


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=10, help="of each kind (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="of each synthesised clip (default: %(default)s)"
    )
    arguments = timing.begin(
        parser, cores=1, packages=("tensorflow", "librosa", "soundfile", "av", "soxr")
    )
    import librosa
    import numpy as np
    import tensorflow as tf

    from pipelines.core.errors import KerasemoError
    from pipelines.features import audio_tfio, log_mel
    from pipelines.media import audio

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    signature = [tf.TensorSpec([None], tf.float32)]
    graphs = {
        "static": tf.function(log_mel.log_mel, input_signature=signature),
        "with deltas": tf.function(
            lambda waveform: log_mel.with_deltas(log_mel.log_mel(waveform)),
            input_signature=signature,
        ),
    }
    # Concrete: within tf.data's graph the build pays for no dispatch in Python either.
    of_waveform = {features: graph.get_concrete_function() for features, graph in graphs.items()}
    of_file = {}
    try:
        audio_tfio.check_tfio()
        files = [tf.TensorSpec([], tf.string)]
        of_file["static"] = tf.function(
            lambda path: log_mel.log_mel(audio_tfio.read_waveform_tfio(path)["waveform"]),
            input_signature=files,
        )
        of_file["with deltas"] = tf.function(
            lambda path: log_mel.with_deltas(
                log_mel.log_mel(audio_tfio.read_waveform_tfio(path)["waveform"])
            ),
            input_signature=files,
        )
    except KerasemoError as error:
        print(f"without tensorflow-io: {error}")

    def by_librosa(path: Path, features: str) -> np.ndarray:
        waveform, _ = librosa.load(path, sr=16_000)
        power = librosa.feature.melspectrogram(
            y=waveform,
            sr=16_000,
            n_fft=512,
            win_length=400,
            hop_length=160,
            window="hamming",
            center=False,
            n_mels=64,
            fmin=20,
        )
        static = librosa.power_to_db(power, amin=1e-10, top_db=None)
        if features == "static":
            return static.T
        return np.stack(
            [static, librosa.feature.delta(static), librosa.feature.delta(static, order=2)], axis=-1
        ).swapaxes(0, 1)

    with tempfile.TemporaryDirectory() as folder:
        kinds = write_clips(Path(folder), arguments.clips, arguments.seconds)
        if os.environ.get("KERASEMO_CORPORA"):
            corpora = Path(os.environ["KERASEMO_CORPORA"])
            kinds |= {
                kind: sorted(corpora.glob(names))[: arguments.clips] for kind, names in REAL.items()
            }
        for kind, paths in kinds.items():
            seconds = sum(librosa.get_duration(path=path) for path in paths)
            for features, measure in of_waveform.items():
                measures = {
                    "pipelines": lambda path, measure=measure: measure(
                        tf.constant(audio.read_waveform(path)[0])
                    ).numpy(),
                    "librosa": lambda path, features=features: by_librosa(path, features),
                }
                if features in of_file:
                    measures["tensorflow-io"] = lambda path, measure=of_file[features]: measure(
                        str(path)
                    ).numpy()
                expected = measures["librosa"](paths[0])
                difference = max(
                    float(np.abs(read(paths[0]) - expected).max()) for read in measures.values()
                )
                if not difference < 1e-3:
                    print(f"{kind}: the sides differ by {difference:.4f} dB", file=sys.stderr)
                    return 1
                sides = {
                    name: (lambda read=read, paths=paths: [read(path) for path in paths])
                    for name, read in measures.items()
                }
                seconds_of = timing.seconds_in_turns(sides, arguments.rounds)
                timing.report(
                    f"{kind} -> log-Mel, {features}",
                    seconds_of,
                    amount=seconds,
                    unit="s of sound/s",
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
