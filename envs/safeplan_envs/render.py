"""Pictures of a scene, drawn with PIL at twice the size and halved, so that edges are smooth."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from safeplan.dynamics.backends import NUMPY
from safeplan.dynamics.distance import footprint_centers
from safeplan.dynamics.system import System
from safeplan.types import Array, Obstacle, Scene

# Okabe-Ito colours, told apart by all common kinds of colour vision
BLUE, SKY, GREEN, ORANGE, RED = (0, 114, 178), (86, 180, 233), (0, 158, 115), (230, 159, 0), (213, 94, 0)
INK, STONE, EDGE = (40, 44, 52), (122, 130, 142), (84, 91, 102)
PAPER, FLOOR, GRID = (226, 229, 233), (250, 250, 248), (233, 234, 236)
ROAD, VERGE = (214, 217, 221), (223, 231, 219)
SUPER = 2  # drawn this many times larger


@dataclass(frozen=True)
class Style:
    """Size and background of a picture: lengths in m; `lane` draws a road, `tick` a grid."""

    pixels_per_m: float
    margin: float
    width: float
    height: float
    tick: float = 0.0
    lane: float = 0.0


class Canvas:
    """Drawing in metres: x to the right, y up, `(xlo, ylo, xhi, yhi)` centred in a picture of fixed size."""

    def __init__(self, style: Style, bounds: tuple[float, float, float, float], ground: tuple[int, int, int]):
        from PIL import Image, ImageDraw

        self.scale = style.pixels_per_m * SUPER
        self.size = (
            round((style.width + 2 * style.margin) * style.pixels_per_m),
            round((style.height + 2 * style.margin) * style.pixels_per_m),
        )
        self.image = Image.new("RGB", (self.size[0] * SUPER, self.size[1] * SUPER), ground)
        self.pen = ImageDraw.Draw(self.image, "RGBA")
        self.mid = ((bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2)

    def xy(self, points: Any) -> list[tuple[float, float]]:
        """Pixels of points `[N, 2]` in metres."""
        p = np.atleast_2d(np.asarray(points, float))
        w, h = self.image.size
        return list(
            zip(w / 2 + (p[:, 0] - self.mid[0]) * self.scale, h / 2 - (p[:, 1] - self.mid[1]) * self.scale, strict=True)
        )

    def disc(self, x: float, y: float, r: float, **kw: Any) -> None:
        (px, py), s = self.xy((x, y))[0], r * self.scale
        self.pen.ellipse((px - s, py - s, px + s, py + s), **kw)

    def polygon(self, points: Array, **kw: Any) -> None:
        self.pen.polygon(self.xy(points), **kw)

    def line(self, points: Any, width: float, fill: tuple[int, ...]) -> None:
        """Polyline `width` final pixels wide."""
        self.pen.line(self.xy(points), fill=fill, width=max(1, round(width * SUPER)), joint="curve")

    def arrow(self, x: float, y: float, dx: float, dy: float, fill: tuple[int, ...], width: float = 2.0) -> None:
        """Arrow from (x, y) along (dx, dy), m."""
        length = float(np.hypot(dx, dy))
        if length * self.scale < 4 * SUPER:
            return
        ex, ey = dx / length, dy / length
        head = min(7.0 * SUPER / self.scale, 0.6 * length)
        tip = np.array([x + dx, y + dy])
        base = tip - head * np.array([ex, ey])
        self.line([(x, y), base], width, fill)
        side = 0.5 * head * np.array([-ey, ex])
        self.polygon(np.array([tip, base + side, base - side]), fill=fill)

    def text(self, x: float, y: float, words: str, size: int, fill: tuple[int, ...], anchor: str = "la") -> None:
        """Words at pixel (x, y) of the final picture."""
        from PIL import ImageFont

        font = ImageFont.load_default(size * SUPER)
        self.pen.text((x * SUPER, y * SUPER), words, fill=fill, font=font, anchor=anchor)

    def array(self) -> Array:
        """`[rows, columns, 3]` uint8."""
        return np.asarray(self.image.reduce(SUPER)).copy()


def outline(o: Obstacle, n: int = 8) -> Array:
    """Corners `[4 n, 2]` of a rounded box, m."""
    out = []
    for i, (sx, sy) in enumerate(((1, 1), (-1, 1), (-1, -1), (1, -1))):
        a = np.linspace(i * np.pi / 2, (i + 1) * np.pi / 2, n)
        out.append(np.stack([sx * o.hx + o.r * np.cos(a), sy * o.hy + o.r * np.sin(a)], -1))
    p, c, s = np.concatenate(out), np.cos(o.yaw), np.sin(o.yaw)
    return np.stack([o.x + c * p[:, 0] - s * p[:, 1], o.y + s * p[:, 0] + c * p[:, 1]], -1)


def _ground(c: Canvas, scene: Scene, style: Style) -> None:
    xlo, ylo, xhi, yhi = scene.bounds
    corners = np.array([(xlo, ylo), (xhi, ylo), (xhi, yhi), (xlo, yhi)])
    if style.lane:
        c.polygon(corners, fill=ROAD)
        for y in np.arange(ylo + style.lane, yhi - 0.1, style.lane):
            for x in np.arange(xlo, xhi, 6.0):
                c.line([(x, y), (min(x + 3.0, xhi), y)], 1.5, (255, 255, 255))
        for y in (ylo, yhi):
            c.line([(xlo, y), (xhi, y)], 2.0, (255, 255, 255))
        return
    c.polygon(corners, fill=FLOOR)
    for x in np.arange(xlo + style.tick, xhi - 1e-6, style.tick):
        c.line([(x, ylo), (x, yhi)], 1.0, GRID)
    for y in np.arange(ylo + style.tick, yhi - 1e-6, style.tick):
        c.line([(xlo, y), (xhi, y)], 1.0, GRID)
    c.line([*corners, corners[0]], 2.0, EDGE)


def _goal(c: Canvas, scene: Scene, style: Style) -> None:
    g = scene.goal
    if style.lane:  # a finishing band reads better on a road than a disc
        ylo, yhi = scene.bounds[1], scene.bounds[3]
        a = np.linspace(0, 2 * np.pi, 60)
        ring = np.stack([g.x + g.radius * np.cos(a), np.clip(g.y + g.radius * np.sin(a), ylo, yhi)], -1)
        c.polygon(ring, fill=(*GREEN, 60))
        c.line(ring, 1.5, GREEN)
        return
    c.disc(g.x, g.y, g.radius, fill=(*GREEN, 60), outline=GREEN, width=2 * SUPER)
    c.disc(g.x, g.y, 0.25 * g.radius, fill=GREEN)


def _obstacle(c: Canvas, o: Obstacle, style: Style) -> None:
    moving = o.vx != 0 or o.vy != 0 or o.sigma_v != 0
    fill, edge = (ORANGE, (168, 112, 0)) if moving else (STONE, EDGE)
    if o.sigma_v > 0:  # where it may be two seconds from now, two standard deviations
        spread = 2 * o.sigma_v * np.sqrt(2.0 * 0.5)
        ghost = Obstacle(o.x + 2 * o.vx, o.y + 2 * o.vy, o.r + spread, yaw=o.yaw, hx=o.hx, hy=o.hy)
        c.polygon(outline(ghost), fill=(*ORANGE, 45))
    c.polygon(outline(o), fill=fill, outline=edge, width=round(1.5 * SUPER))
    c.arrow(o.x, o.y, 2 * o.vx, 2 * o.vy, INK, 2.0)


def _vehicle(c: Canvas, system: System, x: Array) -> None:
    discs = footprint_centers(system, tuple(x), NUMPY)
    if len(discs) > 1:
        px, py = discs[len(discs) // 2][:2]
        r = discs[0][2]
        long = float(np.hypot(discs[0][0] - discs[-1][0], discs[0][1] - discs[-1][1])) / 2 + 0.63
        for dx, dy, dr in discs:
            c.disc(float(dx), float(dy), dr, outline=(*BLUE, 120), width=SUPER)
        body = Obstacle(float(px), float(py), 0.35, yaw=float(x[system.yaw or 0]), hx=long - 0.35, hy=0.8 * r - 0.35)
        c.polygon(outline(body), fill=BLUE, outline=(0, 72, 120), width=round(1.5 * SUPER))
        tip, size = long, 0.75 * r
    else:
        px, py, r = (float(v) for v in discs[0])
        c.disc(px, py, r, fill=BLUE, outline=(0, 72, 120), width=round(1.5 * SUPER))
        tip, size = 0.8 * r, 0.6 * r
    if system.yaw is not None:
        cy, sy = np.cos(x[system.yaw]), np.sin(x[system.yaw])
        nose = np.array([[tip, 0.0], [tip - size, size * 0.62], [tip - 0.7 * size, 0.0], [tip - size, -size * 0.62]])
        c.polygon(np.array([px, py]) + nose @ np.array([[cy, sy], [-sy, cy]]), fill=(255, 255, 255))


def frame(system: System, x: Array, scene: Scene, trail: Array, time: float, style: Style) -> Array:
    """One picture `[rows, columns, 3]` uint8 of state `x [n]`, the scene as it is now, and past states `[N, n]`."""
    c = Canvas(style, scene.bounds, VERGE if style.lane else PAPER)
    _ground(c, scene, style)
    _goal(c, scene, style)
    if len(trail) > 1:
        points = trail[:, list(system.position)]
        c.line(points, 3.0, (*SKY, 255))
    for o in sorted(scene.obstacles, key=lambda o: o.vx != 0 or o.vy != 0):
        _obstacle(c, o, style)
    _vehicle(c, system, x)
    corner = c.xy((scene.bounds[0], scene.bounds[3]))[0]
    x0, y0 = corner[0] / SUPER + 6, corner[1] / SUPER
    c.text(x0, y0 - 3 if style.lane else y0 + 6, f"{time:.1f} s", 13, INK, "ld" if style.lane else "la")
    return c.array()
