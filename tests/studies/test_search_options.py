"""The command line of a search: what is off is told in a line, and asking for help costs nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from kerasemo import tune

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--stage", "joined"], "no stage 'joined' in experiment 'sample'"),
        (
            ["--stage", "joint", "--over", "colour"],
            "--over colour: a search over stage 'joint' varies learning_rate, warmup, weight_decay, batch, label_smoothing, mixup, margin",
        ),
        (
            ["--stage", "joint", "--over", "width"],
            "'joint' starts from 'transfer-2', which fixes the network",
        ),
        (["--stage", "joint", "--search", "grid"], "invalid choice: 'grid'"),
        (["--stage", "joint", "--trials", "0"], "at least 1; received '0'"),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(capsys, words, expected):
    with pytest.raises(SystemExit) as stopped:
        tune.main(words)
    streams = capsys.readouterr()
    assert (stopped.value.code, streams.out) == (2, "")
    assert expected in streams.err and streams.err.count("\n") == 1


def test_help_imports_nothing_heavy():
    code = "import sys, kerasemo.tune as verb\ntry: verb.main(['--help'])\nexcept SystemExit: print(sorted(sys.modules), file=sys.stderr)"
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert finished.stdout.startswith("usage: ")
    assert "'kerasemo.studies.search_space'" in finished.stderr
    for heavy in ("tensorflow", "keras", "keras_tuner", "numpy", "rich"):
        assert f"'{heavy}'" not in finished.stderr, heavy
