"""Data of more than one column: images with their edges, and two Gaussians whose samples aren't paired."""

from __future__ import annotations

import torch
from torch import Tensor

from gan_experiments.data.base import Column, Dataset, Spec, Split, to_bytes, to_unit
from gan_experiments.data.fields import Kind


def edged(images: Tensor) -> Split:
    """Images (n, 1, h, w), uint8, with their edges as a further column."""
    x = to_unit(images)
    slope = (x - x.roll(1, -1)).abs() + (x - x.roll(1, -2)).abs()
    return Split(images, others={"edges": Column(to_bytes(1 - slope), Kind.IMAGE)})


def edges(train: int = 96, held_out: int = 40, side: int = 16) -> Dataset:
    """A data set of images, bright rectangles, with their edges."""

    def rectangles(n: int, seed: int) -> Tensor:
        random = torch.Generator().manual_seed(seed)
        corners = torch.rand(n, 4, generator=random) * side / 2
        place = torch.arange(side)
        rows, columns = (
            (place > corners[:, k : k + 1]) & (place < corners[:, k + 2 : k + 3] + side / 2) for k in (0, 1)
        )
        return (200 * (rows[:, :, None] & columns[:, None, :])).to(torch.uint8)[:, None]

    parts = edged(rectangles(train, 0)), edged(rectangles(held_out, 1))
    return Dataset("edges", Spec(parts[0].shape, others=parts[0].fields), *parts)


def gaussians(n: int = 500, m: int = 300) -> Dataset:
    """Points about (2, 0), and a stream `b` of as many as `m` about (-1, 3), narrower."""

    def split(seed: int) -> Split:
        random = torch.Generator().manual_seed(seed)
        b = Split(torch.randn(m, 2, generator=random) * 0.5 + torch.tensor([-1.0, 3.0]))
        return Split(torch.randn(n, 2, generator=random) + torch.tensor([2.0, 0.0]), streams={"b": b})

    parts = split(0), split(1)
    return Dataset("gaussians", Spec((2,), others=parts[0].fields), *parts)
