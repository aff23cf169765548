"""How generated images in [-1, 1] become the bytes that every extractor sees."""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor

from gan_experiments.data.base import to_bytes
from gan_experiments.errors import UserError


class Quantisation(StrEnum):
    """The nearest of 256 levels, as images are saved (ours, and NVIDIA's but for ties), or the next lower one.

    The latter is what `(255 * x).byte()` does, in torchmetrics among others; it darkens images by half a level.
    """

    ROUND = "round"
    TRUNCATE = "truncate"

    @classmethod
    def _missing_(cls, value: object) -> Quantisation:
        raise UserError(f"evaluation.quantise={value}: use {' or '.join(cls)}")

    def __call__(self, images: Tensor) -> Tensor:
        """Float images (n, c, h, w), clamped to [-1, 1], as uint8."""
        if self is Quantisation.ROUND:
            return to_bytes(images)
        return images.detach().float().clamp(-1, 1).add(1).mul(127.5).to(torch.uint8)
