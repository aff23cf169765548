"""Folders of small random images, for tests of how data are read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def noise(*shape: int, seed: int = 0, high: int = 256) -> np.ndarray:
    """Random numbers below `high`, bytes where they fit."""
    return np.random.default_rng(seed).integers(0, high, shape, np.uint8 if high <= 256 else np.uint16)


def draw(root: Path, names: Iterable[str], size: int = 8) -> Path:
    """Write different images of these names below `root`, as PNG whatever the names say; returns root."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(size, size, 3, seed=number)).save(path, "PNG")
    return root


def each(*folders: str, count: int = 3) -> list[str]:
    """Names of `count` images in each folder."""
    return [f"{folder}/{number}.png" for folder in folders for number in range(count)]
