"""Train the stages of an experiment: chain, trainer, step loop, devices, TensorBoard.

May import `kerasemo.evaluation`, `kerasemo.losses` and what these import. Never imports OpenCV or PyAV.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from kerasemo.training.chain import Chain, RunSettings
    from kerasemo.training.devices import check_one_machine
    from kerasemo.training.experiment import (
        TrainingOptions,
        check_records_option,
        prepare_records,
        train_experiment,
    )

__all__ = [
    "Chain",
    "RunSettings",
    "TrainingOptions",
    "check_one_machine",
    "check_records_option",
    "prepare_records",
    "train_experiment",
]

_MODULE_OF = {
    "Chain": "chain",
    "RunSettings": "chain",
    "TrainingOptions": "experiment",
    "check_one_machine": "devices",
    "check_records_option": "experiment",
    "prepare_records": "experiment",
    "train_experiment": "experiment",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
