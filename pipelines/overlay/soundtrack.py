"""The sound of one file -> a track of an MP4 file that is being written: its packets as they are, or AAC."""

from fractions import Fraction

import av

COPIED = ("aac", "ac3", "alac", "eac3", "flac", "mp3", "opus")
"""Codecs that MP4 holds and players know there."""
RATES_HZ = (
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
"""Those of AAC; sound of another one is resampled to `RATE_HZ`."""
RATE_HZ = 48_000
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
"""Channels that stay; others become two."""
CHANNEL_BIT_RATE = 96_000
FRAME_SAMPLES = 1024
"""Of AAC."""


class Soundtrack:
    """A track of sound in step with the pictures; gaps that damage leaves in what is encoded anew are filled with silence.

    Args:
        file: The MP4 file, before anything was written to it.
        source: The stream whose packets are added.
        origin_seconds: The time in the source that is 0 in the file.
    """

    def __init__(self, file, source, origin_seconds: Fraction):
        self._file, self._source = file, source
        self._origin = round(origin_seconds / source.time_base)
        self._last = None
        self._graph = None
        self.undecodable = 0
        """Packets that did not decode or had no place in time."""
        copied = source.codec_context.codec.canonical_name in COPIED
        self.kind: str = "copied" if copied else "transcoded"
        if copied:
            self._track = file.add_stream_from_template(source)
            return
        rate_hz, channels = source.codec_context.sample_rate, source.codec_context.channels
        rate_hz, layout = (
            rate_hz if rate_hz in RATES_HZ else RATE_HZ,
            LAYOUTS.get(channels, "stereo"),
        )
        self._track = file.add_stream("aac", rate=rate_hz, layout=layout)
        self._track.codec_context.format = "fltp"
        self._track.codec_context.bit_rate = CHANNEL_BIT_RATE * self._track.codec_context.channels

    def add(self, packet: av.Packet) -> None:
        """Add a packet of the source that holds something."""
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
            self._graph = self._graph or self._even(frame)
            self._graph.push(frame)
            self._write()

    def _even(self, frame: av.AudioFrame) -> av.filter.Graph:
        """Return a graph whose frames are as the encoder wants them, without gaps."""
        context, graph = self._track.codec_context, av.filter.Graph()
        kind = {
            "sample_rate": frame.sample_rate,
            "format": frame.format,
            "layout": frame.layout,
            "time_base": frame.time_base,
        }
        wanted = f"sample_fmts=fltp:sample_rates={context.sample_rate}:channel_layouts={context.layout.name}"
        nodes = [
            graph.add_abuffer(**kind),
            graph.add("aresample", "async=1"),
            graph.add("aformat", wanted),
        ]
        nodes += [graph.add("asetnsamples", f"n={FRAME_SAMPLES}:p=0"), graph.add("abuffersink")]
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
        """Write what is still held."""
        if self.kind == "copied":
            return
        self._encode(None)
        if self._graph:
            self._graph.push(None)
            self._write()
        self._file.mux(self._track.encode(None))
