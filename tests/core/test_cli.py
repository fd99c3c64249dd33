"""Every verb: quick help, usage errors in one line."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VERBS = [
    "pipelines.build",
    "pipelines.sample",
    "kerasemo.train",
    "kerasemo.tune",
    "kerasemo.evaluate",
    "kerasemo.client",
]
VERBS += ["kerasemo.reproduce", "kerasemo.compare", "kerasemo.export", "kerasemo.predict"]


def test_a_name_that_is_not_utf_8_is_one_line(capsys, tmp_path):
    from helpers.builds import build_json, emodb

    words = (
        "--corpus",
        "emodb",
        "--media",
        emodb(tmp_path / "media", 2),
        "--out",
        f"{tmp_path}/o\udcff",
        "--workers",
        "2",
    )
    status, result, err = build_json(capsys, *words)
    assert (status, result) == (
        1,
        None,
    ) and "not UTF-8" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("verb", VERBS)
def test_help_is_quick_because_nothing_heavy_is_imported(command, verb):
    """The promise is half a second; what decides it is that no heavy package is imported, so that is what is tested."""
    began = time.perf_counter()
    finished = command(verb, "--help", check=0)
    took_seconds = time.perf_counter() - began
    assert finished.stdout.startswith("usage: ")
    code = f"import sys, {verb} as verb\ntry: verb.main(['--help'])\nexcept SystemExit: print(sorted(sys.modules), file=sys.stderr)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr
    assert "argparse" in modules
    for heavy in ("tensorflow", "keras", "numpy", "cv2", "av", "rich", "librosa"):
        assert f"'{heavy}'" not in modules, f"{verb} --help imports {heavy} ({took_seconds:.2f} s)"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["pipelines.build"], "missing --corpus, --media, --out"),
        (
            [
                "pipelines.build",
                "--corpus",
                "emodb",
                "--media",
                ".",
                "--out",
                "x",
                "--domain",
                "smell",
            ],
            "expected visual, audio",
        ),
        (
            [
                "pipelines.build",
                "--corpus",
                "emodb",
                "--media",
                ".",
                "--out",
                "x",
                "--workers",
                "0",
            ],
            "at least 1; received '0'",
        ),
        (["pipelines.build", "--corpus", "emodb", "--colour"], "unrecognized arguments: --colour"),
        (["pipelines.build", "--corpus", "emo-db"], "enterface, savee, emodb"),
        (["kerasemo.train"], "--stage"),
        (["kerasemo.train", "--stage", "joint", "--epochs", "none"], "at least 1; received 'none'"),
        (
            ["kerasemo.train", "--stage", "joint", "--protocol", "random"],
            "invalid choice: 'random'",
        ),
        (["kerasemo.train", "--stage", "joint", "--fold", "-1"], "at least 0; received '-1'"),
        (["kerasemo.evaluate", "--records", "x"], "--run"),
        (["kerasemo.reproduce", "--experiment", "open"], "--records"),
        (
            ["kerasemo.reproduce", "--experiment", "open", "--records", "x", "--folds", "0,two"],
            "all, or numbers from 0 such as 0,4,8",
        ),
        (
            ["kerasemo.reproduce", "--experiment", "open", "--records", "x", "--stages", "last"],
            "stage 'last'",
        ),
        (
            ["kerasemo.reproduce", "--experiment", "open", "--records", "x", "--compare", "joint"],
            "pairs of stages",
        ),
        (
            [
                "kerasemo.reproduce",
                "--experiment",
                "open",
                "--records",
                "x",
                "--stages",
                "joint",
                "--compare",
                "joint:transfer",
            ],
            "'transfer'",
        ),
        (["kerasemo.client", "a.wav"], "--url"),
        (["kerasemo.client", "--url", "localhost:8501", "a.wav"], "http://HOST:8501"),
        (
            ["kerasemo.client", "--url", "http://localhost:8501", "--timeout", "0", "a.wav"],
            "at least 1; received '0'",
        ),
        (["kerasemo"], "expected a verb"),
        (["kerasemo", "fly"], "received 'fly'"),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(command, words, expected):
    finished = command(*words)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert expected in finished.stderr
    assert finished.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["--stage", "joined"],
            "'joined'",
        ),
        (["--stage", "joint", "--experiment", "closed"], "experiment 'closed'"),
        (["--stage", "joint", "--set", "joint.colour=1"], "unknown key 'colour'"),
        (["--stage", "joint", "--set", "joint.margin=5"], "margin must"),
        (["--stage", "joint", "--set", "margin"], "expected STAGE.KEY=VALUE"),
    ],
)
def test_wrong_experiment_is_refused_before_tensorflow_is_loaded(command, words, expected):
    began = time.perf_counter()
    finished = command("kerasemo.train", *words)
    assert (finished.returncode, finished.stdout) == (2, "")
    assert expected in finished.stderr
    assert finished.stderr.count("\n") == 1
    assert time.perf_counter() - began < 60


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["train", "--stage", "joint", "--experiment", "open"],
            "--records DIR",
        ),
        (
            ["train", "--stage", "joint", "--records", "none"],
            "none: no such folder",
        ),
        (["tune", "--stage", "joint", "--records", "none"], "none: no such folder"),
        (["reproduce", "--experiment", "open", "--records", "none"], "none: no such folder"),
        (
            ["evaluate", "--run", "none", "--records", "."],
            "none: no such run folder",
        ),
        (["evaluate", "--run", ".", "--records", "none"], "none: no such folder"),
        (["evaluate", "--model", "emodb-speech", "--records", "none"], "none: no such folder"),
        (["export", "--run", "none"], "none: no such run folder"),
    ],
)
def test_missing_folder_is_named_before_tensorflow_is_loaded(words, expected):
    verb, *more = words
    code = f"import sys, kerasemo.{verb} as verb\nprint(verb.main({more}), 'tensorflow' in sys.modules, 'keras' in sys.modules)"
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert (
        finished.stdout == "1 False False\n"
        and expected in finished.stderr
        and finished.stderr.count("\n") == 1
    )


def test_missing_records_are_named_with_the_command_that_builds_them(command, tmp_path):
    (tmp_path / "empty").mkdir()
    finished = command(
        "kerasemo.train",
        "--stage",
        "joint",
        "--experiment",
        "open",
        "--records",
        tmp_path / "empty",
    )
    assert finished.returncode == 1
    assert "pipelines.build --corpus folder --name fer2013" in finished.stderr
    assert finished.stderr.count("\n") == 1


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_closed_standard_stream_is_no_obstacle(tmp_path, closed):
    missing = f"{tmp_path}/none"
    words = (
        f"exec {sys.executable} -m kerasemo.evaluate --run {missing} --records {missing} {closed}"
    )
    finished = subprocess.run(["bash", "-c", words], capture_output=True, text=True, timeout=120)
    assert finished.returncode == 1 and "Traceback" not in finished.stderr
    assert ("no such run folder" in finished.stderr) == ("2" not in closed)
