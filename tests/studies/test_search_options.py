"""Tests of the command line of a search: its errors, and what `--help` imports."""

import subprocess
import sys

import pytest

from helpers.paths import ROOT
from kerasemo import tune


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--stage", "joined"], ["'joined'", "'sample'"]),
        (
            ["--stage", "joint", "--over", "colour"],
            ["--over colour", "'joint'", "learning_rate", "margin"],
        ),
        (["--stage", "joint", "--over", "width"], ["'joint'", "'transfer-2'", "network"]),
        (["--stage", "joint", "--search", "grid"], ["invalid choice", "'grid'"]),
        (["--stage", "joint", "--trials", "0"], ["at least 1", "'0'"]),
    ],
)
def test_invalid_option_is_a_single_line_and_exit_status_2(capsys, arguments, words):
    with pytest.raises(SystemExit) as caught:
        tune.main(arguments)
    printed, message = capsys.readouterr()
    assert (caught.value.code, printed) == (2, "")
    assert message.count("\n") == 1
    assert all(word in message for word in words)


def test_help_imports_no_large_package():
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
