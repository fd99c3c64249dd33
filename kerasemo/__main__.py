"""The command `kerasemo VERB ...`, the same as `python -m kerasemo.VERB`.

`kerasemo build` and `kerasemo sample` are the same as `python -m pipelines.VERB`.
"""

import importlib
import sys
from collections.abc import Sequence

VERBS = {
    "sample": "pipelines.sample",
    "build": "pipelines.build",
    "train": "kerasemo.train",
    "tune": "kerasemo.tune",
    "evaluate": "kerasemo.evaluate",
    "reproduce": "kerasemo.reproduce",
    "compare": "kerasemo.compare",
    "export": "kerasemo.export",
    "predict": "kerasemo.predict",
    "client": "kerasemo.client",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb with the words that follow it and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    usage = f"usage: kerasemo {{{','.join(VERBS)}}} ... (kerasemo VERB --help tells its options)"
    if words[:1] in (["-h"], ["--help"]):
        print(usage)
        return 0
    if not words or words[0] not in VERBS:
        received = f"received {words[0]!r}; " if words else ""
        print(f"kerasemo: error: expected a verb; {received}{usage}", file=sys.stderr)
        return 2
    return importlib.import_module(VERBS[words[0]]).main(words[1:])


if __name__ == "__main__":
    sys.exit(main())
