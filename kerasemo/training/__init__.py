"""Train the stages of an experiment: chain, trainer, step loop, devices, TensorBoard.

May import `kerasemo.evaluation`, `kerasemo.losses` and what these import. Never imports OpenCV or PyAV.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from kerasemo.training.chain import Chain, Run
    from kerasemo.training.devices import check_one_machine, choose, strategy_for
    from kerasemo.training.experiment import Options, check_given_records, records_folder, train
    from kerasemo.training.loop import Loop
    from kerasemo.training.monitoring import StageBar
    from kerasemo.training.stage_models import MODELS
    from kerasemo.training.tensorboard import Board

__all__ = [
    "MODELS",
    "Board",
    "Chain",
    "Loop",
    "Options",
    "Run",
    "StageBar",
    "check_given_records",
    "check_one_machine",
    "choose",
    "records_folder",
    "strategy_for",
    "train",
]

_MODULE_OF = {
    "Board": "tensorboard",
    "Chain": "chain",
    "Loop": "loop",
    "MODELS": "stage_models",
    "Options": "experiment",
    "Run": "chain",
    "StageBar": "monitoring",
    "check_given_records": "experiment",
    "check_one_machine": "devices",
    "choose": "devices",
    "records_folder": "experiment",
    "strategy_for": "devices",
    "train": "experiment",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
