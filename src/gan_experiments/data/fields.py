"""What a column of the data is: a field's kind and shape, how it is stored and how networks see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import torch
from torch import Tensor

from gan_experiments.errors import UserError


class Kind(StrEnum):
    """What samples are; it decides how they are stored, shown to networks and drawn."""

    IMAGE = "image"
    POINTS = "points"
    VOLUME = "volume"
    WAVE = "wave"
    CLIP = "clip"
    TOKENS = "tokens"
    CATEGORY = "category"


STORED: dict[Kind, tuple[torch.dtype, int, str]] = {
    Kind.IMAGE: (torch.uint8, 3, "(c, h, w)"),
    Kind.POINTS: (torch.float32, 1, "(d,)"),
    Kind.VOLUME: (torch.uint8, 4, "(c, d, h, w)"),
    Kind.WAVE: (torch.int16, 2, "(c, t)"),
    Kind.CLIP: (torch.uint8, 4, "(t, c, h, w)"),
    Kind.TOKENS: (torch.int64, 1, "(t,)"),
    Kind.CATEGORY: (torch.int64, 0, "()"),
}
"""Type and shape of one sample of each kind, as stored; clips of t frames, waves and texts of length t."""
MIRRORED = (Kind.IMAGE, Kind.VOLUME, Kind.CLIP)
"""Kinds whose last axis is left to right."""


@dataclass(frozen=True)
class Field:
    """What one column of the data holds: kind, shape of one sample, names and frequencies of classes, if any."""

    kind: Kind
    shape: tuple[int, ...]
    classes: tuple[str, ...] = ()
    frequencies: tuple[float, ...] = field(default=(), compare=False)


def kind_of(stored: Tensor) -> Kind:
    """The kind of stored samples (n, ...) by type and number of axes; clips must say that they aren't volumes.

    Raises UserError for what is stored as no kind.
    """
    for kind, (dtype, axes, _) in STORED.items():
        if (stored.dtype, stored.ndim - 1) == (dtype, axes):
            return kind
    others = ", ".join(f"{kind} as {dtype} {shape}" for kind, (dtype, _, shape) in list(STORED.items())[2:])
    raise UserError(
        f"samples are {stored.dtype} of shape {tuple(stored.shape)}; expected uint8 images (n, c, h, w) or float32 "
        f"points (n, d); {others} with n in front"
    )


def check_stored(stored: Tensor, kind: Kind) -> None:
    """Raise UserError unless samples (n, ...) are stored as their kind must be."""
    dtype, axes, shape = STORED[kind]
    if (stored.dtype, stored.ndim - 1) != (dtype, axes):
        raise UserError(
            f"samples of kind {kind} are {stored.dtype} of shape {tuple(stored.shape)}; expected {dtype}, each {shape}"
        )


def seen(stored: Tensor) -> Tensor:
    """Stored samples (n, ...) as networks see them: bytes and waves float32 in [-1, 1], the others as they are."""
    if stored.dtype == torch.uint8:
        return stored.float().div_(127.5).sub_(1.0)
    if stored.dtype == torch.int16:
        return stored.float().div_(32768.0)
    return stored


def gather(stored: Tensor, rows: Tensor | None, indices: Tensor, device: torch.device) -> Tensor:
    """The samples at `indices` (n,) of a column, or of its `rows` (m,), as stored, on `device`."""
    if stored.device.type != "cpu":
        return stored[indices.to(stored.device, non_blocking=True)]
    # In ascending order, because a memory-mapped file is read faster forwards.
    ascending, order = indices.sort()
    read = stored[ascending if rows is None else rows[ascending]]
    gathered = torch.empty_like(read, pin_memory=device.type == "cuda")
    gathered[order] = read
    return gathered.to(device, non_blocking=True)
