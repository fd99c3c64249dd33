"""Several persons in one clip are followed apart, whatever they do."""

import numpy as np
import pytest

from helpers import media
from helpers.watched import watch
from pipelines.faces import crops, detectors
from pipelines.faces.detectors import overlap
from pipelines.media import video


def looks(path, **options):
    """Return {number of the frame: {face: box}} as `watch` finds them, at 25 pictures a second."""
    found, (seen, *_) = {}, watch(path, domains=("visual",), **options)
    for seconds, face, box in zip(seen["seconds"], seen["face"], seen["boxes"], strict=True):
        found.setdefault(round(25 * seconds), {})[int(face)] = box.tolist()
    return found


ROOM = 448  # the width of what two or three heads walk about in


def head(seed, number):
    """Return one of fifty pictures of a head, which come again and again: uint8 [216, 180, 3]."""
    return media.film(50, seed=seed)[number % 50, 40:, 70:250]


def stage(frames, places, *, width=ROOM):
    """Return pictures of heads: `places(number)` gives (seed, left) of each, the last in front."""
    pictures = np.full((frames, 216, width, 3), 96, np.uint8)
    for number in range(frames):
        for seed, left in places(number):
            start, end = max(0, left), min(width, left + 180)
            if start < end:
                pictures[number, :, start:end] = head(seed, number)[:, start - left : end - left]
    return pictures


@pytest.mark.parametrize("detector", ["viola-jones", "alt2"])
def test_persons_side_by_side_are_followed_apart(tmp_path, detector):
    """In each of three thirds of the picture one."""
    pictures = np.concatenate(
        [media.film(50, seed=seed)[:, :, 50:270] for seed in (0, 1, 2)], axis=2
    )
    found = looks(media.write_video(tmp_path / "a.mp4", pictures), detector=detector)
    assert len(found) == 16 and {tuple(sorted(boxes)) for boxes in found.values()} == {(1, 2, 3)}
    thirds = {
        face: {(boxes[face][0] + boxes[face][2] // 2) // 220 for boxes in found.values()}
        for face in (1, 2, 3)
    }
    assert sorted(map(sorted, thirds.values())) == [[0], [1], [2]]


def test_one_who_enters_late_is_the_second(tmp_path):
    """From the 50th picture of 125 on; looked at every 6th or 7th."""
    pictures = stage(125, lambda number: [(0, 10)] + [(1, 240)] * (number >= 50))
    found = looks(media.write_video(tmp_path / "a.mp4", pictures))
    assert {tuple(sorted(boxes)) for number, boxes in found.items() if number < 50} == {(1,)}
    assert {tuple(sorted(boxes)) for number, boxes in found.items() if number >= 50} == {(1, 2)}


def test_two_who_swap_sides_keep_their_numbers(tmp_path):
    """Each walks 240 pixels in 3 s, one in front of the other; who was on the left at first is on the right at last."""

    def places(number):
        way = round(240 * min(1, max(0, number - 25) / 75))
        return [(1, 250 - way), (0, 10 + way)]

    found = looks(media.write_video(tmp_path / "a.mp4", stage(125, places)))
    first, last = found[min(found)], found[max(found)]
    assert sorted(first) == sorted(last) == [1, 2] and {
        face for boxes in found.values() for face in boxes
    } == {1, 2}
    left = min(first, key=lambda face: first[face][0])
    assert first[left][0] < 100 and last[left][0] > 250 and last[3 - left][0] < 100


def test_one_who_is_away_for_three_seconds_is_new_and_the_other_is_not(tmp_path):
    pictures = stage(150, lambda number: [(0, 10)] + [(1, 240)] * (not 30 <= number < 105))
    found = looks(media.write_video(tmp_path / "a.mp4", pictures))
    assert sorted(found[min(found)]) == [1, 2] and sorted(found[max(found)]) in ([1, 3], [2, 3])
    assert {len(boxes) for number, boxes in found.items() if 30 <= number < 105} == {1}


def test_what_is_seen_but_once_is_not_sent(tmp_path):
    """A head in a single wanted picture; the key frame there does not tell of it either."""
    wanted = (2 * 9 + 1) * 75 // 32
    pictures = stage(75, lambda number: [(0, 10)] + [(1, 240)] * (number == wanted))
    path = media.write_video(tmp_path / "a.mp4", pictures)
    (frame,) = video.VideoReader(path).frames([wanted])
    assert len(detectors.load_finder("viola-jones")(frame[1].luma)) == 2
    seen, keys, _, _ = watch(path, pictures=16, domains=("visual",))
    assert (
        set(seen["face"]) == {1}
        and len(seen["face"]) == 16
        and all(len(key["boxes"]) == 1 for key in keys)
        and len(keys) == 16
    )


def test_a_still_with_two_faces(tmp_path):
    path = media.write_still(tmp_path / "a.png", stage(1, lambda number: [(0, 10), (1, 240)])[0])
    seen, (picture,), sound, last = watch(path, still=True, pictures=4)
    assert (
        seen["face"].tolist() == [1, 2]
        and seen["seconds"].tolist() == [0, 0]
        and picture["boxes"][1] == [2, *seen["boxes"][1].tolist()]
    )
    np.testing.assert_array_equal(seen["faces"][:1], crops.read_still_face(path).faces)
    assert overlap(*map(tuple, seen["boxes"].tolist())) == 0 and sound == []
    assert last["visual"] == {"seconds": 0.0, "looked_at": 1, "size": [ROOM, 216], "undecodable": 0}
    assert last["audio"] == {"error": "no sound track: a still picture"}


# What is not there
