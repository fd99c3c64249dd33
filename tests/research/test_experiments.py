"""Stages that a published comparison compares differ only in the part that the comparison asks about."""

import dataclasses
from pathlib import Path

import pytest

from kerasemo.config import loading

RESEARCH = Path(__file__).resolve().parents[2] / "research" / "experiments"
EQUAL_SETTINGS = (
    "batch",
    "learning_rate",
    "weight_decay",
    "label_smoothing",
    "balance",
    "warmup",
    "ema",
)
"""Settings that all arms of `together` and of `together-faces` share."""
NAMES = ["ablation-faces", "ablation-voices", "together", "together-faces", "transfer"]


def read(name):
    path = RESEARCH / f"{name}.toml"
    return loading.load_experiment(str(path) if path.is_file() else name)


def test_every_file_is_an_experiment():
    assert sorted(path.stem for path in RESEARCH.iterdir()) == NAMES
    assert [read(name).name for name in NAMES] == NAMES


def test_arms_of_a_number_of_labels_differ_only_in_their_parent():
    transfer = read("transfer")
    for count in (2, 5, 10, 20, "all"):
        arms = [transfer.stage(f"{arm}-{count}") for arm in ("scratch", "faces", "speech", "both")]
        assert len({dataclasses.replace(arm, name="", start_from="") for arm in arms}) == 1
        assert [arm.start_from for arm in arms] == ["", "faces", "speech", "faces-speech"]
        assert arms[0].labelled == (0 if count == "all" else count)


@pytest.mark.parametrize("name", ["paper", "open"])
def test_a_stage_from_scratch_differs_only_in_its_parent(name):
    experiment = read(name)
    from_scratch = [stage for stage in experiment.stages if stage.name.endswith("-scratch")]
    assert from_scratch
    for stage in from_scratch:
        with_parent = experiment.stage(stage.name.removesuffix("-scratch"))
        assert (
            dataclasses.replace(stage, name=with_parent.name, start_from=with_parent.start_from)
            == with_parent
        )


@pytest.mark.parametrize(
    ("name", "before_emodb"),
    [("together", ["first-ravdess"]), ("together-faces", ["first-faces", "then-ravdess"])],
)
def test_arms_of_several_sets_have_equal_updates_and_settings(name, before_emodb):
    experiment = read(name)
    joint, pooled = experiment.stage("joint"), experiment.stage("pooled")
    updates = {stage.name: stage.epochs * stage.steps for stage in experiment.stages}
    for stage_name, count in updates.items():
        if stage_name.startswith("single-"):
            assert count == updates["joint"]
    assert updates["pooled"] == updates["joint"]
    assert sum(updates[stage] for stage in (*before_emodb, "then-emodb")) == updates["joint"]
    with_loss = dataclasses.replace(pooled, name="joint", contrastive_weight=1.0, drawn_as="")
    assert with_loss == joint
    for stage in experiment.stages:
        for key in EQUAL_SETTINGS:
            assert getattr(stage, key) == getattr(joint, key)
        changes = {key: value for key, value in dataclasses.asdict(stage.augment).items() if value}
        assert changes and changes.items() <= dataclasses.asdict(joint.augment).items()
        has_voices = any(source.endswith("/audio") for source in stage.sources)
        expected = (0.4, 8) if has_voices else (0.0, 0)
        assert (stage.active_share, stage.train_hop_frames) == expected
        assert (stage.augment.time_mask > 0) == has_voices


def test_emodb_transfer_differs_from_emodb_only_in_the_stages_before():
    before, alone = read("emodb-transfer"), read("emodb")
    faces, speech, both = before.stages
    assert before.network == alone.network
    assert dataclasses.replace(both, name="speech", start_from="") == alone.stage("speech")
    transfer = read("transfer")
    assert faces == transfer.stage("faces") and speech == transfer.stage("faces-speech")
    assert (both.start_from, speech.start_from) == ("faces-speech", "faces")


PARTS = {
    "no-flip": ("flip",),
    "no-moves": ("shift", "scale", "rotation_degrees"),
    "no-light": ("brightness", "contrast"),
    "no-erasing": ("erasing",),
    "no-changes": (
        "flip",
        "shift",
        "scale",
        "rotation_degrees",
        "brightness",
        "contrast",
        "erasing",
    ),
    "no-smoothing": ("label_smoothing",),
    "no-ema": ("ema",),
    "constant-rate": ("schedule",),
    "balanced": ("balance",),
    "mixup": ("mixup",),
}
"""The settings in which each arm of an ablation differs from the first arm."""


@pytest.mark.parametrize(
    ("name", "row", "n_stages"),
    [("ablation-faces", "fer2013", 11), ("ablation-voices", "emodb", 3)],
)
def test_each_arm_of_an_ablation_differs_in_one_part(name, row, n_stages):
    usual, *arms = read(name).stages
    assert (usual.name, len(arms)) == ("usual", n_stages - 1)
    for arm in arms:
        changed = {key for key, value in flat(arm).items() if value != flat(usual)[key]}
        assert changed == {"name", "drawn_as", *PARTS[arm.name]} and arm.drawn_as == "usual"
    (published,) = read(row).stages
    may_differ = {
        "name",
        "epochs",
        "steps",
        "batch",
        "learning_rate",
        "ema",
        "active_share",
        "test_mirror",
    }
    assert {
        key for key, value in flat(published).items() if value != flat(usual)[key]
    } <= may_differ


def flat(stage) -> dict:
    """Return the settings of a stage and of its random changes in one dictionary."""
    settings = dataclasses.asdict(stage)
    return settings.pop("augment") | settings
