"""The process of the parity check: loads a bundle and computes the outputs of calls.

The process imports neither Keras nor the network.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kerasemo.serving.parity import read_calls


def main(argv: Sequence[str]) -> int:
    """Run the calls of a file with a bundle of any format, and write the outputs."""
    from kerasemo.serving import bundle, runtimes

    folder, calls_path, outputs_path = map(Path, argv)
    bundle.check_files(folder)
    predictor = runtimes.load_predictor(folder, bundle.read_document(folder))
    arrays: dict[str, np.ndarray] = {}
    for number, (signature, inputs) in enumerate(read_calls(calls_path)):
        outputs = predictor.predict(signature, **inputs)
        arrays |= {f"{number} {name}": value for name, value in outputs.items()}
    np.savez(outputs_path, **arrays)  # type: ignore[arg-type]  # names that are no options
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
