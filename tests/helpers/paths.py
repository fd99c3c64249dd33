"""Where the checkout is, for tests and for the processes that they start."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHONPATH = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
"""Of a process that imports this checkout and `helpers`."""
