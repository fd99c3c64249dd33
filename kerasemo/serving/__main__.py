"""The process of the parity check: load a bundle, run calls, write the outputs.

It imports neither Keras nor the network.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kerasemo.serving import bundle, parity, runtimes


def main(argv: Sequence[str]) -> int:
    """Run the calls of a file with a bundle of any format, and write the outputs.

    Args:
        argv: The folder of a version, the file of calls, and the file for the outputs.
    """
    folder, calls_path, outputs_path = map(Path, argv)
    bundle.check_bundle_files(folder)
    predictor = runtimes.load_predictor(folder, bundle.read_bundle_document(folder))
    arrays = {}
    for number, call in enumerate(parity.read_calls(calls_path)):
        outputs = predictor.predict(call.signature, **call.inputs)
        for name, values in outputs.items():
            arrays[parity.output_key(number, name)] = values
    np.savez(outputs_path, **arrays)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
