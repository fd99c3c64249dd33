"""The README's way from one's own folder to an exported model, as it is written there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.media import tone, write_sound
from helpers.synthetic_sets import write_experiment

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
HERTZ = {"anger": 900, "calm": 300, "sad": 120}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Clips of four speakers with a manifest, and an experiment of one stage, as the tutorial has them."""
    folder = tmp_path_factory.mktemp("tutorial")
    lines, random = ["path,emotion,speaker"], np.random.default_rng(0)
    for speaker in ("anna", "ben", "cleo", "dan"):
        for emotion, hertz in HERTZ.items():
            for take in range(3):
                times = np.arange(12_000) / 16_000
                sound = 0.3 * np.sin(
                    2 * np.pi * hertz * random.uniform(0.9, 1.1) * times
                ) + 0.02 * random.standard_normal(times.size)
                write_sound(
                    folder / "clips" / speaker / f"{emotion}{take}.wav",
                    sound[None].astype(np.float32),
                )
                lines.append(f"{speaker}/{emotion}{take}.wav,{emotion},{speaker}")
    (folder / "clips" / "manifest.csv").write_text("\n".join(lines) + "\n")
    write_experiment(
        folder / "mine.toml",
        voice={"kind": "supervised", "sources": ["mine/audio"], "epochs": 2, "batch": 8},
    )
    return folder


def commands() -> list[list[str]]:
    block = re.search(r"<!-- tutorial -->\n```bash\n(.+?)\n```", README, re.DOTALL).group(1)
    return [shlex.split(line) for line in block.splitlines()]


def test_it_is_five_commands_and_the_smallest_experiment_is_in_the_readme():
    verbs = [words[2] for words in commands()]
    assert verbs == [
        "pipelines.build",
        *(f"kerasemo.{verb}" for verb in ("train", "evaluate", "export", "predict")),
    ]
    assert 'name = "voice"\nkind = "supervised"\nsources = ["mine/audio"]' in README


@pytest.mark.endurance
def test_commands_work_as_written(folder):
    printed = {}
    for words in commands():
        finished = subprocess.run(
            [sys.executable, *words[1:]], cwd=folder, capture_output=True, text=True, timeout=300
        )
        assert finished.returncode == 0, (words, finished.stderr[-3000:])
        printed[words[2]] = finished.stdout
    assert "mine/audio" in printed["kerasemo.evaluate"] and "speech" in printed["kerasemo.export"]
    assert "docker run" in printed["kerasemo.export"]
    assert "anna/anger0.wav" in re.sub(r"\s", "", printed["kerasemo.predict"])
    assert "clips/dan/sad2.wav" in (folder / "mine.html").read_text()
    assert (folder / "saved_models" / "mine" / "1" / "saved_model.pb").is_file()


@pytest.mark.endurance
def test_python_of_the_readme_works_after_the_commands(folder):
    """After the tutorial: the two blocks one after the other, as the second takes the first one's waveform."""
    pytest.importorskip("tf2onnx")
    write_sound(
        folder / "voice.mp3", tone(1.5, 44_100), rate_hz=44_100, codec="mp3", sample_format="s16p"
    )
    exported = [sys.executable, "-m", "kerasemo.export", "--run", "runs/mine", "--format", "onnx"]
    finished = subprocess.run(exported, cwd=folder, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr[-3000:]
    every = re.findall(r"```python\n(.+?)\n```", README, re.DOTALL)
    blocks = [
        block for block in every if "import onnxruntime" in block or "import presets" in block
    ]
    assert len(blocks) == 2
    checks = "assert valid.all() and probabilities.shape == (len(segments), 3) and network.count_params() > 1000"
    finished = subprocess.run(
        [sys.executable, "-c", "\n".join([*blocks, checks])],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
