"""What a data set is: two splits of columns, samples and labels first, and the facts that networks are built from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan_experiments.data.fields import MIRRORED, Field, Kind, check_stored, gather, kind_of, seen
from gan_experiments.errors import UserError

DEVICE_LIMIT = 2 * 2**30


@dataclass(frozen=True)
class Spec:
    """What games must know of the data: the primary field's shape, the classes' names and, unless they are equally
    frequent, how frequent each is (shares that sum to 1); its kind, by default an image (c, h, w) or points (d,) by the
    shape; other fields by name."""

    shape: tuple[int, ...]
    classes: tuple[str, ...] = ()
    frequencies: tuple[float, ...] = field(default=(), compare=False)
    kind: Kind | None = None
    others: Mapping[str, Field] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Take the kind from the shape where none is given."""
        if self.kind is None:
            object.__setattr__(self, "kind", Kind.IMAGE if len(self.shape) == 3 else Kind.POINTS)

    @property
    def is_image(self) -> bool:
        """Whether samples are images (c, h, w)."""
        return self.kind is Kind.IMAGE

    def to_record(self) -> dict[str, Any]:
        """Plain lists and words, as they are kept with weights."""
        others = {name: [str(item.kind), list(item.shape)] for name, item in self.others.items()}
        plain = {"shape": list(self.shape), "classes": list(self.classes), "frequencies": list(self.frequencies)}
        return {**plain, "kind": str(self.kind), "others": others}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Spec:
        """What `to_record` wrote."""
        others = {name: Field(Kind(kind), tuple(shape)) for name, (kind, shape) in record["others"].items()}
        shape, classes, frequencies = (tuple(record[name]) for name in ("shape", "classes", "frequencies"))
        return cls(shape, classes, frequencies, Kind(record["kind"]), others)

    @property
    def fields(self) -> dict[str, Field]:
        """All fields by name: samples, labels where there are classes, and the others."""
        assert self.kind is not None
        labels = {"labels": Field(Kind.CATEGORY, (), self.classes, self.frequencies)} if self.classes else {}
        return {"samples": Field(self.kind, self.shape), **labels, **self.others}


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples as networks see them: float32, images (n, c, h, w) in [-1, 1] or points (n, d); labels (n,) or None; the
    other fields by name. It unpacks into samples and labels."""

    samples: Tensor
    labels: Tensor | None = None
    others: Mapping[str, Tensor] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Any]:
        """Samples, then labels."""
        return iter((self.samples, self.labels))

    def __getitem__(self, name: str) -> Tensor:
        """The field called `name`, (n, ...)."""
        found = {"samples": self.samples, "labels": self.labels, **self.others}.get(name)
        if found is None:
            raise UserError(
                f"the data have no field {name}; they have samples, {', '.join(self.others) or 'no others'}"
            )
        return found

    def under(self, name: str) -> dict[str, Tensor]:
        """All fields as those of a stream called `name`: its samples by that name, the others as name.field."""
        labels = {} if self.labels is None else {f"{name}.labels": self.labels}
        return {name: self.samples, **labels, **{f"{name}.{key}": value for key, value in self.others.items()}}


@dataclass(frozen=True, eq=False)
class Modes:
    """A toy set as a distribution: equally likely Gaussians at centres (k, d), float32, of one standard deviation."""

    centres: Tensor
    std: float


def to_unit(images: Tensor) -> Tensor:
    """uint8 images (n, c, h, w) as float32 in [-1, 1]."""
    return seen(images)


def to_bytes(images: Tensor) -> Tensor:
    """Float images in [-1, 1], clamped and rounded, as uint8."""
    return images.detach().float().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)


@dataclass(frozen=True, eq=False)
class Column:
    """One further column of a split: stored samples (n, ...) of a kind, which may be memory-mapped."""

    stored: Tensor
    kind: Kind

    @property
    def field(self) -> Field:
        """What it holds."""
        return Field(self.kind, tuple(self.stored.shape[1:]))


class Split:
    """Samples of one split: uint8 images (n, c, h, w) or float32 points (n, d), with int64 labels (n,) or None.

    `kind` says what the samples are where their type and axes don't; `others` are further columns in the same order,
    (n, ...) each (pairs), `streams` further splits that are shown in orders of their own (unpaired data).

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
        kind: Kind | None = None,
        others: Mapping[str, Column] | None = None,
        streams: Mapping[str, Split] | None = None,
    ) -> None:
        self.kind = kind_of(samples) if kind is None else kind
        self.samples, self.rows, self.others, self.streams = samples, rows, dict(others or {}), dict(streams or {})
        check_stored(samples, self.kind)
        for name, column in self.others.items():
            check_stored(column.stored, column.kind)
            if len(column.stored) != len(samples):
                raise UserError(
                    f"column {name} has {len(column.stored)} samples, expected {len(samples)}, one a sample"
                )
        self.device = torch.device(device) if device is not None else samples.device
        if len(self) == 0:
            raise UserError("a split of the data set is empty; it needs at least one sample")
        if labels is not None and (labels.dtype != torch.int64 or labels.shape != (len(self),)):
            found = f"{labels.dtype} of shape {tuple(labels.shape)}"
            raise UserError(f"labels are {found}; expected int64 of shape ({len(self)},), one a sample")
        self.labels = labels.to(self.device) if labels is not None else None
        self._fingerprint, self._whole = fingerprint, ""

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.samples) if self.rows is None else len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, as (c, h, w) or (d,)."""
        return tuple(self.samples.shape[1:])

    @property
    def is_image(self) -> bool:
        """Whether samples are images."""
        return self.kind is Kind.IMAGE

    @property
    def fields(self) -> dict[str, Field]:
        """The fields of other columns and of streams by name; those of streams' own columns as stream.column."""
        own = {name: column.field for name, column in self.others.items()}
        for name, split in self.streams.items():
            own[name] = Field(split.kind, split.shape)
            own |= {f"{name}.{key}": value for key, value in split.fields.items()}
            if split.labels is not None:
                own[f"{name}.labels"] = Field(Kind.CATEGORY, ())
        return own

    def take(self, indices: Tensor, flips: Tensor | None = None) -> Batch:
        """The samples at `indices` (n,) as networks see them; images where `flips` (n,) is true mirrored left-right."""
        labels = None if self.labels is None else self.labels[indices.to(self.device, non_blocking=True)]
        others = {
            name: self._seen(gather(column.stored, self.rows, indices, self.device), column.kind, flips)
            for name, column in self.others.items()
        }
        return Batch(self._seen(self.gather(indices), self.kind, flips), labels, others)

    def _seen(self, stored: Tensor, kind: Kind, flips: Tensor | None) -> Tensor:
        """Stored samples (n, ...) as networks see them, mirrored where `flips` (n,) is true."""
        samples = seen(stored)
        if flips is None or kind not in MIRRORED:
            return samples
        where = flips.to(self.device, non_blocking=True).view(-1, *[1] * (samples.ndim - 1))
        return torch.where(where, samples.flip(-1), samples)

    def raw(self, start: int, stop: int) -> Tensor:
        """Samples start to stop as stored, uint8 images or float32 points, for scoring; not to be written to."""
        return self._stored(start, stop).to(self.device)

    def to(self, device: torch.device | str, limit: int = DEVICE_LIMIT) -> Split:
        """This split for `device`: moved when it takes at most `limit` bytes, else left and moved by the batch."""
        device = torch.device(device)
        columns = [self.samples, *(column.stored for column in self.others.values())]
        size = len(self) * sum(column[0].nbytes for column in columns)
        streams = {name: split.to(device, limit) for name, split in self.streams.items()}
        if device == self.device and all(streams[name] is split for name, split in self.streams.items()):
            return self
        given: dict[str, Any] = {"kind": self.kind, "streams": streams}
        if size > limit:
            given |= {"rows": self.rows, "device": device, "fingerprint": self._fingerprint, "others": self.others}
            left = Split(self.samples, self.labels, **given)
            left._whole = self._whole
            return left
        moved = [(column if self.rows is None else column[self.rows]).to(device) for column in columns]
        others = {
            name: Column(stored, column.kind)
            for (name, column), stored in zip(self.others.items(), moved[1:], strict=True)
        }
        made = Split(moved[0], self.labels, others=others, **given)
        made._whole = self.fingerprint  # of what is here, before it moves
        return made

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of content, shape, labels and other columns; the same wherever the samples live."""
        if not self._whole:
            own = self._fingerprint
            if own is None:
                own = describe_content(self._digest(self.samples), (len(self), *self.shape), self.labels)
            further = {name: self._digest(column.stored) for name, column in self.others.items()}
            further |= {name: split.fingerprint for name, split in self.streams.items()}
            told = f"{own} {sorted(further.items())}".encode()
            self._whole = hashlib.sha256(told).hexdigest() if further else own
        return self._whole

    def _digest(self, column: Tensor) -> str:
        """SHA-256 (hex) of this split's part of a column."""
        digest = hashlib.sha256()
        for start in range(0, len(self), 8192):
            rows = slice(start, start + 8192) if self.rows is None else self.rows[start : start + 8192]
            digest.update(column[rows].cpu().numpy().tobytes())
        return digest.hexdigest()

    def _stored(self, start: int, stop: int) -> Tensor:
        """Samples start to stop, where they are."""
        return self.samples[start:stop] if self.rows is None else self.samples[self.rows[start:stop]]

    def gather(self, indices: Tensor) -> Tensor:
        """The samples at `indices` (n,) as stored, uint8 images or float32 points, on the split's device."""
        return gather(self.samples, self.rows, indices, self.device)


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
            if samples.kind is not self.spec.kind:
                raise UserError(f"{where}: samples are of kind {samples.kind}, expected {self.spec.kind}")
            if samples.fields != dict(self.spec.others):
                found = f"{', '.join(samples.fields) or 'none'}, expected {', '.join(self.spec.others) or 'none'}"
                raise UserError(f"{where}: other fields are {found} of the spec's kinds and shapes")
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
