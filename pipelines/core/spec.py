"""Every number of the pipelines, in seconds, hertz and pixels; counts of samples are derived."""

import dataclasses
import math


def spaced_indices(number: int, count: int) -> list[int]:
    """Return the indices of up to `count` evenly spaced items of `number`, from middles of steps.

    >>> spaced_indices(10, 2), spaced_indices(3, 16)
    ([2, 7], [0, 1, 2])
    """
    count = min(number, count)
    return [(2 * step + 1) * number // (2 * count) for step in range(count)]


@dataclasses.dataclass(frozen=True)
class Spec:
    """The numbers that define records.

    >>> spec = Spec()
    >>> spec.window_samples, spec.hop_samples, round(spec.segment_seconds, 3)
    (400, 160, 0.655)
    """

    face_size: int = 64
    """Side of a face crop, in pixels."""
    face_margin: float = 0.1
    """The margin on each side of a detected box, as a fraction of the side of the box."""
    frames_per_clip: int = 16
    """The largest number of faces of a clip."""
    sample_rate_hz: int = 16_000
    """The sampling rate of waveforms."""
    window_seconds: float = 0.025
    """The length of an analysis window."""
    hop_seconds: float = 0.010
    """The time between the starts of two frames."""
    fft_samples: int = 512
    """The length of the FFT, in samples; a window is padded to it."""
    mel_filters: int = 64
    """The number of Mel filters."""
    lower_hz: float = 20.0
    """The lower end of the lowest Mel filter."""
    upper_hz: float = 8_000.0
    """The upper end of the highest Mel filter."""
    power_floor: float = 1e-10
    """The smallest power of a filter before the logarithm: -100 dB."""
    delta_width: int = 9
    """The frames over which a delta is fitted (the default of librosa)."""
    segment_frames: int = 64
    """The length of a segment, in frames."""
    segment_hop_frames: int = 34
    """The frames between the starts of two segments."""
    active_share: float = 0.0
    """The smallest fraction of active frames in a segment; 0: every segment is used. In an
    utterance without such a segment, the most active segments are used."""
    active_range_db: float = 30.0
    """A frame is active if its mean over the Mel filters is at most so far below the loudest
    frame."""
    part_seconds: float = 60.0
    """Longer audio is divided into parts of at most this length."""
    silence_peak: float = 1e-3
    """A waveform that never reaches this amplitude (-60 dB of full scale) is silent."""

    @property
    def window_samples(self) -> int:
        """The length of an analysis window, in samples."""
        return round(self.window_seconds * self.sample_rate_hz)

    @property
    def hop_samples(self) -> int:
        """The samples between the starts of two frames."""
        return round(self.hop_seconds * self.sample_rate_hz)

    @property
    def part_samples(self) -> int:
        """The largest length of a part, in samples."""
        return round(self.part_seconds * self.sample_rate_hz)

    @property
    def segment_seconds(self) -> float:
        """The length of the audio of a segment."""
        return (self.segment_frames - 1) * self.hop_seconds + self.window_seconds

    def frame_count(self, samples: int) -> int:
        """Return the number of log-Mel frames of `samples` samples; 0 for less than one FFT."""
        return max(0, 1 + (samples - self.fft_samples) // self.hop_samples)

    def part_edges(self, frames: int) -> list[int]:
        """Return the edges of the fewest parts of at most `part_seconds`, as equal as possible.

        Part n has the frames from edge n up to edge n + 1. Its samples are those of `samples_of`.

        Args:
            frames: The number of log-Mel frames.

        >>> Spec().part_edges(98), Spec().part_edges(12_000), Spec(part_seconds=0.052).part_edges(7)
        ([0, 98], [0, 4000, 8000, 12000], [0, 2, 5, 7])
        """
        parts = -(-frames // self.frame_count(self.part_samples))
        return [round(part * frames / parts) for part in range(parts + 1)]

    def samples_of(self, first: int, end: int) -> tuple[int, int]:
        """Return the first and the end sample of the log-Mel frames from `first` up to `end`.

        >>> Spec().samples_of(0, 1), Spec().samples_of(10, 12)
        ((0, 512), (1600, 2272))
        """
        return first * self.hop_samples, (end - 1) * self.hop_samples + self.fft_samples

    def segment_count(self, frames: int) -> int:
        """Return the number of segments of `frames` frames; the last segment ends with the clip.

        >>> [Spec().segment_count(n) for n in (10, 64, 65, 98, 99)]
        [1, 1, 2, 2, 3]
        """
        return 1 + math.ceil(max(0, frames - self.segment_frames) / self.segment_hop_frames)


SAMPLE_MARKER = "sample.json"
"""The file that marks a folder of synthesised media."""
