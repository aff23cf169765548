"""Image files of any kind as equal squares of bytes."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from gan_experiments.data.depth import FULL, REAL, WHOLE, Extent, Reckon, Unreadable, full

MODES = {1: "L", 3: "RGB"}
ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""What stands a picture upright, by its EXIF orientation."""

# Pictures beyond twice Pillow's limit of pixels can't be read and are named; those below it are nobody's attack.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# Broken notes are passed over, whatever is written in them.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def describe(size: int, channels: int) -> str:
    """What `load` does to an image, in words; a change of `load` must change these words."""
    return f"first frame, upright by EXIF, alpha over white, centre square, Lanczos to {size}x{size}, {MODES[channels]}"


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An image file whose pixels are read when first looked at: the only way in which this program opens one.

    Whatever is wrong with it shows as Unreadable, there or within the block.
    """
    try:
        with Image.open(path) as file:
            yield file
    except Unreadable:
        raise
    # Pillow's readers raise nearly anything on a broken file: OSError, SyntaxError, struct.error, EOFError ...
    except Exception as error:
        raise Unreadable(" ".join(f"{type(error).__name__}: {error}".split())) from error


def load(path: Path, size: int, channels: int, reckon: Reckon = full) -> tuple[NDArray[np.uint8], bool]:
    """The image as uint8 (channels, size, size), and whether it was smaller than that; raises Unreadable.

    `reckon` says what is black and white in images with more than 8 bits.
    """
    with opened(path) as file:
        image = flatten(upright(file, deepened(file, path, reckon)), MODES[channels], reckon)
        short = min(image.size)
        left, top = (image.width - short) // 2, (image.height - short) // 2
        # Lanczos in Pillow widens its kernel when reducing, so there is no aliasing.
        image = image.resize((size, size), Image.Resampling.LANCZOS, (left, top, left + short, top + short))
    pixels = np.asarray(image, dtype=np.uint8).reshape(size, size, channels)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)), short < size


def orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1, upright, where there is none or where the EXIF block is broken, as viewers show it."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    # The pixels are whole, so a broken block of notes is no reason to leave an image out.
    except Exception:
        return 1


def upright(file: Image.Image, image: Image.Image | None = None) -> Image.Image:
    """The pixels of a file, or `image` made of them, as they are meant to be seen."""
    turn, pixels = UPRIGHT.get(orientation(file)), file if image is None else image
    return pixels if turn is None else pixels.transpose(turn)


def seen_size(image: Image.Image) -> tuple[int, int]:
    """Height and width of the image once it stands upright."""
    width, height = image.size
    return (width, height) if orientation(image) > 4 else (height, width)


def flatten(image: Image.Image, mode: str, reckon: Reckon = full) -> Image.Image:
    """The image as "L" or "RGB" with 8 bits a channel; transparency is laid over white.

    Values of more than 8 bits are scaled from black to white, as `reckon` has them. Raises Unreadable.
    """
    if (kind := kind_of(image)) is not None:
        values, levels = np.asarray(image).astype(np.float64), reckon(kind)
        if not np.isfinite(values).all():
            raise Unreadable(f"some of its {kind} are infinite or none at all")
        scaled = (values - levels.black) * (255 / (levels.white - levels.black))
        image = Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image.convert(mode)


def layout_of(image: Image.Image) -> str:
    """How a file stores its colours (or grey and alpha) of 16 bits, such as RGB;16B; empty for all other images."""
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    layout = tiles[0][3] if tiles else ""
    text = layout if isinstance(layout, str) else str(layout[0]) if layout else ""
    return text if image.mode in ("LA", "RGB", "RGBA", "RGBX") and ";16" in text else ""


def deepened(image: Image.Image, path: Path, reckon: Reckon) -> Image.Image:
    """The image, with its lower bits where its file has 16 a channel of which fewer are used; raises Unreadable."""
    layout = layout_of(image)
    if not layout or (levels := reckon(WHOLE)) == FULL:
        return image
    # Pillow keeps the upper byte of each value; with the bytes said to be in the other order, that is the lower one.
    order = layout[-1].replace("N", "L" if sys.byteorder == "little" else "B")
    with opened(path) as other:
        assert isinstance(other, ImageFile.ImageFile)
        tile, swapped = other.tile[0], f"{layout[:-1]}{'L' if order == 'B' else 'B'}"
        args = swapped if isinstance(tile.args, str) else (swapped, *(tile.args or ())[1:])
        other.tile = [tile._replace(args=args)]
        low = np.asarray(other)
    values = np.asarray(image) * 256.0 + low
    return Image.fromarray(np.clip(np.rint(values * (255 / levels.white)), 0, 255).astype(np.uint8))


def kind_of(image: Image.Image) -> str | None:
    """Kind of pixel values of more than 8 bits; None for images of bytes."""
    if image.mode == "F":
        return REAL
    return WHOLE if image.mode == "I" or image.mode.startswith("I;16") else None


def extent(path: Path) -> Extent | None:
    """Kind, least and greatest value of an image with more than 8 bits; None for one of bytes or that can't be used."""
    try:
        with opened(path) as image:
            if layout_of(image):
                return WHOLE, 0.0, float(np.asarray(image).max()) * 256 + 255
            kind = kind_of(image)
            if kind is None:
                return None
            values = np.asarray(image)
            return (kind, float(values.min()), float(values.max())) if np.isfinite(values).all() else None
    except Unreadable:
        return None
