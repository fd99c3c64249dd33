"""Times a training from the start of its command to the end of its first step: Python, TensorFlow, the records, the first trace.

    python benchmarks/start.py --records DIR [--experiment open] [--stage transfer-2] [--rounds 5] [-- WORDS...]

The command is run anew each time, in a new run folder, and stopped after its first step. `WORDS` are given to it. Beside it: `import
tensorflow` alone. For a stage that starts from another one the first step is that of the first stage of its chain.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import timing


def first_step(words: list[str]) -> None:
    """Run a training until its first step is done."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "kerasemo.train",
            *words,
            "--run",
            folder,
            "--checkpoint-seconds",
            "0",
        ]
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            while not list(Path(folder).glob("*/checkpoints/step-*.safetensors")):
                if process.poll() is not None:
                    sys.exit(
                        f"{' '.join(command)} ended before its first step: {process.stderr.read()[-2000:]}"
                    )
                time.sleep(0.01)
            process.kill()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--experiment", default="open")
    parser.add_argument("--stage", default="transfer-2")
    parser.add_argument("words", nargs="*", help="given to the training")
    arguments = timing.begin(parser, cores=2, packages=("tensorflow", "keras"))
    words = [
        "--records",
        str(arguments.records),
        "--experiment",
        arguments.experiment,
        "--stage",
        arguments.stage,
        *arguments.words,
    ]
    sides = {
        "start to first step": lambda: first_step(words),
        "import tensorflow": lambda: subprocess.run(
            [sys.executable, "-c", "import tensorflow"], check=True, capture_output=True
        ),
    }
    seconds_of = timing.seconds_in_turns(sides, arguments.rounds)
    for name, seconds in seconds_of.items():
        print(
            f"  {name}: {sorted(seconds)[len(seconds) // 2]:.1f} s (from {min(seconds):.1f} to {max(seconds):.1f})"
        )
    timing.report("how often a second", seconds_of, amount=1, unit="times/s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
