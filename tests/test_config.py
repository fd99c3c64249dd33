import dataclasses

import pytest
from experiment_files import JOINT, STAGE, experiment

from kerasemo import config
from pipelines.spec import InputError

S, C, J = "supervised", "contrastive", "joint"
SAMPLE = {  # the table of the chains; contrastive is run by name and leads to nothing
    "pretrain": (S, ("enterface/visual",), ""),
    "finetune": (S, ("savee/visual",), "pretrain"),
    "transfer": (S, ("savee/audio",), "finetune"),
    "transfer-2": (S, ("emodb/audio",), "transfer"),
    "contrastive": (C, ("enterface/visual", "savee/visual"), "transfer-2"),
    "joint": (J, ("enterface/visual", "savee/visual"), "transfer-2"),
}
PAPER = SAMPLE | {  # the eight experiments have every set from scratch as well
    "finetune-scratch": (S, ("savee/visual",), ""),
    "transfer-scratch": (S, ("savee/audio",), ""),
    "transfer-2-scratch": (S, ("emodb/audio",), ""),
}
OPEN = {
    "pretrain": (S, ("fer2013/visual",), ""),
    "transfer": (S, ("ravdess/audio",), "pretrain"),
    "transfer-2": (S, ("emodb/audio",), "transfer"),
    "contrastive": (C, ("ravdess/audio", "emodb/audio"), "transfer-2"),
    "joint": (J, ("ravdess/audio", "emodb/audio"), "transfer-2"),
    "joint-3": (J, ("ravdess/audio", "emodb/audio", "fer2013/visual"), "transfer-2"),
    "transfer-scratch": (S, ("ravdess/audio",), ""),
    "transfer-2-scratch": (S, ("emodb/audio",), ""),
}


@pytest.mark.parametrize(("name", "stages"), [("sample", SAMPLE), ("paper", PAPER), ("open", OPEN)])
def test_the_chains_that_are_shipped(name, stages):
    shipped = config.read_experiment(name)
    assert shipped.name == name
    assert {stage.name: (stage.kind, stage.sources, stage.start_from) for stage in shipped.stages} == stages
    leading = [stage for stage in stages if stages[stage][0] == S and not stage.endswith("-scratch")]
    for joint in (stage for stage in stages if stages[stage][0] == J):
        assert [stage.name for stage in shipped.chain(joint)] == [*leading, joint]
    assert shipped.network == (config.Network(pool="rows", dropout=0.5) if name == "open" else config.Network())


def test_every_file_that_is_shipped_is_an_experiment():
    """Each reads without a word against it."""
    names = config.shipped_experiments()
    first = ["ablation-faces", "ablation-voices", "emodb", "emodb-transfer", "fer2013"]
    assert names == [*first, "open", "paper", "ravdess", "sample", "together", "together-faces", "transfer"]
    assert [config.read_experiment(name).name for name in names] == names


def test_arms_that_are_compared_are_tuned_and_updated_alike():
    """The arms of a number of labelled clips differ in what they start from; those of `together` and
    `together-faces` in sources, kind, weight and what their domain takes; one from scratch is otherwise the stage of its name."""
    transfer = config.read_experiment("transfer")
    for count in (2, 5, 10, 20, "all"):
        arms = [transfer.stage(f"{arm}-{count}") for arm in ("scratch", "faces", "speech", "both")]
        assert len({dataclasses.replace(arm, name="", start_from="") for arm in arms}) == 1
        assert [arm.start_from for arm in arms] == ["", "faces", "speech", "faces-speech"]
        assert arms[0].labelled == (0 if count == "all" else count)
    for name in ("paper", "open"):
        shipped = config.read_experiment(name)
        for arm in (stage for stage in shipped.stages if stage.name.endswith("-scratch")):
            other = shipped.stage(arm.name.removesuffix("-scratch"))
            assert dataclasses.replace(arm, name=other.name, start_from=other.start_from) == other
    for name, chain in (("together", ["first-ravdess"]), ("together-faces", ["first-faces", "then-ravdess"])):
        together = config.read_experiment(name)
        updates = {stage.name: stage.epochs * stage.steps for stage in together.stages}
        singles = [updates[arm] for arm in updates if arm.startswith("single-")]
        assert {sum(updates[arm] for arm in (*chain, "then-emodb")), updates["pooled"], *singles} == {updates["joint"]}
        assert dataclasses.replace(together.stage("pooled"), name="joint", contrastive_weight=1.0, drawn_as="") == together.stage("joint")
        for arm in together.stages:
            for key in ("batch", "learning_rate", "weight_decay", "label_smoothing", "balance", "warmup", "ema"):
                assert getattr(arm, key) == getattr(together.stage("joint"), key)
            taken = {key: value for key, value in dataclasses.asdict(arm.augment).items() if value}
            assert taken and taken.items() <= dataclasses.asdict(together.stage("joint").augment).items()
            voices = any(source.endswith("/audio") for source in arm.sources)
            expected = (0.4, 8) if voices else (0.0, 0)
            assert (arm.active_share, arm.train_hop_frames) == expected and (arm.augment.time_mask > 0) == voices


def test_what_comes_before_is_all_that_emodb_transfer_has_otherwise():
    before, alone = config.read_experiment("emodb-transfer"), config.read_experiment("emodb")
    faces, speech, both = before.stages
    assert before.network == alone.network
    assert dataclasses.replace(both, name="speech", start_from="") == alone.stage("speech")
    transfer = config.read_experiment("transfer")
    assert faces == transfer.stage("faces") and speech == transfer.stage("faces-speech")
    assert (both.start_from, speech.start_from) == ("faces-speech", "faces")


PARTS = {
    "no-flip": ("flip",),
    "no-moves": ("shift", "scale", "rotation_degrees"),
    "no-light": ("brightness", "contrast"),
    "no-erasing": ("erasing",),
    "no-changes": ("flip", "shift", "scale", "rotation_degrees", "brightness", "contrast", "erasing"),
    "no-smoothing": ("label_smoothing",),
    "no-ema": ("ema",),
    "constant-rate": ("schedule",),
    "balanced": ("balance",),
    "mixup": ("mixup",),
}
"""What each arm of an ablation has otherwise than the first."""


@pytest.mark.parametrize(("name", "row", "arms"), [("ablation-faces", "fer2013", 11), ("ablation-voices", "emodb", 3)])
def test_each_arm_of_an_ablation_has_one_part_of_the_recipe_otherwise(name, row, arms):
    usual, *others = config.read_experiment(name).stages
    assert (usual.name, len(others)) == ("usual", arms - 1)
    for arm in others:
        changed = {key for key, value in flat(arm).items() if value != flat(usual)[key]}
        assert changed == {"name", "drawn_as", *PARTS[arm.name]} and arm.drawn_as == "usual"
    (of_row,) = config.read_experiment(row).stages
    size = {"name", "epochs", "steps", "batch", "learning_rate", "ema", "active_share", "test_mirror"}
    assert {key for key, value in flat(of_row).items() if value != flat(usual)[key]} <= size


def flat(stage) -> dict:
    """Return the settings of a stage, those of its changes among them."""
    settings = dataclasses.asdict(stage)
    return settings.pop("augment") | settings


def test_every_field_can_be_set(tmp_path):
    """From the file and by --set, each of its own type; what is not named keeps its default."""
    stage = {
        "epochs": 3,
        "batch": 8,
        "learning_rate": 0.5,
        "weight_decay": 0.0,
        "label_smoothing": 0.1,
        "margin": 1.5,
        "contrastive_weight": 2.0,
        "clip_norm": 5.0,
        "accumulate": 4,
        "ema": 0.99,
        "freeze": ("stage1", "stage2_conv1"),
        "pairs": "balanced",
        "hard_negatives": 0.0,
        "heads": "masked",
        "steps": 7,
        "drawn_as": "other",
        "labelled": 20,
        "labelled_by": "fold",
        "schedule": "constant",
        "warmup": 0.25,
        "mixup": 0.4,
        "balance": "classes",
        "active_share": 0.5,
        "train_hop_frames": 16,
        "test_hop_frames": 8,
        "test_mirror": True,
        "speaker_normalization": False,
    }
    network = {"widths": (8, 24), "convolutions": 1, "groups": 4, "embedding": 16, "dropout": 0.0}
    network |= {"blocks": "residual", "squeeze": 4, "pool": "rows", "members": 2}

    def table(values):
        literal = {key: str(value).lower() if isinstance(value, bool) else repr(value) for key, value in values.items()}
        return "\n".join(f"{key} = {list(value) if isinstance(value, tuple) else literal[key]}" for key, value in values.items())

    other = STAGE.replace("first", "other")
    text = f"[network]\n{table(network)}\n{STAGE}{table(stage)}{other}"
    by_file = experiment(tmp_path, text)
    by_set = experiment(
        tmp_path,
        STAGE + other,
        [*(f"first.{key}={value}" for key, value in stage.items()), *(f"network.{key}={value}" for key, value in network.items())],
    )
    assert by_file == by_set
    assert dataclasses.asdict(by_file.network) == network
    rest = {"name": "first", "kind": S, "sources": ("a/visual",), "start_from": "", "augment": dataclasses.asdict(config.Augment())}
    assert dataclasses.asdict(by_file.stages[0]) == rest | stage
    assert experiment(tmp_path, STAGE).stages[0] == config.Stage("first", S, ("a/visual",))
    assert set(stage) | set(rest) == {field.name for field in dataclasses.fields(config.Stage)}


@pytest.mark.parametrize(
    "setting", ["augment={'flip': 0.5, 'time_mask': 0.2}", "augment={flip = 0.5, time_mask = 0.2}", "test_mirror=True", "test_mirror=true"]
)
def test_a_setting_is_written_as_in_a_file_or_as_in_python(tmp_path, setting):
    """What was copied from an experiment file says the same as Python's notation."""
    changed = experiment(tmp_path, STAGE, [f"first.{setting}"]).stages[0]
    wanted = {"test_mirror": True} if "mirror" in setting else {"augment": config.Augment(flip=0.5, time_mask=0.2)}
    assert changed == dataclasses.replace(config.Stage("first", S, ("a/visual",)), **wanted)


def test_every_field_of_pairs_can_be_set(tmp_path):
    """What a supervised stage has no use for; a list of layers may be empty."""
    fields = {"pairs": "random", "hard_negatives": 0.8, "heads": "corpus", "freeze": ()}
    changed = experiment(tmp_path, JOINT, ["joint.pairs=random", "joint.hard_negatives=0.8", "joint.heads=corpus", "joint.freeze=[]"])
    assert {key: getattr(changed.stage("joint"), key) for key in fields} == fields
    assert changed.stage("joint") == dataclasses.replace(experiment(tmp_path, JOINT).stage("joint"), **fields)


def test_a_setting_changes_its_stage_alone(tmp_path):
    changed = experiment(tmp_path, JOINT, ["joint.margin=1", "joint.sources=['a/visual', 'c/visual']", "joint.margin=2"])
    assert type(changed.stage("joint").margin) is float and changed.stage("joint").margin == 2
    assert changed.stage("joint").sources == ("a/visual", "c/visual")
    assert changed.stage("first") == experiment(tmp_path, JOINT).stage("first")


SPOKEN = """
[[stages]]
name = "faces"
kind = "supervised"
sources = ["a/visual"]

[[stages]]
name = "voices"
kind = "supervised"
sources = ["a/audio"]
start_from = "faces"
speaker_normalization = true

[[stages]]
name = "last"
kind = "supervised"
sources = ["b/audio"]
start_from = "voices"
"""


def test_all_sound_of_a_chain_is_normalised_alike(tmp_path):
    """Faces before it are not asked; faces behind it could not be told apart from sound that is not normalised so."""
    good = experiment(tmp_path, SPOKEN + "speaker_normalization = true")
    assert [stage.speaker_normalization for stage in good.stages] == [False, True, True]
    with pytest.raises(InputError, match="'last': speaker_normalization must be that of .*; received False here, True in 'voices'$"):
        experiment(tmp_path, SPOKEN)
    with pytest.raises(InputError, match="received True here, False in 'voices'$"):
        experiment(tmp_path, SPOKEN.replace("speaker_normalization = true", "") + "speaker_normalization = true")
    with pytest.raises(InputError, match="'last': speaker_normalization must be that of .*; received False here, True in 'voices'$"):
        experiment(tmp_path, SPOKEN.replace("b/audio", "b/visual"))


def test_sources_in_the_order_of_the_stages():
    assert config.read_experiment("sample").sources == ("enterface/visual", "savee/visual", "savee/audio", "emodb/audio")
    assert config.read_experiment("open").sources == ("fer2013/visual", "ravdess/audio", "emodb/audio")
