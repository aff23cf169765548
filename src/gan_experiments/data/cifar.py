"""CIFAR-10: 32x32 colour images of ten classes (Krizhevsky 2009)."""

from __future__ import annotations

import warnings

import numpy as np
import torch

from gan_experiments.data.base import Dataset, Spec, Split
from gan_experiments.data.download import explained
from gan_experiments.data.share import shared
from gan_experiments.data.tree import expanded
from gan_experiments.locations import located

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@located("root")
def cifar10(root: str, flip: bool = False, share: float = 1.0, share_seed: int = 0) -> Dataset:
    """CIFAR-10 from `root`/cifar-10-batches-py, downloaded there when missing; 50,000 training images, or a seeded
    `share` of each class's, and 10,000 held-out images.

    Raises UserError when it is missing or broken and can't be downloaded.
    """
    home = str(expanded(root))
    train, held_out = _split(home, train=True), _split(home, train=False)
    whole = Dataset("cifar10", Spec((3, 32, 32), CLASSES), train, held_out, flip=flip)
    return shared(whole, share, share_seed)


def _split(root: str, train: bool) -> Split:
    """The official training or test part; torchvision unpickles its files only when their md5 is the official one."""
    from torchvision.datasets import CIFAR10

    looked = f"CIFAR-10 is not, or not intact, in {root}/{CIFAR10.base_folder} and can't be downloaded"
    remedy = f"unpack an intact {CIFAR10.filename} into {root}"
    with explained(looked, remedy), warnings.catch_warnings():
        # The official files were written by an old numpy, whose dtype description newer ones deprecate.
        warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
        source = CIFAR10(root, train=train, download=True)
    images = torch.from_numpy(source.data).permute(0, 3, 1, 2).contiguous()
    return Split(images, torch.tensor(source.targets))
