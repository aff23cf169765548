"""What a data set is: two splits of samples with optional labels, and the facts that networks are built from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gan_experiments.errors import UserError

DEVICE_LIMIT = 2 * 2**30


@dataclass(frozen=True)
class Spec:
    """What games must know of the data: shape of one sample, (c, h, w) or (d,), the classes' names and, unless they are
    equally frequent, how frequent each is (shares that sum to 1)."""

    shape: tuple[int, ...]
    classes: tuple[str, ...] = ()
    frequencies: tuple[float, ...] = field(default=(), compare=False)

    @property
    def is_image(self) -> bool:
        """Whether samples are images (c, h, w) rather than points (d,)."""
        return len(self.shape) == 3


class Batch(NamedTuple):
    """Samples as networks see them: float32, images (n, c, h, w) in [-1, 1] or points (n, d); labels (n,) or None."""

    samples: Tensor
    labels: Tensor | None


@dataclass(frozen=True, eq=False)
class Modes:
    """A toy set as a distribution: equally likely Gaussians at centres (k, d), float32, of one standard deviation."""

    centres: Tensor
    std: float


def to_unit(images: Tensor) -> Tensor:
    """uint8 images (n, c, h, w) as float32 in [-1, 1]."""
    return images.float().div_(127.5).sub_(1.0)


def to_bytes(images: Tensor) -> Tensor:
    """Float images in [-1, 1], clamped and rounded, as uint8."""
    return images.detach().float().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)


class Split:
    """Samples of one split: uint8 images (n, c, h, w) or float32 points (n, d), with int64 labels (n,) or None.

    `samples` may be memory-mapped (and larger than memory); `rows` (n,), ascending, picks the split's samples out of
    a store that other splits share; labels follow the rows. Samples stay where they are, batches come out on `device`.
    `fingerprint` may be given when it is already known, so that large files aren't read for it.
    Raises UserError when the parts don't fit together.
    """

    def __init__(
        self,
        samples: Tensor,
        labels: Tensor | None = None,
        *,
        rows: Tensor | None = None,
        device: torch.device | str | None = None,
        fingerprint: str | None = None,
    ) -> None:
        if (samples.dtype, samples.ndim) not in ((torch.uint8, 4), (torch.float32, 2)):
            found = f"{samples.dtype} of shape {tuple(samples.shape)}"
            raise UserError(f"samples are {found}; expected uint8 images (n, c, h, w) or float32 points (n, d)")
        self.samples, self.rows = samples, rows
        self.device = torch.device(device) if device is not None else samples.device
        if len(self) == 0:
            raise UserError("a split of the data set is empty; it needs at least one sample")
        if labels is not None and (labels.dtype != torch.int64 or labels.shape != (len(self),)):
            found = f"{labels.dtype} of shape {tuple(labels.shape)}"
            raise UserError(f"labels are {found}; expected int64 of shape ({len(self)},), one a sample")
        self.labels = labels.to(self.device) if labels is not None else None
        self._fingerprint = fingerprint

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.samples) if self.rows is None else len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, (c, h, w) or (d,)."""
        return tuple(self.samples.shape[1:])

    @property
    def is_image(self) -> bool:
        """Whether samples are images rather than points."""
        return self.samples.ndim == 4

    def take(self, indices: Tensor, flips: Tensor | None = None) -> Batch:
        """The samples at `indices` (n,) as networks see them; images where `flips` (n,) is true mirrored left-right."""
        samples = self.gather(indices)
        if self.is_image:
            samples = to_unit(samples)
        if flips is not None:
            where = flips.to(self.device, non_blocking=True).view(-1, *[1] * (samples.ndim - 1))
            samples = torch.where(where, samples.flip(-1), samples)
        labels = None if self.labels is None else self.labels[indices.to(self.device, non_blocking=True)]
        return Batch(samples, labels)

    def raw(self, start: int, stop: int) -> Tensor:
        """Samples start to stop as stored, uint8 images or float32 points, for scoring; not to be written to."""
        return self._stored(start, stop).to(self.device)

    def to(self, device: torch.device | str, limit: int = DEVICE_LIMIT) -> Split:
        """This split for `device`: moved when it takes at most `limit` bytes, else left and moved by the batch."""
        device = torch.device(device)
        size = len(self) * self.samples[0].nbytes
        if device == self.device:
            return self
        if size > limit:
            return Split(self.samples, self.labels, rows=self.rows, device=device, fingerprint=self._fingerprint)
        samples = self.samples if self.rows is None else self.samples[self.rows]
        return Split(samples.to(device), self.labels, fingerprint=self.fingerprint)

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of content, shape and labels; the same wherever the samples live."""
        if self._fingerprint is None:
            digest = hashlib.sha256()
            for start in range(0, len(self), 8192):
                digest.update(self._stored(start, start + 8192).cpu().numpy().tobytes())
            self._fingerprint = describe_content(digest.hexdigest(), (len(self), *self.shape), self.labels)
        return self._fingerprint

    def _stored(self, start: int, stop: int) -> Tensor:
        """Samples start to stop, where they are."""
        return self.samples[start:stop] if self.rows is None else self.samples[self.rows[start:stop]]

    def gather(self, indices: Tensor) -> Tensor:
        """The samples at `indices` (n,) as stored, uint8 images or float32 points, on the split's device."""
        if self.samples.device.type != "cpu":
            return self.samples[indices.to(self.device, non_blocking=True)]
        # In ascending order, because a memory-mapped file is read faster forwards.
        ascending, order = indices.sort()
        stored = self.samples[ascending if self.rows is None else self.rows[ascending]]
        gathered = torch.empty_like(stored, pin_memory=self.device.type == "cuda")
        gathered[order] = stored
        return gathered.to(self.device, non_blocking=True)


def rows_of(split: Split) -> list[int]:
    """The places of a split's samples in their store."""
    return list(range(len(split))) if split.rows is None else split.rows.tolist()


def describe_content(sha256: str, shape: tuple[int, ...], labels: Tensor | None, rows: Tensor | None = None) -> str:
    """A split's fingerprint from the SHA-256 of its stored bytes, the shape of all samples, labels and rows."""
    digest = hashlib.sha256(f"{sha256} {shape}".encode())
    for name, part in (("labels", labels), ("rows", rows)):
        if part is not None:
            digest.update(name.encode() + part.cpu().numpy().astype(np.dtype("<i8")).tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and held-out samples under one name, with what was done to them and, for toy mixtures, their modes.

    `transform` says in words what happened to the official samples; `flip` asks for random left-right mirroring.
    Raises UserError when splits, labels and spec disagree.
    """

    name: str
    spec: Spec
    train: Split
    held_out: Split
    transform: str = "none"
    flip: bool = False
    modes: Modes | None = None

    def __post_init__(self) -> None:
        """Refuse splits of other shapes than the spec's, and labels that aren't numbers of its classes."""
        if self.flip and not self.spec.is_image:
            raise UserError(f"dataset {self.name}: flip=true mirrors images, but samples are points")
        for split, samples in (("training", self.train), ("held-out", self.held_out)):
            where = f"dataset {self.name}, {split} part"
            if samples.shape != self.spec.shape:
                raise UserError(f"{where}: samples have shape {samples.shape}, expected {self.spec.shape}")
            if (samples.labels is not None) != bool(self.spec.classes):
                raise UserError(f"{where}: labels and class names must be given together, or neither")
            if samples.labels is not None:
                low, high = int(samples.labels.min()), int(samples.labels.max())
                if low < 0 or high >= len(self.spec.classes):
                    last = len(self.spec.classes) - 1
                    raise UserError(f"{where}: labels run from {low} to {high}, expected 0 to {last}")

        if self.train.labels is not None and not self.spec.frequencies:
            counts = self.train.labels.bincount(minlength=len(self.spec.classes)).tolist()
            shares = tuple(count / len(self.train) for count in counts)
            object.__setattr__(self, "spec", replace(self.spec, frequencies=shares))

    def to(self, device: torch.device | str, limit: int = DEVICE_LIMIT) -> Dataset:
        """The same data set for `device`; see Split.to."""
        return replace(self, train=self.train.to(device, limit), held_out=self.held_out.to(device, limit))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of both splits, the transform and the class names: equal data give equal fingerprints."""
        parts = (self.train.fingerprint, self.held_out.fingerprint, self.transform, *self.spec.classes)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()
