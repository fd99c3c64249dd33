"""The hierarchy of errors, and what a command makes of each."""

import pytest

from pipelines.core import errors
from pipelines.core.cli import run_main


@pytest.mark.parametrize(
    ("kind", "also"),
    [
        (errors.InputError, ValueError),
        (errors.DataError, ValueError),
        (errors.MediaError, errors.DataError),
        (errors.RunError, RuntimeError),
        (errors.StorageError, OSError),
    ],
)
def test_each_error_is_one_of_the_project_and_of_python(kind, also):
    assert issubclass(kind, errors.KerasemoError) and issubclass(kind, also)
    assert str(kind("two\nlines")) == "two\nlines"


def test_what_a_run_could_not_do_is_no_mistake_of_the_user():
    assert not issubclass(errors.RunError, errors.InputError)
    assert not issubclass(errors.DataError, errors.InputError)


@pytest.mark.parametrize("kind", [errors.InputError, errors.DataError, errors.StorageError])
def test_a_command_ends_with_one_line_and_status_1(kind, capsys):
    def work():
        raise kind("no room:\nremove a file")

    assert run_main(work, prog="toy") == 1
    assert capsys.readouterr().err == "toy: error: no room: remove a file\n"


def test_several_problems_become_one_error_of_the_kind_that_is_asked_for():
    with pytest.raises(errors.DataError, match=r"2 problems: \(1\) a; \(2\) b"):
        errors.raise_all(["a", "b", "a"], errors.DataError)
