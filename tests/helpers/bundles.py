"""A small trained run and its export."""

from pathlib import Path

from helpers.synthetic_sets import write_experiment, write_set
from helpers.trainings import train_only

SOURCES = ["enterface/visual", "savee/audio"]
STAGES = {
    "pretrain": {"kind": "supervised", "sources": SOURCES[:1], "epochs": 2, "batch": 8},
    "transfer": {
        "kind": "supervised",
        "sources": SOURCES[1:],
        "start_from": "pretrain",
        "epochs": 2,
        "batch": 8,
    },
    "joint": {
        "kind": "joint",
        "sources": SOURCES,
        "start_from": "transfer",
        "epochs": 1,
        "batch": 8,
    },
    "contrastive": {
        "kind": "contrastive",
        "sources": SOURCES,
        "start_from": "transfer",
        "epochs": 1,
        "batch": 8,
    },
}


def make_run(folder: Path, stage: str = "joint") -> Path:
    """Train a stage of a chain on faces and on audio, and return the run folder, `FOLDER/run`.

    Args:
        folder: Also gets the records, `FOLDER/records`, unless they exist.
        stage: The stage.
    """
    from kerasemo.training.experiment import TrainingOptions

    records, run = folder / "records", folder / "run"
    if not records.exists():
        write_set(records, "enterface/visual", speakers=5)
        write_set(records, "savee/audio", speakers=4, takes=3, seed=1)
    experiment = write_experiment(folder / "toy.toml", **STAGES)
    train_only(TrainingOptions(stage, str(experiment), records=records, run=run))
    return run


def make_bundle(folder: Path) -> Path:
    """Train the chain, export it, and return the folder of the bundle, `FOLDER/toy`."""
    from kerasemo.exporting.exporter import ExportOptions, export_stage

    export_stage(ExportOptions(make_run(folder), folder / "toy"))
    return folder / "toy"
