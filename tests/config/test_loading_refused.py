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
            "mine.toml: stage 'joint': unknown key 'margn'.*name, kind, .*margin.*; did you mean 'margin'\\?$",
        ),
        (
            ["jiont.margin=1"],
            "--set jiont.margin=1: no stage 'jiont'; .*, network; did you mean 'joint'\\?$",
        ),
        (
            ["joint.augment={filp = 0.5}"],
            "stage 'joint': augment: unknown key 'filp'.*flip, .*; did you mean 'flip'\\?$",
        ),
        (
            ["joint.augment={flip = 'yes'}"],
            "stage 'joint': augment: flip.*number.*0.*1; received 'yes'",
        ),
        (
            ["joint.augment=1"],
            "stage 'joint': augment.*true, false.*table.*received 1",
        ),
        (["joint.freeze=stage1"], "freeze.*list.*words.*received 'stage1'"),
        (["joint.freeze=[1]"], "freeze.*list.*words.*received 1"),
        (["network.widths=[]"], r"widths.*list.*6 whole numbers.*received \[\]"),
        (
            ["joint.margin=wide"],
            "mine.toml: stage 'joint': margin.*number.*0.*2; received 'wide'",
        ),
        (["joint.margin=True"], "margin.*number.*received 'True'"),
        (["joint.margin=nan"], "margin.*number.*received nan"),
        (["joint.epochs=2.0"], "epochs.*whole number.*received 2.0"),
        (["joint.epochs=True"], "epochs.*whole number.*received 'True'"),
        (["joint.epochs="], "epochs.*whole number.*received ''"),
        (["joint.sources=a/visual"], "sources.*list.*words; received 'a/visual'"),
        (["joint.sources=[]"], r"sources.*list.*words; received \[\]"),
        (
            ["network.widths=8"],
            r"mine.toml: \[network\]: widths.*list .*received 8",
        ),
        (["network.widths=[8, true]"], "widths.*list .*received True"),
        (["network.widths=[8.0]"], "widths.*list .*received 8.0"),
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
        ("", r"\[\[stages\]\] table"),
        ("stages = []", r"\[\[stages\]\] table"),
        ("stages = [1]", r"\[\[stages\]\] table"),
        ("[stages]\nname = 'a'", r"\[\[stages\]\] table"),
        ("epochs = 3" + STAGE, r"unknown key 'epochs'; expected \[network\] and \[\[stages\]\]"),
        ("network = 5" + STAGE, r"network.*table, \[network\]; received 5"),
        (
            "[[network]]\nwidths = [8]" + STAGE,
            r"network.*table, \[network\]; received \[\{'widths'",
        ),
        (instead('name = "first"', ""), "stage None: missing key 'name'"),
        (instead('name = "first"', "name = 1"), "stage 1: name.*word; received 1"),
        (
            instead('name = "first"', "name = ['a']"),
            r"stage \['a'\]: name.*word; received \['a'\]",
        ),
        (instead('kind = "joint"', ""), "stage 'joint': missing key 'kind'"),
        (
            instead('kind = "joint"', 'kind = "both"'),
            "stage 'joint': kind.*supervised, contrastive, joint; received 'both'",
        ),
        (
            instead('name = "joint"', 'name = "first"'),
            "stage 'first'.*name.*used twice",
        ),
        (
            instead('name = "first"', 'name = "network"'),
            "stage 'network': the name must .*not be network",
        ),
        (
            instead('name = "first"', 'name = "../first"'),
            "stage '../first'.*name.*letters",
        ),
        (instead('name = "first"', 'name = "-"'), "stage '-'.*name.*letters"),
        (
            instead('start_from = "first"', 'start_from = "pretrain"'),
            "start_from.*name.*earlier stage; received 'pretrain'",
        ),
        (
            instead('start_from = "first"', 'start_from = "joint"'),
            "start_from.*name.*earlier stage; received 'joint'",
        ),
        (instead('"b/audio"]', '"b"]'), "source.*NAME/visual.*NAME/audio; received 'b'"),
        (instead('"b/audio"]', '"b/video"]'), "received 'b/video'"),
        (instead('"b/audio"]', '"/audio"]'), "received '/audio'"),
        (instead('"b/audio"]', '"b/c/audio"]'), "received 'b/c/audio'"),
        (instead('"b/audio"]', '"a/visual"]'), "sources must differ; received a/visual, a/visual"),
        (instead(', "b/audio"]', "]"), "joint stage.*two sources.*more; received 1"),
        (
            instead('kind = "joint"', 'kind = "supervised"'),
            "supervised stage.*source; received 2",
        ),
        (
            JOINT + "epochs = 0",
            "stage 'joint': epochs.*whole number.*1.*1000000; received 0",
        ),
        (
            JOINT + "batch = 0",
            "batch.*whole number.*2.*1000000.*multiple.*2; received 0",
        ),
        (JOINT + "batch = 7", "batch.*whole number .*a multiple.*2; received 7"),
        (
            instead('"b/audio"]', '"b/audio", "c/audio"]') + "batch = 64",
            "batch.*multiple.*6, .*3 sources; received 64",
        ),
        (
            JOINT + "learning_rate = 0",
            "learning_rate.*number.*0.*10; received 0",
        ),
        (JOINT + "learning_rate = nan", "learning_rate.*number .*received nan"),
        (
            JOINT + "weight_decay = -0.1",
            "weight_decay.*number.*0.*1; received -0.1",
        ),
        (JOINT + "label_smoothing = 1.0", "label_smoothing.*number .*received 1.0"),
        (
            JOINT + "margin = 2.5",
            "margin.*number.*0.*2; received 2.5",
        ),
        (JOINT + "margin = 0", "margin.*number"),
        (
            JOINT + "contrastive_weight = -1",
            "contrastive_weight.*number.*0 .*received -1",
        ),
        (JOINT + "contrastive_weight = inf", "contrastive_weight.*number .*received inf"),
        (JOINT + "clip_norm = -1", "clip_norm.*number.*0 .*received -1"),
        (JOINT + "clip_norm = inf", "clip_norm.*number .*received inf"),
        (
            JOINT + "steps = -1",
            "steps.*whole number.*0.*1000000; received -1",
        ),
        (JOINT + "labelled = -1", "labelled.*whole number .*received -1"),
        (
            JOINT + 'labelled_by = "speaker"',
            "labelled_by.*seed, fold; received 'speaker'",
        ),
        (
            JOINT + 'drawn_as = "usual"',
            "drawn_as.*name.*stage .*received 'usual'",
        ),
        (
            JOINT + 'drawn_as = "joint"',
            "stage 'joint': drawn_as.*name.*stage .*received 'joint'",
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
            "schedule.*cosine, constant; received 'linear'",
        ),
        (JOINT + "warmup = 1.0", "warmup.*number.*0.*1; received 1.0"),
        (
            JOINT + "mixup = -0.1",
            "mixup.*number.*0.*10; received -0.1",
        ),
        (JOINT + 'balance = "even"', "balance.*none, classes; received 'even'"),
        (
            JOINT + "test_hop_frames = 65",
            "test_hop_frames.*whole number.*0.*64; received 65",
        ),
        (
            STAGE + "speaker_normalization = 1",
            "speaker_normalization.*true.*false; received 1",
        ),
        (
            STAGE + "speaker_normalization = true",
            "speaker_normalization.*stages.*audio alone; received sources a/visual",
        ),
        (
            JOINT + "speaker_normalization = true",
            "stage 'joint': speaker_normalization.*stages.*audio alone",
        ),
        (
            CONTRASTIVE + "mixup = 0.2",
            "mixup.*contrastive stage.*no cross-entropy; received 0.2",
        ),
        (
            CONTRASTIVE + 'balance = "classes"',
            "balance: a contrastive stage .*received 'classes'",
        ),
        (
            JOINT + "accumulate = 0",
            "accumulate.*whole number.*1.*1000000; received 0",
        ),
        (JOINT + "accumulate = -2", "accumulate.*whole number .*received -2"),
        (
            STAGE + "batch = 10\naccumulate = 4",
            "stage 'first': accumulate.*divide.*10 examples.*step; received 4",
        ),
        (
            JOINT + "batch = 12\naccumulate = 4",
            "accumulate.*divide.*6 pairs.*every two sources.*step; received 4",
        ),
        (
            instead('"b/audio"]', '"b/audio", "c/audio"]') + "batch = 24\naccumulate = 3",
            "accumulate.*divide.*4 pairs.*every two sources.*step; received 3",
        ),
        (JOINT + "ema = 1.0", "ema.*number.*0.*1; received 1.0"),
        (JOINT + "ema = -0.5", "ema.*number"),
        (
            JOINT + 'freeze = ["stage1", ""]',
            "freeze.*list.*words.*received ''",
        ),
        (JOINT + 'pairs = "even"', "pairs.*balanced, random; received 'even'"),
        (
            JOINT + "hard_negatives = 1.5",
            "hard_negatives.*number.*0.*1; received 1.5",
        ),
        (JOINT + 'heads = "two"', "heads.*masked, corpus; received 'two'"),
        (
            STAGE + 'pairs = "random"',
            "pairs.*supervised stage.*no pairs; received 'random'",
        ),
        (
            STAGE + "hard_negatives = 0.5",
            "hard_negatives: a supervised stage .*received 0.5",
        ),
        (
            STAGE + 'heads = "corpus"',
            "heads: 'corpus'.*joint stages",
        ),
        (
            instead('kind = "joint"', 'kind = "contrastive"') + 'heads = "corpus"',
            "heads: 'corpus'.*joint stages",
        ),
        (
            "[network]\ngroups = 0" + STAGE,
            r"\[network\]: groups.*whole number.*1; received 0",
        ),
        ("[network]\ngroups = -8" + STAGE, r"\[network\]: groups must be .*received -8"),
        (
            "[network]\nwidths = [32, 20]" + STAGE,
            r"every width.*multiple.*groups \(8\); received 20",
        ),
        (
            "[network]\nwidths = [0]" + STAGE,
            "widths.*list .*from 1.*4096; received 0",
        ),
        (
            "[network]\nwidths = [8, 8, 8, 8, 8, 8, 8]" + STAGE,
            r"\[network\]: widths.*list.*6",
        ),
        (
            "[network]\nconvolutions = 0" + STAGE,
            "convolutions.*whole number.*1.*16; received 0",
        ),
        (
            "[network]\nembedding = 0" + STAGE,
            "embedding.*whole number.*1.*65536; received 0",
        ),
        (
            "[network]\nmembers = 0" + STAGE,
            "members.*whole number.*1.*64; received 0",
        ),
        (
            "[network]\nmembers = 65" + STAGE,
            "members.*whole number.*1.*64; received 65",
        ),
        (
            "[network]\ndropout = 1.0" + STAGE,
            "dropout.*number.*0.*1; received 1.0",
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
        InputError, match="mine.toml: stage 'joint': batch.*whole number .*received 66.0$"
    ):
        experiment(tmp_path, text + ".0")
    with pytest.raises(
        InputError,
        match="2 problems: .*'first': accumulate.*divide .*'joint': batch.*whole number .*received 66.0",
    ):
        experiment(tmp_path, text + ".0", ["first.accumulate=5"])
    with pytest.raises(
        InputError, match="2 problems: .*missing key 'kind'; .*missing key 'sources'$"
    ):
        experiment(tmp_path, JOINT + '[[stages]]\nname = "late"\nstart_from = "joint"')


def test_an_experiment_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(
        InputError,
        match="no experiment 'papre'.*emodb, .*, fer2013, open, .*path.*.toml file",
    ):
        loading.load_experiment("papre")
    with pytest.raises(InputError, match=r"none.toml.*read.*experiment file \(.*No such file"):
        loading.load_experiment(str(tmp_path / "none.toml"))
    (tmp_path / "latin.toml").write_bytes(b"# \xe9")
    with pytest.raises(InputError, match=r"latin.toml.*read.*experiment file"):
        loading.load_experiment(str(tmp_path / "latin.toml"))
