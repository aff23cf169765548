"""Small line charts as pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from gan_experiments.ticks import even_ticks, log_ticks, plain

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 80, 16, 34, 44
COLOURS = ((60, 60, 60), (200, 30, 30), (30, 90, 190), (30, 140, 60))
INK, FAINT = (0, 0, 0), (225, 225, 225)


def line_chart(title: str, x_label: str, x: Sequence[float], curves: Mapping[str, Sequence[float]]) -> Tensor:
    """Curves of positive values over common abscissas as a picture, uint8 (3, 400, 640), with axes, a grid and a
    legend; the vertical axis is logarithmic."""
    from PIL import Image, ImageDraw, ImageFont

    values = [math.log10(value) for curve in curves.values() for value in curve]
    (x0, x1), (y0, y1) = (min(x), max(x)), (min(values), max(values))
    image = Image.new("RGB", (WIDTH, HEIGHT), (255, 255, 255))
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(13)

    def place(across: float, up: float) -> tuple[float, float]:
        right = LEFT + (across - x0) / ((x1 - x0) or 1) * (WIDTH - LEFT - RIGHT)
        return right, HEIGHT - BOTTOM - (up - y0) / ((y1 - y0) or 1) * (HEIGHT - TOP - BOTTOM)

    for tick in even_ticks(x0, x1):
        right, _ = place(tick, y0)
        pen.line((right, TOP, right, HEIGHT - BOTTOM), FAINT)
        pen.text((right, HEIGHT - BOTTOM + 6), f"{tick:g}", INK, font, anchor="mt")
    for tick in log_ticks(10**y0, 10**y1):
        _, down = place(x0, math.log10(tick))
        pen.line((LEFT, down, WIDTH - RIGHT, down), FAINT)
        pen.text((LEFT - 8, down), plain(tick), INK, font, anchor="rm")
    pen.rectangle((LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM), outline=INK)
    pen.text((LEFT, TOP - 8), title, INK, font, anchor="ls")
    pen.text(((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8), x_label, INK, font, anchor="ms")
    for row, (name, curve) in enumerate(curves.items()):
        colour, down = COLOURS[row % len(COLOURS)], TOP + 16 + 18 * row
        points = [place(across, math.log10(value)) for across, value in zip(x, curve, strict=True)]
        pen.line(points, colour, 2, joint="curve")
        pen.line((WIDTH - 150, down, WIDTH - 122, down), colour, 3)
        pen.text((WIDTH - 114, down), name, INK, font, anchor="lm")
    return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())
