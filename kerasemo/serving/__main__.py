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
    from pipelines.core.tensorflow_loading import load_tensorflow

    folder, calls_path, outputs_path = map(Path, argv)
    bundle.check_files(folder)
    loaded = bundle.Bundle(folder)
    if loaded.document["format"] == "saved_model":
        load_tensorflow()
        predict = loaded.predict
    else:
        load = {"onnx": runtimes.load_onnx, "litert": runtimes.load_litert}
        predict = load[loaded.document["format"]](folder)
    arrays: dict[str, np.ndarray] = {}
    for number, (signature, inputs) in enumerate(read_calls(calls_path)):
        outputs = predict(signature, **inputs)
        arrays |= {f"{number} {name}": value for name, value in outputs.items()}
    np.savez(outputs_path, **arrays)  # type: ignore[arg-type]  # names that are no options
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
