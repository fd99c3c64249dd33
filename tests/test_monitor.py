"""Which epoch is kept."""

import pytest

from kerasemo import monitor


@pytest.mark.parametrize(
    ("scores", "losses", "best"),
    [
        ((0.2, 0.5, 0.4, 0.6), (1, 1, 1, 1), 3),
        ((0.2, 0.6, 0.4, 0.5), (1, 9, 0, 0), 1),
        ((0.5, 0.5, 0.5), (0.9, 0.7, 0.8), 1),
        ((0.5, 0.5), (0.7, 0.7), 0),
    ],
)
def test_the_best_epoch_has_the_largest_score_then_the_lowest_loss_then_is_the_first(scores, losses, best):
    history = [{"val_pair_auc": score, "val_loss": loss, "loss": 0.0} for score, loss in zip(scores, losses, strict=True)]
    assert monitor.best_epoch(history, "val_pair_auc") == best
