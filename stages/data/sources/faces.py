"""Cartoon faces with an expression and a head pose, drawn in code.

Features are placed on an ellipsoid by longitude and height and then turned, so that with the yaw
they shift, narrow and vanish behind the head as they do in a photograph.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from stages.core.errors import UserError

EXPRESSIONS = ("angry", "happy", "neutral", "sad", "surprised")
POSES = ("left_profile", "left", "frontal", "right", "right_profile")
STYLES = ("dark_noisy", "bright_clean")

YAW_DEGREES = {"left_profile": -70, "left": -35, "frontal": 0, "right": 35, "right_profile": 70}
YAW_JITTER_DEGREES = 12
SUPERSAMPLING = 4

SKINS = ((255, 219, 190), (241, 194, 150), (224, 172, 125), (198, 134, 86), (160, 104, 64), (124, 80, 52))
HAIRS = (
    (28, 24, 22),
    (62, 42, 28),
    (110, 70, 36),
    (168, 110, 50),
    (222, 184, 110),
    (150, 60, 30),
    (170, 168, 165),
)
HAIR_STYLES = ("bald", "short", "short", "parted", "long", "long")
_CIRCLE = np.linspace(0, 2 * np.pi, 20, endpoint=False)
_ARC = np.linspace(-1, 1, 9)


def draw_face(rng: np.random.Generator, *, expression: str, pose: str, style: str, size: int) -> np.ndarray:
    """One face of a person nobody knows.

    Identity, intensity of the expression, exact pose, hair, scale, place, roll, background and
    light are drawn from `rng`; the same generator state gives the same face at every size, noise
    aside.

    Args:
        rng: random generator.
        expression: one of `EXPRESSIONS`. Its intensity varies: a weak one comes close to neutral.
        pose: one of `POSES`; `left` means that the nose points to the left of the picture.
        style: `dark_noisy` (dim tinted light, clutter behind, blur and strong noise) or
            `bright_clean`.
        size: height and width in pixels.

    Returns:
        uint8 of shape (size, size, 3).

    Raises:
        ValueError: the expression, the pose or the style is unknown.
    """
    for value, choices in ((expression, EXPRESSIONS), (pose, POSES), (style, STYLES)):
        if value not in choices:
            raise UserError(f"unknown '{value}'; choose one of {', '.join(choices)}")
    identity = _draw_identity(rng)
    muscles = _draw_muscles(rng, expression)
    identity = replace(identity, skin=_flush(identity.skin, muscles.flush))
    view = _draw_view(rng, pose, identity, muscles, size * SUPERSAMPLING)
    image = _paint_background(rng, style, size * SUPERSAMPLING)
    painter = _Painter(ImageDraw.Draw(image), view)
    _paint_body(painter, identity)
    _paint_head(painter, identity)
    _paint_features(painter, identity, muscles)
    return _expose(rng, image.reduce(SUPERSAMPLING), style)


@dataclass(frozen=True)
class _Identity:
    width: float
    jaw: float
    skin: tuple[int, int, int]
    hair: tuple[int, int, int]
    hair_style: str
    hairline: float
    eye_spacing: float
    eye_size: float
    eye_height: float
    iris: tuple[int, int, int]
    brow_thickness: float
    nose_length: float
    nose_width: float
    mouth_width: float
    mouth_height: float
    lip: tuple[int, int, int]
    shirt: tuple[int, int, int]
    glasses: bool
    beard: bool


@dataclass(frozen=True)
class _Muscles:
    """What an expression moves; 0 is at rest."""

    smile: float
    mouth_open: float
    mouth_round: float
    teeth: bool
    cheeks: float
    nod: float
    flush: float
    brow_raise: float
    brow_slant: float
    eye_open: float


def _draw_identity(rng: np.random.Generator) -> _Identity:
    skin = _jitter_colour(rng, SKINS[rng.integers(len(SKINS))], 10)
    redness = rng.uniform(0.55, 0.85)
    hair_style = HAIR_STYLES[rng.integers(len(HAIR_STYLES))]
    return _Identity(
        width=rng.uniform(0.70, 0.88),
        jaw=rng.uniform(0.34, 0.56),
        skin=skin,
        hair=_jitter_colour(rng, HAIRS[rng.integers(len(HAIRS))], 12),
        hair_style=hair_style,
        hairline=rng.uniform(-0.72, -0.52),
        eye_spacing=rng.uniform(0.40, 0.54),
        eye_size=rng.uniform(1.0, 1.35),
        eye_height=rng.uniform(-0.16, -0.04),
        iris=tuple(int(value) for value in rng.integers((20, 30, 20), (110, 120, 140))),
        brow_thickness=rng.uniform(0.05, 0.085),
        nose_length=rng.uniform(0.20, 0.34),
        nose_width=rng.uniform(0.12, 0.22),
        mouth_width=rng.uniform(0.46, 0.62),
        mouth_height=rng.uniform(0.50, 0.60),
        lip=(min(255, int(skin[0] * 0.85) + 10), int(skin[1] * redness * 0.75), int(skin[2] * redness * 0.8)),
        shirt=tuple(int(value) for value in rng.integers(30, 230, 3)),
        glasses=rng.random() < 0.1,
        beard=hair_style != "long" and rng.random() < 0.15,
    )


def _draw_muscles(rng: np.random.Generator, expression: str) -> _Muscles:
    intensity = rng.uniform(0.5, 1.25)
    smile, mouth_open, mouth_round, brow_raise, brow_slant, eye_open = rng.normal(0, 0.1, 6)
    nod, flush = rng.normal(0, 0.03), 0.0
    mouth_open = max(0.0, mouth_open - 0.05)
    teeth, cheeks = False, 0.0
    if expression == "happy":
        smile += intensity
        teeth = rng.random() < 0.75
        mouth_open += intensity * rng.uniform(0.4, 0.9) if teeth else 0.0
        cheeks = intensity
        eye_open -= 0.25 * intensity
    elif expression == "sad":
        smile -= 0.8 * intensity
        nod += 0.1 * intensity
        flush -= 0.09 * intensity
        brow_slant -= 0.9 * intensity
        eye_open -= 0.3 * intensity
        brow_raise += 0.1 * intensity
    elif expression == "angry":
        smile -= 0.35 * intensity
        flush += 0.15 * intensity
        brow_slant += intensity
        brow_raise -= 0.5 * intensity
        eye_open -= 0.25 * intensity
    elif expression == "surprised":
        mouth_open += intensity
        nod -= 0.08 * intensity
        mouth_round += 0.9 * intensity
        brow_raise += 0.9 * intensity
        eye_open += 0.5 * intensity
    return _Muscles(smile, mouth_open, mouth_round, teeth, cheeks, nod, flush, brow_raise, brow_slant, eye_open)


@dataclass(frozen=True)
class _View:
    """Where the head is and where it looks; projects head coordinates to pixels."""

    yaw: float
    pitch: float
    roll: float
    radius: float
    centre: tuple[float, float]
    width: float
    jaw: float

    def project(self, longitude, height, protrusion=0.0) -> np.ndarray:
        """Pixels, shape (n, 2), of points on the head.

        Longitude is in radians from the middle of the face, positive towards the right of the
        picture; height runs from -1 (crown) to 1 (chin); protrusion is in head radii. Points
        behind the head land on its outline.
        """
        angle = np.clip(np.add(longitude, self.yaw), -np.pi / 2, np.pi / 2)
        height = np.clip(height + self.pitch * np.cos(angle), -1, 1)
        exponent = np.where(height > 0, self.jaw, 0.5)
        half_width = self.width * (1 - height**2) ** exponent
        lean = 0.12 * math.sin(self.yaw) * np.maximum(height, 0)
        return self.place((half_width + protrusion) * np.sin(angle) + lean, height)

    def place(self, x, y) -> np.ndarray:
        """Pixels, shape (n, 2), of points in the plane of the picture, in head radii."""
        cosine, sine = math.cos(self.roll), math.sin(self.roll)
        x, y = np.broadcast_arrays(x, y)
        points = np.stack([x * cosine - y * sine, x * sine + y * cosine], axis=-1)
        return points * self.radius + self.centre

    def facing(self, longitude: float) -> float:
        """1 where the head faces the viewer, 0 at the outline, negative behind."""
        return math.cos(longitude + self.yaw)


def _draw_view(rng: np.random.Generator, pose: str, identity: _Identity, muscles: _Muscles, n_pixels: int) -> _View:
    yaw = math.radians(YAW_DEGREES[pose] + float(np.clip(rng.normal(0, YAW_JITTER_DEGREES), -24, 24)))
    radius = n_pixels * rng.uniform(0.42, 0.48)
    shift = rng.uniform(-0.04, 0.04, 2) * n_pixels
    return _View(
        yaw=yaw,
        pitch=muscles.nod + rng.normal(0, 0.04),
        roll=math.radians(rng.normal(0, 5)),
        radius=radius,
        centre=(n_pixels / 2 + shift[0], n_pixels * 0.5 + shift[1]),
        width=identity.width * (1 + 0.12 * abs(math.sin(yaw))),
        jaw=identity.jaw,
    )


class _Painter:
    def __init__(self, draw: ImageDraw.ImageDraw, view: _View) -> None:
        self.draw = draw
        self.view = view

    def fill(self, points: np.ndarray, colour: tuple[int, int, int]) -> None:
        self.draw.polygon(points.ravel().tolist(), fill=colour)

    def fill_ellipse(self, longitude, height, half_longitude, half_height, colour) -> None:
        self.fill(
            self.view.project(longitude + half_longitude * np.cos(_CIRCLE), height + half_height * np.sin(_CIRCLE)),
            colour,
        )

    def fill_disc(self, x, y, half_width, half_height, colour) -> None:
        self.fill(self.view.place(x + half_width * np.cos(_CIRCLE), y + half_height * np.sin(_CIRCLE)), colour)

    def stroke(self, longitude, height, thickness: float, colour) -> None:
        points = self.view.project(longitude, height)
        n_pixels = max(1, round(thickness * self.view.radius))
        self.draw.line(points.ravel().tolist(), fill=colour, width=n_pixels, joint="curve")


def _paint_background(rng: np.random.Generator, style: str, n_pixels: int) -> Image.Image:
    if style == "bright_clean":
        colour = rng.integers(150, 245, 3)
        return Image.new("RGB", (n_pixels, n_pixels), tuple(colour.tolist()))
    image = Image.new("RGB", (n_pixels, n_pixels), tuple(rng.integers(20, 150, 3).tolist()))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(4, 10)):
        corner, extent = rng.uniform(-0.2, 1.0, 2), rng.uniform(0.1, 0.6, 2)
        box = (np.concatenate([corner, corner + extent]) * n_pixels).tolist()
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape(box, fill=tuple(rng.integers(10, 220, 3).tolist()))
    return image


def _paint_body(painter: _Painter, identity: _Identity) -> None:
    # The body stays upright whatever the head does.
    radius, (x, y) = painter.view.radius, painter.view.centre
    shoulders = [x - 1.2 * radius, y + 1.12 * radius, x + 1.2 * radius, y + 3 * radius]
    painter.draw.ellipse(shoulders, fill=identity.shirt)
    neck = [x - 0.36 * radius, y + 0.5 * radius, x + 0.36 * radius, y + 1.3 * radius]
    painter.draw.rectangle(neck, fill=_shade(identity.skin, 0.8))


def _paint_head(painter: _Painter, identity: _Identity) -> None:
    view = painter.view
    back = -0.16 * math.sin(view.yaw)
    skull = identity.skin if identity.hair_style == "bald" else identity.hair
    if identity.hair_style == "long":
        painter.fill_disc(back * 1.1, 0.25, view.width * 1.22, 1.1, _shade(identity.hair, 0.85))
    painter.fill_disc(back, -0.18, view.width * 1.04, 0.86, skull)
    ears = [side * 1.62 for side in (-1, 1) if view.facing(side * 1.62) > -0.35 and identity.hair_style != "long"]
    for longitude in ears:
        if view.facing(longitude) < 0.1:
            _paint_ear(painter, identity, longitude)
    heights = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 24))
    outline = [view.project(side * np.pi - view.yaw, heights[::side]) for side in (-1, 1)]
    painter.fill(np.concatenate(outline), identity.skin)
    if identity.beard:
        _paint_beard(painter, identity)
    if identity.hair_style != "bald":
        _paint_hair(painter, identity)
    for longitude in ears:
        if view.facing(longitude) >= 0.1:
            _paint_ear(painter, identity, longitude)


def _paint_ear(painter: _Painter, identity: _Identity, longitude: float) -> None:
    view = painter.view
    x = view.width * math.sin(longitude + view.yaw)
    half_width = 0.10 + 0.06 * max(0.0, view.facing(longitude))
    painter.fill_disc(x, 0.02, half_width, 0.2, _shade(identity.skin, 0.82))
    painter.fill_disc(x, 0.02, half_width * 0.5, 0.11, _shade(identity.skin, 0.6))


def _paint_hair(painter: _Painter, identity: _Identity) -> None:
    view = painter.view
    seen = np.linspace(-np.pi / 2, np.pi / 2, 25)
    longitude = (seen - view.yaw + np.pi) % (2 * np.pi) - np.pi
    side = np.clip((np.abs(longitude) - 0.85) / 0.5, 0, 1)
    lowest = 0.75 if identity.hair_style == "long" else 0.12
    hairline = identity.hairline + (lowest - identity.hairline) * side
    if identity.hair_style == "parted":
        hairline = hairline + 0.16 * np.sin(2.2 * longitude) * (1 - side)
    front = view.project(longitude, hairline)
    top = view.place(view.width * 1.04 * np.cos(np.linspace(0, np.pi, 16)), -np.sin(np.linspace(0, np.pi, 16)) * 1.06)
    painter.fill(np.concatenate([front, top]), identity.hair)


def _paint_beard(painter: _Painter, identity: _Identity) -> None:
    longitude = np.linspace(-1.2, 1.2, 15)
    top = painter.view.project(longitude, 0.42 - 0.3 * (np.abs(longitude) / 1.2) ** 3)
    chin = painter.view.project(longitude[::-1], 0.97 - 0.35 * (np.abs(longitude) / 1.2) ** 2)
    painter.fill(np.concatenate([top, chin]), _mix(identity.hair, identity.skin, 0.3))


def _paint_features(painter: _Painter, identity: _Identity, muscles: _Muscles) -> None:
    if muscles.cheeks:
        colour = _mix(identity.skin, (230, 70, 70), min(1.0, 0.45 * muscles.cheeks))
        for side in (-1, 1):
            painter.fill_ellipse(side * 0.75, identity.eye_height + 0.33, 0.24, 0.15, colour)
    for side in (-1, 1):
        if painter.view.facing(side * identity.eye_spacing) > 0.12:
            _paint_eye(painter, identity, muscles, side)
            _paint_brow(painter, identity, muscles, side)
    _paint_mouth(painter, identity, muscles)
    _paint_nose(painter, identity)


def _paint_eye(painter: _Painter, identity: _Identity, muscles: _Muscles, side: int) -> None:
    longitude, height = side * identity.eye_spacing, identity.eye_height
    half_longitude = 0.21 * identity.eye_size
    half_height = 0.125 * identity.eye_size * max(0.25, 1 + 0.8 * muscles.eye_open)
    painter.fill_ellipse(longitude, height, half_longitude, half_height, (250, 250, 248))
    iris = min(0.105 * identity.eye_size, half_height)
    painter.fill_ellipse(longitude, height, 0.115 * identity.eye_size, iris, identity.iris)
    painter.fill_ellipse(longitude, height, 0.06 * identity.eye_size, iris * 0.6, (8, 8, 10))
    lid = height - half_height * (1 - _ARC**2) ** 0.5
    painter.stroke(longitude + half_longitude * _ARC, lid, 0.045, _shade(identity.skin, 0.4))
    if identity.glasses:
        rim = painter.view.project(longitude + 0.32 * np.cos(_CIRCLE), height + 0.24 * np.sin(_CIRCLE))
        painter.draw.polygon(
            rim.ravel().tolist(), outline=(25, 25, 30), width=max(1, round(painter.view.radius * 0.05))
        )


def _paint_brow(painter: _Painter, identity: _Identity, muscles: _Muscles, side: int) -> None:
    longitude = side * (identity.eye_spacing + 0.26 * _ARC)
    height = identity.eye_height - 0.27 - 0.16 * muscles.brow_raise
    slanted = height - 0.2 * muscles.brow_slant * _ARC + 0.05 * _ARC**2
    colour = identity.hair if identity.hair_style != "bald" else _shade(identity.skin, 0.35)
    painter.stroke(longitude, slanted, identity.brow_thickness * 1.6, _shade(colour, 0.75))


def _paint_mouth(painter: _Painter, identity: _Identity, muscles: _Muscles) -> None:
    half_longitude = identity.mouth_width * (1 + 0.15 * muscles.smile - 0.45 * muscles.mouth_round)
    longitude = half_longitude * _ARC
    middle = identity.mouth_height - 0.27 * muscles.smile * (_ARC**2 - 0.5)
    bulge = (1 - _ARC**2) ** (0.5 if muscles.mouth_round > 0.3 else 1)
    upper = middle - 0.1 * muscles.mouth_open * bulge
    lower = middle + 0.32 * muscles.mouth_open * bulge
    if muscles.mouth_open > 0.05:
        mouth = painter.view.project(np.concatenate([longitude, longitude[::-1]]), np.concatenate([upper, lower[::-1]]))
        painter.fill(mouth, (70, 18, 20))
        if muscles.teeth:
            teeth = np.concatenate([upper, (upper + 0.6 * (lower - upper))[::-1]])
            painter.fill(
                painter.view.project(np.concatenate([longitude, longitude[::-1]]) * 0.9, teeth),
                (245, 243, 235),
            )
        painter.stroke(longitude, lower, 0.055, identity.lip)
    painter.stroke(longitude, upper, 0.1, _shade(identity.lip, 0.6))


def _paint_nose(painter: _Painter, identity: _Identity) -> None:
    wing, tip = identity.nose_width, identity.eye_height + 0.1 + identity.nose_length
    shape = painter.view.project(
        np.array([-0.05, 0.05, wing, 0.0, -wing]),
        np.array([-0.05, -0.05, tip + 0.05, tip + 0.08, tip + 0.05]),
        np.array([0.02, 0.02, 0.04, 0.20, 0.04]),
    )
    painter.fill(shape, _shade(identity.skin, 0.88))
    bridge = painter.view.project(np.zeros(3), np.array([-0.05, tip, tip + 0.08]), np.array([0.02, 0.26, 0.2]))
    edge = painter.view.project(np.array([wing, wing]), np.array([tip + 0.05, 0.0]), 0.03)
    painter.fill(np.concatenate([bridge, edge]), _shade(identity.skin, 0.76))


def _expose(rng: np.random.Generator, image: Image.Image, style: str) -> np.ndarray:
    size = image.width
    direction = rng.uniform(0, 2 * np.pi)
    ramp = np.linspace(-0.5, 0.5, size)
    slope = ramp[None, :] * math.cos(direction) + ramp[:, None] * math.sin(direction)
    if style == "bright_clean":
        light = rng.uniform(0.92, 1.05) * (1 + rng.uniform(0, 0.25) * slope)
        tint, blur, noise = np.ones(3), 0.0, rng.uniform(1, 5)
    else:
        light = rng.uniform(0.42, 0.8) * (1 + rng.uniform(0.1, 0.6) * slope)
        tint, blur, noise = rng.uniform(0.8, 1.15, 3), rng.uniform(0, 0.015), rng.uniform(5, 12)
    if blur:
        image = image.filter(ImageFilter.GaussianBlur(blur * size))
    pixels = np.asarray(image, dtype=np.float32) * (light[:, :, None] * tint).astype(np.float32)
    pixels += noise * rng.standard_normal(pixels.shape, dtype=np.float32)
    return np.rint(np.clip(pixels, 0, 255)).astype(np.uint8)


def _jitter_colour(rng: np.random.Generator, colour: tuple[int, int, int], spread: int) -> tuple[int, int, int]:
    return tuple(np.clip(np.add(colour, rng.integers(-spread, spread + 1, 3)), 0, 255).tolist())


def _shade(colour: tuple[int, int, int], factor: float) -> tuple[int, int, int]:
    return tuple(int(value * factor) for value in colour)


def _mix(colour: tuple[int, int, int], other: tuple[int, int, int], share: float) -> tuple[int, int, int]:
    return tuple(int(a * (1 - share) + b * share) for a, b in zip(colour, other, strict=True))


def _flush(skin: tuple[int, int, int], flush: float) -> tuple[int, int, int]:
    return tuple(
        int(min(255, value * factor)) for value, factor in zip(skin, (1 + flush / 2, 1 - flush, 1 - flush), strict=True)
    )
