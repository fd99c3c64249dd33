"""Which epoch of a training is the best."""

from collections.abc import Sequence

Logs = dict[str, float]


def best_epoch(history: Sequence[Logs], watch: str) -> int:
    """Return the epoch, from 0, with the largest score; of equals the one of the lower validation loss, then the first.

    >>> best_epoch([{"val_ua": 0.5, "val_loss": 0.9}, {"val_ua": 0.5, "val_loss": 0.7}, {"val_ua": 0.2, "val_loss": 0.1}], "val_ua")
    1
    """
    return max(range(len(history)), key=lambda epoch: (history[epoch][watch], -history[epoch]["val_loss"]))
