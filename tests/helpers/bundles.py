"""A tiny trained run and its export."""

from pathlib import Path

from helpers.synthetic_sets import write_experiment, write_set
from helpers.trainings import train_only

STAGES = {
    "pretrain": {"kind": "supervised", "sources": ["enterface/visual"], "epochs": 2, "batch": 8},
    "transfer": {
        "kind": "supervised",
        "sources": ["savee/audio"],
        "start_from": "pretrain",
        "epochs": 2,
        "batch": 8,
    },
    "joint": {
        **{
            "kind": "joint",
            "sources": ["enterface/visual", "savee/audio"],
            "start_from": "transfer",
        },
        **{"epochs": 1, "batch": 8},
    },
    "contrastive": {
        **{
            "kind": "contrastive",
            "sources": ["enterface/visual", "savee/audio"],
            "start_from": "transfer",
        },
        **{"epochs": 1, "batch": 8},
    },
}


def make_run(folder: Path, stage: str = "joint") -> Path:
    """Train a stage of a toy chain on faces and on sound, in `folder/run` on `folder/records`; return the run folder."""
    from kerasemo.training.experiment import TrainingOptions

    if not (folder / "records").exists():
        write_set(folder / "records", "enterface/visual", speakers=5)
        write_set(folder / "records", "savee/audio", speakers=4, takes=3, seed=1)
    experiment = write_experiment(folder / "toy.toml", **STAGES)
    train_only(
        TrainingOptions(stage, str(experiment), records=folder / "records", run=folder / "run")
    )
    return folder / "run"


def make_bundle(folder: Path) -> Path:
    """Train a toy chain and export it; return the bundle's folder, which holds version 1."""
    from kerasemo.exporting.exporter import ExportOptions, export_stage

    export_stage(ExportOptions(make_run(folder), folder / "toy"))
    return folder / "toy"
