"""One answer of two: what a face says and what a voice says of one utterance, as a log-opinion pool. NumPy and SciPy, pure."""

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike

from kerasemo.metrics import classification

TEMPERATURES = (0.25, 10.0)
"""The least and the largest that are fitted. A few utterances that are all answered right would make the confidence 1 otherwise."""

WEIGHTS = np.arange(21) / 20
"""The visual weights that are tried."""

LEAST = float(np.finfo(np.float32).tiny)
"""What a probability of 0 counts as where only one domain gives it: float32 has nothing smaller, and 0 would be a veto."""

EQUAL = 1e-9
"""Mean negative log-likelihoods that differ by less are equal; of equals the weight nearest to 1/2 is taken."""


@dataclasses.dataclass(frozen=True)
class Fusion:
    """How the distributions of two domains become one."""

    visual_weight: float = 0.5
    """In [0, 1]; the voice has the rest."""
    temperature: float = 1.0
    """Above 1 the answer is less sure than the pool, below 1 it is surer. Two independent witnesses: weight 1/2, temperature 1/2."""
    utterances: int = 0
    """How many validation utterances it was fitted on; 0: not fitted."""

    def __post_init__(self):
        if not 0 <= self.visual_weight <= 1:
            raise ValueError(f"visual_weight must be in [0, 1]; received {self.visual_weight!r}")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be a number above 0; received {self.temperature!r}")
        if self.utterances < 0:
            raise ValueError(f"utterances must be 0 or more; received {self.utterances!r}")


def fuse(fusion: Fusion, visual: ArrayLike, audio: ArrayLike) -> np.ndarray:
    """Return one distribution of two: float64 of their shape.

    p_c is proportional to exp((w log v_c + (1 - w) log a_c) / T), the logarithmic opinion pool (Genest and Zidek 1986, "Combining
    probability distributions", section 3) with a temperature (Guo et al. 2017). The pool is the project's choice.

    A class to which both give exactly 0, a masked one, has exactly 0. Where only one does, its 0 counts as `LEAST`, so that two
    answers that are sure of different things have a pool.

    Args:
        fusion: The weight w of the visual domain and the temperature T.
        visual: float [..., classes], each row a distribution.
        audio: The same of the other domain, of the same shape.

    >>> fuse(Fusion(), [0.8, 0.2, 0.0], [0.2, 0.8, 0.0]).round(4).tolist()
    [0.5, 0.5, 0.0]
    >>> fuse(Fusion(visual_weight=1.0), [0.75, 0.25], [0.5, 0.5]).round(4).tolist()
    [0.75, 0.25]
    """
    return np.exp(
        _Logs(*_validated(visual, audio)).pooled(fusion.visual_weight, fusion.temperature)
    )


def fit(visual: ArrayLike, audio: ArrayLike, labels: ArrayLike) -> Fusion:
    """Return the fusion under which validation utterances are likeliest: the least mean of -log p of their emotions.

    For each weight of `WEIGHTS` the temperature is sought between `TEMPERATURES`. In 1 / T that is a convex problem, and in w / T and
    (1 - w) / T it is one of both, so there is one minimum and no start to choose: the weight found is at most one step of `WEIGHTS`
    from the best one.

    Args:
        visual: float [utterances, classes], each row a distribution; at least one utterance.
        audio: The same of the other domain.
        labels: int [utterances]: the class of each, to which not both domains give exactly 0.
    """
    from scipy import optimize  # half a second, which fusing need not wait

    visual, audio = _validated(visual, audio)
    if visual.ndim != 2:
        raise ValueError(f"visual must be [utterances, classes]; received shape {visual.shape}")
    classification.validate(labels, visual.argmax(axis=1), n_classes=visual.shape[1])
    logs, own = _Logs(visual, audio), (np.arange(len(visual)), np.asarray(labels))
    if masked := int((~logs.possible[own]).sum()):
        raise ValueError(
            f"labels must be possible classes; received {masked} to which both domains give 0; leave these utterances out"
        )

    def loss(log_temperature: float, weight: float) -> float:
        return -float(np.mean(logs.pooled(weight, math.exp(log_temperature))[own]))

    best, least = Fusion(), math.inf
    bounds = tuple(map(math.log, TEMPERATURES))
    for weight in sorted(
        WEIGHTS.tolist(), key=lambda weight: (round(abs(weight - 0.5), 6), weight)
    ):
        found = optimize.minimize_scalar(
            loss, bounds=bounds, args=(weight,), method="bounded", options={"xatol": 1e-4}
        )
        if found.fun < least - EQUAL:
            least, best = float(found.fun), Fusion(weight, math.exp(found.x), len(visual))
    return best


def _validated(visual: ArrayLike, audio: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return both as float64 arrays of one shape [..., classes]; ValueError unless each row is a distribution."""
    visual, audio = np.asarray(visual, np.float64), np.asarray(audio, np.float64)
    if visual.shape != audio.shape or not visual.ndim or not visual.size:
        raise ValueError(
            f"visual and audio must be of one shape [..., classes], not empty; received {visual.shape} and {audio.shape}"
        )
    for values in (visual, audio):
        classification.distributions(values.reshape(-1, values.shape[-1]))
    return visual, audio


class _Logs:
    """The logarithms of the distributions of two domains."""

    def __init__(self, visual: np.ndarray, audio: np.ndarray):
        self.possible = (visual > 0) | (audio > 0)
        self._visual, self._audio = (
            np.log(np.maximum(values, LEAST)) for values in (visual, audio)
        )

    def pooled(self, weight: float, temperature: float) -> np.ndarray:
        """Return log p of the pool, minus infinity for a class that is not possible."""
        powers = (
            np.where(self.possible, weight * self._visual + (1 - weight) * self._audio, -np.inf)
            / temperature
        )
        powers -= powers.max(axis=-1, keepdims=True)
        return powers - np.log(np.exp(powers).sum(axis=-1, keepdims=True))
