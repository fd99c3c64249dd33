"""Step 3 of many networks at once: loads what was trained into kerasemo's own network and scores it as kerasemo does.

    python benchmarks/many_scores.py weights.npz [...] --records DIR --out OUT [--tables SOURCE:PROTOCOL ...] [--final]

`weights.npz` is of `many_training.py`; several, such as one a seed, are pooled. Validation clips are scored; with `--final` those of the
test side, and the look is written down in `OUT/looks.jsonl` first. The clips of all folds are one score, and a CSV in OUT has the answers
for `python -m kerasemo.compare`.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import timing

if TYPE_CHECKING:
    from kerasemo.answered import Answers, Pool

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


def of_file(path: Path, arguments: argparse.Namespace) -> dict[str, dict[tuple[int, int], "Answers"]]:
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


def emotions_of(pool: "Pool") -> tuple[str, ...]:
    """Return the emotions that the clips have, in order."""
    from pipelines.spec import EMOTIONS, in_order

    return tuple(in_order(EMOTIONS[label] for label in pool.labels))


def print_scores(pool: "Pool") -> None:
    """Print UA, WA and macro-F1 over the clips of all folds, and each class's recall; each is the mean over the seeds."""
    from kerasemo import pooled

    emotions = emotions_of(pool)
    score = pooled.score(pool, shared=emotions, corpus=emotions, with_intervals=list(FIGURES))
    for name, shown in FIGURES.items():
        ends, each = score["interval"][name], [f"{own['seed']}: {100 * own[name]:.1f}" for own in score["by_seed"]]
        interval = f" ({100 * ends['low']:.1f} to {100 * ends['high']:.1f}, {ends['method']})" if ends else ""
        print(f"  {shown} {100 * score[name]:.1f}{interval}; by seed {', '.join(each)}")
    print("  recalls: " + ", ".join(f"{emotion} {100 * share:.1f}" for emotion, share in score["recalls"].items()), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path, nargs="+")
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tables", nargs="+", metavar="SOURCE:PROTOCOL", help="(default: all that were trained)")
    parser.add_argument("--final", dest="side", action="store_const", const="test", default="validation", help="score test clips")
    arguments = timing.begin(parser, cores=2, packages=("tensorflow", "keras"))
    from kerasemo import answered, data, looks, pooled

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
        for table, own in of_file(path, arguments).items():
            cells.setdefault(table, {}).update(own)
    for table, own in cells.items():
        name = table.replace("/", "-").replace(":", "-")
        pool = pooled.pool(own, folds=1 + max(fold for _, fold in own))
        print(f"\n{table}: {len(pool.clips)} {arguments.side} clips of {len(pool.folds)} folds")
        print_scores(pool)
        source, _, protocol = table.partition(":")
        kept = answered.Kept(pool, emotions_of(pool), arguments.side, protocol)
        answered.write(arguments.out / f"{name}-{arguments.side}.csv", {("many", source): kept})
    return 0


if __name__ == "__main__":
    sys.exit(main())
