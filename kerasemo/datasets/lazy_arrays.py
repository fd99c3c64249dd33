"""Objects with the interface of arrays, which compute a slice on demand."""

from collections.abc import Sequence

import numpy as np

from pipelines.core.spec import Spec


class SegmentWindows:
    """Stands in for an array of segments, float32 [segments, mel_filters, segment_frames, 3].

    Args:
        features: float32 [mel_filters, frames, 3]: the log-Mels with deltas of several utterances,
            one after the other.
        starts: int64 [segments]: the first frame of each segment.
        spec: Gives the length of a segment.

    >>> features = np.arange(12, dtype=np.float32).reshape(2, 6, 1)
    >>> windows = SegmentWindows(features, np.array([0, 3]), spec=Spec(segment_frames=2))
    >>> windows.shape, windows[1:][0, 0, :, 0].tolist(), windows[np.array([[1, 0]])].shape
    ((2, 2, 2, 1), [3.0, 4.0], (1, 2, 2, 2, 1))
    """

    def __init__(self, features: np.ndarray, starts: np.ndarray, *, spec: Spec = Spec()) -> None:
        self._features = np.ascontiguousarray(features)
        self._starts = starts
        self._n_frames = spec.segment_frames
        self.shape = (len(starts), len(features), self._n_frames, features.shape[-1])
        self.dtype = features.dtype
        self.nbytes = self._features.nbytes

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, indices: slice | np.ndarray) -> np.ndarray:
        """Return segments, with the shape of the indices followed by that of a segment."""
        starts = self._starts[indices]
        segments = np.empty((*np.shape(starts), *self.shape[1:]), self.dtype)
        flat = segments.reshape(-1, *self.shape[1:])
        for segment, start in zip(flat, np.ravel(starts), strict=True):
            segment[...] = self._features[:, start : start + self._n_frames]
        return segments


class GatheredItems:
    """Stands in for the items of several sources as one array, which may exceed the memory.

    Args:
        arrays: The inputs of each source, [items of the source, ...].
        items: int64: the items to take from each source.
    """

    def __init__(
        self, arrays: Sequence[np.ndarray | SegmentWindows], items: Sequence[np.ndarray]
    ) -> None:
        self._arrays = arrays
        self._source_of = np.repeat(np.arange(len(items)), [len(indices) for indices in items])
        self._items = np.concatenate(items)
        self.shape = (len(self._items), *arrays[0].shape[1:])

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, part: slice) -> np.ndarray:
        """Return a slice of the items."""
        source_of, items = self._source_of[part], self._items[part]
        gathered = np.empty((len(items), *self.shape[1:]), self._arrays[0].dtype)
        for index, array in enumerate(self._arrays):
            is_here = source_of == index
            gathered[is_here] = array[items[is_here]]
        return gathered
