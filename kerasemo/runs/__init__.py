"""The contents of a run folder: finished stages, checkpoints, lineage and test-set log.

May import `kerasemo.config`, `kerasemo.networks` and `kerasemo.datasets`.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from kerasemo.runs.checkpoints import (
        CheckpointError,
        CheckpointFolder,
        FolderInUseError,
        assign_variables,
        load_arrays,
        save_arrays,
        training_lock,
        variable_arrays,
    )
    from kerasemo.runs.lineage import Lineage, find_lineage
    from kerasemo.runs.paths import check_records_folder, check_run_folder
    from kerasemo.runs.run_folder import (
        KEY_FILE,
        RESULT_FILE,
        WEIGHTS_FILE,
        FinishedStage,
        StageKey,
        claim_folder,
        folder_name,
        key_differences,
        package_versions,
        read_finished_stage,
        read_stored_key,
    )
    from kerasemo.runs.test_set_log import code_version, log_test_evaluation, read_test_set_log

__all__ = [
    "KEY_FILE",
    "RESULT_FILE",
    "WEIGHTS_FILE",
    "CheckpointError",
    "CheckpointFolder",
    "FinishedStage",
    "FolderInUseError",
    "Lineage",
    "StageKey",
    "assign_variables",
    "check_records_folder",
    "check_run_folder",
    "claim_folder",
    "code_version",
    "find_lineage",
    "folder_name",
    "key_differences",
    "load_arrays",
    "log_test_evaluation",
    "package_versions",
    "read_finished_stage",
    "read_stored_key",
    "read_test_set_log",
    "save_arrays",
    "training_lock",
    "variable_arrays",
]

_MODULE_OF = {
    "CheckpointError": "checkpoints",
    "CheckpointFolder": "checkpoints",
    "FinishedStage": "run_folder",
    "FolderInUseError": "checkpoints",
    "KEY_FILE": "run_folder",
    "Lineage": "lineage",
    "RESULT_FILE": "run_folder",
    "StageKey": "run_folder",
    "WEIGHTS_FILE": "run_folder",
    "assign_variables": "checkpoints",
    "check_records_folder": "paths",
    "check_run_folder": "paths",
    "claim_folder": "run_folder",
    "code_version": "test_set_log",
    "find_lineage": "lineage",
    "folder_name": "run_folder",
    "key_differences": "run_folder",
    "load_arrays": "checkpoints",
    "log_test_evaluation": "test_set_log",
    "package_versions": "run_folder",
    "read_finished_stage": "run_folder",
    "read_stored_key": "run_folder",
    "read_test_set_log": "test_set_log",
    "save_arrays": "checkpoints",
    "training_lock": "checkpoints",
    "variable_arrays": "checkpoints",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
