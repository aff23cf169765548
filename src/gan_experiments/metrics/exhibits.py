"""Features kept together with small pictures of their samples, for metrics that show what they found."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from gan_experiments.data.base import to_unit
from gan_experiments.metrics.base import Accumulator, joined, known
from gan_experiments.metrics.extractors import Features
from gan_experiments.metrics.order import settled
from gan_experiments.pictures import grid, readable

CHANNELS = (1, 3)
"""Numbers of channels that can be drawn."""


@final
class Exhibits(Accumulator):
    """All features (n, d) seen, and their images (n, c, h, w), uint8, area-averaged to at most `side` pixels a side.

    Of points, and where `side` is 0, the images are empty: (n, 0).
    """

    rows: list[Tensor]
    images: list[Tensor]

    def __init__(self, metric: str, side: int) -> None:
        """Nothing yet, for the metric of that name."""
        super().__init__()
        self.metric = metric
        self.side = side
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self.add_state("images", default=[], dist_reduce_fx="cat")

    def update(self, features: Features) -> None:
        """Keep features (n, d), and images if samples are such."""
        self.rows.append(features.features.to(self.device))
        if self.side == 0:
            images = torch.empty(len(features.features), 0, dtype=torch.uint8)
        else:
            images = known(features.samples, self.metric, "the samples themselves")
            images = shrink(images, self.side) if images.ndim == 4 else images.new_empty(len(images), 0).byte()
        self.images.append(images.to(self.device))

    def compute(self) -> tuple[Tensor, Tensor]:
        """All features (n, d) and images (n, c, h, w) or (n, 0), at random places that follow from what they hold."""
        rows, images = joined(self.rows), joined(self.images)
        order = settled(rows, images)
        return rows[order], images[order]


def shrink(images: Tensor, side: int) -> Tensor:
    """uint8 images (n, c, h, w), area-averaged and rounded where they are larger than `side` pixels."""
    height, width = images.shape[2:]
    if height <= side and width <= side:
        return images
    size = (min(height, side), min(width, side))
    return adaptive_avg_pool2d(images.float(), size).round().to(torch.uint8)


def sheet(images: Tensor, columns: int) -> Tensor:
    """uint8 images (n, c, h, w) of 1 or 3 channels side by side in `columns`, enlarged: uint8 (c, height, width)."""
    return torch.from_numpy(readable(grid(to_unit(images), columns), images.shape[-1])).permute(2, 0, 1).contiguous()
