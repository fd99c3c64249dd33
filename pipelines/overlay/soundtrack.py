"""Write the sound of a file as a track of an MP4 file: copied packets, or AAC."""

from fractions import Fraction

import av

COPIED_CODECS = ("aac", "ac3", "alac", "eac3", "flac", "mp3", "opus")
"""Codecs that players accept in MP4."""
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
"""The sample rates of AAC. Sound with another rate is resampled to `OTHER_RATE_HZ`."""
OTHER_RATE_HZ = 48_000
LAYOUT_OF_CHANNELS = {1: "mono", 2: "stereo", 6: "5.1"}
"""The channel layouts that stay; other layouts become stereo."""
BIT_RATE_PER_CHANNEL = 96_000
SAMPLES_PER_AAC_FRAME = 1024


class Soundtrack:
    """A sound track in step with the pictures.

    Where the sound is encoded again, gaps from damaged packets are filled with silence.

    Args:
        file: The MP4 file, to which nothing was written yet.
        source: The stream whose packets are added.
        origin_seconds: The time in the source that is 0 in the file.

    Attributes:
        kind: "copied" or "transcoded".
        undecodable: The number of packets that did not decode or had no valid time.
    """

    def __init__(
        self,
        file: av.container.OutputContainer,
        source: av.audio.stream.AudioStream,
        origin_seconds: Fraction,
    ) -> None:
        self._file, self._source = file, source
        self._origin = round(origin_seconds / source.time_base)
        self._last = None
        self._graph = None
        self.undecodable = 0
        is_copied = source.codec_context.codec.canonical_name in COPIED_CODECS
        self.kind: str = "copied" if is_copied else "transcoded"
        if is_copied:
            self._track = file.add_stream_from_template(source)
            return
        rate_hz, channels = source.codec_context.sample_rate, source.codec_context.channels
        rate_hz = rate_hz if rate_hz in AAC_RATES_HZ else OTHER_RATE_HZ
        layout = LAYOUT_OF_CHANNELS.get(channels, "stereo")
        self._track = file.add_stream("aac", rate=rate_hz, layout=layout)
        self._track.codec_context.format = "fltp"
        self._track.codec_context.bit_rate = (
            BIT_RATE_PER_CHANNEL * self._track.codec_context.channels
        )

    def add(self, packet: av.Packet) -> None:
        """Add a packet of the source that is not empty."""
        if self.kind == "copied":
            self._copy(packet)
        else:
            self._encode(packet)

    def _copy(self, packet: av.Packet) -> None:
        if packet.dts is None or (self._last is not None and packet.dts <= self._last):
            self.undecodable += 1
            return
        self._last = packet.dts
        packet.dts -= self._origin
        packet.pts = packet.dts if packet.pts is None else packet.pts - self._origin
        packet.stream = self._track
        self._file.mux(packet)

    def _encode(self, packet: av.Packet | None) -> None:
        try:
            frames = self._source.codec_context.decode(packet)
        except av.FFmpegError as error:
            if isinstance(error, MemoryError):
                raise
            self.undecodable += 1
            return
        for frame in frames:
            if frame.pts is not None:
                frame.pts -= round(self._origin * self._source.time_base / frame.time_base)
            self._graph = self._graph or self._resampling_graph(frame)
            self._graph.push(frame)
            self._write()

    def _resampling_graph(self, frame: av.AudioFrame) -> av.filter.Graph:
        """Return a graph that gives the frames of the encoder, without gaps."""
        context, graph = self._track.codec_context, av.filter.Graph()
        kind = {
            "sample_rate": frame.sample_rate,
            "format": frame.format,
            "layout": frame.layout,
            "time_base": frame.time_base,
        }
        wanted = (
            f"sample_fmts=fltp:sample_rates={context.sample_rate}:"
            f"channel_layouts={context.layout.name}"
        )
        nodes = [
            graph.add_abuffer(**kind),
            graph.add("aresample", "async=1"),
            graph.add("aformat", wanted),
        ]
        nodes += [
            graph.add("asetnsamples", f"n={SAMPLES_PER_AAC_FRAME}:p=0"),
            graph.add("abuffersink"),
        ]
        graph.link_nodes(*nodes).configure()
        return graph

    def _write(self) -> None:
        while True:
            try:
                frame = self._graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            self._file.mux(self._track.encode(frame))

    def close(self) -> None:
        """Write the rest of the sound."""
        if self.kind == "copied":
            return
        self._encode(None)
        if self._graph:
            self._graph.push(None)
            self._write()
        self._file.mux(self._track.encode(None))
