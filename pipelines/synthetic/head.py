"""Draws one head of the sample corpora: who it is, what its features do, how the light falls.

Everything is given in head units (x to the right, y down, 0 between eyes and nose, chin at y = 1)
and drawn on a canvas that `pipelines.synthetic.film` moves over a room. Only what a crop of 64x64
pixels still shows is drawn.
"""

import dataclasses

import cv2
import numpy as np

PIXELS_PER_UNIT = 100
SUBPIXEL_BITS = 4
CANVAS_LEFT, CANVAS_TOP = -1.3, -1.45  # head units
CANVAS_WIDTH, CANVAS_HEIGHT = 260, 300
LIGHT_UNIT = 150
EYE_X, EYE_Y, EYE_HALF_WIDTH = 0.34, -0.10, 0.17

COMPLEXIONS_BGR = (
    ((175, 195, 232), (70, 120, 170)),
    ((160, 185, 240), (25, 45, 110)),
    ((140, 170, 218), (40, 60, 90)),
    ((150, 178, 222), (120, 125, 130)),
    ((120, 155, 205), (30, 32, 40)),
    ((88, 125, 178), (25, 26, 32)),
)
"""Skin and hair."""

SPAN = np.linspace(-1, 1, 25)
BOW = 1 - np.abs(SPAN) ** 2.2
"""A curve over SPAN that is 0 at its ends and 1 in its middle."""
TURN = np.linspace(0, 2 * np.pi, 48, endpoint=False)

Colour = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Expression:
    """The movement of each feature from rest; 0 is rest, about 1 is the limit."""

    smile: float = 0.0
    """Corners of the mouth up (negative: down)."""
    mouth_open: float = 0.0
    mouth_width: float = 0.0
    brow_raise: float = 0.0
    brow_inner: float = 0.0
    """Inner ends of the brows up (negative: down and together)."""
    eye_open: float = 0.0
    cheek_raise: float = 0.0
    nose_wrinkle: float = 0.0
    """With it goes the upper lip."""


@dataclasses.dataclass(frozen=True)
class Person:
    """A speaker's looks."""

    skin_bgr: Colour
    hair_bgr: Colour
    shirt_bgr: Colour
    face_width: float
    jaw: float
    """Squareness of the lower face, 0 to 1."""
    hair_length: float
    """The lower end of the hair beside the face."""
    hairline: float
    brow_thickness: float
    eye_size: float
    mouth_size: float
    nose_length: float
    beard: float
    """Darkness of the beard, 0 to 1."""
    glasses: bool
    position: tuple[float, float]
    """The place of the head, from the middle of the picture."""
    size: float
    rest: tuple[float, ...]
    """The offset of every `Expression`."""

    @staticmethod
    def drawn(rng: np.random.Generator, *, female: bool, rest_spread: float) -> "Person":
        """Return a person drawn from `rng`.

        Faces at rest differ by `rest_spread` (standard deviation, for each feature).
        """
        complexion = np.array(COMPLEXIONS_BGR[rng.integers(len(COMPLEXIONS_BGR))])
        skin, hair = complexion * rng.uniform(0.92, 1.06, (2, 1)) + rng.normal(0, 4, (2, 3))
        return Person(
            skin_bgr=tuple(skin.tolist()),
            hair_bgr=tuple(hair.tolist()),
            shirt_bgr=tuple(rng.uniform(30, 200, 3).tolist()),
            face_width=rng.uniform(0.70, 0.76) if female else rng.uniform(0.72, 0.82),
            jaw=rng.uniform(0.0, 0.4) if female else rng.uniform(0.2, 0.9),
            hair_length=rng.uniform(0.4, 1.2) if female else rng.uniform(-0.5, -0.1),
            hairline=rng.uniform(-0.78, -0.66),
            brow_thickness=rng.uniform(0.05, 0.07) if female else rng.uniform(0.06, 0.10),
            eye_size=rng.uniform(0.92, 1.12),
            mouth_size=rng.uniform(0.9, 1.12),
            nose_length=rng.uniform(0.92, 1.08),
            beard=0.0 if female else max(0.0, rng.uniform(-0.5, 0.45)),
            glasses=bool(rng.random() < 0.25),
            position=(rng.uniform(-0.35, 0.35), rng.uniform(-0.12, 0.12)),
            size=rng.uniform(0.9, 1.08),
            rest=tuple(rng.normal(0, rest_spread, len(dataclasses.fields(Expression))).tolist()),
        )


def canvas_point(x: float, y: float) -> tuple[float, float]:
    """Return where a point given in head units lies on the canvas, in pixels."""
    return (x - CANVAS_LEFT) * PIXELS_PER_UNIT, (y - CANVAS_TOP) * PIXELS_PER_UNIT


def head_light(*, lamp: float, tint_bgr: np.ndarray) -> np.ndarray:
    """Return the light on a head: uint8 [CANVAS_HEIGHT, CANVAS_WIDTH, 3].

    LIGHT_UNIT is a factor of 1.

    Args:
        lamp: Where the light comes from, -1 (left) to 1 (right).
        tint_bgr: float [3], the colour of the light, about 1.
    """
    x = CANVAS_LEFT + np.arange(CANVAS_WIDTH) / PIXELS_PER_UNIT
    y = (CANVAS_TOP + np.arange(CANVAS_HEIGHT) / PIXELS_PER_UNIT)[:, None]
    depth = np.sqrt(np.clip(1 - (x / 1.05) ** 2 - (y / 1.45) ** 2, 0.02, 1))  # of an ellipsoid
    light = 0.60 + 0.45 * depth + 0.30 * lamp * x - 0.12 * y

    def spot(at_x: float, at_y: float, wide: float, high: float) -> np.ndarray:
        return np.exp(-(((x - at_x) / wide) ** 2) - ((y - at_y) / high) ** 2)

    for side in (-1, 1):
        light -= 0.22 * spot(side * EYE_X, EYE_Y - 0.06, 0.22, 0.15)  # the eye's hollow
        light += 0.10 * spot(side * 0.40, 0.25, 0.22, 0.18)  # the cheek
    light += (
        0.14 * spot(0, 0.05, 0.09, 0.30)
        - 0.10 * spot(0, 0.40, 0.22, 0.05)
        - 0.10 * spot(0, 0.84, 0.20, 0.06)
    )
    return np.clip(LIGHT_UNIT * light[..., None] * tint_bgr, 0, 255).astype(np.uint8)


def draw_head(
    person: Person, expression: Expression, *, light: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the picture of a head in BGR and its mask, which is 255 inside.

    Both are uint8 [CANVAS_HEIGHT, CANVAS_WIDTH], the picture with 3 channels.
    """
    brush = _Brush()
    chin = 0.10 * max(0.0, expression.mouth_open)
    _draw_skull(brush, person, chin=chin)
    _draw_nose(brush, person, expression)
    _draw_mouth(brush, person, expression)
    for side in (-1, 1):
        _draw_eye(brush, person, expression, side=side)
        _draw_brow(brush, person, expression, side=side)
    if person.glasses:
        for side in (-1, 1):
            brush.ring(side * 0.36, -0.07, 0.27, 0.21, (40, 40, 45), 0.025)
        brush.stroke(np.array([-0.09, 0.09]), np.array([-0.10, -0.10]), (40, 40, 45), 0.025)
    head = cv2.GaussianBlur(brush.canvas, (3, 3), 0)
    return cv2.multiply(head, light, scale=1 / LIGHT_UNIT), brush.mask


class _Brush:
    """Draws curves given in head units.

    What it touches becomes part of the mask while `masking`.
    """

    def __init__(self) -> None:
        self.canvas = np.zeros((CANVAS_HEIGHT, CANVAS_WIDTH, 3), np.uint8)
        self.mask = np.zeros((CANVAS_HEIGHT, CANVAS_WIDTH), np.uint8)

    @staticmethod
    def pixels(x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
        points = np.stack(np.broadcast_arrays(*canvas_point(x, y)), axis=-1)
        return [np.round(points * (1 << SUBPIXEL_BITS)).astype(np.int32)]

    def fill(self, x: np.ndarray, y: np.ndarray, colour: Colour, *, mask: bool = False) -> None:
        points = self.pixels(x, y)
        if mask:  # drawn hard here and blended by the mask's soft edge: no black fringe
            cv2.fillPoly(self.canvas, points, colour, cv2.LINE_8, SUBPIXEL_BITS)
            cv2.polylines(self.canvas, points, True, colour, 2, cv2.LINE_8, SUBPIXEL_BITS)
            cv2.fillPoly(self.mask, points, 255, cv2.LINE_AA, SUBPIXEL_BITS)
        else:
            cv2.fillPoly(self.canvas, points, colour, cv2.LINE_AA, SUBPIXEL_BITS)

    def between(self, x: np.ndarray, upper: np.ndarray, lower: np.ndarray, colour: Colour) -> None:
        """Fill what lies between two curves over the same `x`."""
        self.fill(np.concatenate([x, x[::-1]]), np.concatenate([upper, lower[::-1]]), colour)

    def stroke(
        self, x: np.ndarray, y: np.ndarray, colour: Colour, width: float, *, closed: bool = False
    ) -> None:
        thickness = max(1, round(width * PIXELS_PER_UNIT))
        cv2.polylines(
            self.canvas, self.pixels(x, y), closed, colour, thickness, cv2.LINE_AA, SUBPIXEL_BITS
        )

    def ellipse(
        self, x: float, y: float, wide: float, high: float, colour: Colour, *, mask: bool = False
    ) -> None:
        self.fill(x + wide * np.cos(TURN), y + high * np.sin(TURN), colour, mask=mask)

    def ring(
        self, x: float, y: float, wide: float, high: float, colour: Colour, width: float
    ) -> None:
        self.stroke(x + wide * np.cos(TURN), y + high * np.sin(TURN), colour, width, closed=True)


def _mixed(colour: Colour, added_colour: Colour, share: float) -> Colour:
    """Return `colour` mixed with a share of `added_colour`; the share is clipped to [0, 1]."""
    share = min(1.0, max(0.0, share))
    return tuple((1 - share) * a + share * b for a, b in zip(colour, added_colour, strict=True))


def _fold(person: Person, strength: float) -> Colour:
    """Return the colour of a fold of the skin; `strength` 0 is none, 1 is deep."""
    return _mixed(person.skin_bgr, tuple(0.35 * c for c in person.skin_bgr), strength)


def _draw_skull(brush: _Brush, person: Person, *, chin: float) -> None:
    wide, skin, hair = person.face_width, person.skin_bgr, person.hair_bgr
    brush.ellipse(0, -0.35, wide + 0.13, 0.85, hair, mask=True)
    if person.hair_length > 0:  # long hair hangs behind the face
        middle = (person.hair_length - 0.6) / 2
        brush.ellipse(0, middle, wide + 0.22, person.hair_length - middle, hair, mask=True)
    brush.fill(
        0.34 * SPAN, np.where(np.abs(SPAN) < 1, 1.35, 0.6), _mixed(skin, (0, 0, 0), 0.28), mask=True
    )  # the neck
    for side in (-1, 1):
        brush.ellipse(
            side * (wide + 0.02), 0.02, 0.09, 0.20, _mixed(skin, (0, 0, 0), 0.15), mask=True
        )
    down, across = np.cos(TURN), np.sin(TURN)
    roundness = np.where(
        down > 0, 1 - 0.35 * person.jaw, 1.0
    )  # the exponent of a superellipse: a smaller one is squarer
    x = wide * np.sign(across) * np.abs(across) ** roundness
    y = np.where(down > 0, (1 + chin) * down, 0.98 * down)
    brush.fill(x, y, skin, mask=True)
    if person.beard:
        inside = (down > 0.05) & (down < 1.1)
        order = np.argsort(x[inside])
        lower_x, lower_y = x[inside][order], y[inside][order]
        brush.between(
            lower_x, 0.40 - 0.25 * (lower_x / wide) ** 2, lower_y, _mixed(skin, hair, person.beard)
        )
    top = np.linspace(-1, 1, 25)
    edge = person.hairline + 0.33 * np.abs(top) ** 3
    brush.between(0.98 * wide * top, np.full(25, -1.0) + 0.45 * np.abs(top) ** 3, edge, hair)


def _draw_nose(brush: _Brush, person: Person, expression: Expression) -> None:
    tip = 0.30 * person.nose_length - 0.05 * max(0.0, expression.nose_wrinkle)
    brush.stroke(
        np.array([0.07, 0.08, 0.12]), np.array([-0.10, 0.12, tip - 0.05]), _fold(person, 0.22), 0.03
    )
    for side in (-1, 1):
        brush.ellipse(side * 0.065, tip + 0.03, 0.04, 0.022, _fold(person, 0.85))
        wing = np.linspace(-1.2, 1.2, 9)
        brush.stroke(
            side * (0.10 + 0.045 * np.cos(wing)),
            tip - 0.01 + 0.06 * np.sin(wing),
            _fold(person, 0.45),
            0.02,
        )
    strength = expression.nose_wrinkle
    if strength > 0.1:
        for height in (-0.10, -0.02, 0.06):
            brush.stroke(0.10 * SPAN, height - 0.03 * BOW, _fold(person, 0.75 * strength), 0.025)
    cheek = max(expression.cheek_raise, expression.nose_wrinkle)
    if cheek > 0.1:  # the fold from the nose to the corner of the mouth
        run = np.linspace(0, 1, 9)
        for side in (-1, 1):
            x = side * (0.16 + 0.24 * run + 0.06 * np.sin(np.pi * run))
            brush.stroke(x, tip - 0.02 + 0.26 * run, _fold(person, 0.55 * cheek), 0.035)


def _draw_mouth(brush: _Brush, person: Person, expression: Expression) -> None:
    opening, smile = max(0.0, expression.mouth_open), expression.smile
    half = person.mouth_size * (0.27 + 0.09 * expression.mouth_width)
    middle = 0.56 + 0.03 * opening
    corner = middle - 0.16 * smile
    sneer = max(0.0, expression.nose_wrinkle)
    upper = corner + (middle + 0.03 * smile - 0.05 * opening - 0.06 * sneer - corner) * BOW
    lower = corner + (middle + 0.05 * smile + 0.26 * opening - corner) * BOW
    x = half * SPAN
    lip = _mixed(person.skin_bgr, (75, 60, 150), 0.60)
    lip_edge = np.sqrt(np.clip(1 - SPAN**2, 0, 1))
    brush.between(x, upper - 0.05 * lip_edge, lower + 0.075 * lip_edge, lip)
    brush.between(x, upper, np.maximum(lower, upper + 0.012), (35, 25, 55))
    if opening > 0.08:
        teeth = 0.9 * SPAN
        brush.between(
            half * teeth,
            upper + 0.004,
            np.minimum(upper + 0.075 * lip_edge, lower),
            (215, 225, 228),
        )
    brush.stroke(x, upper, (35, 25, 60), 0.018)
    if abs(smile) > 0.3:
        for side in (-1, 1):
            y = corner + np.array([-0.04, 0.0, 0.04]) + (0.0 if smile > 0 else 0.05)
            brush.stroke(
                side * (half + np.array([0.01, 0.045, 0.03])),
                y,
                _fold(person, 0.6 * abs(smile)),
                0.025,
            )


def _draw_eye(brush: _Brush, person: Person, expression: Expression, *, side: int) -> None:
    half = EYE_HALF_WIDTH * person.eye_size
    x = side * EYE_X + half * SPAN
    opening = person.eye_size * max(0.004, 0.085 * (1 + 0.75 * expression.eye_open))
    inner = -side * SPAN  # 1 at the inner end
    slant = (
        -0.03 * max(0.0, expression.brow_inner) * inner
        + 0.03 * max(0.0, -expression.brow_inner) * inner
    )
    upper = EYE_Y + slant - opening * BOW
    lower = (
        EYE_Y
        + 0.3 * slant
        + (0.6 * opening - 0.03 * max(0.0, expression.cheek_raise) * (opening > 0.02)) * BOW
    )
    lower = np.maximum(lower, upper)
    brush.between(x, upper, lower, (212, 218, 222))
    for radius, colour in ((0.085, (60, 75, 85)), (0.045, (15, 15, 18))):
        iris_x = side * EYE_X + person.eye_size * radius * np.cos(TURN)
        iris_y = np.clip(
            EYE_Y - 0.01 + person.eye_size * radius * np.sin(TURN),
            np.interp(iris_x, x, upper),
            np.interp(iris_x, x, lower),
        )
        brush.fill(iris_x, iris_y, colour)
    brush.stroke(x, upper, (30, 28, 32), 0.035)
    brush.stroke(x, lower, _fold(person, 0.5), 0.018)
    brush.stroke(x, upper - 0.05, _fold(person, 0.35), 0.02)
    if expression.cheek_raise > 0.1:
        brush.stroke(
            x, lower + 0.07 - 0.02 * BOW, _fold(person, 0.5 * expression.cheek_raise), 0.025
        )


def _draw_brow(brush: _Brush, person: Person, expression: Expression, *, side: int) -> None:
    outward = np.linspace(0, 1, 13)
    inner, lift = expression.brow_inner, expression.brow_raise
    x = side * (0.13 + 0.03 * min(0.0, inner) + 0.44 * outward)
    y = (
        -0.33
        - 0.13 * lift
        - 0.07 * np.sin(np.pi * outward**1.2)
        - 0.03 * max(0.0, lift) * np.sin(np.pi * outward)
    )
    y += -0.14 * inner * (1 - outward) ** 1.5 + 0.05 * inner * outward
    thick = person.brow_thickness * (1 - 0.6 * outward**2)
    brush.between(x, y - thick / 2, y + thick / 2, _mixed(person.hair_bgr, (20, 20, 25), 0.4))
    if inner < -0.15:  # the furrow between the brows
        brush.stroke(
            side * np.array([0.045, 0.06]),
            np.array([-0.40, -0.22]),
            _fold(person, -0.8 * inner),
            0.03,
        )
    wrinkle = max(lift, 0.7 * inner)
    if wrinkle > 0.25:
        for height in (-0.60, -0.53):
            y = height - 0.03 * max(0.0, inner) - 0.01 * BOW
            brush.stroke(side * 0.2 + 0.2 * SPAN, y, _fold(person, 0.45 * wrinkle), 0.02)
