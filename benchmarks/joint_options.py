"""Measures the options of the joint stage, of the contrastive stage and of a transfer against one another, on validation clips.

    python benchmarks/joint_options.py --records DIR [--experiment open] [--epochs 4] [--seeds 1] [--out DIR]

The stages before are trained once below `--out`, with their own epochs unless `--parent-epochs` says otherwise, then each
variant from the same weights with an equal number of updates. Test clips are not looked at. What is there is reused, so that
an interrupted measurement goes on.
"""

import argparse
import dataclasses
import re
import statistics
import sys
from pathlib import Path

import timing

JOINT = {
    "as it is": {},
    "partners at random": {"pairs": "random"},
    "hard negatives to 0.8": {"hard_negatives": 0.8},
    "margin 0.3": {"margin": 0.3},
    "margin 1.0": {"margin": 1.0},
    "weight 0: cross-entropies alone": {"contrastive_weight": 0.0},
    "weight 0.3": {"contrastive_weight": 0.3},
    "weight 3": {"contrastive_weight": 3.0},
    "a head for each corpus": {"heads": "corpus"},
}
CONTRASTIVE = {"contrastive stage": {}, "contrastive stage, hard negatives to 0.8": {"hard_negatives": 0.8}}
TRANSFER = {
    "nothing frozen": {},
    "stage1 frozen": {"freeze": ("stage1",)},
    "stage1 and stage2 frozen": {"freeze": ("stage1", "stage2")},
    "all but the last convolutions frozen": {"freeze": ("stage1", "stage2", "stage3")},
    "only features and head trained": {"freeze": ("stage",)},
}


def measured(arguments, experiment, stage, changes: dict, name: str) -> list[dict[str, float]]:
    """Train a stage with some settings changed, with each seed; return the validation scores of the best epochs."""
    from kerasemo import chain

    found = []
    for seed in range(arguments.seeds):
        changed = dataclasses.replace(stage, epochs=arguments.epochs, **changes)
        stages = tuple(changed if other.name == stage.name else other for other in experiment.stages)
        chosen = dataclasses.replace(experiment, stages=stages)
        folder = arguments.out / f"{stage.name}-{re.sub('[^a-z0-9]+', '-', name.lower())}-{seed}"
        run = chain.Run(chosen, arguments.records, folder, seed=seed, parents=arguments.out / f"parents-{seed}", scored="validation")
        result = chain.Chain(run, chosen.chain(stage.name), log=lambda line: print(line, file=sys.stderr)).run()[-1]
        found.append(result["history"][result["best_epoch"] - 1])
    return found


def table(title: str, rows: dict[str, list[dict[str, float]]]) -> None:
    """Print the means over the seeds of every validation score."""
    names = sorted({name for logs in rows.values() for log in logs for name in log if name.startswith(("val_ua", "val_pair"))})
    print(f"\n{title}\n\n| | {' | '.join(name.removeprefix('val_') for name in names)} |\n|---|{'---|' * len(names)}")
    for row, logs in rows.items():
        means = [f"{statistics.mean(log[name] for log in logs):.3f}" if name in logs[0] else "" for name in names]
        print(f"| {row} | {' | '.join(means)} |", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--experiment", default="open")
    parser.add_argument("--out", type=Path, default=Path("runs/joint-options"))
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--parent-epochs", type=int, default=None)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default="joint,contrastive,transfer", help="which tables (default: %(default)s)")
    arguments = timing.begin(parser, cores=2, packages=("tensorflow", "keras"))
    from kerasemo import chain
    from kerasemo.config import read_experiment

    experiment = read_experiment(arguments.experiment)
    joint, contrastive = experiment.stage("joint"), experiment.stage("contrastive")
    start = experiment.stage(joint.start_from)
    if arguments.parent_epochs:
        stages = tuple(dataclasses.replace(stage, epochs=arguments.parent_epochs) for stage in experiment.stages)
        experiment = dataclasses.replace(experiment, stages=stages)
    for seed in range(arguments.seeds):
        parents = chain.Run(experiment, arguments.records, arguments.out / f"parents-{seed}", seed=seed, scored="validation")
        chain.Chain(parents, experiment.chain(start.name), log=lambda line: print(line, file=sys.stderr)).run()
    about = f"validation clips, fold 0, {arguments.seeds} seed(s), {arguments.epochs} epochs each"
    for stage, variants in ((joint, JOINT), (contrastive, CONTRASTIVE), (start, TRANSFER)):
        if {joint: "joint", contrastive: "contrastive", start: "transfer"}[stage] in arguments.only.split(","):
            rows = {name: measured(arguments, experiment, stage, changes, name) for name, changes in variants.items()}
            table(f"{stage.kind} on {' + '.join(stage.sources)}, from {stage.start_from or 'scratch'}; {about}", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
