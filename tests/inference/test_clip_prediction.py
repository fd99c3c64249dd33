"""What is said of a clip, from answers that were worked out by hand."""

from pathlib import Path

import numpy as np
import pytest

from kerasemo.inference.clip_prediction import ClipPrediction, SpectrogramColumns
from kerasemo.metrics.fusion import Fusion

LABELS = ("anger", "calm")
GOOD = {"visual": {"seconds": 2.0, "size": [64, 48], "looked_at": 4, "undecodable": 0}}
SOUND = {
    "audio": {
        "seconds": 2.0,
        "rate_hz": 16_000,
        "channels": 1,
        "undecodable": 0,
        "missing_seconds": 0.0,
    }
}
FITTED = Fusion(visual_weight=0.5, temperature=1.0, utterances=9)


def prediction(
    *, domains=("visual", "audio"), fusion_parameters=FITTED, shown=False
) -> ClipPrediction:
    return ClipPrediction(
        Path("a.mp4"),
        labels=LABELS,
        domains=domains,
        fusion_parameters=fusion_parameters,
        keep_spectrogram=shown,
    )


def block(seconds, face, boxes) -> dict[str, np.ndarray]:
    return {"seconds": np.array(seconds), "face": np.array(face), "boxes": np.array(boxes)}


def rows(*anger) -> np.ndarray:
    return np.array([[share, 1 - share] for share in anger], np.float32)


def add_sound(into: ClipPrediction, starts, answers, *, start_seconds=0.0) -> None:
    part = {"start_seconds": start_seconds, "waveform": np.full(16_000, 0.1, np.float32)}
    outputs = {"starts": np.array([starts], np.float32), "probabilities": answers[None]}
    into.add_sound(part, outputs | {"weights": np.ones((1, len(starts)), np.float32)})


def test_the_face_is_the_mean_over_the_main_ones_pictures():
    """Face 2 is seen three times, face 1 once: (0.9 + 0.6 + 0.3) / 3 = 0.6 is anger."""
    one = prediction(domains=("visual",))
    one.add_faces(block([0.0, 0.5], [2, 1], [[0, 0, 10, 10], [30, 0, 20, 20]]), rows(0.9, 0.1))
    one.add_faces(block([1.0, 1.5], [2, 2], [[0, 0, 10, 10]] * 2), rows(0.6, 0.3))
    said, extras = one.finish({"sha256": "f00d", **GOOD})
    visual = said["visual"]
    assert (said["path"], said["sha256"], said["audio"], said["fused"]) == (
        "a.mp4",
        "f00d",
        None,
        None,
    )
    assert (visual["emotion"], visual["confidence"]) == ("anger", 0.6) and visual[
        "probabilities"
    ] == {"anger": 0.6, "calm": 0.4}
    assert [(face["face"], face["count"], face["emotion"]) for face in visual["faces"]] == [
        (2, 3, "anger"),
        (1, 1, "calm"),
    ]
    assert (visual["faces"][0]["from_seconds"], visual["faces"][0]["to_seconds"]) == (0.0, 1.5)
    assert [
        (entry["seconds"], entry["face"], entry["emotion"]) for entry in visual["timeline"]
    ] == [
        *[(0.0, 2, "anger"), (0.5, 1, "calm"), (1.0, 2, "anger"), (1.5, 2, "calm")],
    ]
    assert said["warnings"] == [
        "2 faces: the answer is that of face 2, and the voice may be another's"
    ]
    assert extras == {"pictures": [], "spectrogram": None}


def test_of_two_who_are_seen_alike_the_larger_is_the_main_one():
    one = prediction(domains=("visual",))
    one.add_faces(block([0.0, 0.0], [1, 2], [[0, 0, 10, 10], [30, 0, 20, 20]]), rows(0.9, 0.2))
    assert one.finish(GOOD)[0]["visual"]["emotion"] == "calm"


def test_the_voice_is_the_mean_over_its_segments_in_all_parts():
    """(0.2 + 0.4 + 0.9) / 3 = 0.5 for each; a segment lasts 0.655 s, and the last no longer than the sound."""
    one = prediction(domains=("audio",))
    add_sound(one, [0.0, 0.34], rows(0.2, 0.4))
    add_sound(one, [0.0], rows(0.9), start_seconds=60.0)
    said, _ = one.finish({"audio": SOUND["audio"] | {"seconds": 60.5}})
    assert said["visual"] is None and said["audio"]["probabilities"] == {"anger": 0.5, "calm": 0.5}
    assert [(entry["seconds"], entry["to_seconds"]) for entry in said["audio"]["timeline"]] == [
        (0.0, 0.655),
        (0.34, 0.995),
        (60.0, 60.5),
    ]
    assert said["warnings"] == []


def test_face_and_voice_together():
    """Of even weights at temperature 1: p is proportional to sqrt(0.9 * 0.5) = 0.6708 and sqrt(0.1 * 0.5) = 0.2236: 3 to 1."""
    one = prediction()
    one.add_faces(block([0.2, 1.9], [1, 1], [[0, 0, 10, 10]] * 2), rows(0.9, 0.9))
    add_sound(one, [0.0, 0.8], rows(0.5, 0.5))
    fused = one.finish(GOOD | SOUND)[0]["fused"]
    assert fused["probabilities"] == pytest.approx({"anger": 0.75, "calm": 0.25}, abs=1e-6)
    assert (fused["emotion"], fused["visual_weight"], fused["temperature"]) == ("anger", 0.5, 1.0)
    assert [entry["seconds"] for entry in fused["timeline"]] == [0.328], (
        "around 1.128 s no face was seen for half a second"
    )
    assert fused["timeline"][0]["confidence"] == pytest.approx(0.75, abs=1e-6)


def test_a_domain_that_is_missing_is_said_not_invented():
    one = prediction()
    one.add_faces(block([0.0], [1], [[0, 0, 10, 10]]), rows(0.9))
    said, _ = one.finish(GOOD | {"audio": {"error": "no sound track"}})
    assert said["audio"] is None and said["fused"] is None and said["visual"]["emotion"] == "anger"
    assert said["warnings"] == ["no answer by the voice: no sound track"]


def test_an_error_stands_for_what_came_before_it():
    one = prediction()
    one.add_faces(block([0.0], [1], [[0, 0, 10, 10]]), rows(0.9))
    one.add_pictures([{"seconds": 0.0}])
    add_sound(one, [0.0], rows(0.2))
    said, extras = one.finish({"visual": {"error": "decoder crashed"}} | SOUND)
    assert (
        said["visual"] is None and extras["pictures"] == [] and said["audio"]["emotion"] == "calm"
    )


def test_a_clip_of_which_nothing_could_be_read_has_an_error_alone():
    said, _ = prediction().finish(
        {"sha256": "", "visual": {"error": "empty file"}, "audio": {"error": "empty file"}}
    )
    assert said == {"path": "a.mp4", "sha256": "", "error": "empty file"}


def test_what_was_lost_is_said_and_that_nothing_was_fitted():
    one = prediction(fusion_parameters=Fusion())
    one.add_faces(block([0.0], [1], [[0, 0, 10, 10]]), rows(0.9))
    add_sound(one, [0.0], rows(0.2))
    lost = {
        "visual": GOOD["visual"] | {"undecodable": 2},
        "audio": SOUND["audio"] | {"undecodable": 1, "missing_seconds": 1.25},
    }
    assert one.finish(lost)[0]["warnings"] == [
        "2 pictures did not decode",
        "1 packet did not decode",
        "the sound ends 1.25 s before its header says",
        "face and voice are weighted alike: the model's validation clips had none with both",
    ]


def test_probabilities_are_as_many_as_the_labels_and_sum_to_one():
    random = np.random.default_rng(0)
    one = ClipPrediction(
        Path("a.mp4"),
        labels=("anger", "calm", "fear"),
        domains=("visual",),
        fusion_parameters=FITTED,
    )
    answers = random.dirichlet(np.ones(3), 50).astype(np.float32)
    one.add_faces(block(np.arange(50) / 4, np.ones(50, int), [[0, 0, 9, 9]] * 50), answers)
    said = one.finish(GOOD)[0]["visual"]
    assert list(said["probabilities"]) == ["anger", "calm", "fear"] and sum(
        said["probabilities"].values()
    ) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(
        list(said["probabilities"].values()), answers.mean(axis=0), atol=1e-6
    )


@pytest.mark.parametrize("frames", [1, 7, 8, 9, 31, 64, 100, 1000])
def test_a_spectrogram_of_any_length_has_its_columns_in_order(frames):
    """Columns of equal width: each is the mean of a run of frames, whatever the blocks were that they came in."""
    ramp = np.arange(frames, dtype=np.float32)[:, None] * np.array([1.0, -1.0], np.float32)
    for size in (1, 3, 50):
        columns = SpectrogramColumns(8)
        for start in range(0, frames, size):
            columns.add(ramp[start : start + size])
        values = columns.values()
        assert (
            1 <= len(values) <= 8
            and np.all(np.diff(values[:, 0]) > 0)
            and np.array_equal(values[:, 0], -values[:, 1])
        )
        steps = np.diff(values[:, 0])
        assert steps.size == 0 or np.allclose(steps, steps[0]), "columns of unequal width"
        assert values[0, 0] == pytest.approx((steps[0] - 1) / 2 if steps.size else values[0, 0])
