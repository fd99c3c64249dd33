"""Write the result of a stage without a training, for tests of later stages."""

from collections.abc import Sequence
from pathlib import Path

from kerasemo.config.schema import NetworkConfig, StageConfig
from kerasemo.runs.run_folder import RESULT_FILE, FinishedStage, StageKey
from pipelines.core import files


def write_finished_stage(
    folder: Path,
    *,
    trained_emotions: Sequence[str],
    heads: str = "masked",
    emotions_of_sources: dict[str, Sequence[str]] | None = None,
) -> FinishedStage:
    """Write `metrics.json` of a stage into a folder, and return the stage."""
    sources = tuple(emotions_of_sources or {"a/audio": trained_emotions})
    kind = "supervised" if len(sources) == 1 else "joint"
    key = StageKey(
        StageConfig("before", kind, sources, start_from="", heads=heads),
        NetworkConfig(),
        records={},
        sides={},
        emotions=emotions_of_sources or {},
        protocol="speaker-independent",
        fold=0,
        seed=0,
        parent="",
        keep_copies=False,
    )
    stage = FinishedStage(
        folder,
        key,
        experiment="toy",
        trained_emotions=trained_emotions,
        best_epoch=1,
        history=[],
        split_facts={},
        scored_split="test",
        scores={},
    )
    files.write_json(folder / RESULT_FILE, stage.to_json())
    return stage
