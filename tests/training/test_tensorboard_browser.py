"""What TensorBoard's pages show of two stages, in a real browser."""

import re
import subprocess
import sys

import numpy as np
import pytest

from helpers import browser
from kerasemo.training.tensorboard import TensorBoardWriter

pytestmark = pytest.mark.skipif(browser.CHROMIUM is None, reason="no chromium")

EMOTIONS = ("anger", "fear", "sadness")


def write_stage(folder, name: str, rate: float) -> None:
    random = np.random.default_rng(0)
    board = TensorBoardWriter(folder / name / "logs", held=None)
    board.configuration({"stage": {"name": name, "margin": 0.625}, "versions": {"keras": "3.99"}})
    for epoch in range(1, 4):
        board.steps(
            [
                (step, {"loss": 9 / step, "contrastive": 1 / step})
                for step in range(5 * epoch - 4, 5 * epoch + 1)
            ]
        )
        board.speed(5 * epoch, 400.0 + epoch)
        board.epoch(
            epoch,
            {
                "loss": 1 / epoch,
                "learning_rate": rate,
                "val_loss": 2 / epoch,
                "val_ua_savee_visual": epoch / 4,
            },
        )
        board.recall(epoch, "savee/visual", EMOTIONS, random.integers(1, 9, (3, 3)))
        board.histograms(epoch, {"stage1/kernel": random.normal(size=(3, 3, 3, 8))})
    rows = [
        {
            "emotion": EMOTIONS[clip % 3],
            "corpus": "savee",
            "domain": "visual",
            "speaker": f"savee:{clip % 2}",
        }
        for clip in range(12)
    ]
    board.projector(
        random.normal(size=(12, 8)), rows, random.integers(0, 256, (12, 64, 64, 3), dtype=np.uint8)
    )
    board.hparams(
        {"stage": name, "learning_rate": rate, "pairs": "balanced"},
        {"test_ua_savee_visual": 0.8125},
    )
    board.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Where a TensorBoard serves a run of two stages."""
    folder = tmp_path_factory.mktemp("run")
    write_stage(folder, "pretrain", 0.002)
    write_stage(folder, "joint", 0.001)
    words = [
        sys.executable,
        "-m",
        "tensorboard.main",
        "--logdir",
        folder,
        "--port",
        "0",
        "--host",
        "127.0.0.1",
    ]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        for line in process.stderr:
            if match := re.search(r"at (http://[\d.:]+)", line):
                yield match.group(1)
                break
        else:
            pytest.fail("tensorboard did not start")
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def page(address, tmp_path_factory):
    """A function that opens a page of TensorBoard, waits for words, and returns the browser."""
    with browser.Browser(tmp_path_factory.mktemp("profile"), size=(1500, 2600)) as board:

        def show(tab: str, *words: str) -> browser.Browser:
            board.open(f"{address}/#{tab}", *words)
            return board

        yield show


RUNS = [
    f"{stage}/logs/{run}"
    for stage in ("pretrain", "joint")
    for run in ("train", "validation", "steps", "speed")
]


def test_every_group_is_in_the_time_series(page):
    groups = (
        "epoch_loss",
        "epoch_learning_rate",
        "epoch_ua_savee_visual",
        "images_per_second",
        "step_loss",
        "step_contrastive",
    )
    page(
        "timeseries",
        *RUNS,
        *groups,
        "recall_savee_visual 3 cards",
        "stage1 2 cards",
        "confusion 2 cards",
        "Step 3",
    )


def test_recall_and_steps_are_charts(page):
    board = page(
        "scalars&tagFilter=recall|step_loss",
        *(f"tag: recall_savee_visual/{emotion}" for emotion in EMOTIONS),
        "tag: step_loss",
    )

    def points() -> list[int]:
        """Return how many points each line has; every one is drawn as it is and smoothed."""
        return board.all("path.line", "node.getAttribute('d').split('L').length")

    board.until(
        lambda: points().count(3) >= 12 and points().count(15) >= 4, points
    )  # of two stages


def test_the_confusion_matrix_is_a_picture_of_the_last_epoch(page):
    board = page(
        "images",
        "confusion/savee_visual",
        "joint/logs/validation",
        "pretrain/logs/validation",
        "step 3",
    )

    def widths() -> list[int]:
        return board.all("img", "node.naturalWidth")

    board.until(lambda: len(widths()) == 2 and min(widths()) > 240, widths)


def test_kernels_are_histograms(page):
    board = page("histograms", "stage1/kernel", "joint/logs/train", "pretrain/logs/train")
    board.until(
        lambda: len(board.all("path.outline", "1")) == 6, board.text
    )  # of three epochs of two stages


def test_the_configuration_is_a_table(page):
    board = page(
        "text", "configuration", "joint/logs", "stage.margin", "0.625", "versions.keras", '"3.99"'
    )
    rows = board.all("tr", "[...node.cells].map(cell => cell.innerText.trim())")
    assert ["stage.name", '"joint"'] in rows and ["stage.name", '"pretrain"'] in rows


def test_hparams_compares_the_stages_with_their_results(page):
    board = page(
        "hparams",
        "learning_rate",
        "test_ua_savee_visual",
        "0.81250",
        "0.0020000",
        "0.0010000",
        "pretrain",
        "joint",
        "balanced",
    )
    assert "step_loss" not in board.text(), "results alone"


def test_the_projector_shows_the_clips_with_labels_and_pictures(page):
    board = page(
        "projector",
        "Points: 12",
        "Dimension: 8",
        "emotion",
        "corpus",
        "domain",
        "speaker",
        "metadata.tsv",
        "PCA",
    )
    loaded = "node.contentWindow.performance.getEntriesByType('resource').map(entry => entry.name).join(' ')"
    board.until(
        lambda: "sprite_image" in " ".join(board.all("iframe", loaded)),
        lambda: board.all("iframe", loaded),
    )
    assert max(board.all("canvas", "node.width"), default=0) > 300
