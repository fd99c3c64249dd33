"""Tests of the prediction of a clip, from probabilities that were derived by hand."""

from pathlib import Path

import numpy as np
import pytest

from kerasemo.inference.clip_prediction import (
    ClipPrediction,
    ClipPredictionBuilder,
    SpectrogramColumns,
)
from kerasemo.metrics.fusion import Fusion

LABELS = ("anger", "calm")
VISUAL = {"visual": {"seconds": 2.0, "size": [64, 48], "looked_at": 4, "undecodable": 0}}
AUDIO = {
    "audio": {
        "seconds": 2.0,
        "rate_hz": 16_000,
        "channels": 1,
        "undecodable": 0,
        "missing_seconds": 0.0,
    }
}
FITTED = Fusion(visual_weight=0.5, temperature=1.0, utterances=9)
BOX = [0, 0, 10, 10]
LARGE_BOX = [30, 0, 20, 20]


def make_builder(
    *,
    labels=LABELS,
    domains=("visual", "audio"),
    fusion_parameters=FITTED,
    keep_spectrogram=False,
) -> ClipPredictionBuilder:
    return ClipPredictionBuilder(
        Path("a.mp4"),
        labels=labels,
        domains=domains,
        fusion_parameters=fusion_parameters,
        keep_spectrogram=keep_spectrogram,
    )


def face_block(seconds, face, boxes) -> dict[str, np.ndarray]:
    return {"seconds": np.array(seconds), "face": np.array(face), "boxes": np.array(boxes)}


def anger_rows(*anger) -> np.ndarray:
    """Return the probabilities of anger and calm, float32 [n, 2]."""
    return np.array([[share, 1 - share] for share in anger], np.float32)


def add_sound(builder, starts, probabilities, *, start_seconds=0.0, weights=None) -> None:
    part = {"start_seconds": start_seconds, "waveform": np.full(16_000, 0.1, np.float32)}
    weights = np.ones(len(starts)) if weights is None else np.array(weights)
    outputs = {
        "starts": np.array([starts], np.float32),
        "probabilities": probabilities[None],
        "weights": weights[None].astype(np.float32),
    }
    builder.add_sound(part, outputs)


def test_visual_prediction_is_the_mean_over_the_most_frequent_face():
    """Face 2 is in three pictures, face 1 in one: (0.9 + 0.6 + 0.3) / 3 = 0.6 is anger."""
    builder = make_builder(domains=("visual",))
    builder.add_faces(face_block([0.0, 0.5], [2, 1], [BOX, LARGE_BOX]), anger_rows(0.9, 0.1))
    builder.add_faces(face_block([1.0, 1.5], [2, 2], [BOX] * 2), anger_rows(0.6, 0.3))
    prediction = builder.build({"sha256": "f00d", **VISUAL})
    document = prediction.document
    assert (document["path"], document["sha256"]) == ("a.mp4", "f00d")
    assert document["audio"] is None and document["fused"] is None
    visual = document["visual"]
    assert (visual["emotion"], visual["confidence"]) == ("anger", 0.6)
    assert visual["probabilities"] == {"anger": 0.6, "calm": 0.4}
    persons = [(face["face"], face["count"], face["emotion"]) for face in visual["faces"]]
    assert persons == [(2, 3, "anger"), (1, 1, "calm")]
    assert visual["faces"][0]["from_seconds"] == 0.0 and visual["faces"][0]["to_seconds"] == 1.5
    timeline = [(entry["seconds"], entry["face"], entry["emotion"]) for entry in visual["timeline"]]
    assert timeline == [(0.0, 2, "anger"), (0.5, 1, "calm"), (1.0, 2, "anger"), (1.5, 2, "calm")]
    assert len(prediction.warnings) == 1 and "face 2" in prediction.warnings[0]
    assert not prediction.pictures and prediction.spectrogram is None


def test_larger_face_comes_first_of_equally_frequent_faces():
    builder = make_builder(domains=("visual",))
    builder.add_faces(face_block([0.0, 0.0], [1, 2], [BOX, LARGE_BOX]), anger_rows(0.9, 0.2))
    assert builder.build(VISUAL).document["visual"]["emotion"] == "calm"


def test_audio_prediction_is_the_mean_over_the_segments_of_all_parts():
    """(0.2 + 0.4 + 0.9) / 3 = 0.5. A segment lasts 0.655 s, or until the end of the sound."""
    builder = make_builder(domains=("audio",))
    add_sound(builder, [0.0, 0.34], anger_rows(0.2, 0.4))
    add_sound(builder, [0.0], anger_rows(0.9), start_seconds=60.0)
    prediction = builder.build({"audio": AUDIO["audio"] | {"seconds": 60.5}})
    audio = prediction.document["audio"]
    assert prediction.document["visual"] is None
    assert audio["probabilities"] == {"anger": 0.5, "calm": 0.5}
    spans = [(entry["seconds"], entry["to_seconds"]) for entry in audio["timeline"]]
    assert spans == [(0.0, 0.655), (0.34, 0.995), (60.0, 60.5)]
    assert not prediction.warnings


def test_segments_without_weight_do_not_count_in_the_mean():
    builder = make_builder(domains=("audio",))
    add_sound(builder, [0.0, 0.34], anger_rows(0.25, 1.0), weights=[1, 0])
    audio = builder.build(AUDIO).document["audio"]
    assert audio["probabilities"]["anger"] == 0.25 and len(audio["timeline"]) == 2


def test_fused_prediction_pools_face_and_voice():
    """p is proportional to sqrt(0.9 * 0.5) = 0.6708 and sqrt(0.1 * 0.5) = 0.2236: 3 to 1.

    No picture has a face within half a second of 1.128 s, the middle of the second segment.
    """
    builder = make_builder()
    builder.add_faces(face_block([0.2, 1.9], [1, 1], [BOX] * 2), anger_rows(0.9, 0.9))
    add_sound(builder, [0.0, 0.8], anger_rows(0.5, 0.5))
    fused = builder.build(VISUAL | AUDIO).document["fused"]
    assert fused["probabilities"] == pytest.approx({"anger": 0.75, "calm": 0.25}, abs=1e-6)
    assert (fused["emotion"], fused["visual_weight"], fused["temperature"]) == ("anger", 0.5, 1.0)
    assert [entry["seconds"] for entry in fused["timeline"]] == [0.328]
    assert fused["timeline"][0]["confidence"] == pytest.approx(0.75, abs=1e-6)


def test_missing_domain_is_a_warning():
    builder = make_builder()
    builder.add_faces(face_block([0.0], [1], [BOX]), anger_rows(0.9))
    prediction = builder.build(VISUAL | {"audio": {"error": "no sound"}})
    assert prediction.document["audio"] is None and prediction.document["fused"] is None
    assert prediction.document["visual"]["emotion"] == "anger"
    assert len(prediction.warnings) == 1 and "no sound" in prediction.warnings[0]


def test_error_of_a_domain_discards_its_earlier_predictions():
    builder = make_builder()
    builder.add_faces(face_block([0.0], [1], [BOX]), anger_rows(0.9))
    builder.add_pictures([{"seconds": 0.0}])
    add_sound(builder, [0.0], anger_rows(0.2))
    prediction = builder.build({"visual": {"error": "decoder crashed"}} | AUDIO)
    assert prediction.document["visual"] is None and not prediction.pictures
    assert prediction.document["audio"]["emotion"] == "calm"


def test_prediction_of_the_face_stays_if_the_sound_is_refused():
    builder = make_builder()
    builder.add_faces(face_block([0.0], [1], [BOX]), anger_rows(0.9))
    builder.refuse("audio", "too loud")
    prediction = builder.build(VISUAL | AUDIO)
    assert prediction.document["audio"] is None and prediction.document["visual"]
    assert "too loud" in prediction.warnings[0]


def test_clip_without_any_domain_has_only_an_error():
    errors = {"visual": {"error": "empty file"}, "audio": {"error": "empty file"}}
    prediction = make_builder().build({"sha256": "", **errors})
    assert prediction.document == {"path": "a.mp4", "sha256": "", "error": "empty file"}
    assert prediction.error == "empty file" and not prediction.warnings


def test_lost_data_and_unfitted_fusion_are_warnings():
    builder = make_builder(fusion_parameters=Fusion())
    builder.add_faces(face_block([0.0], [1], [BOX]), anger_rows(0.9))
    add_sound(builder, [0.0], anger_rows(0.2))
    facts = {
        "visual": VISUAL["visual"] | {"undecodable": 2},
        "audio": AUDIO["audio"] | {"undecodable": 1, "missing_seconds": 1.25},
    }
    warnings = builder.build(facts).warnings
    assert len(warnings) == 4
    for word, warning in zip(
        ("2 pictures", "1 packet", "1.25 s", "equal weights"), warnings, strict=True
    ):
        assert word in warning


def test_probabilities_of_all_labels_sum_to_1():
    builder = make_builder(labels=("anger", "calm", "fear"), domains=("visual",))
    rows = np.random.default_rng(0).dirichlet(np.ones(3), 50).astype(np.float32)
    builder.add_faces(face_block(np.arange(50) / 4, np.ones(50, int), [[0, 0, 9, 9]] * 50), rows)
    probabilities = builder.build(VISUAL).document["visual"]["probabilities"]
    assert list(probabilities) == ["anger", "calm", "fear"]
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(list(probabilities.values()), rows.mean(axis=0), atol=1e-6)


def test_prediction_without_timelines_keeps_its_scores():
    builder = make_builder(keep_spectrogram=True)
    builder.add_faces(face_block([0.2], [1], [BOX]), anger_rows(0.9))
    builder.add_pictures([{"seconds": 0.2}])
    add_sound(builder, [0.0], anger_rows(0.5))
    full = builder.build(VISUAL | AUDIO)
    assert len(full.pictures) == 1
    assert full.spectrogram["log_mel"].shape[1] == 64 and full.spectrogram["seconds"] == 2.0
    small = full.without_timelines()
    assert not small.pictures and small.spectrogram is None
    for domain in ("visual", "audio", "fused"):
        expected = {key: value for key, value in full.document[domain].items() if key != "timeline"}
        assert small.document[domain] == expected
    failed = ClipPrediction({"path": "a.mp4", "sha256": "", "error": "empty file"})
    assert failed.without_timelines().document == failed.document


@pytest.mark.parametrize("frames", [1, 7, 8, 9, 31, 64, 100, 1000])
def test_spectrogram_has_columns_of_equal_width_in_order(frames):
    """Each column is the mean of consecutive frames, for any sizes of the added blocks."""
    ramp = np.arange(frames, dtype=np.float32)[:, None] * np.array([1.0, -1.0], np.float32)
    for size in (1, 3, 50):
        columns = SpectrogramColumns(8)
        for start in range(0, frames, size):
            columns.add(ramp[start : start + size])
        values = columns.values()
        assert 1 <= len(values) <= 8
        assert np.all(np.diff(values[:, 0]) > 0) and np.array_equal(values[:, 0], -values[:, 1])
        steps = np.diff(values[:, 0])
        if steps.size:
            np.testing.assert_allclose(steps, steps[0])
            assert values[0, 0] == pytest.approx((steps[0] - 1) / 2)
        else:
            assert values.tolist() == [[0.0, 0.0]]
