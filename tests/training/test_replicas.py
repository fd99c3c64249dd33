"""Replicas do not change the mathematics: steps on two equal those on one device with the same global batch.

The optimiser is SGD, because Adam hides an error of scale. The steps are those of `replica_steps`.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.paths import PYTHONPATH
from helpers.replica_steps import (
    CASES,
    CLIP,
    FITTED,
    KINDS,
    MEASURED,
    QUICK,
    RATE,
    STEPS,
    TOLERANCES,
)

ROOT = Path(__file__).resolve().parents[2]


def marked(cases):
    """Return cases as parameters: those that are not among QUICK are for `pytest -m endurance`."""
    return [
        pytest.param(*case, marks=[] if case in QUICK else pytest.mark.endurance) for case in cases
    ]


def kinds(feature: str, *names: str):
    """Return kinds as parameters of a test of one feature, marked likewise."""
    return [
        pytest.param(name, marks=[] if (name, feature) in QUICK else pytest.mark.endurance)
        for name in names
    ]


def test_the_quick_cases_have_every_kind_and_every_feature():
    assert set(QUICK) < set(CASES) and len(set(QUICK)) == len(QUICK)
    for place in (0, 1):
        assert {case[place] for case in QUICK} == {case[place] for case in CASES}
    assert set(FITTED) <= set(QUICK) and {(kind, "plain") for kind in MEASURED} <= set(QUICK)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, request):
    """Every case that is asked for, by devices: the npz of a process each."""
    everything = any(
        item.path == request.path and item.get_closest_marker("endurance")
        for item in request.session.items
    )
    folder = tmp_path_factory.mktemp("replicas")
    environment = {
        **os.environ,
        "PYTHONPATH": PYTHONPATH,
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "CUDA_VISIBLE_DEVICES": "",
    }
    commands = {
        devices: [
            sys.executable,
            ROOT / "tests" / "helpers" / "replica_steps.py",
            devices,
            folder / f"{devices}.npz",
            "all" if everything else "quick",
        ]
        for devices in ("one", "two")
    }
    options = {"stderr": subprocess.PIPE, "text": True, "env": environment}
    processes = {
        devices: subprocess.Popen(command, **options) for devices, command in commands.items()
    }
    for devices, process in processes.items():
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, f"{devices}: {errors[-4000:]}"
    return {devices: dict(np.load(folder / f"{devices}.npz")) for devices in processes}


def of(
    arrays: dict[str, np.ndarray], kind: str, feature: str, rest: str = ""
) -> dict[str, np.ndarray]:
    start = f"{kind} {feature}: {rest}"
    return {
        name.removeprefix(start): value for name, value in arrays.items() if name.startswith(start)
    }


def difference(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> float:
    assert first.keys() == second.keys() and first
    return max(np.abs(first[name] - second[name]).max() for name in first)


def moved(arrays, kind: str, feature: str, step: int) -> dict[str, np.ndarray]:
    before, after = (of(arrays, kind, feature, f"{number} weight ") for number in (step - 1, step))
    return {name: after[name] - before[name] for name in after}


@pytest.mark.parametrize(("kind", "feature"), marked(CASES))
def test_two_replicas_equal_one_device(trained, kind, feature):
    """Weights, the optimiser's state (with the averages of the weights) and every value, after each step."""
    on_one, on_two = (of(trained[devices], kind, feature) for devices in ("one", "two"))
    assert {
        f"{STEPS} value loss",
        f"{STEPS} weight head/kernel",
        f"{STEPS} optimizer optimizer/iteration",
    } <= on_one.keys()
    assert difference(on_one, on_two) < TOLERANCES.get(feature, 1e-6)


@pytest.mark.parametrize(("kind", "feature"), marked(CASES))
def test_compared_steps_change_the_weights(trained, kind, feature):
    """Else equality would say nothing: every step moves the weights, and every feature moves them elsewhere than without it."""
    for step in range(1, STEPS + 1):
        assert (
            max(
                np.abs(change).max()
                for change in moved(trained["one"], kind, feature, step).values()
            )
            > 1e-4
        )
    first, last = (of(trained["one"], kind, feature, f"{step} weight ") for step in (0, STEPS))
    assert difference(first, last) > 8 * TOLERANCES.get(feature, 1e-4)
    alike = feature in ("plain", "parts", "average", "heads") or (kind, feature) == (
        "contrastive",
        "dropout",
    )  # after the embedding
    assert alike or difference(last, of(trained["one"], kind, "plain", f"{STEPS} weight ")) > 1e-4


@pytest.mark.parametrize(("kind", "feature"), FITTED)
def test_fit_equals_the_step_loop(trained, kind, feature):
    by_hand, fitted = (
        of(trained["one"], kind, feature),
        of(trained["two"], kind, f"{feature} fitted"),
    )
    assert difference({name: by_hand[name] for name in fitted}, fitted) < 1e-6
    assert {f"{STEPS} value loss", f"{STEPS} weight head/kernel"} <= fitted.keys()


@pytest.mark.parametrize(
    "kind", kinds("parts", "supervised", "contrastive", "joint", "joint of three")
)
def test_accumulated_parts_equal_the_whole_batch(trained, kind):
    """Also where a part is one pair of three sources: each source has another share of it."""
    for devices in ("one", "two"):
        parts = of(trained[devices], kind, "parts")
        assert (
            difference(parts, {name: of(trained["one"], kind, "plain")[name] for name in parts})
            < 1e-6
        )


@pytest.mark.parametrize("kind", kinds("clipped", "supervised", "joint"))
@pytest.mark.parametrize("devices", ["one", "two"])
def test_the_norm_of_all_gradients_together_is_clipped(trained, devices, kind):
    """SGD moves the weights by the rate times the gradients, whose norm without clipping is larger on every step."""
    for step in range(1, STEPS + 1):
        changes = [
            moved(trained[devices], kind, feature, step).values()
            for feature in ("clipped", "plain")
        ]
        clipped, plain = (
            np.sqrt(sum((change**2).sum() for change in all_weights)) for all_weights in changes
        )
        assert clipped == pytest.approx(RATE * CLIP, rel=1e-3) and plain > 1.5 * clipped


@pytest.mark.parametrize("kind", kinds("frozen", "supervised", "joint"))
@pytest.mark.parametrize("devices", ["one", "two"])
def test_frozen_layers_have_neither_updates_nor_weight_decay(trained, devices, kind):
    for step in range(1, STEPS + 1):
        changes = moved(trained[devices], kind, "frozen", step)
        assert {name for name, change in changes.items() if change.any()} == {
            "features/kernel",
            "features/bias",
        }


@pytest.mark.parametrize("kind", kinds("average", "supervised", "joint"))
def test_moving_average_is_of_the_weights_after_each_step(trained, kind):
    arrays, average = of(trained["two"], kind, "average"), None
    for step in range(1, STEPS + 1):
        weight = arrays[f"{step} weight features/kernel"]
        average = weight if average is None else 0.7 * average + 0.3 * weight
        (stored_average,) = (
            value
            for name, value in arrays.items()
            if name.startswith(f"{step} optimizer ") and "features_kernel" in name
        )
        np.testing.assert_allclose(stored_average, average, atol=1e-6)
    assert np.abs(average - weight).max() > 1e-4


@pytest.mark.parametrize("kind", MEASURED)
def test_logs_have_every_term(trained, kind):
    stage, count = KINDS[kind]
    names = (
        [f"cross_entropy_{name}" for name in ("a_visual", "b_visual", "c_audio")[:count]]
        if stage != "contrastive"
        else []
    )
    expected = {"loss", *names, *(["contrastive"] if stage != "supervised" else [])}
    for when in ("1 value ", "measured ", "odd measured ", "odd tested "):
        terms = of(trained["two"], kind, "plain", when)
        assert set(terms) == expected
        total = sum(terms[name] for name in names) + (
            0 if stage == "supervised" else terms["contrastive"] * (2 if stage == "joint" else 1)
        )
        assert terms["loss"] == pytest.approx(total, rel=1e-5) and terms["loss"] > 0.01


@pytest.mark.parametrize("kind", MEASURED)
def test_smaller_last_batch_is_measured_correctly(trained, kind):
    """`evaluate` splits 5 examples over two replicas as 3 and 2; `measure` outside the strategy takes any number at once."""
    expected = of(trained["one"], kind, "plain", "odd measured ")
    for devices, way in (("one", "tested"), ("two", "measured"), ("two", "tested")):
        assert difference(of(trained[devices], kind, "plain", f"odd {way} "), expected) < 1e-6
    assert difference(of(trained["one"], kind, "plain", "measured "), expected) > 1e-4


@pytest.mark.parametrize("kind", ["reduced by hand", "clipped by the optimiser"])
def test_wrong_update_exceeds_the_tolerance(trained, kind):
    """Gradients are summed over replicas: a mean that knows nothing of them makes steps of twice the length; Keras clips before the sum."""
    on_one, on_two = (
        of(trained[devices], kind, "plain", "1 weight ") for devices in ("one", "two")
    )
    assert difference(on_one, on_two) > 1e-4
