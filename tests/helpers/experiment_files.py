"""Experiment files for tests of what they may say."""

from pathlib import Path

from kerasemo.config import loading

STAGE = """
[[stages]]
name = "first"
kind = "supervised"
sources = ["a/visual"]
"""
JOINT = (
    STAGE
    + """
[[stages]]
name = "joint"
kind = "joint"
sources = ["a/visual", "b/audio"]
start_from = "first"
"""
)

CONTRASTIVE = JOINT.replace('kind = "joint"', 'kind = "contrastive"')


def experiment(tmp_path: Path, text: str, settings=()):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return loading.load_experiment(str(path), settings)
