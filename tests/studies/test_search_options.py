"""The command line of a search: an invalid option is one line, `--help` imports nothing heavy."""

import subprocess
import sys

import pytest

from helpers.paths import ROOT
from kerasemo import tune


@pytest.mark.parametrize(
    ("arguments", "key_words"),
    [
        (["--stage", "joined"], ["'joined'", "'sample'"]),
        (
            ["--stage", "joint", "--over", "colour"],
            ["--over colour", "'joint'", "learning_rate, warmup, weight_decay, batch", "margin"],
        ),
        (["--stage", "joint", "--over", "width"], ["'joint' starts from 'transfer-2'", "network"]),
        (["--stage", "joint", "--search", "grid"], ["invalid choice", "'grid'"]),
        (["--stage", "joint", "--trials", "0"], ["at least 1", "'0'"]),
    ],
)
def test_invalid_option_is_one_line_and_exit_status_2(capsys, arguments, key_words):
    with pytest.raises(SystemExit) as stopped:
        tune.main(arguments)
    printed, message = capsys.readouterr()
    assert (stopped.value.code, printed) == (2, "")
    assert message.count("\n") == 1
    assert all(word in message for word in key_words)


def test_help_imports_nothing_heavy():
    code = (
        "import sys, kerasemo.tune as command\n"
        "try: command.main(['--help'])\n"
        "except SystemExit: print(sorted(sys.modules), file=sys.stderr)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert finished.stdout.startswith("usage: ")
    assert "'kerasemo.studies.search_space'" in finished.stderr
    for package in ("tensorflow", "keras", "keras_tuner", "numpy", "rich"):
        assert f"'{package}'" not in finished.stderr, package
