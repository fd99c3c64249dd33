"""What a run folder holds: finished stages, their keys, checkpoints and lineage, and the log of test-set evaluations.

May import `kerasemo.config`, `kerasemo.networks` and `kerasemo.datasets`.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from kerasemo.runs.checkpoints import Checkpoints, alone, arrays, assign, load, save
    from kerasemo.runs.lineage import Lineage, find, sources_in
    from kerasemo.runs.paths import check_records, check_run
    from kerasemo.runs.run_folder import (
        claim,
        differences,
        digest,
        finished,
        folder_name,
        heads_of,
        load_network,
        seen_domains,
        versions,
    )
    from kerasemo.runs.test_set_log import code_version, look, read

__all__ = [
    "Checkpoints",
    "Lineage",
    "alone",
    "arrays",
    "assign",
    "check_records",
    "check_run",
    "claim",
    "code_version",
    "differences",
    "digest",
    "find",
    "finished",
    "folder_name",
    "heads_of",
    "load",
    "load_network",
    "look",
    "read",
    "save",
    "seen_domains",
    "sources_in",
    "versions",
]

_MODULE_OF = {
    "Checkpoints": "checkpoints",
    "Lineage": "lineage",
    "alone": "checkpoints",
    "arrays": "checkpoints",
    "assign": "checkpoints",
    "check_records": "paths",
    "check_run": "paths",
    "claim": "run_folder",
    "code_version": "test_set_log",
    "differences": "run_folder",
    "digest": "run_folder",
    "find": "lineage",
    "finished": "run_folder",
    "folder_name": "run_folder",
    "heads_of": "run_folder",
    "load": "checkpoints",
    "load_network": "run_folder",
    "look": "test_set_log",
    "read": "test_set_log",
    "save": "checkpoints",
    "seen_domains": "run_folder",
    "sources_in": "lineage",
    "versions": "run_folder",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
