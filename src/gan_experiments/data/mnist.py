"""Sets of 28x28 grey images, padded to 32x32: the embedded fashion10k, Fashion-MNIST and MNIST."""

from __future__ import annotations

import zipfile
import zlib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from gan_experiments.data import idx
from gan_experiments.data.base import Dataset, Spec, Split
from gan_experiments.data.download import explained
from gan_experiments.data.share import shared
from gan_experiments.data.tree import expanded
from gan_experiments.errors import UserError
from gan_experiments.locations import located

if TYPE_CHECKING:
    from torchvision.datasets import MNIST

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
DIGITS = tuple(str(digit) for digit in range(10))
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
TRANSFORM = "28x28 padded with 0 to 32x32"


def fashion10k(flip: bool = False, share: float = 1.0, share_seed: int = 0) -> Dataset:
    """10,000 training and 2,000 held-out images of Fashion-MNIST, equally many a class, embedded in the package.

    `share` below 1 takes a seeded share of each class's training images, here and in the other sets.
    """
    asset = resources.files("gan_experiments") / "assets" / "fashion10k.npz"
    try:
        with asset.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {part: archive[part] for part in idx.FILES}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{asset}: can't be read ({error}); reinstall the package, it ships this file") from error
    return shared(assemble("fashion10k", FASHION_CLASSES, arrays, flip), share, share_seed)


@located("root")
def fashion_mnist(root: str, flip: bool = False, share: float = 1.0, share_seed: int = 0) -> Dataset:
    """All of Fashion-MNIST, from `root`/FashionMNIST/raw, `root`, Debian's package, or else downloaded into `root`."""
    from torchvision.datasets import FashionMNIST

    home = expanded(root)
    arrays = official(
        FashionMNIST, [home / "FashionMNIST" / "raw", home, DEBIAN_FOLDER], str(home), idx.FASHION_MNIST_MD5
    )
    return shared(assemble("fashion_mnist", FASHION_CLASSES, arrays, flip), share, share_seed)


@located("root")
def mnist(root: str, flip: bool = False, share: float = 1.0, share_seed: int = 0) -> Dataset:
    """All of MNIST, from `root`/MNIST/raw or else downloaded there."""
    from torchvision.datasets import MNIST

    home = expanded(root)
    arrays = official(MNIST, [home / "MNIST" / "raw"], str(home), idx.MNIST_MD5)
    return shared(assemble("mnist", DIGITS, arrays, flip), share, share_seed)


def official(source: type[MNIST], folders: list[Path], root: str, md5: dict[str, str]) -> dict[str, NDArray[np.uint8]]:
    """The four arrays of an MNIST-like set from the first of `folders` that has its files, else downloaded into `root`.

    Raises UserError when nothing is found and the download fails, or a file is broken.
    """
    files = next(filter(None, map(idx.find, folders)), None)
    if files is None:
        looked = f"{source.__name__} is in none of {', '.join(map(str, folders))} and can't be downloaded"
        remedy = f"put {', '.join(idx.FILES.values())} (decompressed or .gz) into {folders[0]}"
        with explained(looked, remedy):
            source(root, download=True)
        files = idx.find(folders[0])
        if files is None:
            raise UserError(f"{looked}: the download left no files there; {remedy}")
    return {part: idx.read(path, md5[idx.FILES[part]]) for part, path in files.items()}


def assemble(name: str, classes: tuple[str, ...], arrays: dict[str, NDArray[np.uint8]], flip: bool) -> Dataset:
    """A data set from the four arrays of an MNIST-like set, images padded from 28x28 to 32x32."""

    def split(part: str) -> Split:
        images: Tensor = F.pad(torch.tensor(arrays[f"{part}_images"]).unsqueeze(1), (2, 2, 2, 2))
        return Split(images, torch.tensor(arrays[f"{part}_labels"], dtype=torch.int64))

    return Dataset(name, Spec((1, 32, 32), classes), split("train"), split("held_out"), TRANSFORM, flip)
