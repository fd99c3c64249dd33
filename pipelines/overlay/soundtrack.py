"""Write the audio of a file into an MP4 file: its packets unchanged, or as AAC."""

from fractions import Fraction

import av
from av.container import OutputContainer

COPIED_CODECS = ("aac", "ac3", "alac", "eac3", "flac", "mp3", "opus")
"""Codecs that MP4 files can hold and that players support in them."""
AAC_RATES_HZ = (
    8_000,
    11_025,
    12_000,
    16_000,
    22_050,
    24_000,
    32_000,
    44_100,
    48_000,
    64_000,
    88_200,
    96_000,
)
"""Sample rates of AAC; audio with another rate is resampled to `DEFAULT_RATE_HZ`."""
DEFAULT_RATE_HZ = 48_000
LAYOUTS_BY_CHANNELS = {1: "mono", 2: "stereo", 6: "5.1"}
"""Layouts that are kept; audio with another number of channels becomes stereo."""
BITS_PER_SECOND_PER_CHANNEL = 96_000
AAC_FRAME_SAMPLES = 1024


class Soundtrack:
    """A track of audio in step with the pictures of the file.

    Encoded audio has silence where damage left a gap.

    Args:
        file: The MP4 file, before anything is written to it.
        source: The stream whose packets are added.
        origin_seconds: The time of the source that is time 0 of the file.

    Attributes:
        kind: "copied" or "transcoded".
        undecodable: Number of packets that did not decode or have no valid time.
    """

    def __init__(
        self, file: OutputContainer, source: av.AudioStream, origin_seconds: Fraction
    ) -> None:
        self._file, self._source = file, source
        self._origin_ticks = round(origin_seconds / source.time_base)
        self._last_dts: int | None = None
        self._filter_graph: av.filter.Graph | None = None
        self.undecodable = 0
        context = source.codec_context
        if context.codec.canonical_name in COPIED_CODECS:
            self.kind: str = "copied"
            self._track = file.add_stream_from_template(source)
            return
        self.kind = "transcoded"
        rate_hz = context.sample_rate if context.sample_rate in AAC_RATES_HZ else DEFAULT_RATE_HZ
        layout = LAYOUTS_BY_CHANNELS.get(context.channels, "stereo")
        self._track = file.add_stream("aac", rate=rate_hz, layout=layout)
        encoder = self._track.codec_context
        encoder.format = "fltp"
        encoder.bit_rate = BITS_PER_SECOND_PER_CHANNEL * encoder.channels

    def add(self, packet: av.Packet) -> None:
        """Add a packet of the source.

        Args:
            packet: A packet with data.

        Raises:
            MemoryError: Decoding needs too much memory.
            av.FFmpegError: The file cannot be written, or the audio cannot be encoded.
        """
        if self.kind == "copied":
            self._copy(packet)
        else:
            self._encode(packet)

    def _copy(self, packet: av.Packet) -> None:
        if packet.dts is None or (self._last_dts is not None and packet.dts <= self._last_dts):
            self.undecodable += 1
            return
        self._last_dts = packet.dts
        packet.dts -= self._origin_ticks
        packet.pts = packet.dts if packet.pts is None else packet.pts - self._origin_ticks
        packet.stream = self._track
        self._file.mux(packet)

    def _encode(self, packet: av.Packet | None) -> None:
        """Decode a packet, or the end of the source (None), and encode its frames."""
        try:
            frames = self._source.codec_context.decode(packet)
        except av.FFmpegError as error:
            if isinstance(error, MemoryError):
                raise
            self.undecodable += 1
            return
        for frame in frames:
            if frame.pts is not None:
                frame.pts -= round(self._origin_ticks * self._source.time_base / frame.time_base)
            if self._filter_graph is None:
                self._filter_graph = self._build_filter_graph(frame)
            self._filter_graph.push(frame)
            self._encode_filtered_frames()

    def _build_filter_graph(self, frame: av.AudioFrame) -> av.filter.Graph:
        """Return a graph that fills gaps and converts frames to the encoder's format."""
        encoder, graph = self._track.codec_context, av.filter.Graph()
        encoder_format = ":".join(
            [
                "sample_fmts=fltp",
                f"sample_rates={encoder.sample_rate}",
                f"channel_layouts={encoder.layout.name}",
            ]
        )
        graph.link_nodes(
            graph.add_abuffer(
                sample_rate=frame.sample_rate,
                format=frame.format,
                layout=frame.layout,
                time_base=frame.time_base,
            ),
            graph.add("aresample", "async=1"),
            graph.add("aformat", encoder_format),
            graph.add("asetnsamples", f"n={AAC_FRAME_SAMPLES}:p=0"),
            graph.add("abuffersink"),
        ).configure()
        return graph

    def _encode_filtered_frames(self) -> None:
        while True:
            try:
                frame = self._filter_graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            self._file.mux(self._track.encode(frame))

    def close(self) -> None:
        """Write the remaining audio.

        Raises:
            MemoryError: Decoding needs too much memory.
            av.FFmpegError: The file cannot be written, or the audio cannot be encoded.
        """
        if self.kind == "copied":
            return
        self._encode(None)
        if self._filter_graph:
            self._filter_graph.push(None)
            self._encode_filtered_frames()
        self._file.mux(self._track.encode(None))
