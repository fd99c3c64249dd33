"""Fusion: one prediction from those of face and voice, as a logarithmic opinion pool."""

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike

from kerasemo.metrics import classification

TEMPERATURES = (0.25, 10.0)
"""The range of fitted temperatures. Without it, a few utterances that are all predicted correctly
would give a confidence of 1."""

WEIGHTS = np.arange(21) / 20
"""The visual weights that are tried."""

MIN_PROBABILITY = float(np.finfo(np.float32).tiny)
"""What a probability of 0 of one domain alone counts as. float32 has nothing smaller, and 0 would
veto the other domain."""

LOSS_TOLERANCE = 1e-9
"""Losses that differ by less are equal. Of equal losses the weight nearest to 1/2 is taken."""


@dataclasses.dataclass(frozen=True)
class Fusion:
    """How the distributions of two domains become one."""

    visual_weight: float = 0.5
    """The weight of the face, in [0, 1]. The voice has the rest."""
    temperature: float = 1.0
    """Above 1 the fused prediction is less confident than the pool, below 1 more. Two independent
    witnesses have weight 1/2 and temperature 1/2."""
    utterances: int = 0
    """The number of validation utterances that the fusion was fitted on; 0: not fitted."""

    def __post_init__(self) -> None:
        if not 0 <= self.visual_weight <= 1:
            raise ValueError(f"visual_weight must be in [0, 1]; received {self.visual_weight!r}")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be a number above 0; received {self.temperature!r}")
        if self.utterances < 0:
            raise ValueError(f"utterances must be 0 or more; received {self.utterances!r}")


def fuse(fusion: Fusion, visual: ArrayLike, audio: ArrayLike) -> np.ndarray:
    """Return one distribution of two: float64 of their shape.

    p_c is proportional to exp((w log v_c + (1 - w) log a_c) / T): the logarithmic opinion pool
    (Genest and Zidek 1986, "Combining probability distributions", section 3) with a temperature
    (Guo et al. 2017). The pool is the project's choice.

    A class to which both domains give exactly 0 keeps 0. A 0 of one domain alone counts as
    `MIN_PROBABILITY`, so that two confident and different predictions have a pool.

    Args:
        fusion: The weight w of the visual domain and the temperature T.
        visual: float [..., classes], each row a distribution.
        audio: The same of the audio domain, of the same shape.

    >>> fuse(Fusion(), [0.8, 0.2, 0.0], [0.2, 0.8, 0.0]).round(4).tolist()
    [0.5, 0.5, 0.0]
    >>> fuse(Fusion(visual_weight=1.0), [0.75, 0.25], [0.5, 0.5]).round(4).tolist()
    [0.75, 0.25]
    """
    pool = _LogPool(*_validated(visual, audio))
    return np.exp(pool.log_probabilities(fusion.visual_weight, fusion.temperature))


def fit_fusion(visual: ArrayLike, audio: ArrayLike, labels: ArrayLike) -> Fusion:
    """Fit the fusion to validation utterances: minimise the mean of -log p of their labels.

    For each weight of `WEIGHTS` the temperature is fitted within `TEMPERATURES`. The problem is
    convex in 1 / T, and jointly convex in w / T and (1 - w) / T, so there is one minimum, and the
    fitted weight is at most one step of `WEIGHTS` from it.

    Args:
        visual: float [utterances, classes], each row a distribution, at least one utterance.
        audio: The same of the audio domain.
        labels: int [utterances]: the class of each, to which not both domains give exactly 0.
    """
    from scipy import optimize  # takes half a second to import, which `fuse` does not need

    visual, audio = _validated(visual, audio)
    if visual.ndim != 2:
        raise ValueError(f"visual must be [utterances, classes]; received shape {visual.shape}")
    classification.validate(labels, visual.argmax(axis=1), n_classes=visual.shape[1])
    pool = _LogPool(visual, audio)
    of_label = (np.arange(len(visual)), np.asarray(labels))
    if impossible := int((~pool.possible[of_label]).sum()):
        raise ValueError(
            f"labels must be possible classes; received {impossible} to which both domains give 0; "
            "leave these utterances out"
        )

    def loss(log_temperature: float, weight: float) -> float:
        log_p = pool.log_probabilities(weight, math.exp(log_temperature))
        return -float(np.mean(log_p[of_label]))

    best, least_loss = Fusion(), math.inf
    bounds = tuple(map(math.log, TEMPERATURES))
    by_distance_from_half = sorted(WEIGHTS.tolist(), key=lambda w: (round(abs(w - 0.5), 6), w))
    for weight in by_distance_from_half:
        fitted = optimize.minimize_scalar(
            loss, bounds=bounds, args=(weight,), method="bounded", options={"xatol": 1e-4}
        )
        if fitted.fun < least_loss - LOSS_TOLERANCE:
            least_loss = float(fitted.fun)
            best = Fusion(weight, math.exp(fitted.x), len(visual))
    return best


def _validated(visual: ArrayLike, audio: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return both as float64 [..., classes]; raise ValueError unless each row is a distribution."""
    visual, audio = np.asarray(visual, np.float64), np.asarray(audio, np.float64)
    if visual.shape != audio.shape or not visual.ndim or not visual.size:
        raise ValueError(
            "visual and audio must have one shape [..., classes] and not be empty; "
            f"received {visual.shape} and {audio.shape}"
        )
    for values in (visual, audio):
        classification.validate_distributions(values.reshape(-1, values.shape[-1]))
    return visual, audio


class _LogPool:
    """The logarithms of the distributions of two domains."""

    def __init__(self, visual: np.ndarray, audio: np.ndarray) -> None:
        self.possible = (visual > 0) | (audio > 0)
        self._visual = np.log(np.maximum(visual, MIN_PROBABILITY))
        self._audio = np.log(np.maximum(audio, MIN_PROBABILITY))

    def log_probabilities(self, weight: float, temperature: float) -> np.ndarray:
        """Return log p of the pool, minus infinity for an impossible class."""
        pooled = weight * self._visual + (1 - weight) * self._audio
        powers = np.where(self.possible, pooled, -np.inf) / temperature
        powers -= powers.max(axis=-1, keepdims=True)
        return powers - np.log(np.exp(powers).sum(axis=-1, keepdims=True))
