"""Pictures of samples as arrays of bytes, and PNG files."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from gan_experiments.data.base import to_bytes
from gan_experiments.logging.atomic import write_atomic

SHEET, TILE = 800, 128
"""Pixels from which sheets are wide enough to look at, and tiles large enough."""

DATA_COLOUR, SAMPLE_COLOUR = (190, 190, 190), (200, 30, 30)


def grid(images: Tensor, columns: int | None = None) -> NDArray[np.uint8]:
    """Images (n, c, h, w) in [-1, 1] side by side as bytes (height, width, 1 or 3), about square unless told."""
    from torchvision.utils import make_grid

    columns = columns or math.ceil(math.sqrt(len(images)))
    sheet = make_grid(to_bytes(images).cpu(), nrow=columns, padding=1, pad_value=128)
    if images.shape[1] == 1:
        sheet = sheet[:1]
    return np.ascontiguousarray(sheet.permute(1, 2, 0).numpy())


def readable(pixels: NDArray[np.uint8], tile: int) -> NDArray[np.uint8]:
    """A sheet (height, width, c) of tiles that many pixels wide, each pixel as a square so large that the sheet is at
    least SHEET wide; as it is with tiles of TILE or more."""
    factor = 1 if tile >= TILE else max(1, -(-SHEET // pixels.shape[1]))
    return np.ascontiguousarray(pixels.repeat(factor, 0).repeat(factor, 1))


def save_sheet(path: Path, pixels: NDArray[np.uint8], tile: int) -> None:
    """Write a sheet of tiles that many pixels wide as a PNG file, large enough to look at."""
    save_png(path, readable(pixels, tile))


def scatter(samples: Tensor, reals: Tensor, side: int = 512) -> NDArray[np.uint8]:
    """The first two coordinates of points (n, d), samples red over the data in grey, as bytes (side, side, 3).

    Points of the line are drawn at height 0; data at one point only are the middle of a square of side 2.
    """
    reals, samples = (pad(points.cpu().float(), (0, 1)) for points in (reals, samples))
    centre = (reals.amax(0) + reals.amin(0))[:2] / 2
    reach = float((reals.amax(0) - reals.amin(0))[:2].max()) * 0.6 or 1.0
    canvas = np.full((side, side, 3), 255, np.uint8)
    for points, colour in ((reals, DATA_COLOUR), (samples, SAMPLE_COLOUR)):
        unit = ((points[:, :2] - centre) / reach + 1) / 2
        spots = (unit * side).long()
        spots = spots[((spots >= 1) & (spots < side - 1)).all(1)]
        for across in (-1, 0, 1):
            for down in (-1, 0, 1):
                canvas[side - 1 - (spots[:, 1] + down), spots[:, 0] + across] = colour
    return canvas


def save_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write bytes (h, w, 1 or 3) as a PNG file, whole or not at all."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue())


def as_pixels(image: Tensor) -> NDArray[np.uint8]:
    """One image (c, h, w) in [-1, 1] as bytes (h, w, c)."""
    return np.ascontiguousarray(to_bytes(image).permute(1, 2, 0).cpu().contiguous().numpy())
