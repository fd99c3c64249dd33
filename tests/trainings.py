"""Trainings of which only the run folder is looked at."""

from unittest.mock import patch

from kerasemo import train


def train_only(options: train.Options, **words) -> None:
    """Do what `train.train` does, but for the evaluation that it ends with, which writes nothing."""
    with patch("kerasemo.evaluate.evaluate", return_value={}) as evaluate:
        train.train(options, **words)
    evaluate.assert_called_once()
