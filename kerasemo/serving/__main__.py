"""The parity check's process: loads a bundle and answers calls. It imports neither Keras nor the network."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kerasemo.serving.parity import read_calls


def main(argv: Sequence[str]) -> int:
    """Ask a bundle of any format what a file of calls says, and write the answers."""
    from kerasemo.serving import bundle, runtimes
    from pipelines.core.tensorflow_loading import load_tensorflow

    folder, asked, answered = map(Path, argv)
    bundle.check_files(folder)
    own = bundle.Bundle(folder)
    if own.document["format"] == "saved_model":
        load_tensorflow()
        ask = own.ask
    else:
        ask = {"onnx": runtimes.onnx, "litert": runtimes.litert}[own.document["format"]](folder)
    answers = {}
    for number, (signature, inputs) in enumerate(read_calls(asked)):
        answers |= {f"{number} {name}": value for name, value in ask(signature, **inputs).items()}
    np.savez(answered, **answers)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
