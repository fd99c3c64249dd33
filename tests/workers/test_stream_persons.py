"""Several persons in a clip are followed separately, wherever they move."""

import numpy as np
import pytest

from helpers import media
from helpers.streamed_clips import stream_clip
from pipelines.faces import crops, detectors
from pipelines.media.video import VideoReader


def stream_boxes(path, **options):
    """Return {number of the picture: {person: box}} of a video with 25 pictures per second."""
    faces = stream_clip(path, domains=("visual",), **options).faces
    boxes_by_picture = {}
    for seconds, person, box in zip(faces["seconds"], faces["face"], faces["boxes"], strict=True):
        boxes_by_picture.setdefault(round(25 * seconds), {})[int(person)] = box.tolist()
    return boxes_by_picture


STAGE_WIDTH = 448  # of pictures in which two or three heads move, in pixels
HEAD_WIDTH = 180


def draw_head(seed, number):
    """Return one of fifty pictures of a head, repeated in a loop: uint8 [216, 180, 3]."""
    return media.film(50, seed=seed)[number % 50, 40:, 70 : 70 + HEAD_WIDTH]


def draw_stage(n_pictures, heads_at):
    """Return pictures of heads.

    `heads_at(number)` gives (seed, left) of each head; the last head is in front.
    """
    pictures = np.full((n_pictures, 216, STAGE_WIDTH, 3), 96, np.uint8)
    for number in range(n_pictures):
        for seed, left in heads_at(number):
            start, end = max(0, left), min(STAGE_WIDTH, left + HEAD_WIDTH)
            if start < end:
                head = draw_head(seed, number)
                pictures[number, :, start:end] = head[:, start - left : end - left]
    return pictures


def write_stage(tmp_path, n_pictures, heads_at):
    return media.write_video(tmp_path / "a.mp4", draw_stage(n_pictures, heads_at))


@pytest.mark.parametrize("detector", ["viola-jones", "alt2"])
def test_persons_side_by_side_are_followed_separately(tmp_path, detector):
    """Each third of the picture has a person."""
    pictures = np.concatenate(
        [media.film(50, seed=seed)[:, :, 50:270] for seed in (0, 1, 2)], axis=2
    )
    path = media.write_video(tmp_path / "a.mp4", pictures)
    boxes_by_picture = stream_boxes(path, detector=detector)
    assert len(boxes_by_picture) == 16
    thirds_by_person = {1: set(), 2: set(), 3: set()}
    for boxes in boxes_by_picture.values():
        assert sorted(boxes) == [1, 2, 3]
        for person, (left, _, width, _) in boxes.items():
            thirds_by_person[person].add((left + width // 2) // 220)
    assert sorted(thirds_by_person.values(), key=min) == [{0}, {1}, {2}]


def test_person_who_enters_later_is_the_second(tmp_path):
    """The second person is in all pictures from the 50th on; every 6th or 7th is searched."""
    path = write_stage(tmp_path, 125, lambda number: [(0, 10)] + [(1, 240)] * (number >= 50))
    boxes_by_picture = stream_boxes(path)
    assert min(boxes_by_picture) < 50 <= max(boxes_by_picture)
    for number, boxes in boxes_by_picture.items():
        assert sorted(boxes) == ([1] if number < 50 else [1, 2])


def test_persons_who_swap_sides_keep_their_numbers(tmp_path):
    """Each moves 240 pixels in 3 s, and one passes in front of the other."""

    def heads_at(number):
        distance = round(240 * min(1, max(0, number - 25) / 75))
        return [(1, 250 - distance), (0, 10 + distance)]

    boxes_by_picture = stream_boxes(write_stage(tmp_path, 125, heads_at))
    persons = {person for boxes in boxes_by_picture.values() for person in boxes}
    first_boxes = boxes_by_picture[min(boxes_by_picture)]
    last_boxes = boxes_by_picture[max(boxes_by_picture)]
    assert sorted(first_boxes) == sorted(last_boxes) == [1, 2]
    assert persons == {1, 2}
    left_person = min(first_boxes, key=lambda person: first_boxes[person][0])
    assert first_boxes[left_person][0] < 100
    assert last_boxes[left_person][0] > 250
    assert last_boxes[3 - left_person][0] < 100


def test_person_away_for_three_seconds_is_new_and_the_other_is_not(tmp_path):
    path = write_stage(
        tmp_path, 150, lambda number: [(0, 10)] + [(1, 240)] * (not 30 <= number < 105)
    )
    boxes_by_picture = stream_boxes(path)
    assert sorted(boxes_by_picture[min(boxes_by_picture)]) == [1, 2]
    assert sorted(boxes_by_picture[max(boxes_by_picture)]) in ([1, 3], [2, 3])
    n_persons_away = {
        len(boxes) for number, boxes in boxes_by_picture.items() if 30 <= number < 105
    }
    assert n_persons_away == {1}


def test_face_seen_once_is_sent_neither_as_a_face_nor_in_a_key_frame(tmp_path):
    """The second head is in a single wanted picture."""
    wanted = (2 * 9 + 1) * 75 // 32
    path = write_stage(tmp_path, 75, lambda number: [(0, 10)] + [(1, 240)] * (number == wanted))
    with VideoReader(path) as reader:
        ((_, frame),) = reader.frames([wanted])
    assert len(detectors.load_finder("viola-jones")(frame.luma)) == 2
    clip = stream_clip(path, pictures=16, domains=("visual",))
    assert clip.faces["face"].tolist() == [1] * 16
    assert [len(picture["boxes"]) for picture in clip.pictures] == [1] * 16


def test_both_faces_of_a_still_are_sent(tmp_path):
    (picture,) = draw_stage(1, lambda number: [(0, 10), (1, 240)])
    path = media.write_still(tmp_path / "a.png", picture)
    clip = stream_clip(path, still=True, pictures=4)
    assert clip.faces["face"].tolist() == [1, 2]
    assert clip.faces["seconds"].tolist() == [0, 0]
    first_box, second_box = clip.faces["boxes"].tolist()
    assert detectors.overlap(tuple(first_box), tuple(second_box)) == 0
    (key_picture,) = clip.pictures
    assert key_picture["boxes"] == [[1, *first_box], [2, *second_box]]
    np.testing.assert_array_equal(clip.faces["faces"][:1], crops.read_still_face(path).faces)
    assert clip.last_message["visual"] == {
        "seconds": 0.0,
        "looked_at": 1,
        "size": [STAGE_WIDTH, 216],
        "undecodable": 0,
    }


def test_still_has_no_audio(tmp_path):
    path = media.write_still(tmp_path / "a.png", np.full((48, 48, 3), 90, np.uint8))
    clip = stream_clip(path, still=True, domains=("audio",))
    assert clip.audio_parts == []
    assert "no sound track" in clip.last_message["audio"]["error"]
