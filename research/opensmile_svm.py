"""Scores what many would pick instead of this project: openSMILE's ComParE-2016 functionals and a linear SVM, on the very same folds.

    python -m research.opensmile_svm --records DIR [--out DIR] [--tables SOURCE:PROTOCOL ...] [--refit] [--json]

Of sets that keep the waveform (`pipelines.build --waveform`) 6 373 functionals a clip are taken once and kept below `--out`. Of every
fold the training side is standardised and fitted, balanced by class; C has the best UA on the validation side, which `--refit` then
adds to what is fitted (to a network it is not). The second row standardises each speaker by all of the speaker's clips, those of the
test side too: transductive. A CSV beside the features has each clip's answer, for `python -m kerasemo.compare`.
"""

import argparse
import contextlib
import functools
import importlib.util
import json
import multiprocessing
import sys
from pathlib import Path

import numpy as np

from benchmarks import timing

OURS = (
    ["opensmile"] if importlib.util.find_spec("opensmile") else []
)  # without it what is kept is scored
TABLES = [
    "emodb/audio:speaker-independent",
    "emodb/audio:speaker-dependent",
    "ravdess/audio:speaker-independent",
]
COSTS = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
NORMALIZATIONS = {"none": "of the training side", "speaker": "each speaker's own: transductive"}
SCORES = {"UA": "unweighted_accuracy", "WA": "weighted_accuracy", "macro-F1": "macro_f1"}


def functionals(pcm: np.ndarray) -> np.ndarray:
    """Return the ComParE-2016 functionals of int16 PCM at 16 kHz: float32 [6373]."""
    import opensmile

    smile = opensmile.Smile(
        feature_set=opensmile.FeatureSet.ComParE_2016,
        feature_level=opensmile.FeatureLevel.Functionals,
    )
    return smile.process_signal(pcm.astype(np.float32) / 2**15, 16_000).to_numpy(np.float32)[0]


def read_features(records_folder: Path, source: str, out: Path) -> tuple[list[dict], np.ndarray]:
    """Return the manifest's rows of a set, and float32 [clips, functionals] in their order, taken once and kept below `out`."""
    from kerasemo.datasets import sources
    from pipelines.records import reader

    folder = sources.set_folder(records_folder, source)
    manifest = reader.read_manifest(folder)
    kept = out / f"{source.replace('/', '-')}-{sources.manifest_hash(folder)[:12]}.npy"
    if not kept.exists():
        parts = {row["id"]: [] for row in manifest["clips"]}
        for record in reader.read(folder, manifest):
            parts[record["id"].decode()].append(record["pcm"])
        sounds = [np.concatenate(parts[row["id"]]) for row in manifest["clips"]]
        if not OURS or not all(map(len, sounds)):
            sys.exit(
                f"{folder}: needs a set that was built with --waveform, and opensmile: pip install -e '.[benchmarks]'"
            )
        with multiprocessing.get_context("spawn").Pool(
            2
        ) as pool:  # without tensorflow, beside which openSMILE crashes
            features = np.stack(pool.map(functionals, sounds, chunksize=8))
        out.mkdir(parents=True, exist_ok=True)
        np.save(kept, features)
    return manifest["clips"], np.load(kept)


def standardised_by(groups: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Return the features, each group's with mean 0 and standard deviation 1 (a constant one: 0)."""
    from sklearn.preprocessing import StandardScaler

    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    return np.concatenate([StandardScaler().fit_transform(features[own]) for own in members])[
        np.argsort(np.concatenate(members))
    ]


def answers_of_fold(
    features: np.ndarray, labels: np.ndarray, clips: list, *, n_classes: int, refit: bool
) -> tuple[np.ndarray, float]:
    """Return the answers about the test clips, int [clips], and the C that was the best on validation clips."""
    from sklearn import preprocessing, svm

    from kerasemo.metrics import classification

    def answers(cost: float, fitted: np.ndarray, asked: np.ndarray) -> np.ndarray:
        scaled = preprocessing.StandardScaler().fit(features[fitted]).transform(features)
        kernel = scaled @ scaled[fitted].T  # the linear one: [clips, fitted clips]
        return (
            svm.SVC(C=cost, kernel="precomputed", class_weight="balanced")
            .fit(kernel[fitted], labels[fitted])
            .predict(kernel[asked])
        )

    def validated(cost: float) -> float:
        return classification.unweighted_accuracy(
            labels[validation], answers(cost, train, validation), n_classes=n_classes
        )

    train, validation, test = clips
    cost = max(COSTS, key=validated)  # the first of equals
    return answers(cost, np.concatenate([train, validation]) if refit else train, test), cost


def measured(arguments: argparse.Namespace, source: str, protocol: str) -> list[dict]:
    """Return the scores of both rows over the clips of all folds, and write what was answered."""
    from kerasemo.analysis import prediction_tables
    from kerasemo.datasets import splits
    from kerasemo.metrics import classification, significance
    from pipelines.core.labels import EMOTIONS, in_order
    from pipelines.records import reader

    corpus = source.partition("/")[0]
    sets = {
        f"{corpus}/{path.name}": reader.read_manifest(path)["clips"]
        for path in reader.find_sets(arguments.records / corpus)
    }
    folds = range(splits.fold_count(corpus, sets, protocol=protocol))
    rows, features = read_features(arguments.records, source, arguments.out)
    chosen = {row["id"] for row in splits.one_per_utterance(rows)}
    features = features[[row["id"] in chosen for row in rows]].astype(np.float64)
    rows = [row for row in rows if row["id"] in chosen]
    index_of = {row["id"]: index for index, row in enumerate(rows)}
    speakers, emotions = (
        np.array([row["speaker"] for row in rows]),
        in_order({row["emotion"] for row in rows}),
    )
    labels, fold_of = (
        np.array([emotions.index(row["emotion"]) for row in rows]),
        np.full(len(rows), -1),
    )
    found = []
    for name, inputs in {"none": features, "speaker": standardised_by(speakers, features)}.items():
        answers, costs = np.full(len(rows), -1), []
        for fold in folds:
            ids = splits.sides(sets, protocol=protocol, fold=fold).ids[source]
            clips = [np.array([index_of[id] for id in ids[side]]) for side in splits.SIDES]
            said, cost = answers_of_fold(
                inputs, labels, clips, n_classes=len(emotions), refit=arguments.refit
            )
            answers[clips[-1]], fold_of[clips[-1]], costs = said, fold, [*costs, cost]
        table = {
            "source": source,
            "protocol": protocol,
            "folds": len(folds),
            "clips": len(rows),
            "normalization": name,
            "C": costs,
        }
        for score, function in SCORES.items():
            statistic = functools.partial(
                getattr(classification, function), n_classes=len(emotions)
            )
            ends = significance.interval(labels, answers, speakers, statistic=statistic, seed=0)
            table[score] = {
                "value": statistic(labels, answers),
                "low": ends.low,
                "high": ends.high,
                "interval": ends.method,
            }
        found.append(table)
        said = np.array([EMOTIONS.index(emotion) for emotion in emotions])[
            np.stack([labels, answers])
        ]
        pool = prediction_tables.of_answers(
            list(zip(fold_of.tolist(), index_of, strict=True)), speakers.tolist(), said[0], said[1:]
        )
        name = f"{source.replace('/', '-')}-{protocol}-{name}{'-refitted' * arguments.refit}.csv"
        kept = prediction_tables.Kept(
            pool,
            tuple(emotions),
            "test",
            protocol,
            (f"normalisation: {NORMALIZATIONS[table['normalization']]}",),
        )
        prediction_tables.write(arguments.out / name, {("openSMILE + SVM", source): kept})
    return found


def table_of(found: list[dict]) -> str:
    lines = [
        f"\n| source | protocol | folds | clips | normalisation | {' | '.join(SCORES)} | interval |",
        f"|{'---|' * 9}",
    ]
    for table in found:
        names = [str(table[name]) for name in ("source", "protocol", "folds", "clips")] + [
            NORMALIZATIONS[table["normalization"]]
        ]
        shown = [
            f"{100 * of['value']:.1f} ({100 * of['low']:.1f} to {100 * of['high']:.1f})"
            for of in map(table.get, SCORES)
        ]
        lines.append(f"| {' | '.join([*names, *shown, table['UA']['interval']])} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/opensmile-svm"))
    parser.add_argument(
        "--tables",
        nargs="+",
        default=TABLES,
        metavar="SOURCE:PROTOCOL",
        help="(default: %(default)s)",
    )
    parser.add_argument(
        "--refit",
        action="store_true",
        help="once C is chosen, fit the training and the validation side",
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON document on stdout instead of the table"
    )
    with contextlib.redirect_stdout(sys.stderr if "--json" in sys.argv else sys.stdout):
        arguments = timing.begin(parser, cores=2, packages=(*OURS, "scikit-learn"))
    found = [
        table for words in arguments.tables for table in measured(arguments, *words.split(":"))
    ]
    print(json.dumps(found, indent=1) if arguments.json else table_of(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
