"""Trainings of which only the run folder is looked at."""

from unittest.mock import patch

from kerasemo.training import experiment


def train_only(options: experiment.Options, **words) -> None:
    """Do what `experiment.train` does, but for the evaluation that it ends with, which writes nothing."""
    with patch("kerasemo.evaluation.evaluator.evaluate", return_value={}) as evaluate:
        experiment.train(options, **words)
    evaluate.assert_called_once()
