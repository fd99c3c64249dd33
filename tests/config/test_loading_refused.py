"""Experiments and settings that are off: refused in one line that names the file, all that is wrong at once."""

import re

import pytest

from helpers.experiment_files import CONTRASTIVE, JOINT, STAGE, experiment
from kerasemo.config import loading
from pipelines.core.errors import InputError


def test_a_stage_that_is_not_there_is_refused_with_those_that_are():
    for ask in (loading.load_experiment("sample").stage, loading.load_experiment("sample").chain):
        with pytest.raises(
            InputError,
            match="no stage 'jiont' .*pretrain, .*joint$",
        ):
            ask("jiont")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["joint"], "--set joint: expected STAGE.KEY=VALUE"),
        (["joint.margin"], "--set joint.margin: expected STAGE.KEY=VALUE"),
        (["=1"], "--set =1: expected STAGE.KEY=VALUE"),
        (
            ["late.margin=1"],
            "--set late.margin=1: no stage 'late'.*first, joint, network",
        ),
        (
            ["joint.name=other"],
            "--set joint.name=other: name .*experiment file",
        ),
        (["joint.kind=supervised"], "kind .*experiment file"),
        (["joint.start_from=''"], "start_from .*experiment file"),
        (
            ["joint.margn=1"],
            "mine.toml: stage 'joint': unknown key 'margn'; expected name, kind, .*margin.*; did you mean 'margin'\\?$",
        ),
        (
            ["jiont.margin=1"],
            "--set jiont.margin=1: no stage 'jiont'; .*, network; did you mean 'joint'\\?$",
        ),
        (
            ["joint.augment={filp = 0.5}"],
            "stage 'joint': augment: unknown key 'filp'; expected flip, .*; did you mean 'flip'\\?$",
        ),
        (
            ["joint.augment={flip = 'yes'}"],
            "stage 'joint': augment: flip must be a number from 0 to 1; received 'yes'",
        ),
        (
            ["joint.augment=1"],
            "stage 'joint': augment must be true, false or a table.*received 1",
        ),
        (["joint.freeze=stage1"], "freeze must be a list of words.*received 'stage1'"),
        (["joint.freeze=[1]"], "freeze must be a list of words.*received 1"),
        (["network.widths=[]"], r"widths must be a list of at most 6 whole numbers.*received \[\]"),
        (
            ["joint.margin=wide"],
            "mine.toml: stage 'joint': margin must be a number above 0 and of at most 2; received 'wide'",
        ),
        (["joint.margin=True"], "margin must be a number.*received 'True'"),
        (["joint.margin=nan"], "margin must be a number.*received nan"),
        (["joint.epochs=2.0"], "epochs must be a whole number.*received 2.0"),
        (["joint.epochs=True"], "epochs must be a whole number.*received 'True'"),
        (["joint.epochs="], "epochs must be a whole number.*received ''"),
        (["joint.sources=a/visual"], "sources must be a list of words; received 'a/visual'"),
        (["joint.sources=[]"], r"sources must be a list of words; received \[\]"),
        (
            ["network.widths=8"],
            r"mine.toml: \[network\]: widths must be a list .*received 8",
        ),
        (["network.widths=[8, true]"], "widths must be a list .*received True"),
        (["network.widths=[8.0]"], "widths must be a list .*received 8.0"),
        (
            ["network.depth=8"],
            r"\[network\]: unknown key 'depth'; expected widths, convolutions, .*groups, embedding, dropout",
        ),
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
        (
            "[[network]]\nwidths = [8]" + STAGE,
            r"expected network to be a table, \[network\]; received \[\{'widths'",
        ),
        (instead('name = "first"', ""), "stage None: missing key 'name'"),
        (instead('name = "first"', "name = 1"), "stage 1: name must be a word; received 1"),
        (
            instead('name = "first"', "name = ['a']"),
            r"stage \['a'\]: name must be a word; received \['a'\]",
        ),
        (instead('kind = "joint"', ""), "stage 'joint': missing key 'kind'"),
        (
            instead('kind = "joint"', 'kind = "both"'),
            "stage 'joint': kind must be one of supervised, contrastive, joint; received 'both'",
        ),
        (
            instead('name = "joint"', 'name = "first"'),
            "stage 'first': the name is used twice",
        ),
        (
            instead('name = "first"', 'name = "network"'),
            "stage 'network': the name must .*not be network",
        ),
        (
            instead('name = "first"', 'name = "../first"'),
            "stage '../first': the name must have letters",
        ),
        (instead('name = "first"', 'name = "-"'), "stage '-': the name must have letters"),
        (
            instead('start_from = "first"', 'start_from = "pretrain"'),
            "start_from must name an earlier stage; received 'pretrain'",
        ),
        (
            instead('start_from = "first"', 'start_from = "joint"'),
            "start_from must name an earlier stage; received 'joint'",
        ),
        (instead('"b/audio"]', '"b"]'), "a source must be NAME/visual or NAME/audio; received 'b'"),
        (instead('"b/audio"]', '"b/video"]'), "received 'b/video'"),
        (instead('"b/audio"]', '"/audio"]'), "received '/audio'"),
        (instead('"b/audio"]', '"b/c/audio"]'), "received 'b/c/audio'"),
        (instead('"b/audio"]', '"a/visual"]'), "sources must differ; received a/visual, a/visual"),
        (instead(', "b/audio"]', "]"), "a joint stage has two sources or more; received 1"),
        (
            instead('kind = "joint"', 'kind = "supervised"'),
            "a supervised stage has one source; received 2",
        ),
        (
            JOINT + "epochs = 0",
            "stage 'joint': epochs must be a whole number from 1 to 1000000; received 0",
        ),
        (
            JOINT + "batch = 0",
            "batch must be a whole number from 2 to 1000000, a multiple of 2; received 0",
        ),
        (JOINT + "batch = 7", "batch must be a whole number .*a multiple of 2; received 7"),
        (
            instead('"b/audio"]', '"b/audio", "c/audio"]') + "batch = 64",
            "batch must be a multiple of 6, .* of 3 sources; received 64",
        ),
        (
            JOINT + "learning_rate = 0",
            "learning_rate must be a number above 0 and below 10; received 0",
        ),
        (JOINT + "learning_rate = nan", "learning_rate must be a number .*received nan"),
        (
            JOINT + "weight_decay = -0.1",
            "weight_decay must be a number of at least 0 and below 1; received -0.1",
        ),
        (JOINT + "label_smoothing = 1.0", "label_smoothing must be a number .*received 1.0"),
        (
            JOINT + "margin = 2.5",
            "margin must be a number above 0 and of at most 2; received 2.5",
        ),
        (JOINT + "margin = 0", "margin must be a number"),
        (
            JOINT + "contrastive_weight = -1",
            "contrastive_weight must be a number of at least 0 .*received -1",
        ),
        (JOINT + "contrastive_weight = inf", "contrastive_weight must be a number .*received inf"),
        (JOINT + "clip_norm = -1", "clip_norm must be a number of at least 0 .*received -1"),
        (JOINT + "clip_norm = inf", "clip_norm must be a number .*received inf"),
        (
            JOINT + "steps = -1",
            "steps must be a whole number from 0 to 1000000; received -1",
        ),
        (JOINT + "labelled = -1", "labelled must be a whole number .*received -1"),
        (
            JOINT + 'labelled_by = "speaker"',
            "labelled_by must be one of seed, fold; received 'speaker'",
        ),
        (
            JOINT + 'drawn_as = "usual"',
            "drawn_as must name a stage .*received 'usual'",
        ),
        (
            JOINT + 'drawn_as = "joint"',
            "stage 'joint': drawn_as must name a stage .*received 'joint'",
        ),
        (
            STAGE + 'drawn_as = "joint"' + JOINT.removeprefix(STAGE) + 'drawn_as = "first"',
            "2 problems: .*'first': drawn_as .*'joint': drawn_as",
        ),
        (
            JOINT + 'labelled_by = "fold"',
            "labelled_by needs `labelled` .*received labelled_by 'fold'",
        ),
        (
            JOINT + 'schedule = "linear"',
            "schedule must be one of cosine, constant; received 'linear'",
        ),
        (JOINT + "warmup = 1.0", "warmup must be a number of at least 0 and below 1; received 1.0"),
        (
            JOINT + "mixup = -0.1",
            "mixup must be a number from 0 to 10; received -0.1",
        ),
        (JOINT + 'balance = "even"', "balance must be one of none, classes; received 'even'"),
        (
            JOINT + "test_hop_frames = 65",
            "test_hop_frames must be a whole number from 0 to 64; received 65",
        ),
        (
            STAGE + "speaker_normalization = 1",
            "speaker_normalization must be true or false; received 1",
        ),
        (
            STAGE + "speaker_normalization = true",
            "speaker_normalization is for stages on audio alone; received sources a/visual",
        ),
        (
            JOINT + "speaker_normalization = true",
            "stage 'joint': speaker_normalization is for stages on audio alone",
        ),
        (
            CONTRASTIVE + "mixup = 0.2",
            "mixup: a contrastive stage has no cross-entropy; received 0.2",
        ),
        (
            CONTRASTIVE + 'balance = "classes"',
            "balance: a contrastive stage .*received 'classes'",
        ),
        (
            JOINT + "accumulate = 0",
            "accumulate must be a whole number from 1 to 1000000; received 0",
        ),
        (JOINT + "accumulate = -2", "accumulate must be a whole number .*received -2"),
        (
            STAGE + "batch = 10\naccumulate = 4",
            "stage 'first': accumulate must divide the 10 examples of a step; received 4",
        ),
        (
            JOINT + "batch = 12\naccumulate = 4",
            "accumulate must divide the 6 pairs of every two sources of a step; received 4",
        ),
        (
            instead('"b/audio"]', '"b/audio", "c/audio"]') + "batch = 24\naccumulate = 3",
            "accumulate must divide the 4 pairs of every two sources of a step; received 3",
        ),
        (JOINT + "ema = 1.0", "ema must be a number of at least 0 and below 1; received 1.0"),
        (JOINT + "ema = -0.5", "ema must be a number"),
        (
            JOINT + 'freeze = ["stage1", ""]',
            "freeze must be a list of words.*received ''",
        ),
        (JOINT + 'pairs = "even"', "pairs must be one of balanced, random; received 'even'"),
        (
            JOINT + "hard_negatives = 1.5",
            "hard_negatives must be a number from 0 to 1; received 1.5",
        ),
        (JOINT + 'heads = "two"', "heads must be one of masked, corpus; received 'two'"),
        (
            STAGE + 'pairs = "random"',
            "pairs: a supervised stage has no pairs; received 'random'",
        ),
        (
            STAGE + "hard_negatives = 0.5",
            "hard_negatives: a supervised stage .*received 0.5",
        ),
        (
            STAGE + 'heads = "corpus"',
            "heads: 'corpus' is for joint stages",
        ),
        (
            instead('kind = "joint"', 'kind = "contrastive"') + 'heads = "corpus"',
            "heads: 'corpus' is for joint stages",
        ),
        (
            "[network]\ngroups = 0" + STAGE,
            r"\[network\]: groups must be a whole number of at least 1; received 0",
        ),
        ("[network]\ngroups = -8" + STAGE, r"\[network\]: groups must be .*received -8"),
        (
            "[network]\nwidths = [32, 20]" + STAGE,
            r"every width must be a multiple of groups \(8\); received 20",
        ),
        (
            "[network]\nwidths = [0]" + STAGE,
            "widths must be a list .*from 1 to 4096; received 0",
        ),
        (
            "[network]\nwidths = [8, 8, 8, 8, 8, 8, 8]" + STAGE,
            r"\[network\]: widths must be a list of at most 6",
        ),
        (
            "[network]\nconvolutions = 0" + STAGE,
            "convolutions must be a whole number from 1 to 16; received 0",
        ),
        (
            "[network]\nembedding = 0" + STAGE,
            "embedding must be a whole number from 1 to 65536; received 0",
        ),
        (
            "[network]\nmembers = 0" + STAGE,
            "members must be a whole number from 1 to 64; received 0",
        ),
        (
            "[network]\nmembers = 65" + STAGE,
            "members must be a whole number from 1 to 64; received 65",
        ),
        (
            "[network]\ndropout = 1.0" + STAGE,
            "dropout must be a number of at least 0 and below 1; received 1.0",
        ),
    ],
)
def test_files_that_are_off_are_refused_in_one_line_that_names_them(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        experiment(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'mine.toml'}: ") and "\n" not in str(
        caught.value
    )


def test_all_that_is_wrong_is_told_at_once(tmp_path):
    """In one line, numbered: what is wrong in several tables, in settings and in values of one stage."""
    text = (
        f"stage = 1\n[network]\nwidth = 3\ndropout = 1.5\n{STAGE}epochs = 0\nlearning_rate = 'fast'"
        + JOINT.removeprefix(STAGE)
    )
    text += "margn = 0.5\nbatch = 7\naugment = {flip = 2.0, shft = 0.1}"
    with pytest.raises(InputError) as caught:
        experiment(tmp_path, text, ["late.margin=1", "joint.margin=wide", "first.batch=-4"])
    message = str(caught.value)
    assert "\n" not in message and message.startswith(
        f"{tmp_path / 'mine.toml'}: 12 problems: (1) unknown key 'stage'; expected"
    )
    assert [
        problem.partition("; ")[0].partition(") ")[2]
        for problem in re.split(r"; (?=\(\d+\) )", message.partition("problems: ")[2])
    ] == [
        "unknown key 'stage'",
        "--set late.margin=1: no stage 'late'",
        "[network]: dropout must be a number of at least 0 and below 1",
        "[network]: unknown key 'width'",
        "stage 'first': epochs must be a whole number from 1 to 1000000",
        "stage 'first': batch must be a whole number from 2 to 1000000, a multiple of 2",
        "stage 'first': learning_rate must be a number above 0 and below 10",
        "stage 'joint': batch must be a whole number from 2 to 1000000, a multiple of 2",
        "stage 'joint': margin must be a number above 0 and of at most 2",
        "stage 'joint': augment: flip must be a number from 0 to 1",
        "stage 'joint': augment: unknown key 'shft'",
        "stage 'joint': unknown key 'margn'",
    ]


def test_a_value_of_another_type_makes_no_second_problem(tmp_path):
    """Three sources take a batch of a multiple of 6, which the default, that stands for the wrong one, is not."""
    text = instead('"b/audio"]', '"b/audio", "c/audio"]') + "batch = 66"
    assert experiment(tmp_path, text).stage("joint").batch == 66
    with pytest.raises(
        InputError, match="mine.toml: stage 'joint': batch must be a whole number .*received 66.0$"
    ):
        experiment(tmp_path, text + ".0")
    with pytest.raises(
        InputError,
        match="2 problems: .*'first': accumulate must divide .*'joint': batch must be a whole number .*received 66.0",
    ):
        experiment(tmp_path, text + ".0", ["first.accumulate=5"])
    with pytest.raises(
        InputError, match="2 problems: .*missing key 'kind'; .*missing key 'sources'$"
    ):
        experiment(tmp_path, JOINT + '[[stages]]\nname = "late"\nstart_from = "joint"')


def test_an_experiment_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(
        InputError,
        match="no experiment 'papre'; expected emodb, .*, fer2013, open, .* or the path of a .toml file",
    ):
        loading.load_experiment("papre")
    with pytest.raises(
        InputError, match=r"none.toml: cannot be read as an experiment file \(.*No such file"
    ):
        loading.load_experiment(str(tmp_path / "none.toml"))
    (tmp_path / "latin.toml").write_bytes(b"# \xe9")
    with pytest.raises(InputError, match=r"latin.toml: cannot be read as an experiment file"):
        loading.load_experiment(str(tmp_path / "latin.toml"))
