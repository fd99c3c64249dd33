"""The experiment files behind published comparisons: their arms differ in what they are named after."""

import dataclasses
from pathlib import Path

import pytest

from kerasemo.config import loading

RESEARCH = Path(__file__).resolve().parents[2] / "research" / "experiments"
NAMES = ["ablation-faces", "ablation-voices", "together", "together-faces", "transfer"]


def read(name):
    path = RESEARCH / f"{name}.toml"
    return loading.read_experiment(str(path) if path.is_file() else name)


def test_every_file_is_an_experiment():
    assert sorted(path.stem for path in RESEARCH.iterdir()) == NAMES
    assert [read(name).name for name in NAMES] == NAMES


def test_arms_that_are_compared_are_tuned_and_updated_alike():
    """The arms of a number of labelled clips differ in what they start from; those of `together` and
    `together-faces` in sources, kind, weight and what their domain takes; one from scratch is otherwise the stage of its name."""
    transfer = read("transfer")
    for count in (2, 5, 10, 20, "all"):
        arms = [transfer.stage(f"{arm}-{count}") for arm in ("scratch", "faces", "speech", "both")]
        assert len({dataclasses.replace(arm, name="", start_from="") for arm in arms}) == 1
        assert [arm.start_from for arm in arms] == ["", "faces", "speech", "faces-speech"]
        assert arms[0].labelled == (0 if count == "all" else count)
    for name in ("paper", "open"):
        shipped = read(name)
        for arm in (stage for stage in shipped.stages if stage.name.endswith("-scratch")):
            other = shipped.stage(arm.name.removesuffix("-scratch"))
            assert dataclasses.replace(arm, name=other.name, start_from=other.start_from) == other
    for name, chain in (
        ("together", ["first-ravdess"]),
        ("together-faces", ["first-faces", "then-ravdess"]),
    ):
        together = read(name)
        updates = {stage.name: stage.epochs * stage.steps for stage in together.stages}
        singles = [updates[arm] for arm in updates if arm.startswith("single-")]
        assert {
            sum(updates[arm] for arm in (*chain, "then-emodb")),
            updates["pooled"],
            *singles,
        } == {updates["joint"]}
        assert dataclasses.replace(
            together.stage("pooled"), name="joint", contrastive_weight=1.0, drawn_as=""
        ) == together.stage("joint")
        for arm in together.stages:
            for key in (
                "batch",
                "learning_rate",
                "weight_decay",
                "label_smoothing",
                "balance",
                "warmup",
                "ema",
            ):
                assert getattr(arm, key) == getattr(together.stage("joint"), key)
            taken = {key: value for key, value in dataclasses.asdict(arm.augment).items() if value}
            assert (
                taken
                and taken.items() <= dataclasses.asdict(together.stage("joint").augment).items()
            )
            voices = any(source.endswith("/audio") for source in arm.sources)
            expected = (0.4, 8) if voices else (0.0, 0)
            assert (arm.active_share, arm.train_hop_frames) == expected and (
                arm.augment.time_mask > 0
            ) == voices


def test_what_comes_before_is_all_that_emodb_transfer_has_otherwise():
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
"""What each arm of an ablation has otherwise than the first."""


@pytest.mark.parametrize(
    ("name", "row", "arms"), [("ablation-faces", "fer2013", 11), ("ablation-voices", "emodb", 3)]
)
def test_each_arm_of_an_ablation_has_one_part_of_the_recipe_otherwise(name, row, arms):
    usual, *others = read(name).stages
    assert (usual.name, len(others)) == ("usual", arms - 1)
    for arm in others:
        changed = {key for key, value in flat(arm).items() if value != flat(usual)[key]}
        assert changed == {"name", "drawn_as", *PARTS[arm.name]} and arm.drawn_as == "usual"
    (of_row,) = read(row).stages
    size = {
        "name",
        "epochs",
        "steps",
        "batch",
        "learning_rate",
        "ema",
        "active_share",
        "test_mirror",
    }
    assert {key for key, value in flat(of_row).items() if value != flat(usual)[key]} <= size


def flat(stage) -> dict:
    """Return the settings of a stage, those of its changes among them."""
    settings = dataclasses.asdict(stage)
    return settings.pop("augment") | settings
