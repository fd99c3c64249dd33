"""Measures the peak memory of a build, its workers included: a video of two hours, and corpora of more and more clips.

    python benchmarks/build_memory.py [--hours 2] [--clips 1000 8000]

The video is 1920x1080 H.264 with AAC, made of the packets of a short film over and over. Memory is the resident memory of
the command and of all its processes together, looked at every 50 ms (pages that processes share count in each of them).
"""

import argparse
import itertools
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import timing


def peak_bytes(words: list[str]) -> tuple[int, float]:
    """Run a command; return the most memory that it and its processes held together, and its seconds."""
    import psutil

    began, peak = time.perf_counter(), 0
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            try:
                family = [
                    psutil.Process(process.pid),
                    *psutil.Process(process.pid).children(recursive=True),
                ]
                peak = max(peak, sum(member.memory_info().rss for member in family))
            except psutil.NoSuchProcess:
                pass
            time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)}: exit status {process.returncode}")
    return peak, time.perf_counter() - began


def film_1080p(path: Path) -> Path:
    """Write four seconds of a talking head, 1920x1080, with one key frame."""
    import av
    from clips import write_film

    small = write_film(path.with_name("small.mp4"), seconds=4.0, codec="libx264")
    with av.open(str(small)) as source, av.open(str(path), "w") as target:
        video = target.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt, video.gop_size = 1920, 1080, "yuv420p", 250
        audio = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux():
            if packet.stream.type == "audio" and packet.size:
                packet.stream = audio
                target.mux(packet)
            elif packet.stream.type == "video":
                for frame in packet.decode():
                    large = av.VideoFrame.from_ndarray(
                        frame.reformat(1920, 1080).to_ndarray(), format="yuv420p"
                    )
                    target.mux(video.encode(large))
        target.mux(video.encode(None))
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--hours", type=float, default=2.0, help="length of the video (default: %(default)s)"
    )
    parser.add_argument(
        "--clips",
        type=int,
        nargs="*",
        default=[1000, 8000],
        help="sizes of the corpora (default: 1000 8000)",
    )
    timing.begin(parser, cores=2, packages=("tensorflow", "opencv-python-headless", "av"))
    arguments = parser.parse_args()
    from clips import enterface_names, remux, write_film

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        command = [sys.executable, "-m", "pipelines.build", "--workers", "2", "--out"]
        long = folder / "long/anger/long.mp4"
        long.parent.mkdir(parents=True)
        remux(long, film_1080p(folder / "film.mp4"), seconds=3600 * arguments.hours)
        words = [
            *command,
            str(folder / "out"),
            "--corpus",
            "folder",
            "--media",
            str(folder / "long"),
        ]
        for more in ([], ["--waveform"]):
            peak, seconds = peak_bytes([*words, *more])
            print(
                f"video of {arguments.hours:g} h, 1920x1080{' '.join(['', *more])}: peak {peak / 2**30:.2f} GiB, {seconds:.0f} s",
                flush=True,
            )
        film = write_film(folder / "short.avi", seconds=0.7)
        peaks = {}
        for count in arguments.clips:
            media = folder / f"clips{count}"
            for name in itertools.islice(enterface_names(), count):
                (media / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(film, media / name)
            peaks[count], seconds = peak_bytes(
                [
                    *command,
                    str(folder / f"out{count}"),
                    "--corpus",
                    "enterface",
                    "--media",
                    str(media),
                ]
            )
            print(
                f"corpus of {count} clips: peak {peaks[count] / 2**30:.2f} GiB, {seconds:.0f} s",
                flush=True,
            )
        for fewer, more in itertools.pairwise(arguments.clips):
            growth = (peaks[more] - peaks[fewer]) / (more - fewer)
            print(
                f"{more} clips / {fewer} clips: {peaks[more] / peaks[fewer]:.2f} (from {fewer} on {growth / 1024:.1f} KiB a clip)"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
