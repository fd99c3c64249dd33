"""Trainings of which a test needs only the run folder."""

from unittest.mock import patch

from kerasemo.training.experiment import TrainingOptions, train_experiment


def train_only(options: TrainingOptions) -> None:
    """Train as `train_experiment` does, without the evaluation at its end, which writes nothing."""
    with patch("kerasemo.evaluation.evaluator.evaluate_stage", return_value={}) as evaluate_stage:
        train_experiment(options)
    evaluate_stage.assert_called_once()
