import dataclasses
from pathlib import Path

import pytest

from kerasemo import config
from pipelines.spec import InputError

S, C, J = "supervised", "contrastive", "joint"
PAPER = {  # the table of the chains; contrastive is run by name and leads to nothing
    "pretrain": (S, ("enterface/visual",), ""),
    "finetune": (S, ("savee/visual",), "pretrain"),
    "transfer": (S, ("savee/audio",), "finetune"),
    "transfer-2": (S, ("emodb/audio",), "transfer"),
    "contrastive": (C, ("enterface/visual", "savee/visual"), "transfer-2"),
    "joint": (J, ("enterface/visual", "savee/visual"), "transfer-2"),
}
OPEN = {
    "pretrain": (S, ("fer2013/visual",), ""),
    "transfer": (S, ("ravdess/audio",), "pretrain"),
    "transfer-2": (S, ("emodb/audio",), "transfer"),
    "contrastive": (C, ("ravdess/audio", "emodb/audio"), "transfer-2"),
    "joint": (J, ("ravdess/audio", "emodb/audio"), "transfer-2"),
    "joint-3": (J, ("ravdess/audio", "emodb/audio", "fer2013/visual"), "transfer-2"),
}
STAGE = """
[[stages]]
name = "first"
kind = "supervised"
sources = ["a/visual"]
"""
JOINT = (
    STAGE
    + """
[[stages]]
name = "joint"
kind = "joint"
sources = ["a/visual", "b/audio"]
start_from = "first"
"""
)


def experiment(tmp_path: Path, text: str, settings=()):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return config.read_experiment(str(path), settings)


@pytest.mark.parametrize(("name", "stages"), [("sample", PAPER), ("paper", PAPER), ("open", OPEN)])
def test_the_chains_that_are_shipped(name, stages):
    shipped = config.read_experiment(name)
    assert shipped.name == name
    assert {stage.name: (stage.kind, stage.sources, stage.start_from) for stage in shipped.stages} == stages
    leading = [stage for stage in stages if stages[stage][0] == S]
    for joint in (stage for stage in stages if stages[stage][0] == J):
        assert [stage.name for stage in shipped.chain(joint)] == [*leading, joint]
    assert config.read_experiment(name).network == config.Network()


def test_every_file_that_is_shipped_is_an_experiment():
    assert config.shipped_experiments() == ["open", "paper", "sample"]


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
    }
    network = {"widths": (8, 24), "convolutions": 1, "groups": 4, "embedding": 16, "dropout": 0.0}
    written = "\n".join(f"{key} = {list(value) if isinstance(value, tuple) else value}" for key, value in network.items())
    text = f"[network]\n{written}\n{STAGE}" + "\n".join(f"{key} = {value}" for key, value in stage.items())
    by_file = experiment(tmp_path, text)
    by_set = experiment(
        tmp_path,
        STAGE,
        [*(f"first.{key}={value}" for key, value in stage.items()), *(f"network.{key}={value}" for key, value in network.items())],
    )
    assert by_file == by_set
    assert dataclasses.asdict(by_file.network) == network
    rest = {"name": "first", "kind": S, "sources": ("a/visual",), "start_from": "", "augment": dataclasses.asdict(config.Augment())}
    assert dataclasses.asdict(by_file.stages[0]) == rest | stage
    assert experiment(tmp_path, STAGE).stages[0] == config.Stage("first", S, ("a/visual",))
    assert set(stage) | set(rest) == {field.name for field in dataclasses.fields(config.Stage)}


def test_a_setting_changes_its_stage_alone(tmp_path):
    changed = experiment(tmp_path, JOINT, ["joint.margin=1", "joint.sources=['a/visual', 'c/visual']", "joint.margin=2"])
    assert type(changed.stage("joint").margin) is float and changed.stage("joint").margin == 2
    assert changed.stage("joint").sources == ("a/visual", "c/visual")
    assert changed.stage("first") == experiment(tmp_path, JOINT).stage("first")


def test_sources_in_the_order_of_the_stages():
    assert config.read_experiment("sample").sources == ("enterface/visual", "savee/visual", "savee/audio", "emodb/audio")
    assert config.read_experiment("open").sources == ("fer2013/visual", "ravdess/audio", "emodb/audio")


def test_a_stage_that_is_not_there_is_refused_with_those_that_are():
    for ask in (config.read_experiment("sample").stage, config.read_experiment("sample").chain):
        with pytest.raises(InputError, match="no stage 'jiont' in experiment 'sample'; it has pretrain, finetune, .*, joint$"):
            ask("jiont")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["joint"], "--set joint: expected STAGE.KEY=VALUE, such as joint.margin=0.8"),
        (["joint.margin"], "--set joint.margin: expected STAGE.KEY=VALUE"),
        (["=1"], "--set =1: expected STAGE.KEY=VALUE"),
        (["late.margin=1"], "--set late.margin=1: no stage 'late'; expected one of first, joint, network"),
        (["joint.name=other"], "--set joint.name=other: name makes another chain; write an experiment file instead"),
        (["joint.kind=supervised"], "kind makes another chain"),
        (["joint.start_from=''"], "start_from makes another chain"),
        (["joint.margn=1"], "mine.toml: stage 'joint': unknown key 'margn'; expected name, kind, .*margin"),
        (["joint.margin=wide"], "mine.toml: stage 'joint': margin: expected float; received 'wide'"),
        (["joint.margin=True"], "margin: expected float; received True"),
        (["joint.margin=nan"], "margin: expected float; received 'nan'"),
        (["joint.epochs=2.0"], "epochs: expected int; received 2.0"),
        (["joint.epochs=True"], "epochs: expected int; received True"),
        (["joint.epochs="], "epochs: expected int; received ''"),
        (["joint.sources=a/visual"], "sources: expected a list of str; received 'a/visual'"),
        (["joint.sources=[]"], r"sources: expected a list of str; received \[\]"),
        (["network.widths=8"], r"mine.toml: \[network\]: widths: expected a list of int; received 8"),
        (["network.widths=[8, True]"], r"widths: expected a list of int; received \[8, True\]"),
        (["network.widths=[8.0]"], r"widths: expected a list of int"),
        (["network.depth=8"], r"\[network\]: unknown key 'depth'; expected widths, convolutions, groups, embedding, dropout"),
    ],
)
def test_settings_that_are_off_are_refused_in_one_line(tmp_path, settings, message):
    with pytest.raises(InputError, match=message) as caught:
        experiment(tmp_path, JOINT, settings)
    assert "\n" not in str(caught.value)


def instead(old: str, new: str, *, of: str = JOINT) -> str:
    assert old in of
    return of.replace(old, new)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages = ", "not TOML"),
        ("", r"expected at least one \[\[stages\]\] table"),
        ("stages = []", r"expected at least one \[\[stages\]\] table"),
        ("stages = [1]", r"expected at least one \[\[stages\]\] table"),
        ("[stages]\nname = 'a'", r"expected at least one \[\[stages\]\] table"),
        ("epochs = 3" + STAGE, r"unknown key 'epochs'; expected \[network\] and \[\[stages\]\]"),
        ("network = 5" + STAGE, r"expected network to be a table, \[network\]; received 5"),
        ("[[network]]\nwidths = [8]" + STAGE, r"expected network to be a table, \[network\]; received \[\{'widths'"),
        (instead('name = "first"', ""), "stage None: missing key 'name'"),
        (instead('name = "first"', "name = 1"), "stage 1: name: expected str; received 1"),
        (instead('kind = "joint"', ""), "stage 'joint': missing key 'kind'"),
        (instead('kind = "joint"', 'kind = "both"'), "stage 'joint': kind must be one of supervised, contrastive, joint; received 'both'"),
        (instead('name = "joint"', 'name = "first"'), "stage 'first': names of stages are unique, letters, digits and hyphens"),
        (instead('name = "first"', 'name = "network"'), "stage 'network': names of stages .* not network or data"),
        (instead('name = "first"', 'name = "../first"'), "stage '../first': names of stages"),
        (instead('name = "first"', 'name = "-"'), "stage '-': names of stages"),
        (
            instead('start_from = "first"', 'start_from = "pretrain"'),
            "start_from must name a stage that stands before it; received 'pretrain'",
        ),
        (instead('start_from = "first"', 'start_from = "joint"'), "start_from must name a stage that stands before it; received 'joint'"),
        (instead('"b/audio"]', '"b"]'), "a source is NAME/visual or NAME/audio; received 'b'"),
        (instead('"b/audio"]', '"b/video"]'), "received 'b/video'"),
        (instead('"b/audio"]', '"/audio"]'), "received '/audio'"),
        (instead('"b/audio"]', '"b/c/audio"]'), "received 'b/c/audio'"),
        (instead('"b/audio"]', '"a/visual"]'), "sources must differ; received a/visual, a/visual"),
        (instead(', "b/audio"]', "]"), "a joint stage has two sources or more; received 1"),
        (instead('kind = "joint"', 'kind = "supervised"'), "a supervised stage has one source; received 2"),
        (JOINT + "epochs = 0", "stage 'joint': epochs must be at least 1 and at most 1000000; received 0"),
        (JOINT + "batch = 0", "batch must be an even number of at least 2; received 0"),
        (JOINT + "batch = 7", "batch must be an even number of at least 2; received 7"),
        (instead('"b/audio"]', '"b/audio", "c/audio"]') + "batch = 64", "batch must be a multiple of 6, .* of 3 sources; received 64"),
        (JOINT + "learning_rate = 0", "learning_rate must be above 0 and below 10; received 0.0"),
        (JOINT + "learning_rate = nan", "learning_rate must be above 0 and below 10; received nan"),
        (JOINT + "weight_decay = -0.1", r"weight_decay must be in \[0, 1\); received -0.1"),
        (JOINT + "label_smoothing = 1.0", r"label_smoothing must be in \[0, 1\); received 1.0"),
        (JOINT + "margin = 2.5", r"margin must be in \(0, 2\], the largest distance of two unit vectors; received 2.5"),
        (JOINT + "margin = 0", r"margin must be in \(0, 2\]"),
        (JOINT + "contrastive_weight = -1", "contrastive_weight must be at least 0; received -1.0"),
        (JOINT + "contrastive_weight = inf", "contrastive_weight must be at least 0; received inf"),
        ("[network]\ngroups = 0" + STAGE, r"\[network\]: groups must be at least 1; received 0"),
        ("[network]\ngroups = -8" + STAGE, r"\[network\]: groups must be at least 1; received -8"),
        ("[network]\nwidths = [32, 20]" + STAGE, r"every width must be a multiple of groups \(8\); received 20"),
        ("[network]\nwidths = [0]" + STAGE, r"every width must be a multiple of groups \(8\); received 0"),
        ("[network]\nwidths = [8, 8, 8, 8, 8, 8, 8]" + STAGE, r"\[network\]: expected 1 to 6 widths"),
        ("[network]\nconvolutions = 0" + STAGE, "convolutions and embedding of at least 1"),
        ("[network]\nembedding = 0" + STAGE, "convolutions and embedding of at least 1"),
        ("[network]\ndropout = 1.0" + STAGE, r"dropout in \[0, 1\)"),
    ],
)
def test_files_that_are_off_are_refused_in_one_line_that_names_them(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        experiment(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'mine.toml'}: ") and "\n" not in str(caught.value)


def test_an_experiment_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="no experiment 'papre'; expected open, paper, sample or the path of a .toml file"):
        config.read_experiment("papre")
    with pytest.raises(InputError, match=r"none.toml: cannot be read as an experiment file \(.*No such file"):
        config.read_experiment(str(tmp_path / "none.toml"))
    (tmp_path / "latin.toml").write_bytes(b"# \xe9")
    with pytest.raises(InputError, match=r"latin.toml: cannot be read as an experiment file"):
        config.read_experiment(str(tmp_path / "latin.toml"))


def test_three_sources_take_a_batch_of_as_many_pairs_of_every_two(tmp_path):
    text = instead('"b/audio"]', '"b/audio", "c/audio"]') + "batch = 66"
    assert experiment(tmp_path, text).stage("joint").batch == 66
