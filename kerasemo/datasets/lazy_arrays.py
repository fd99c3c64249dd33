"""What stands in the place of an array and is made when it is asked for: segments of whole utterances, chosen items of several sources."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.core.spec import Spec


class Windows:
    """What stands in the place of an array of segments, float32 [segments, mel_filters, segment_frames, 3].

    Args:
        features: float32 [mel_filters, frames, 3]: utterances one behind the other, each with the deltas of the whole of it.
        starts: int64 [segments]: the first frame of each.
        spec: The length of a segment.

    >>> windows = Windows(np.arange(12, dtype=np.float32).reshape(2, 6, 1), np.array([0, 3]), spec=Spec(segment_frames=2))
    >>> windows.shape, windows[1:][0, 0, :, 0].tolist(), windows[np.array([[1, 0]])].shape
    ((2, 2, 2, 1), [3.0, 4.0], (1, 2, 2, 2, 1))
    """

    def __init__(self, features: np.ndarray, starts: np.ndarray, *, spec: Spec = Spec()):
        self._features, self._starts, self._frames = (
            np.ascontiguousarray(features),
            starts,
            spec.segment_frames,
        )
        self.shape = (len(starts), len(features), self._frames, features.shape[-1])
        self.dtype = features.dtype

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, which: slice | np.ndarray) -> np.ndarray:
        """Return some segments, of the shape of the indices and of a segment."""
        starts = self._starts[which]
        found = np.empty((*np.shape(starts), *self.shape[1:]), self.dtype)
        for segment, start in zip(
            found.reshape(-1, *self.shape[1:]), np.ravel(starts), strict=True
        ):
            segment[...] = self._features[:, start : start + self._frames]
        return found


class Gathered:
    """Chosen items of several sources as one array that is made slice by slice: the whole may be larger than the memory.

    Args:
        sides: Of `kerasemo.datasets.sources.Side`.
    """

    def __init__(self, sides: Sequence[Any]):
        self._arrays = [side.source.inputs for side in sides]
        self._which = np.repeat(np.arange(len(sides)), [len(side.items) for side in sides])
        self._items = np.concatenate([side.items for side in sides])
        self.shape = (len(self._items), *self._arrays[0].shape[1:])

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, part: slice) -> np.ndarray:
        which, items = self._which[part], self._items[part]
        gathered = np.empty((len(items), *self.shape[1:]), self._arrays[0].dtype)
        for index, array in enumerate(self._arrays):
            gathered[which == index] = array[items[which == index]]
        return gathered
