"""Step 3 of many networks at once: loads what was trained into kerasemo's own network and scores it as kerasemo does.

    python benchmarks/many_scores.py weights.npz [...] --records DIR --out OUT [--tables SOURCE:PROTOCOL ...] [--final] [--against DIR]

`weights.npz` is of `many_training.py`; several, such as one a seed, are pooled. Validation clips are scored; with `--final` those of the
test side, and the look is written down in `OUT/looks.jsonl` first. The clips of all folds are one score, and a CSV in OUT has the answers.
`--against` names the folder of `opensmile_svm.py`: with `--final`, ours minus it, speaker by speaker, on the very same clips.
"""

import argparse
import csv
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import timing

if TYPE_CHECKING:
    from kerasemo.answers import Answers
    from kerasemo.pooled import Pool

WEIGHTS = ("normalization/", "stage", "features/", "head/")
"""How the paths of weights begin, to tell them from what else there is in a file."""
FIGURES = {"ua": "UA", "wa": "WA", "macro_f1": "macro-F1"}


def networks(path: Path, tables: list[str]) -> Iterator[tuple[str, int, int, Mapping[str, np.ndarray]]]:
    """Yield the table, fold, seed and weights, by their paths, of every network of some tables in a file."""
    with np.load(path) as held:
        weights = {name: held[name] for name in held.files if name.startswith(WEIGHTS)}
        for lane, (table, fold, seed) in enumerate(zip(*(held[name].tolist() for name in ("table", "fold", "seed")), strict=True)):
            if table in tables:
                yield table, fold, seed, {name: values[lane] for name, values in weights.items()}


def answered(path: Path, arguments: argparse.Namespace) -> dict[str, dict[tuple[int, int], "Answers"]]:
    """Return by table, and by seed and fold, what the networks of a file answer to the clips of the side that is asked about."""
    import keras

    from kerasemo import answers, chain, holdings, scores, utterances
    from kerasemo.model import build_network
    from kerasemo.settings import Network

    with np.load(path) as held:
        settings, how = json.loads(str(held["network"])), utterances.Cut(active_share=float(held["active_share"]))
    model = keras.Model(*build_network(Network(**settings | {"widths": tuple(settings["widths"])})))
    predict, found = scores.predictor(model), {}
    for table, fold, seed, weights in networks(path, arguments.tables):
        if differing := {weight.path for weight in model.weights} ^ weights.keys():
            sys.exit(f"{path}: needs the weights of {settings}, and has not, or beside them, {', '.join(sorted(differing))}")
        for weight in model.weights:
            weight.assign(weights[weight.path])
        source, _, protocol = table.partition(":")
        sides = chain.gated_sides(arguments.records, [source], trained_on=[source], protocol=protocol, fold=fold)
        asked = holdings.side_of(utterances.read_cut(arguments.records, source, how), sides, arguments.side)
        own = answers.of_outputs(scores.forward(predict, asked), asked, trained=asked.source.emotions)
        found.setdefault(table, {})[seed, fold] = own
    return found


def write_answers(path: Path, pool: "Pool") -> None:
    """Write a row for each clip, seed after seed."""
    from pipelines.spec import EMOTIONS

    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "speaker", "emotion", "answer", "fold", "seed"))
        for seed, own in zip(pool.seeds, pool.answers, strict=True):
            for (fold, clip), speaker, label, answer in zip(pool.clips, pool.speakers, pool.labels, own, strict=True):
                writer.writerow((clip, speaker, EMOTIONS[label], EMOTIONS[answer], fold, seed))


def print_scores(pool: "Pool") -> None:
    """Print UA, WA and macro-F1 over the clips of all folds, and each class's recall; each is the mean over the seeds."""
    from kerasemo import pooled
    from pipelines.spec import EMOTIONS

    emotions = [emotion for number, emotion in enumerate(EMOTIONS) if number in pool.labels]
    score = pooled.score(pool, shared=emotions, corpus=emotions, with_intervals=list(FIGURES))
    for name, shown in FIGURES.items():
        ends, each = score["interval"][name], [f"{own['seed']}: {100 * own[name]:.1f}" for own in score["by_seed"]]
        interval = f" ({100 * ends['low']:.1f} to {100 * ends['high']:.1f}, {ends['method']})" if ends else ""
        print(f"  {shown} {100 * score[name]:.1f}{interval}; by seed {', '.join(each)}")
    print("  recalls: " + ", ".join(f"{emotion} {100 * share:.1f}" for emotion, share in score["recalls"].items()), flush=True)


def print_difference(pool: "Pool", path: Path) -> None:
    """Print how much better the networks are than what another answered to the same clips, in UA speaker by speaker."""
    from kerasemo import intervals, pooled
    from pipelines.spec import EMOTIONS

    with open(path, newline="", encoding="utf-8") as file:
        said = {(int(row["fold"]), row["id"], row["speaker"]): EMOTIONS.index(row["answer"]) for row in csv.DictReader(file)}
    clips = [(fold, clip, speaker) for (fold, clip), speaker in zip(pool.clips, pool.speakers, strict=True)]
    if set(clips) != said.keys():
        sys.exit(f"{path}: needs answers to the same clips in the same folds; make them again with benchmarks/opensmile_svm.py")
    both = pool.answers, [said[clip] for clip in clips]
    values = [intervals.per_speaker(pool.labels, own, pool.speakers, statistic=pooled.STATISTICS["ua"]) for own in both]
    found = intervals.paired(*values)
    points = [f"{100 * value:+.1f}" for value in (found.difference, found.low, found.high)]
    print(f"  minus {path.name}: UA {points[0]} ({points[1]} to {points[2]}), p = {found.p:.3f}, {found.method}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path, nargs="+")
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tables", nargs="+", metavar="SOURCE:PROTOCOL", help="(default: all that were trained)")
    parser.add_argument("--final", dest="side", action="store_const", const="test", default="validation", help="score test clips")
    parser.add_argument("--against", type=Path, help="with --final: the folder of what opensmile_svm.py answered")
    arguments = timing.begin(parser, cores=2, packages=("tensorflow", "keras"))
    from kerasemo import data, looks, pooled

    trained = sorted({table for path in arguments.weights for table in np.load(path)["table"].tolist()})
    arguments.tables = arguments.tables or trained
    if unknown := set(arguments.tables) - set(trained):
        sys.exit(f"--tables: expected some of {', '.join(trained)}, which were trained; received {', '.join(sorted(unknown))}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.side == "test":
        asked = [path.read_bytes() + table.encode() for path in arguments.weights for table in arguments.tables]
        keys = [hashlib.sha256(network).hexdigest() for network in asked]
        sources = sorted({table.partition(":")[0] for table in arguments.tables})
        manifests = {source: data.manifest_hash(data.set_folder(arguments.records, source)) for source in sources}
        number = looks.look(arguments.out, keys=keys, records=manifests, said={"tables": arguments.tables}, words=sys.argv)
        print(f"look {number} at test clips")
    cells: dict[str, dict[tuple[int, int], Answers]] = {}
    for path in arguments.weights:
        for table, own in answered(path, arguments).items():
            cells.setdefault(table, {}).update(own)
    for table, own in cells.items():
        name = table.replace("/", "-").replace(":", "-")
        pool = pooled.pool(own, folds=1 + max(fold for _, fold in own))
        print(f"\n{table}: {len(pool.clips)} {arguments.side} clips of {len(pool.folds)} folds")
        print_scores(pool)
        write_answers(arguments.out / f"{name}-{arguments.side}.csv", pool)
        if arguments.against and arguments.side == "test":
            print_difference(pool, arguments.against / f"{name}-none.csv")
    return 0


if __name__ == "__main__":
    sys.exit(main())
