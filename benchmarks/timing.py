"""What the benchmarks share: the machine and versions, sides in turns, medians and ratios. Not a benchmark itself."""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from importlib import metadata


def begin(
    parser: argparse.ArgumentParser, *, cores: int, packages: tuple[str, ...] = ()
) -> argparse.Namespace:
    """Parse the command line, pin this process and its children to `cores` processors, print machine, versions and command.

    To be called before any library that starts threads is imported: they are told to use as many.
    """
    parser.add_argument(
        "--rounds", type=int, default=5, help="how often each side is timed (default: %(default)s)"
    )
    arguments = parser.parse_args()
    for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR"):
        os.environ[f"{library}_NUM_THREADS"] = str(cores)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("numpy", *packages))
    print(
        f"{platform.machine()}, {cores} of {os.cpu_count()} processors; Python {platform.python_version()}, {versions}"
    )
    module = sys.modules["__main__"].__spec__  # None where the script is run by its path
    script = sys.argv[0] if module is None else f"-m {module.name}"
    print("$ python " + " ".join([script, *sys.argv[1:]]), flush=True)
    return arguments


def seconds_in_turns(
    sides: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, list[float]]:
    """Run every side once unmeasured, then all in turn `rounds` times; return the seconds of each."""
    seconds_of: dict[str, list[float]] = {name: [] for name in sides}
    for side in sides.values():
        side()
    for _ in range(rounds):
        for name, side in sides.items():
            began = time.perf_counter()
            side()
            seconds_of[name].append(time.perf_counter() - began)
    return seconds_of


def report(
    title: str,
    seconds_of: Mapping[str, list[float]],
    *,
    amount: float | Mapping[str, float],
    unit: str,
) -> None:
    """Print each side's median rate and, for every side but the first, how many times its rate the first side's is.

    Args:
        title: What was timed.
        taken: Of `seconds_in_turns`; the first side is ours. The ratios are taken round by round, then their median.
        amount: What a side gets done in one call, or that of each side.
        unit: Of the rate, such as `faces/s`.
    """
    done = {name: amount[name] if isinstance(amount, Mapping) else amount for name in seconds_of}
    print(title)
    for name, values in seconds_of.items():
        print(f"  {name:<44} {done[name] / statistics.median(values):12.1f} {unit}")
    first, *alternatives = seconds_of
    for alternative in alternatives:
        pairs = zip(seconds_of[first], seconds_of[alternative], strict=True)
        ratios = [done[first] / ours / (done[alternative] / theirs) for ours, theirs in pairs]
        print(
            f"  {first} / {alternative}: {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})",
            flush=True,
        )
