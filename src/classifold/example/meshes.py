"""Surfaces in space as small four-cornered faces: made, turned, lit and drawn back to front.

Space: x to the right, y up, z towards the viewer; a flower's head has radius 1 around the origin.
Colours are linear light, 0 (black) to 1 (white).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

Floats = NDArray[np.float64]
Outline = Callable[[Floats], Floats]

GAMMA = 2.2


def linear(*levels: float) -> Floats:
    """Return a colour as linear light, shape (3,), from red, green and blue as a screen has them, 0..255."""
    light: Floats = (np.asarray(levels, dtype=np.float64) / 255.0) ** GAMMA
    return light


def blend(first: ArrayLike, second: ArrayLike, share: ArrayLike) -> Floats:
    """Return `first` where `share` is 0 and `second` where it is 1; a trailing axis of colours is added."""
    weight = np.clip(np.asarray(share, dtype=np.float64), 0.0, 1.0)[..., None]
    mixed: Floats = np.asarray(first) * (1.0 - weight) + np.asarray(second) * weight
    return mixed


@dataclass(frozen=True, slots=True)
class Faces:
    """Many faces of four corners each.

    Attributes:
        corners: Shape (N, 4, 3).
        albedo: The faces' own colour, shape (N, 3).
        access: Share of the sky's light that reaches the face, shape (N,).
        translucency: Share of light from behind that comes through, shape (N,).
        alpha: How much the face covers, shape (N,).
    """

    corners: Floats
    albedo: Floats
    access: Floats
    translucency: Floats
    alpha: Floats

    def turned(self, rotation: Floats) -> Faces:
        """Return the faces turned by `rotation`, shape (3, 3)."""
        return self._placed(self.corners @ rotation.T)

    def moved(self, offset: ArrayLike) -> Faces:
        """Return the faces moved by `offset`, shape (3,)."""
        return self._placed(self.corners + np.asarray(offset, dtype=np.float64))

    def scaled(self, factor: float) -> Faces:
        """Return the faces `factor` times as large, seen from the origin."""
        return self._placed(self.corners * factor)

    def _placed(self, corners: Floats) -> Faces:
        return Faces(corners, self.albedo, self.access, self.translucency, self.alpha)


def join_faces(parts: Sequence[Faces]) -> Faces:
    """Return all faces of `parts` as one."""
    return Faces(
        corners=np.concatenate([part.corners for part in parts]),
        albedo=np.concatenate([part.albedo for part in parts]),
        access=np.concatenate([part.access for part in parts]),
        translucency=np.concatenate([part.translucency for part in parts]),
        alpha=np.concatenate([part.alpha for part in parts]),
    )


def build_surface(
    points: Floats,
    albedo: ArrayLike,
    *,
    access: ArrayLike = 1.0,
    translucency: float = 0.0,
    alpha: float = 1.0,
) -> Faces:
    """Cut grids of points into faces.

    Args:
        points: P grids of R rows and C columns, shape (P, R, C, 3).
        albedo: Colours at the points; broadcasts to (P, R, C, 3).
        access: Share of the sky's light at the points; broadcasts to (P, R, C).
        translucency: Share of light from behind that comes through.
        alpha: How much a face covers.
    """
    corners = np.stack(
        [points[:, :-1, :-1], points[:, :-1, 1:], points[:, 1:, 1:], points[:, 1:, :-1]], axis=3
    ).reshape(-1, 4, 3)
    count = len(corners)
    colours = np.broadcast_to(np.asarray(albedo, dtype=np.float64), points.shape)
    openness = np.broadcast_to(np.asarray(access, dtype=np.float64), points.shape[:3])
    return Faces(
        corners=corners,
        albedo=_mean_of_corners(colours).reshape(-1, 3),
        access=_mean_of_corners(openness[..., None]).reshape(-1),
        translucency=np.full(count, translucency),
        alpha=np.full(count, alpha),
    )


def _mean_of_corners(grid: Floats) -> Floats:
    mean: Floats = (grid[:, :-1, :-1] + grid[:, :-1, 1:] + grid[:, 1:, 1:] + grid[:, 1:, :-1]) / 4.0
    return mean


def rotation(*, tilt: float = 0.0, turn: float = 0.0, roll: float = 0.0) -> Floats:
    """Return a rotation, shape (3, 3): `roll` about z, then `tilt` about x, then `turn` about y (radians)."""
    ct, st, cu, su, cr, sr = (
        value for angle in (tilt, turn, roll) for value in (float(np.cos(angle)), float(np.sin(angle)))
    )
    about_x = np.array([[1, 0, 0], [0, ct, -st], [0, st, ct]])
    about_y = np.array([[cu, 0, su], [0, 1, 0], [-su, 0, cu]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    matrix: Floats = about_y @ about_x @ about_z
    return matrix


def column(values: ArrayLike) -> Floats:
    """Return one value a petal as shape (P, 1, 1), which broadcasts over rows and columns."""
    return np.atleast_1d(np.asarray(values, dtype=np.float64))[:, None, None]


def grid(rows: int, columns: int) -> tuple[Floats, Floats]:
    """Return `along` 0..1, shape (1, R, 1), and `across` -1..1, shape (1, 1, C)."""
    return np.linspace(0.0, 1.0, rows)[None, :, None], np.linspace(-1.0, 1.0, columns)[None, None, :]


def build_blades(
    azimuth: ArrayLike,
    *,
    start: ArrayLike,
    lift: ArrayLike,
    length: ArrayLike,
    width: ArrayLike,
    outline: Outline,
    rise: ArrayLike,
    bend: ArrayLike,
    rows: int,
    columns: int,
    cup: ArrayLike = 0.0,
    sway: ArrayLike = 0.0,
    notch: ArrayLike = 0.0,
) -> Floats:
    """Return P blades that leave the z axis like rays: petals, florets, bracts, leaves, grass.

    Args:
        azimuth: Directions about the z axis in radians, shape (P,); the others broadcast to it.
        start: Distance of the base from the axis.
        lift: Height of the base.
        length: Length along the blade.
        width: Half the largest width.
        outline: Half width at `along`, 1 at the widest.
        rise: Angle above the plane at the base, radians.
        bend: Change of that angle from base to tip.
        rows: Points along.
        columns: Points across.
        cup: How far the edges rise, as a share of the half width.
        sway: Sideways bend, radians from base to tip.
        notch: How far the middle of the tip falls back, as a share of the length.

    Returns:
        Points, shape (P, rows, columns, 3).
    """
    along, across = grid(rows, columns)
    angle = column(rise) + column(bend) * along
    step = column(length) / max(rows - 1, 1)
    radial = column(start) + np.cumsum(np.cos(angle), axis=1) * step - np.cos(angle[:, :1]) * step
    height = column(lift) + np.cumsum(np.sin(angle), axis=1) * step - np.sin(angle[:, :1]) * step
    half = column(width) * outline(along) * across
    radial = radial - column(notch) * column(length) * np.exp(-((across / 0.35) ** 2)) * along**6
    height = height + column(cup) * column(width) * outline(along) * across**2
    side = half + column(sway) * column(length) * along**2 / 2.0
    cos, sin = np.cos(column(azimuth)), np.sin(column(azimuth))
    x = radial * cos - side * sin
    y = radial * sin + side * cos
    return np.stack(np.broadcast_arrays(x, y, height), axis=-1)


def build_tube(path: Floats, radius: ArrayLike, *, sides: int = 7) -> Floats:
    """Return the skin of a tube around `path`, shape (T, 3), as points (1, T, sides + 1, 3)."""
    direction = np.gradient(path, axis=0)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True) + 1e-9
    first = np.cross(direction, np.array([0.31, 0.17, 0.93]))
    first /= np.linalg.norm(first, axis=1, keepdims=True) + 1e-9
    second = np.cross(direction, first)
    angle = np.linspace(0.0, 2.0 * np.pi, sides + 1)[None, :, None]
    thick = np.broadcast_to(np.asarray(radius, dtype=np.float64), (len(path),))[:, None, None]
    ring = np.cos(angle) * first[:, None] + np.sin(angle) * second[:, None]
    skin: Floats = (path[:, None] + thick * ring)[None]
    return skin


def build_bumps(centres: Floats, normals: Floats, *, size: ArrayLike, height: ArrayLike) -> Floats:
    """Return a small pyramid on each centre, as points (P, 2, 5, 3): a ring and its peak."""
    first = np.cross(normals, np.array([0.42, 0.81, 0.41]))
    first /= np.linalg.norm(first, axis=1, keepdims=True) + 1e-9
    second = np.cross(normals, first)
    angle = (np.arange(5) * np.pi / 2.0)[None, :, None]
    radius = np.broadcast_to(np.asarray(size, dtype=np.float64), (len(centres),))[:, None, None]
    ring = centres[:, None] + radius * (np.cos(angle) * first[:, None] + np.sin(angle) * second[:, None])
    tall = np.broadcast_to(np.asarray(height, dtype=np.float64), (len(centres),))[:, None]
    peak = np.repeat((centres + tall * normals)[:, None], 5, axis=1)
    return np.stack([ring, peak], axis=1)


@dataclass(frozen=True, slots=True)
class Light:
    """Where the light comes from and what it is made of.

    Attributes:
        direction: Towards the sun, length 1, shape (3,).
        sun: Colour of the sun's light, shape (3,).
        sky: Colour of the light from all around, shape (3,).
    """

    direction: Floats
    sun: Floats
    sky: Floats


def light_faces(faces: Faces, light: Light) -> NDArray[np.uint8]:
    """Return the colour each face sends to the viewer, as a screen shows it, shape (N, 4), RGBA."""
    corners = faces.corners
    normals = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    normals *= np.where(normals[:, 2:] < 0.0, -1.0, 1.0)
    toward = normals @ light.direction
    # Petals scatter: light wraps a little around the edge between day and night (half Lambert).
    front = np.clip((toward + 0.25) / 1.25, 0.0, None) * (0.35 + 0.65 * faces.access)
    behind = np.clip(-toward, 0.0, None) * faces.translucency
    around = (0.62 + 0.38 * normals[:, 1]) * faces.access
    radiance = faces.albedo * (front[:, None] * light.sun + around[:, None] * light.sky)
    radiance += faces.albedo**1.3 * behind[:, None] * light.sun
    colours = np.empty((len(corners), 4), dtype=np.uint8)
    colours[:, :3] = expose(radiance)
    colours[:, 3] = np.round(faces.alpha * 255.0)
    return colours


def expose(radiance: Floats) -> NDArray[np.uint8]:
    """Return linear light as a photograph shows it, 0..255: a soft shoulder, then the screen's gamma."""
    shown = 1.0 - np.exp(-1.7 * np.clip(radiance, 0.0, None))
    return np.round(255.0 * shown ** (1.0 / GAMMA)).astype(np.uint8)


def project(faces: Faces, *, centre: tuple[float, float], scale: float, distance: float) -> Floats:
    """Return the faces on the picture in perspective, shape (N, 4, 2), x to the right and y down.

    Args:
        faces: The faces to project.
        centre: Position of the origin on the picture, in pixels.
        scale: Pixels per unit at the origin.
        distance: Distance from the viewer to the origin, in units.
    """
    depth = distance / np.maximum(distance - faces.corners[..., 2], 0.2 * distance)
    flat = faces.corners[..., :2] * depth[..., None] * np.array([scale, -scale])
    spot: Floats = flat + np.asarray(centre)
    return spot


def draw_faces(
    faces: Faces,
    *,
    light: Light,
    centre: tuple[float, float],
    scale: float,
    distance: float,
    frame: tuple[int, int],
) -> tuple[Image.Image, tuple[int, int]] | None:
    """Draw the faces back to front on a layer as small as they need.

    Returns:
        The layer (RGBA) and the place of its upper left corner in the frame, or None where nothing shows.
    """
    flat = project(faces, centre=centre, scale=scale, distance=distance)
    least, most = _bound_faces(flat)
    low = np.maximum(np.floor(least.min(axis=0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(most.max(axis=0)).astype(int) + 2, np.asarray(frame))
    if (high <= low).any():
        return None
    seen = ((most >= low) & (least <= high)).all(axis=1)
    order = np.argsort(faces.corners[..., 2].sum(axis=1), kind="stable")
    order = order[seen[order]]
    layer = Image.new("RGBA", (int(high[0] - low[0]), int(high[1] - low[1])))
    pen = ImageDraw.Draw(layer)
    shapes = (flat[order] - low).reshape(len(order), 8).tolist()
    for shape, colour in zip(shapes, light_faces(faces, light)[order].tolist(), strict=True):
        pen.polygon(shape, fill=tuple(colour))
    return layer, (int(low[0]), int(low[1]))


def _bound_faces(flat: Floats) -> tuple[Floats, Floats]:
    """Return the faces' upper left and lower right ends, (N, 2) each; much faster than min(axis=1)."""
    first, second, third, fourth = (flat[:, corner] for corner in range(4))
    least = np.minimum(np.minimum(first, second), np.minimum(third, fourth))
    most = np.maximum(np.maximum(first, second), np.maximum(third, fourth))
    return least, most
