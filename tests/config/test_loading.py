import dataclasses
import json

import pytest

from helpers.experiment_files import JOINT, STAGE, experiment
from helpers.synthetic_sets import write_experiment
from kerasemo.config import loading, schema
from pipelines.core.errors import DataError, InputError

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
    shipped = loading.load_experiment(name)
    assert shipped.name == name
    assert {
        stage.name: (stage.kind, stage.sources, stage.start_from) for stage in shipped.stages
    } == stages
    leading = [
        stage for stage in stages if stages[stage][0] == S and not stage.endswith("-scratch")
    ]
    for joint in (stage for stage in stages if stages[stage][0] == J):
        assert [stage.name for stage in shipped.chain(joint)] == [*leading, joint]
    assert shipped.network == (
        schema.NetworkConfig(pool="rows", dropout=0.5) if name == "open" else schema.NetworkConfig()
    )


def test_every_file_that_is_shipped_is_an_experiment():
    """Each reads without a word against it."""
    names = loading.shipped_experiments()
    assert names == ["emodb", "emodb-transfer", "fer2013", "open", "paper", "ravdess", "sample"]
    assert [loading.load_experiment(name).name for name in names] == names


SUPERVISED = {"kind": "supervised", "sources": ["a/visual"], "batch": 8}


def test_a_stage_extends_one_before_it(tmp_path):
    """All settings but the name are taken over; tables of changes are merged, other values replaced; --set changes one stage alone."""
    usual = {**SUPERVISED, "epochs": 3, "augment": {"flip": 0.5, "shift": 0.1}}
    arm = {"extends": "usual", "epochs": 4, "augment": {"flip": 0.0}}
    path = write_experiment(
        tmp_path / "arms.toml", usual=usual, arm=arm, other={"extends": "arm", "augment": False}
    )
    experiment = loading.load_experiment(str(path), ["usual.batch=4"])
    first, second, third = experiment.stages
    assert (first.batch, first.epochs) == (4, 3)
    assert second == dataclasses.replace(
        first, name="arm", epochs=4, batch=8, augment=schema.AugmentConfig(shift=0.1)
    )
    assert third == dataclasses.replace(second, name="other", augment=schema.AugmentConfig())


@pytest.mark.parametrize("base", ["none", "arm", "late", 3])
def test_a_stage_extends_nothing_else(tmp_path, base):
    path = write_experiment(
        tmp_path / "arms.toml",
        usual=SUPERVISED,
        arm={**SUPERVISED, "extends": base},
        late=SUPERVISED,
    )
    with pytest.raises(
        InputError,
        match=f"stage 'arm': extends.*name.*earlier stage; received {base!r}",
    ):
        loading.load_experiment(str(path))


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
        literal = {
            key: str(value).lower() if isinstance(value, bool) else repr(value)
            for key, value in values.items()
        }
        return "\n".join(
            f"{key} = {list(value) if isinstance(value, tuple) else literal[key]}"
            for key, value in values.items()
        )

    second_stage = STAGE.replace("first", "other")
    text = f"[network]\n{table(network)}\n{STAGE}{table(stage)}{second_stage}"
    by_file = experiment(tmp_path, text)
    by_set = experiment(
        tmp_path,
        STAGE + second_stage,
        [
            *(f"first.{line.replace(' = ', '=', 1)}" for line in table(stage).splitlines()),
            *(f"network.{line.replace(' = ', '=', 1)}" for line in table(network).splitlines()),
        ],
    )
    assert by_file == by_set
    assert dataclasses.asdict(by_file.network) == network
    rest = {
        "name": "first",
        "kind": S,
        "sources": ("a/visual",),
        "start_from": "",
        "augment": dataclasses.asdict(schema.AugmentConfig()),
    }
    assert dataclasses.asdict(by_file.stages[0]) == rest | stage
    assert experiment(tmp_path, STAGE).stages[0] == schema.StageConfig("first", S, ("a/visual",))
    assert set(stage) | set(rest) == {
        field.name for field in dataclasses.fields(schema.StageConfig)
    }


@pytest.mark.parametrize(
    "setting",
    [
        "augment={flip = 0.5, time_mask = 0.2}",
        "test_mirror=true",
    ],
)
def test_a_setting_is_written_as_in_a_file(tmp_path, setting):
    changed = experiment(tmp_path, STAGE, [f"first.{setting}"]).stages[0]
    wanted = (
        {"test_mirror": True}
        if "mirror" in setting
        else {"augment": schema.AugmentConfig(flip=0.5, time_mask=0.2)}
    )
    assert changed == dataclasses.replace(schema.StageConfig("first", S, ("a/visual",)), **wanted)


def test_every_field_of_pairs_can_be_set(tmp_path):
    """What a supervised stage has no use for; a list of layers may be empty."""
    fields = {"pairs": "random", "hard_negatives": 0.8, "heads": "corpus", "freeze": ()}
    changed = experiment(
        tmp_path,
        JOINT,
        ["joint.pairs=random", "joint.hard_negatives=0.8", "joint.heads=corpus", "joint.freeze=[]"],
    )
    assert {key: getattr(changed.stage("joint"), key) for key in fields} == fields
    assert changed.stage("joint") == dataclasses.replace(
        experiment(tmp_path, JOINT).stage("joint"), **fields
    )


def test_a_setting_changes_its_stage_alone(tmp_path):
    changed = experiment(
        tmp_path,
        JOINT,
        ["joint.margin=1", "joint.sources=['a/visual', 'c/visual']", "joint.margin=2"],
    )
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
    with pytest.raises(
        InputError,
        match="'last': speaker_normalization.*; received False.*True.*'voices'$",
    ):
        experiment(tmp_path, SPOKEN)
    with pytest.raises(InputError, match="received True.*False.*'voices'$"):
        experiment(
            tmp_path,
            SPOKEN.replace("speaker_normalization = true", "") + "speaker_normalization = true",
        )
    with pytest.raises(
        InputError,
        match="'last': speaker_normalization.*; received False.*True.*'voices'$",
    ):
        experiment(tmp_path, SPOKEN.replace("b/audio", "b/visual"))


def test_sources_in_the_order_of_the_stages():
    assert loading.load_experiment("sample").sources == (
        "enterface/visual",
        "savee/visual",
        "savee/audio",
        "emodb/audio",
    )
    assert loading.load_experiment("open").sources == (
        "fer2013/visual",
        "ravdess/audio",
        "emodb/audio",
    )


def test_the_json_schema_knows_every_setting():
    """Editors and the documentation read it: types, ranges and descriptions."""
    definitions = loading.experiment_schema()["$defs"]
    stage = definitions["StageConfig"]["properties"]
    fields = {field.name for field in dataclasses.fields(schema.StageConfig)}
    assert set(stage) == fields | {"extends"} and all(stage[name]["description"] for name in stage)
    assert (stage["margin"]["exclusiveMinimum"], stage["margin"]["maximum"]) == (0, 2)
    assert stage["kind"]["enum"] == ["supervised", "contrastive", "joint"]
    network = definitions["NetworkConfig"]["properties"]
    assert set(network) == {field.name for field in dataclasses.fields(schema.NetworkConfig)}
    json.dumps(loading.experiment_schema())


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        (schema.NetworkConfig, {"widths": [8], "depth": 3}),
        (schema.StageConfig, {"name": "a", "kind": "supervised", "sources": []}),
        (schema.StageConfig, {"name": "a", "kind": "supervised"}),
    ],
)
def test_stored_settings_of_another_version_are_refused(kind, document):
    with pytest.raises(DataError, match="stored settings.*version"):
        kind.from_json(document)


def test_stored_settings_come_back():
    stage = loading.load_experiment("emodb").stage("speech")
    assert schema.StageConfig.from_json(json.loads(json.dumps(dataclasses.asdict(stage)))) == stage
