"""Everything that is wrong with a chain is told before its first step, all at once."""

import shutil
from pathlib import Path

import pytest

from helpers.messages import mentions
from helpers.synthetic_sets import write_experiment, write_set
from kerasemo.config.loading import load_experiment
from kerasemo.config.schema import StageConfig
from kerasemo.datasets.catalog import RecordCatalog
from kerasemo.training import chain
from kerasemo.training.experiment import TrainingOptions, train_experiment
from pipelines.core import errors
from pipelines.core.errors import DataError, InputError

STAGES = {
    "pretrain": {"kind": "supervised", "sources": ["enterface/visual"], "batch": 8, "epochs": 1},
    "transfer": {
        "kind": "supervised",
        "sources": ["savee/audio"],
        "start_from": "pretrain",
        "batch": 8,
        "epochs": 1,
    },
    "joint": {
        "kind": "joint",
        "sources": ["enterface/visual", "savee/audio"],
        "start_from": "transfer",
        "batch": 8,
        "epochs": 1,
    },
}


@pytest.fixture(scope="module")
def records_folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("records")
    write_set(out, "enterface/visual", speakers=4)
    write_set(out, "savee/audio", speakers=4, seed=1)
    return out


def problems(folder: Path, records_folder: Path, stages: dict, **options) -> str:
    """Return what is said of a chain up to `joint`; nothing has been trained by then."""
    experiment = write_experiment(folder / "toy.toml", **stages)
    with pytest.raises((InputError, DataError)) as caught:
        train_experiment(
            TrainingOptions("joint", str(experiment), records_folder, folder / "run", **options)
        )
    assert not (folder / "run").exists()
    return str(caught.value)


def changed(**changes) -> dict:
    return {name: table | changes.get(name, {}) for name, table in STAGES.items()}


def test_every_source_without_records_is_named(records_folder, tmp_path):
    stages = changed(pretrain={"sources": ["mine/visual"]}, transfer={"sources": ["yours/audio"]})
    message = problems(tmp_path, records_folder, stages)
    assert message.startswith("2 problems: (1) ")
    for name, source in (("mine", "mine/visual"), ("yours", "yours/audio")):
        assert mentions(message, source, f"pipelines.build --corpus folder --name {name}")


def test_batches_that_are_too_large_are_named_with_their_stages(records_folder, tmp_path):
    message = problems(
        tmp_path, records_folder, changed(pretrain={"batch": 200}, joint={"batch": 400})
    )
    assert message.startswith("2 problems: (1) stage 'pretrain'")
    first, second = message.split("(2) ")
    assert mentions(first, "enterface/visual: 45 faces", "batch of 200")
    assert mentions(second, "stage 'joint'", "enterface/visual: 45 faces", "200 pairs")


def test_batches_that_do_not_divide_over_the_devices_are_named(records_folder, tmp_path):
    message = problems(tmp_path, records_folder, changed(transfer={"batch": 16}), replicas=8)
    assert mentions(message, "stage 'joint'", "4 pairs", "8 devices", "--replicas")
    assert "pretrain" not in message


def test_unknown_layers_to_freeze_are_named_before_the_first_step(records_folder, tmp_path):
    message = problems(
        tmp_path,
        records_folder,
        changed(pretrain={"freeze": ["stage"]}, joint={"freeze": ["nope"]}),
    )
    assert mentions(message, "stage 'joint'", "freeze", "'nope'")
    assert "pretrain" not in message


def test_class_without_training_clips_is_named(records_folder, tmp_path):
    """Speaker 1, who is tested in fold 0, is the only one who is surprised."""
    shutil.copytree(records_folder / "savee", tmp_path / "records" / "savee")
    write_set(tmp_path / "records", "enterface/visual", speakers=4, only_first=("surprise",))
    message = problems(tmp_path, tmp_path / "records", STAGES)
    assert message.startswith("2 problems")
    assert mentions(
        message, "stage 'pretrain': enterface/visual", "stage 'joint': enterface/visual"
    )
    assert message.count("surprise") == 2


def test_a_damaged_shard_of_a_later_stage_is_found_before_the_first(records_folder, tmp_path):
    shutil.copytree(records_folder, tmp_path / "records")
    shard = tmp_path / "records" / "savee" / "audio" / "00000.tfrecord"
    body = bytearray(shard.read_bytes())
    body[1000] ^= 1
    shard.write_bytes(body)
    message = problems(tmp_path, tmp_path / "records", STAGES)
    assert "stage 'transfer': " in message and "00000.tfrecord: damaged" in message


def test_networks_and_orders_of_two_folds_are_drawn_apart(records_folder, tmp_path, monkeypatch):
    """Else a draw that happens to be good would count in every fold."""
    drawn: dict[str, list[int]] = {}

    def keep(task):
        drawn.setdefault(task.name, []).append(task.draw_seed)

    monkeypatch.setattr(chain, "StageTrainer", keep)
    experiment = load_experiment(str(write_experiment(tmp_path / "toy.toml", **STAGES)))
    for fold in (0, 1, 0):
        settings = chain.RunSettings(experiment, tmp_path / str(fold), fold=fold)
        chain.Chain(settings, experiment.stages, RecordCatalog(records_folder)).check()
    assert list(drawn) == list(STAGES)
    assert all(first == again != second_fold for first, second_fold, again in drawn.values())
    assert len({seed for seeds in drawn.values() for seed in seeds}) == 2 * len(STAGES)


def test_stages_that_are_drawn_alike_begin_alike_in_every_fold(
    records_folder, tmp_path, monkeypatch
):
    """And see the same examples, whatever their settings differ in."""
    drawn: dict[tuple[str, int], int] = {}
    monkeypatch.setattr(
        chain,
        "StageTrainer",
        lambda task: drawn.update({(task.name, task.key.fold): task.draw_seed}),
    )
    alone = {name: STAGES["pretrain"][name] for name in ("kind", "sources")}
    stages = {
        "usual": alone,
        "same": {**alone, "ema": 0.9, "drawn_as": "usual"},
        "other": {**alone, "ema": 0.9},
    }
    experiment = load_experiment(str(write_experiment(tmp_path / "toy.toml", **stages)))
    for fold in (0, 1):
        for stage in experiment.stages:
            stage_chain = chain.Chain(
                chain.RunSettings(experiment, tmp_path / f"{stage.name}{fold}", fold=fold),
                [stage],
                RecordCatalog(records_folder),
            )
            stage_chain.check()
        assert drawn["same", fold] == drawn["usual", fold] != drawn["other", fold]
    assert drawn["usual", 0] != drawn["usual", 1]


def test_problems_are_listed_once_and_numbered_if_several():
    errors.raise_all([])
    with pytest.raises(InputError, match="^one$"):
        errors.raise_all(["one", "one"])
    with pytest.raises(InputError, match=r"^2 problems: \(1\) one; \(2\) two$"):
        errors.raise_all(["one", "two", "one"])


def test_number_of_devices_divides_the_steps_of_every_stage():
    stages = [
        StageConfig("a", "supervised", ("x/audio",), batch=8),
        StageConfig("b", "joint", ("x/audio", "y/audio"), batch=12),
    ]
    assert [chain.largest_replica_count(devices, stages) for devices in (1, 2, 3, 4)] == [
        1,
        2,
        2,
        2,
    ]
