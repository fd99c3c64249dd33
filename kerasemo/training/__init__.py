"""Train the stages of an experiment: chain, trainer, step loop, devices, TensorBoard.

May import `kerasemo.evaluation`, `kerasemo.losses` and what these import. Never imports OpenCV or
PyAV.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from kerasemo.training.chain import Chain, RunSettings
    from kerasemo.training.devices import (
        check_one_machine,
        choose_compute_settings,
        create_strategy,
    )
    from kerasemo.training.epochs import TrainingBatches
    from kerasemo.training.experiment import (
        TrainingOptions,
        check_records_option,
        prepare_records,
        train_experiment,
    )
    from kerasemo.training.loop import StepLoop
    from kerasemo.training.monitoring import StageProgress
    from kerasemo.training.stage_models import STAGE_MODELS, build_stage_model
    from kerasemo.training.tensorboard import TensorBoardWriter

__all__ = [
    "STAGE_MODELS",
    "Chain",
    "RunSettings",
    "StageProgress",
    "StepLoop",
    "TensorBoardWriter",
    "TrainingBatches",
    "TrainingOptions",
    "build_stage_model",
    "check_one_machine",
    "check_records_option",
    "choose_compute_settings",
    "create_strategy",
    "prepare_records",
    "train_experiment",
]

_MODULE_OF = {
    "Chain": "chain",
    "RunSettings": "chain",
    "STAGE_MODELS": "stage_models",
    "StageProgress": "monitoring",
    "StepLoop": "loop",
    "TensorBoardWriter": "tensorboard",
    "TrainingBatches": "epochs",
    "TrainingOptions": "experiment",
    "build_stage_model": "stage_models",
    "check_one_machine": "devices",
    "check_records_option": "experiment",
    "choose_compute_settings": "devices",
    "create_strategy": "devices",
    "prepare_records": "experiment",
    "train_experiment": "experiment",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
