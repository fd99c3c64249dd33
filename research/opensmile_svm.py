"""Score the baseline for voices: openSMILE's ComParE 2016 functionals and a linear SVM.

    python -m research.opensmile_svm --records DIR [--out DIR] [--tables SOURCE:PROTOCOL ...]
                                     [--refit] [--json]

The folds and the splits are those of the networks. Records need the sound (`pipelines.build
--waveform`). The 6 373 functionals of each clip are computed once and stored in `--out`. In each
fold the script standardises the functionals by the training split, fits the SVM with balanced
classes, and chooses C by the UA on the validation split. `--refit` then fits the training and the
validation split; the networks do not do this. A second row standardises the functionals of each
speaker by all clips of the speaker, also those of the test split: it is transductive. A CSV in
`--out` holds the predictions, for `python -m kerasemo.compare`.
"""

import argparse
import contextlib
import functools
import importlib.util
import json
import multiprocessing
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import timing

# Without openSMILE the script scores functionals that are stored in --out.
OPENSMILE = ["opensmile"] if importlib.util.find_spec("opensmile") else []
TABLES = [
    "emodb/audio:speaker-independent",
    "emodb/audio:speaker-dependent",
    "ravdess/audio:speaker-independent",
]
COSTS = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
NORMALIZATIONS = {"none": "of the training split", "speaker": "each speaker's own: transductive"}
SCORES = {"UA": "unweighted_average_recall", "WA": "accuracy", "macro-F1": "macro_f1"}
"""Heading -> the function of `kerasemo.metrics.classification`."""


def functionals(pcm: np.ndarray) -> np.ndarray:
    """Return the ComParE 2016 functionals of int16 PCM at 16 kHz: float32 [6373]."""
    import opensmile

    smile = opensmile.Smile(
        feature_set=opensmile.FeatureSet.ComParE_2016,
        feature_level=opensmile.FeatureLevel.Functionals,
    )
    return smile.process_signal(pcm.astype(np.float32) / 2**15, 16_000).to_numpy(np.float32)[0]


def read_features(records_folder: Path, source: str, out: Path) -> tuple[list[dict], np.ndarray]:
    """Return the rows of a set's manifest and their functionals, float32 [clips, functionals].

    The functionals are computed once and stored in the folder `out`.
    """
    from kerasemo.datasets import sources
    from pipelines.records import reader

    folder = sources.set_folder(records_folder, source)
    manifest = reader.read_manifest(folder)
    path = out / f"{source.replace('/', '-')}-{sources.manifest_hash(folder)[:12]}.npy"
    if not path.exists():
        parts = {row["id"]: [] for row in manifest["clips"]}
        for record in reader.read_features(folder, manifest):
            parts[record["id"].decode()].append(record["pcm"])
        sounds = [np.concatenate(parts[row["id"]]) for row in manifest["clips"]]
        if not OPENSMILE or not all(map(len, sounds)):
            sys.exit(
                f"{folder}: needs a set that was built with --waveform, and opensmile: "
                "pip install -e '.[benchmarks]'"
            )
        # New processes, because openSMILE crashes in a process that has imported TensorFlow.
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            features = np.stack(pool.map(functionals, sounds, chunksize=8))
        out.mkdir(parents=True, exist_ok=True)
        np.save(path, features)
    return manifest["clips"], np.load(path)


def standardise_by_group(groups: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Return features with mean 0 and standard deviation 1 in each group (constant ones: 0)."""
    from sklearn.preprocessing import StandardScaler

    standardised = np.empty_like(features)
    for group in np.unique(groups):
        members = groups == group
        standardised[members] = StandardScaler().fit_transform(features[members])
    return standardised


def predict_fold(
    features: np.ndarray, labels: np.ndarray, splits: list, *, n_classes: int, refit: bool
) -> tuple[np.ndarray, float]:
    """Return the predictions for the test clips of a fold, int [clips], and the chosen C.

    Args:
        features: float64 [clips, functionals].
        labels: int [clips].
        splits: The indices of the training, the validation and the test clips.
        n_classes: The number of classes.
        refit: Fit the training and the validation clips after C is chosen.
    """
    from sklearn import preprocessing, svm

    from kerasemo.metrics import classification

    def predict(cost: float, fitted: np.ndarray, clips: np.ndarray) -> np.ndarray:
        scaled = preprocessing.StandardScaler().fit(features[fitted]).transform(features)
        kernel = scaled @ scaled[fitted].T  # linear: [clips, fitted clips]
        classifier = svm.SVC(C=cost, kernel="precomputed", class_weight="balanced")
        return classifier.fit(kernel[fitted], labels[fitted]).predict(kernel[clips])

    def validation_ua(cost: float) -> float:
        predictions = predict(cost, train, validation)
        return classification.unweighted_average_recall(
            labels[validation], predictions, n_classes=n_classes
        )

    train, validation, test = splits
    cost = max(COSTS, key=validation_ua)  # the smallest C of equal ones
    return predict(cost, np.concatenate([train, validation]) if refit else train, test), cost


def score_table(arguments: argparse.Namespace, source: str, protocol: str) -> list[dict[str, Any]]:
    """Return the scores of both normalisations over all folds, and write the predictions."""
    from kerasemo.datasets.catalog import RecordCatalog
    from kerasemo.datasets.splits import SPLITS, one_per_utterance
    from pipelines.core.labels import in_order

    catalog = RecordCatalog(arguments.records)
    rows, features = read_features(arguments.records, source, arguments.out)
    scored_ids = {row["id"] for row in one_per_utterance(rows)}
    features = features[[row["id"] in scored_ids for row in rows]].astype(np.float64)
    rows = [row for row in rows if row["id"] in scored_ids]
    index_of = {row["id"]: index for index, row in enumerate(rows)}
    speakers = np.array([row["speaker"] for row in rows])
    emotions = in_order({row["emotion"] for row in rows})
    labels = np.array([emotions.index(row["emotion"]) for row in rows])
    features_by_normalization = {
        "none": features,
        "speaker": standardise_by_group(speakers, features),
    }
    folds = range(catalog.fold_count(source, protocol=protocol))
    tables = []
    for normalization, normalised in features_by_normalization.items():
        predictions, fold_of, costs = np.full(len(rows), -1), np.full(len(rows), -1), []
        for fold in folds:
            clip_ids = catalog.split([source], protocol=protocol, fold=fold).clip_ids[source]
            splits = [np.array([index_of[clip] for clip in clip_ids[split]]) for split in SPLITS]
            test = splits[-1]
            predictions[test], cost = predict_fold(
                normalised, labels, splits, n_classes=len(emotions), refit=arguments.refit
            )
            fold_of[test] = fold
            costs.append(cost)
        table = {
            "source": source,
            "protocol": protocol,
            "folds": len(folds),
            "clips": len(rows),
            "normalization": normalization,
            "C": costs,
        }
        tables.append(table | score_predictions(labels, predictions, speakers, len(emotions)))
        suffix = "-refitted" if arguments.refit else ""
        name = f"{source.replace('/', '-')}-{protocol}-{normalization}{suffix}.csv"
        clips = list(zip(fold_of.tolist(), index_of, strict=True))
        write_predictions(
            arguments.out / name,
            clips,
            speakers,
            labels,
            predictions,
            source=source,
            emotions=emotions,
            protocol=protocol,
            stamp=f"normalisation: {NORMALIZATIONS[normalization]}",
        )
    return tables


def score_predictions(
    labels: np.ndarray, predictions: np.ndarray, speakers: np.ndarray, n_classes: int
) -> dict[str, dict[str, Any]]:
    """Return each of SCORES with its interval.

    Args:
        labels: int [clips].
        predictions: int [clips].
        speakers: str [clips].
        n_classes: The number of classes.
    """
    from kerasemo.metrics import classification, significance

    scores = {}
    for heading, name in SCORES.items():
        statistic = functools.partial(getattr(classification, name), n_classes=n_classes)
        interval = significance.score_interval(
            labels, predictions, speakers, statistic=statistic, seed=0
        )
        scores[heading] = {
            "value": statistic(labels, predictions),
            "low": interval.low,
            "high": interval.high,
            "interval": interval.method,
        }
    return scores


def write_predictions(
    path: Path,
    clips: list[tuple[int, str]],
    speakers: np.ndarray,
    labels: np.ndarray,
    predictions: np.ndarray,
    *,
    source: str,
    emotions: list[str],
    protocol: str,
    stamp: str,
) -> None:
    """Write the predictions of all folds as a prediction table.

    Args:
        path: The CSV file.
        clips: The fold and the id of each clip.
        speakers: str [clips].
        labels: int [clips], indices of `emotions`.
        predictions: int [clips], indices of `emotions`.
        source: The source.
        emotions: The classes.
        protocol: How the splits were made.
        stamp: A remark on the score.
    """
    from kerasemo.analysis import prediction_tables
    from pipelines.core.labels import EMOTIONS

    of_all_emotions = np.array([EMOTIONS.index(emotion) for emotion in emotions])
    pool = prediction_tables.pooled_predictions(
        clips, speakers.tolist(), of_all_emotions[labels], of_all_emotions[predictions][None]
    )
    table = prediction_tables.PredictionTable(
        pool, emotions=tuple(emotions), split="test", protocol=protocol, stamps=(stamp,)
    )
    prediction_tables.write_prediction_tables(path, {("openSMILE + SVM", source): table})


def markdown_table(tables: list[dict[str, Any]]) -> str:
    """Return the scores as a Markdown table, in percent."""
    header = ["source", "protocol", "folds", "clips", "normalisation", *SCORES, "interval"]
    lines = [f"\n| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    for table in tables:
        texts = [str(table[name]) for name in ("source", "protocol", "folds", "clips")]
        texts.append(NORMALIZATIONS[table["normalization"]])
        for name in SCORES:
            value, low, high = (100 * table[name][key] for key in ("value", "low", "high"))
            texts.append(f"{value:.1f} ({low:.1f} to {high:.1f})")
        texts.append(table["UA"]["interval"])
        lines.append(f"| {' | '.join(texts)} |")
    return "\n".join(lines)


def main() -> int:
    """Parse the command line, score the tables, print them, and return the exit status."""
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
        help="after C is chosen, fit the training and the validation split",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON document instead of the table"
    )
    with contextlib.redirect_stdout(sys.stderr if "--json" in sys.argv else sys.stdout):
        arguments = timing.begin(parser, cores=2, packages=(*OPENSMILE, "scikit-learn"))
    tables = []
    for words in arguments.tables:
        source, protocol = words.split(":")
        tables += score_table(arguments, source, protocol)
    print(json.dumps(tables, indent=1) if arguments.json else markdown_table(tables))
    return 0


if __name__ == "__main__":
    sys.exit(main())
