"""What the moving average of the weights, or the mean over mirror images, changes of the very same trainings, on validation clips.

    python benchmarks/averaged_weights.py RUN --stage speech --records DIR --out OUT
    python benchmarks/averaged_weights.py RUN --stage faces --records DIR --out OUT --part mirror

RUN is the run folder of `kerasemo.reproduce`, with the checkpoints of the stage's networks. No update depends on either, so that both
answers are of one course of training, and no draw stands between them, as it does between two stages that were trained with a part and
without. The average and the last weights are both taken after the last epoch, whichever was kept; a face and its mirror image are both
asked of what was kept. `OUT/SOURCE.csv` has the answers for `python -m kerasemo.compare`.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import timing
from many_scores import emotions_of

if TYPE_CHECKING:
    import keras

    from kerasemo.answered import Answers
    from kerasemo.holdings import Holdings
    from kerasemo.lineage import Lineage

PARTS = {"average": ("averaged", "last"), "mirror": ("mirrored", "plain")}
"""With the part and without."""


def place_of(of: "Lineage") -> tuple[int, int]:
    """Return the fold and the seed of a network."""
    return of.result["fold"], of.result["key"]["seed"]


def last_state(of: "Lineage") -> Mapping[str, np.ndarray]:
    """Return the state of a training after its last epoch, which has the weights and their average."""
    from kerasemo import checkpoint, runs

    folder, result = of.folders[-1], of.result
    if not result["key"]["stage"]["ema"]:
        sys.exit(f"{folder}: trained without a moving average of the weights; name a stage that has `ema`")
    for path in checkpoint.Checkpoints(folder / "checkpoints").states():
        tensors, state = checkpoint.load(path)
        if len(state["history"]) == result["epochs"] and state["digest"] == runs.digest(result["key"]):
            return tensors
    sys.exit(f"{folder}/checkpoints: no state after epoch {result['epochs']}, the last; train the stage again")


def give(model: "keras.Model", state: Mapping[str, np.ndarray], *, averaged: bool) -> None:
    """Give a network the weights of a state, or the average of those that have one: frozen ones and statistics have none."""
    for weight in model.weights:
        average = f"optimizer/{weight.path.replace('/', '_')}_average"
        weight.assign(state[average if averaged and average in state else weight.path])


def answered_by_both(of: "Lineage", held: "Holdings", *, source: str, part: str) -> tuple[dict[str, "Answers"], str]:
    """Return what a network answers to the validation clips of a source, with a part and without, and their stamp."""
    from kerasemo import answers, runs, scores, splits, utterances
    from kerasemo.holdings import side_of

    result = of.result
    if result["kind"] != "supervised":
        sys.exit(f"{of.folders[-1]}: a {result['kind']} stage; name a supervised one")
    state = last_state(of) if part == "average" else {}
    model = runs.load_network(of.folders[-1], result)
    sides = of.sides(held.folder, asked=held.sources, there=held.sources, held=held, foreign=False)
    asked = side_of(utterances.loader(held.folder, result["key"]["stage"], held.source)(source), sides, "validation")
    found = {}
    for name in PARTS[part]:
        if part == "average":
            give(model, state, averaged=name == "averaged")
        else:
            model.mirror = name == "mirrored"
        found[name] = answers.of_outputs(scores.forward(scores.predictor(model), asked), asked, trained=result["trained_emotions"])
    return found, splits.stamp(sides.report["sources"][source])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--stage", required=True)
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", choices=PARTS, default="average")
    arguments = timing.begin(parser, cores=2, packages=("tensorflow", "keras"))
    from kerasemo import answered, compare, lineage, pooled
    from kerasemo.holdings import Holdings
    from pipelines.spec import InputError

    stages, held, cells, kept = arguments.run / "stages", None, {}, {}
    try:
        found = [lineage.find(stages, path.parent.name) for path in stages.glob(f"{arguments.stage}-*/metrics.json")]
        found = [of for of in found if of.result["stage"] == arguments.stage]
        for of in sorted(found, key=place_of):
            fold, seed = place = place_of(of)
            if place in cells:
                sys.exit(f"{stages}: two networks of stage {arguments.stage!r}, fold {fold}, seed {seed}; name a run of one kind")
            held = held or Holdings(arguments.records, of.trained_on)
            source, protocol = of.result["trained_on"][0], of.result["protocol"]
            if arguments.part == "mirror" and not source.endswith("/visual"):
                sys.exit(f"{stages}: stage {arguments.stage!r} is of {source}; only faces have mirror images")
            cells[place], stamp = answered_by_both(of, held, source=source, part=arguments.part)
            same = np.mean(np.equal(*(own.answers for own in cells[place].values())))
            print(f"fold {fold}, seed {seed}: {100 * same:.1f} % of the answers are the same", flush=True)
        if not cells:
            sys.exit(f"{stages}: no finished network of stage {arguments.stage!r}; name the --run of kerasemo.reproduce")
        for name in PARTS[arguments.part]:
            by_seed = {(seed, fold): own[name] for (fold, seed), own in cells.items()}
            pool = pooled.pool(by_seed, folds=1 + max(fold for fold, _ in cells))
            kept[name, source] = answered.Kept(pool, emotions_of(pool), "validation", protocol, (stamp,) if stamp else ())
        arguments.out.mkdir(parents=True, exist_ok=True)
        path = arguments.out / f"{source.replace('/', '-')}.csv"
        answered.write(path, kept)
    except InputError as error:
        sys.exit(str(error))
    return compare.main([str(path), "--compare", ":".join(PARTS[arguments.part])])


if __name__ == "__main__":
    sys.exit(main())
