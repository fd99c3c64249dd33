"""Log lines: commands show them, packages leave logging as the user has set it."""

import logging

from pipelines.core import logs
from pipelines.core.cli import run_main


def test_a_command_shows_lines_on_standard_error_and_restores_the_loggers(capsys):
    logger = logging.getLogger("kerasemo.training.chain")
    before = [(log.level, list(log.handlers)) for log in map(logging.getLogger, logs.LOGGERS)]

    def work():
        logger.info("%d of %d stages are trained", 1, 2)
        logs.ContextLogger(logger, "joint").warning("resuming after epoch 2/5")
        logger.debug("not shown")
        return 0

    assert run_main(work, prog="toy") == 0
    assert capsys.readouterr().err == (
        "1 of 2 stages are trained\njoint: resuming after epoch 2/5\n"
    )
    assert before == [
        (log.level, list(log.handlers)) for log in map(logging.getLogger, logs.LOGGERS)
    ]


def test_a_library_user_sees_records_with_their_context(caplog, capsys):
    with caplog.at_level(logging.INFO, logger="kerasemo"):
        logs.ContextLogger(logging.getLogger("kerasemo.training"), "joint").info("epoch %d", 3)
    (record,) = caplog.records
    assert (record.context, record.getMessage()) == ("joint", "epoch 3")
    assert capsys.readouterr().err == ""
