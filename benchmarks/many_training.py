"""Step 2 of many networks at once: trains every fold and seed of some tables side by side, with NumPy and JAX alone.

    PYTHONPATH=. python benchmarks/many_training.py arrays.npz --out weights.npz [--seeds 0 1 2] [--pool rows] [--steps 4200 ...]

`arrays.npz` is of `many_arrays.py`. Test clips are not looked at; of the validation clips, pooled over all folds, UA and WA are printed as
it goes on, and nothing is chosen by them. `many_scores.py` loads the weights into kerasemo's own network and scores it.
"""

import argparse
import dataclasses
import itertools
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import timing
from many_batches import Recipe
from many_sounds import Side, Sounds, lanes_of, read_sides, read_sounds
from many_steps import AT_ONCE, State, initial_state, probabilities, trained

from kerasemo import metrics
from kerasemo.settings import Network
from pipelines.spec import DOMAINS, EMOTIONS

NETWORK = dataclasses.replace(Network(), pool="average", dropout=0.5)
SHAPE = ("widths", "convolutions", "blocks", "squeeze", "pool", "dropout")
"""What of the network are options."""


def add_options(parser: argparse.ArgumentParser, settings: Recipe | Network, names: Sequence[str]) -> None:
    """Make options of some fields of a dataclass, with its values as the defaults."""
    for name in names:
        default = getattr(settings, name)
        several = {"nargs": "+", "type": int} if isinstance(default, tuple) else {"type": type(default)}
        parser.add_argument(f"--{name.replace('_', '-')}", default=default, **several, help="(default: %(default)s)")


def chosen(settings: Recipe | Network, names: Sequence[str], arguments: argparse.Namespace) -> Recipe | Network:
    """Return a dataclass with the fields that `add_options` made options of as they were given."""
    given = {name: getattr(arguments, name) for name in names}
    return dataclasses.replace(settings, **{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})


def validated(said: np.ndarray, sides: Sequence[Side], sounds: Sounds) -> dict[tuple[str, int], dict[str, float]]:
    """Return UA and WA of each table and seed over the validation clips of all folds together.

    Args:
        said: float32 [lanes, segments, 10]; behind those of a side's validation clips come some that count for nothing.
        sides: Of each lane.
        sounds: Whose labels are asked for.
    """
    clip_of, labels = np.asarray(sounds.clip_of), np.asarray(sounds.labels)
    answered: dict[tuple[str, int], list[np.ndarray]] = {}
    for side, own in zip(sides, said, strict=True):
        clips, place = np.unique(clip_of[side.validation], return_inverse=True)
        answers = metrics.clip_answers(own[: len(side.validation)], place).argmax(axis=1)
        answered.setdefault((side.table, side.seed), []).append(np.stack([labels[clips], answers]))
    scores = {"UA": metrics.unweighted_accuracy, "WA": metrics.weighted_accuracy}
    pooled = {key: np.concatenate(parts, axis=1) for key, parts in answered.items()}
    return {key: {name: score(*both, n_classes=len(EMOTIONS)) for name, score in scores.items()} for key, both in pooled.items()}


def train(arguments: argparse.Namespace, sides: Sequence[Side], sounds: Sounds, recipe: Recipe, config: Network) -> dict[str, np.ndarray]:
    """Train the networks of some sides, tell of it as it goes on, and return their weights by Keras' paths, the lanes first."""
    lanes = lanes_of(sides, sounds, balance=recipe.balance)
    most = -(-max(len(side.validation) for side in sides) // AT_ONCE) * AT_ONCE
    asked = np.stack([np.resize(side.validation, most) for side in sides])
    shape = {"config": config, "dtype": arguments.dtype}
    state: State = jax.vmap(lambda lane: initial_state(lane, config))(lanes)
    parameters = sum(value[0].size for value in state.weights.values())
    print(f"{len(sides)} networks of {parameters} parameters, {recipe.steps} steps of {recipe.batch} segments each", flush=True)
    edges = np.linspace(0, recipe.steps, arguments.checks + 1).round().astype(int).tolist()
    for first, end in itertools.pairwise(edges):
        began = time.perf_counter()
        state, losses = trained(state, lanes, sounds, first=first, count=end - first, recipe=recipe, **shape)
        losses = np.asarray(losses)  # waits
        seconds = time.perf_counter() - began
        compiled = " with compiling" if first == 0 else ""
        rate = (end - first) * recipe.batch * len(sides) / seconds
        print(f"step {end}: {seconds:.1f} s, {rate:.0f} segments/s{compiled}, mean loss {losses.mean():.3f}")
        said = np.asarray(probabilities(state.average, lanes, sounds, asked, **shape))
        for (table, seed), scores in validated(said, sides, sounds).items():
            figures = ", ".join(f"{name} {100 * value:.1f}" for name, value in scores.items())
            print(f"  {table}, seed {seed}: validation {figures}", flush=True)
    return {path: np.asarray(values) for path, values in state.average.items()} | statistics(lanes.mean, lanes.scale)


def statistics(mean: jax.Array, scale: jax.Array) -> dict[str, np.ndarray]:
    """Return the weights of the network's normalisation, of which sound alone is known."""
    audio, count = DOMAINS.index("audio"), len(mean)
    means = np.zeros((count, len(DOMAINS), *mean.shape[1:]), np.float32)  # [lanes, domains, 64, 1, 3]
    scales, fitted = np.ones_like(means), np.zeros((count, len(DOMAINS)), np.float32)
    means[:, audio], scales[:, audio], fitted[:, audio] = mean, scale, 1
    return {"normalization/mean": means, "normalization/scale": scales, "normalization/fitted": fitted}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("arrays", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tables", nargs="+", metavar="SOURCE:PROTOCOL", help="(default: those of the arrays)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="(default: %(default)s)")
    parser.add_argument("--checks", type=int, default=4, help="how often validation clips are scored (default: %(default)s)")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="of convolutions (default: %(default)s)")
    fields = [field.name for field in dataclasses.fields(Recipe)]
    add_options(parser, Recipe(), fields)
    add_options(parser, NETWORK, SHAPE)
    arguments = timing.begin(parser, cores=len(os.sched_getaffinity(0)), packages=("jax", "jaxlib"))
    print(f"on {len(jax.devices())} {jax.devices()[0].device_kind}", flush=True)
    recipe, config = chosen(Recipe(), fields, arguments), chosen(NETWORK, SHAPE, arguments)
    with np.load(arguments.arrays) as held:
        there = [name.removeprefix("sides of ") for name in held.files if name.startswith("sides of ")]
        if unknown := set(arguments.tables or ()) - set(there):
            sys.exit(f"--tables: {arguments.arrays} has {', '.join(there)}; received {', '.join(sorted(unknown))}; make it with those")
        sides = read_sides(held, arguments.tables or there, arguments.seeds)
        active_share = held["active_share"]
    weights = train(arguments, sides, read_sounds(arguments.arrays), recipe, config)
    names = {name: np.array([getattr(side, name) for side in sides]) for name in ("table", "fold", "seed")}
    how = {
        "network": json.dumps(dataclasses.asdict(config)),
        "recipe": json.dumps(dataclasses.asdict(recipe)),
        "active_share": active_share,
    }
    np.savez(arguments.out, **names, **how, **weights)
    return 0


if __name__ == "__main__":
    sys.exit(main())
