"""Every number of the pipelines, in seconds, hertz and pixels; sample counts are derived."""

import dataclasses
import math


def spaced_indices(number: int, count: int) -> list[int]:
    """Return the indices of at most `count` evenly spaced ones of `number`, each in the middle of its step.

    >>> spaced_indices(10, 2), spaced_indices(3, 16)
    ([2, 7], [0, 1, 2])
    """
    count = min(number, count)
    return [(2 * step + 1) * number // (2 * count) for step in range(count)]


@dataclasses.dataclass(frozen=True)
class Spec:
    """The numbers that define a record; lengths in seconds and hertz, counts derived.

    >>> spec = Spec()
    >>> spec.window_samples, spec.hop_samples, round(spec.segment_seconds, 3)
    (400, 160, 0.655)
    """

    face_size: int = 64
    """Side of a face crop, in pixels."""
    face_margin: float = 0.1
    """What is added on each side of a detected box, as a share of its side."""
    frames_per_clip: int = 16
    """The most faces that are kept of one clip."""
    sample_rate_hz: int = 16_000
    window_seconds: float = 0.025
    hop_seconds: float = 0.010
    fft_samples: int = 512
    mel_filters: int = 64
    lower_hz: float = 20.0
    upper_hz: float = 8_000.0
    power_floor: float = 1e-10
    """The least power of a filter before the logarithm: -100 dB."""
    delta_width: int = 9
    """Frames that a delta is fitted over (librosa's default)."""
    segment_frames: int = 64
    segment_hop_frames: int = 34
    active_share: float = 0.0
    """Share of a segment's frames that must be active; of an utterance without such a one the most active stay. 0: every segment counts."""
    active_range_db: float = 30.0
    """A frame is active whose mean over the Mel filters is at most so far below that of the utterance's loudest frame."""
    part_seconds: float = 60.0
    """Longer audio is cut into parts of at most this length."""
    silence_peak: float = 1e-3
    """A waveform that never reaches this amplitude (-60 dB of full scale) is silent."""

    @property
    def window_samples(self) -> int:
        return round(self.window_seconds * self.sample_rate_hz)

    @property
    def hop_samples(self) -> int:
        return round(self.hop_seconds * self.sample_rate_hz)

    @property
    def part_samples(self) -> int:
        return round(self.part_seconds * self.sample_rate_hz)

    @property
    def segment_seconds(self) -> float:
        return (self.segment_frames - 1) * self.hop_seconds + self.window_seconds

    def frame_count(self, samples: int) -> int:
        """Return how many log-Mel frames `samples` samples give (0 when shorter than one FFT)."""
        return max(0, 1 + (samples - self.fft_samples) // self.hop_samples)

    def part_edges(self, frames: int) -> list[int]:
        """Return where `frames` log-Mel frames are cut into the fewest parts of at most `part_seconds`, as equal as can be.

        Part n is of the frames from edge n up to edge n + 1; its samples are those of `samples_of`.

        >>> Spec().part_edges(98), Spec().part_edges(12_000), Spec(part_seconds=0.052).part_edges(7)
        ([0, 98], [0, 4000, 8000, 12000], [0, 2, 5, 7])
        """
        parts = -(-frames // self.frame_count(self.part_samples))
        return [round(part * frames / parts) for part in range(parts + 1)]

    def samples_of(self, first: int, end: int) -> tuple[int, int]:
        """Return the first sample and the end of those that the log-Mel frames from `first` up to `end` are taken from.

        >>> Spec().samples_of(0, 1), Spec().samples_of(10, 12)
        ((0, 512), (1600, 2272))
        """
        return first * self.hop_samples, (end - 1) * self.hop_samples + self.fft_samples

    def segment_count(self, frames: int) -> int:
        """Return how many segments cover `frames` frames; the last one is moved back to end with the clip.

        >>> [Spec().segment_count(n) for n in (10, 64, 65, 98, 99)]
        [1, 1, 2, 2, 3]
        """
        return 1 + math.ceil(max(0, frames - self.segment_frames) / self.segment_hop_frames)


MARKER = "sample.json"
