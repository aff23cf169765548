"""Image files of any kind as equal squares of bytes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from gan_experiments.errors import UserError

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
MODES = {1: "L", 3: "RGB"}


def find(root: Path) -> list[str]:
    """Sorted names, relative to `root` with "/", of the image files below it; hidden files and folders are left out.

    Raises UserError for a folder that can't be listed.
    """
    found: list[str] = []
    visited: set[tuple[int, int]] = set()
    for folder, children, names in os.walk(root, onerror=_refuse, followlinks=True):
        status = os.stat(folder)
        # A link may lead back up the tree.
        if (status.st_dev, status.st_ino) in visited:
            children.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        children[:] = sorted(child for child in children if not child.startswith("."))
        prefix = "" if folder == str(root) else Path(folder).relative_to(root).as_posix() + "/"
        images = (name for name in names if name.lower().endswith(EXTENSIONS) and not name.startswith("."))
        found.extend(prefix + name for name in images)
    return sorted(found)


def _refuse(error: OSError) -> None:
    """Say which folder can't be listed; os.walk alone would pass over it in silence."""
    raise UserError(
        f"{error.filename}: can't be listed ({error.strerror}); allow reading it or move it away"
    ) from error


def describe(size: int, channels: int) -> str:
    """What `load` does to an image, in words; a change of `load` must change these words."""
    return f"first frame, upright by EXIF, alpha over white, centre square, Lanczos to {size}x{size}, {MODES[channels]}"


def load(path: Path, size: int, channels: int) -> tuple[NDArray[np.uint8], bool]:
    """The image as uint8 (channels, size, size), and whether it was smaller than that; raises what Pillow raises."""
    with Image.open(path) as file:
        upright = ImageOps.exif_transpose(file)
        image = flatten(upright, MODES[channels])
    short = min(image.size)
    left, top = (image.width - short) // 2, (image.height - short) // 2
    # Lanczos in Pillow widens its kernel when reducing, so there is no aliasing.
    image = image.resize((size, size), Image.Resampling.LANCZOS, (left, top, left + short, top + short))
    pixels = np.asarray(image, dtype=np.uint8).reshape(size, size, channels)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)), short < size


def flatten(image: Image.Image, mode: str) -> Image.Image:
    """The image as "L" or "RGB" with 8 bits a channel; transparency is laid over white, 16-bit grey is divided by 257.

    Raises ValueError for images whose range of values is not known (float, 32-bit integer).
    """
    if image.mode.startswith("I;16"):
        levels = np.asarray(image).astype(np.float64) / 257
        image = Image.fromarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"pixels of kind {image.mode} have no known range; save it with 8 or 16 bits a channel")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image.convert(mode)
