"""Film the speakers of the sample corpora: heads that act an emotion and speak in a room.

The expressions follow the action units that Ekman and Friesen give for the basic emotions (Facial
Action Coding System, 1978).
"""

import dataclasses
from collections.abc import Iterator

import cv2
import numpy as np

from pipelines.synthetic.head import (
    CANVAS_HEIGHT,
    CANVAS_WIDTH,
    PIXELS_PER_UNIT,
    Expression,
    Person,
    canvas_point,
    draw_head,
    head_light,
)

EXPRESSIONS = {
    "anger": Expression(-0.40, 0.15, -0.10, -0.80, -1.00, -0.15, 0.00, 0.35),
    "disgust": Expression(-0.45, 0.20, -0.05, -0.45, -0.35, -0.45, 0.35, 1.00),
    "fear": Expression(-0.25, 0.40, 0.35, 0.75, 0.70, 0.60, 0.00, 0.00),
    "happiness": Expression(1.00, 0.35, 0.50, 0.10, 0.00, -0.25, 1.00, 0.00),
    "neutral": Expression(),
    "sadness": Expression(-0.85, 0.00, -0.15, -0.05, 1.00, -0.50, 0.00, 0.00),
    "surprise": Expression(0.05, 0.95, -0.45, 1.00, 0.15, 0.80, 0.00, 0.00),
}


@dataclasses.dataclass(frozen=True)
class Scene:
    """What a corpus's camera sees besides the head."""

    width: int
    height: int
    frames_per_second: int
    unit_pixels: float
    """Length of a head unit on the screen."""
    room_bgr: tuple[int, int, int]
    noise_levels: float
    """Standard deviation of the sensor's noise, in grey levels."""


SCENES = {
    "enterface": Scene(720, 576, 25, 122.0, (170, 165, 150), 3.0),
    "savee": Scene(320, 256, 25, 66.0, (105, 85, 75), 2.0),
}


@dataclasses.dataclass(frozen=True)
class Acting:
    """Standard deviations that make the emotions harder to recognise.

    The value 1 is a whole expression.
    """

    rest_spread: float = 0.06
    """How speakers' faces at rest differ."""
    clip_spread: float = 0.16
    """How a clip's expression misses the emotion's."""
    least_intensity: float = 0.35
    speech_open: float = 0.40
    """How far the loudest speech opens the mouth."""


ACTING = Acting()
BOX_CENTRE_Y, BOX_SIDE = 0.11, 1.93
"""Where Viola-Jones puts its box, in head units: centre below the middle of the head, and side."""
NOISE_MARGIN = 32
"""The noise of a clip is one field, of which each frame shows another part; drawing it anew would
be the slowest step."""


def film_clip(
    person: Person, *, scene: Scene, emotion: str, loudness: np.ndarray, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield a picture for each value of `loudness` (float [frames], 0 to 1).

    A picture is uint8 [height * 3 / 2, width] with I420 planes.
    """
    frames = len(loudness)
    target = np.array(dataclasses.astuple(EXPRESSIONS[emotion]))
    target = target * rng.uniform(ACTING.least_intensity, 1.0) + rng.normal(
        0, ACTING.clip_spread, target.size
    )
    onset = 0.6 + 0.4 * np.clip(3 * np.arange(frames) / frames - rng.uniform(0, 1), 0, 1)
    sway = _slow_walk(rng, frames, channels=4)  # [frames, 4]: x, y, tilt, brightness
    blink = rng.integers(0, 2 * frames)  # half of the clips have one
    room = _furnished_room(person, scene, rng)
    light = head_light(lamp=rng.uniform(-1, 1), tint_bgr=rng.uniform(0.95, 1.05, 3))
    noise = rng.normal(
        128, scene.noise_levels, (scene.height + NOISE_MARGIN, scene.width + NOISE_MARGIN)
    ).astype(np.uint8)
    exposure = rng.uniform(0.75, 1.12)
    for index in range(frames):
        pose = Expression(*(np.array(person.rest) + target * onset[index]).tolist())
        pose = dataclasses.replace(
            pose,
            mouth_open=max(0.0, pose.mouth_open) + ACTING.speech_open * float(loudness[index]),
            eye_open=pose.eye_open - (1.6 if abs(index - blink) <= 1 else 0.0),
        )
        head, mask = draw_head(person, pose, light=light)
        picture = _blended(head, mask, room=room, placement=_placement(person, scene, sway[index]))
        planes = cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420)
        luma = planes[: scene.height]
        x, y = rng.integers(0, NOISE_MARGIN, 2)
        grain = noise[y : y + scene.height, x : x + scene.width]
        cv2.addWeighted(luma, exposure + 0.02 * sway[index, 3], grain, 1.0, -128, dst=luma)
        yield planes


def face_box(person: Person, scene: Scene) -> tuple[float, float, float]:
    """Return the centre (x, y) and the side of the expected face box, in pixels."""
    x, y = _on_screen(person, scene, 0.0, BOX_CENTRE_Y)
    return x, y, BOX_SIDE * scene.unit_pixels * person.size


def _slow_walk(rng: np.random.Generator, frames: int, *, channels: int) -> np.ndarray:
    """Return float [frames, channels] that wanders slowly with a standard deviation of about 1."""
    phase = rng.uniform(0, 2 * np.pi, (3, 1, channels))
    turns_per_frame = rng.uniform(0.01, 0.05, (3, 1, channels))
    waves = np.sin(
        phase + 2 * np.pi * turns_per_frame * np.arange(frames)[:, None]
    )  # [3, frames, channels]
    return np.sqrt(2 / 3) * waves.sum(axis=0)


def _placement(person: Person, scene: Scene, sway: np.ndarray) -> np.ndarray:
    """Return the affine matrix, float [2, 3], that takes the head's canvas to the screen."""
    unit = scene.unit_pixels * person.size
    pivot = canvas_point(0.0, 0.0)
    matrix = cv2.getRotationMatrix2D(pivot, 1.5 * float(sway[2]), unit / PIXELS_PER_UNIT)
    matrix[0, 2] += scene.width / 2 + unit * (person.position[0] + 0.035 * sway[0]) - pivot[0]
    matrix[1, 2] += scene.height / 2 + unit * (person.position[1] + 0.025 * sway[1]) - pivot[1]
    return matrix


def _on_screen(person: Person, scene: Scene, x: float, y: float) -> tuple[float, float]:
    """Return the pixel of a point in head units on the screen while the head is at rest."""
    screen_x, screen_y = _placement(person, scene, np.zeros(4)) @ (*canvas_point(x, y), 1.0)
    return float(screen_x), float(screen_y)


def _blended(
    head: np.ndarray, mask: np.ndarray, *, room: np.ndarray, placement: np.ndarray
) -> np.ndarray:
    """Return the room with the head over it, soft at the mask's edge."""
    corners = placement @ np.array(
        [[0, CANVAS_WIDTH] * 2, [0, 0, CANVAS_HEIGHT, CANVAS_HEIGHT], [1] * 4]
    )  # [2, 4]
    left, top = np.maximum(np.floor(corners.min(axis=1)).astype(int), 0)
    right, bottom = np.ceil(corners.max(axis=1)).astype(int)
    picture = room.copy()
    window = picture[top:bottom, left:right]
    in_window = placement - [[0, 0, left], [0, 0, top]]
    size = (window.shape[1], window.shape[0])
    alpha = cv2.cvtColor(cv2.warpAffine(mask, in_window, size), cv2.COLOR_GRAY2BGR)
    over = cv2.multiply(cv2.warpAffine(head, in_window, size), alpha, scale=1 / 255)
    picture[top:bottom, left:right] = cv2.add(
        over, cv2.multiply(window, 255 - alpha, scale=1 / 255)
    )
    return picture


def _furnished_room(person: Person, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Return the background with the still shoulders: uint8 [height, width, 3], BGR."""
    x = np.linspace(-1, 1, scene.width)[:, None]
    y = np.linspace(-1, 1, scene.height)[:, None, None]
    slope_x, slope_y = rng.uniform(-0.2, 0.2, 2)
    wall = np.array(scene.room_bgr) + rng.normal(0, 6, 3)
    room = np.clip((1 + slope_x * x + slope_y * y) * wall, 0, 255).astype(np.uint8)
    for _ in range(4):
        corner = rng.uniform(-0.1, 0.9, 2) * (scene.width, scene.height)
        opposite = corner + rng.uniform(0.1, 0.4, 2) * (scene.width, scene.height)
        colour = wall * rng.uniform(0.75, 1.2)
        cv2.rectangle(
            room,
            corner.astype(int).tolist(),
            opposite.astype(int).tolist(),
            colour.tolist(),
            cv2.FILLED,
        )
    room = cv2.GaussianBlur(room, (0, 0), scene.width / 60)  # out of focus
    unit = scene.unit_pixels * person.size
    for middle_y, wide, high, colour in (
        (2.35, 1.75, 1.1, person.shirt_bgr),
        (1.15, 0.36, 0.5, tuple(0.5 * level for level in person.skin_bgr)),
    ):
        middle = [round(value) for value in _on_screen(person, scene, 0.0, middle_y)]
        cv2.ellipse(
            room,
            middle,
            (round(wide * unit), round(high * unit)),
            0,
            0,
            360,
            colour,
            cv2.FILLED,
            cv2.LINE_AA,
        )
    return room
