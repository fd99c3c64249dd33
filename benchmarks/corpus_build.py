"""Times a whole corpus -> records with two workers and with one, and a corpus of eNTERFACE'05's size.

    python benchmarks/corpus_build.py [--clips 96] [--whole 1293] [--rounds 5]

The clips are synthesised: a talking head of 3.06 s, 720x576, 25 pictures a second, MPEG-4 and 48 kHz sound in AVI, in the
layout of eNTERFACE'05, copies of twelve films. Faces and log-Mels are built from each.
"""

import argparse
import itertools
import sys
import tempfile
import time
from pathlib import Path

import timing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--clips", type=int, default=96, help="clips that both sides build (default: %(default)s)"
    )
    parser.add_argument(
        "--whole",
        type=int,
        default=1293,
        help="clips of the one large build (default: %(default)s; 0: none)",
    )
    parser.add_argument(
        "--seconds", type=float, default=3.06, help="length of a clip (default: %(default)s)"
    )
    arguments = timing.begin(
        parser, cores=2, packages=("tensorflow", "opencv-python-headless", "av")
    )
    from clips import write_enterface

    from pipelines.building.builder import BuildOptions, build
    from pipelines.core.tensorflow_loading import load_tensorflow

    load_tensorflow()
    with tempfile.TemporaryDirectory() as folder:
        numbers = itertools.count()

        def built(media: Path, workers: int) -> None:
            result = build(
                BuildOptions(
                    "enterface", media, Path(folder) / f"out{next(numbers)}", workers=workers
                )
            )
            assert all(
                report["written"] == report["found"] for report in result["domains"].values()
            )

        media = write_enterface(
            Path(folder) / "media",
            clips=arguments.clips,
            films=min(12, arguments.clips),
            seconds=arguments.seconds,
        )
        sides = {
            f"{workers} worker{'s' * (workers > 1)}": lambda workers=workers: built(media, workers)
            for workers in (2, 1)
        }
        seconds_of = timing.seconds_in_turns(sides, arguments.rounds)
        timing.report(
            "corpus -> faces and log-Mels", seconds_of, amount=arguments.clips, unit="clips/s"
        )
        if arguments.whole:
            media = write_enterface(
                Path(folder) / "whole", clips=arguments.whole, seconds=arguments.seconds
            )
            began = time.perf_counter()
            built(media, 2)
            hours = arguments.whole * arguments.seconds / 3600
            print(
                f"{arguments.whole} clips, {hours:.2f} h: {time.perf_counter() - began:.0f} s with 2 workers"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
