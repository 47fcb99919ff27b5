"""The demo's moving pictures: a floodlit pitch that the camera pans over, players, a score board with a running
clock, and the white corner flash of the A/V measurement. Planar YUV 4:2:0 by numpy; no fonts, no files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

WIDTH, HEIGHT, FPS = 1280, 720, 30
FLASH_BOX = (1200, 640, 48, 48)
"""x, y, width, height of the corner that flashes, in pixels."""
FLASH_FRAMES = 2

_PAN = 400
_HORIZON = 300
_SEED = 77
Plane = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

# Y, U, V (BT.709, limited range)
_GRASS_A: Colour = (84, 108, 106)
_GRASS_B: Colour = (96, 106, 104)
_LINE: Colour = (196, 124, 124)
_HOME: Colour = (70, 96, 200)
_AWAY: Colour = (110, 176, 96)
_SKIN: Colour = (140, 112, 150)
_BALL: Colour = (230, 128, 128)
_BOARD: Colour = (26, 136, 124)
_DIGIT: Colour = (214, 90, 146)


@dataclass(frozen=True)
class Picture:
    """Planes of one picture or panorama: ``y`` (h, w), ``u`` and ``v`` (h/2, w/2)."""

    y: Plane
    u: Plane
    v: Plane

    def box(self, x: int, y: int, w: int, h: int, colour: Colour) -> None:
        """Fill a box; coordinates are rounded to even pixels and clipped."""
        x0, x1 = max(0, x) & ~1, max(0, x + w) & ~1
        y0, y1 = max(0, y) & ~1, max(0, y + h) & ~1
        self.y[y0:y1, x0:x1] = colour[0]
        self.u[y0 // 2 : y1 // 2, x0 // 2 : x1 // 2] = colour[1]
        self.v[y0 // 2 : y1 // 2, x0 // 2 : x1 // 2] = colour[2]

    def disc(self, x: int, y: int, r: int, colour: Colour) -> None:
        for dy in range(-r, r + 1, 2):
            half = int((r * r - dy * dy) ** 0.5)
            self.box(x - half, y + dy, 2 * half, 2, colour)

    def tobytes(self) -> bytes:
        return self.y.tobytes() + self.u.tobytes() + self.v.tobytes()


def frames(count: int, flashes: frozenset[int]) -> Iterator[bytes]:
    """``count`` pictures of :data:`WIDTH` × :data:`HEIGHT` as yuv420p bytes; a flash begins at each of ``flashes``."""
    panorama = _panorama()
    players = _players()
    for index in range(count):
        t = index / FPS
        pan = round(_PAN / 2 * (1 - np.cos(2 * np.pi * t / 24)))
        x = pan & ~1
        picture = Picture(
            panorama.y[:, x : x + WIDTH].copy(),
            panorama.u[:, x // 2 : (x + WIDTH) // 2].copy(),
            panorama.v[:, x // 2 : (x + WIDTH) // 2].copy(),
        )
        _draw_players(picture, players, t, x)
        _draw_board(picture, index)
        fx, fy, fw, fh = FLASH_BOX
        lit = any(index - k in flashes for k in range(FLASH_FRAMES))
        picture.box(fx - 6, fy - 6, fw + 12, fh + 12, (20, 128, 128))
        picture.box(fx, fy, fw, fh, (235, 128, 128) if lit else (32, 128, 128))
        yield picture.tobytes()


def _panorama() -> Picture:
    """The still scene, wider than the picture by the camera's pan."""
    width = WIDTH + _PAN
    scene = Picture(
        np.zeros((HEIGHT, width), np.uint8),
        np.full((HEIGHT // 2, width // 2), 128, np.uint8),
        np.full((HEIGHT // 2, width // 2), 128, np.uint8),
    )
    scene.y[:140] = np.linspace(22, 62, 140).astype(np.uint8)[:, None]  # evening sky
    scene.u[:70] = np.linspace(158, 142, 70).astype(np.uint8)[:, None]
    scene.v[:70] = np.linspace(118, 134, 70).astype(np.uint8)[:, None]
    _stands(scene, width)
    for index, x in enumerate(range(0, width, 120)):
        scene.box(x, _HORIZON, 120, HEIGHT - _HORIZON, _GRASS_A if index % 2 else _GRASS_B)
    for y, h in ((_HORIZON + 22, 4), (HEIGHT - 60, 6)):
        scene.box(0, y, width, h, _LINE)
    scene.box(width // 2 - 3, _HORIZON + 22, 6, HEIGHT - 82 - _HORIZON, _LINE)
    for angle in np.linspace(0, 2 * np.pi, 900):
        scene.box(int(width / 2 + 210 * np.cos(angle)), int(490 + 92 * np.sin(angle)), 4, 4, _LINE)
    return scene


def _stands(scene: Picture, width: int) -> None:
    """Rows of people under floodlights."""
    rng = np.random.default_rng(_SEED)
    top, bottom = 140, _HORIZON - 22
    rows, seats = (bottom - top) // 8, width // 8
    scene.y[top : top + rows * 8] = np.kron(rng.integers(38, 92, (rows, seats)), np.ones((8, 8), int))[:, :width]
    for plane in (scene.u, scene.v):
        people = np.kron(rng.integers(112, 146, (rows, seats)), np.ones((4, 4), int))
        plane[top // 2 : top // 2 + rows * 4] = people[:, : width // 2]
    for y in range(top, bottom, 8):
        scene.y[y : y + 2] = scene.y[y : y + 2] // 2
    for x in range(180, width, 320):
        scene.box(x, 44, 8, 96, (48, 130, 126))
        for row in range(3):
            for lamp in range(5):
                scene.disc(x - 36 + 20 * lamp, 30 + 16 * row, 6, (226, 122, 132))
    advert = bottom
    for index, x in enumerate(range(0, width, 210)):
        colour = ((60, 150, 112), (92, 112, 170), (76, 98, 118))[index % 3]
        scene.box(x, advert, 206, 22, colour)
        scene.box(x + 24, advert + 8, 120, 6, (180, 128, 128))


@dataclass(frozen=True)
class _Player:
    x: float
    y: float
    reach: float
    pace: float
    phase: float
    shirt: Colour


def _players() -> tuple[_Player, ...]:
    rng = np.random.default_rng(_SEED + 1)
    made = [
        _Player(
            x=rng.uniform(120, WIDTH + _PAN - 120),
            y=rng.uniform(_HORIZON + 50, HEIGHT - 110),
            reach=rng.uniform(30, 120),
            pace=rng.uniform(0.25, 0.7),
            phase=rng.uniform(0, 6.28),
            shirt=_HOME if index % 2 else _AWAY,
        )
        for index in range(16)
    ]
    return tuple(sorted(made, key=lambda player: player.y))


def _draw_players(picture: Picture, players: tuple[_Player, ...], t: float, pan: int) -> None:
    for player in players:
        x = int(player.x + player.reach * np.sin(player.pace * t + player.phase)) - pan
        y = int(player.y + 0.3 * player.reach * np.sin(1.3 * player.pace * t))
        if not 20 <= x <= WIDTH - 20:
            continue
        size = 10 + (y - _HORIZON) // 26
        step = int(size / 3 * np.sin(9 * player.pace * t + player.phase))
        picture.box(x - size, y + 3 * size, 2 * size, 4, (60, 112, 112))
        picture.box(x - size // 2 + step, y + size, size // 2, 2 * size, (40, 124, 128))
        picture.box(x + size // 4 - step, y + size, size // 2, 2 * size, (40, 124, 128))
        picture.box(x - size // 2, y - size // 2, size + 2, 3 * size // 2, player.shirt)
        picture.disc(x, y - size, max(4, size // 2), _SKIN)
    ball_x = int((WIDTH + _PAN) / 2 + 380 * np.sin(0.55 * t)) - pan
    bounce = int(60 * abs(np.sin(2.1 * t)))
    picture.disc(ball_x, 560 - bounce, 8, _BALL)


_SEGMENTS = {
    "0": "abcdef",
    "1": "bc",
    "2": "abged",
    "3": "abgcd",
    "4": "fgbc",
    "5": "afgcd",
    "6": "afgedc",
    "7": "abc",
    "8": "abcdefg",
    "9": "abcdfg",
}


def _draw_board(picture: Picture, index: int) -> None:
    """The running clock, minutes:seconds.frames, in seven segments."""
    second, frame = divmod(index, FPS)
    text = f"{second // 60:02}:{second % 60:02}.{frame:02}"
    picture.box(48, 40, 286, 68, _BOARD)
    picture.box(48, 40, 6, 68, _HOME)
    x = 70
    for sign in text:
        if sign in ":.":
            for y in (58, 82) if sign == ":" else (92,):
                picture.box(x, y, 6, 6, _DIGIT)
            x += 16
            continue
        _draw_digit(picture, x, 52, _SEGMENTS[sign])
        x += 36


def _draw_digit(picture: Picture, x: int, y: int, lit: str, w: int = 24, h: int = 44, bar: int = 6) -> None:
    half = h // 2
    places = {
        "a": (x, y, w, bar),
        "g": (x, y + half - bar // 2, w, bar),
        "d": (x, y + h - bar, w, bar),
        "f": (x, y, bar, half),
        "b": (x + w - bar, y, bar, half),
        "e": (x, y + half, bar, half),
        "c": (x + w - bar, y + half, bar, half),
    }
    for segment in lit:
        picture.box(*places[segment], _DIGIT)
