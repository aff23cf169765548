"""A tiny data set, a network that counts and a metric that remembers, for tests of the evaluator."""

from __future__ import annotations

import statistics
from typing import final

import torch
from torch import Tensor

from gan_experiments.data.base import Batch, Dataset, Spec, Split
from gan_experiments.metrics.base import (
    QualityMetric,
    Reading,
    Rows,
    known,
    require_classes,
)  # fmt: skip
from gan_experiments.metrics.extractors import Extractor, Features


def images(n: int, seed: int) -> Tensor:
    """Random grey images (n, 1, 3, 3)."""
    return torch.randint(0, 256, (n, 1, 3, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def split(n: int, seed: int) -> Split:
    """Images labelled 0, 1, 0, 1 ..."""
    return Split(images(n, seed), torch.arange(n) % 2)


DATA = Dataset("noise", Spec((1, 3, 3), ("even", "odd")), split(80, 0), split(40, 1))


class Counting(Extractor):
    """Pixels, scaled, as features (and as logits, where it has classes); notes the size of each batch it is shown."""

    def __init__(self, scale: float = 1.0, classes: int = 0, sha256: str = "0") -> None:
        """Features that many times the pixels."""
        super().__init__("counting", sha256, 9, classes, "none")
        self.scale = scale
        self.batches: list[int] = []

    def extract(self, images: Tensor) -> Features:
        """Scaled pixels."""
        self.batches.append(len(images))
        rows = images.flatten(1).float() * self.scale / 255
        return Features(rows, rows[:, : self.num_classes] if self.num_classes else None)


def noise(n: int, generator: torch.Generator) -> Tensor:
    """Float images (n, 1, 3, 3)."""
    return torch.rand(n, 1, 3, 3, generator=generator) * 2 - 1


def labelled_noise(n: int, generator: torch.Generator) -> Batch:
    """Images that were asked to be of class 1."""
    return Batch(noise(n, generator), torch.ones(n, dtype=torch.int64))


@final
class Witness(QualityMetric[Rows]):
    """Tells which samples it was shown on which side, by their first pixels."""

    def __init__(self, held_out: bool = False, labels: bool = False, floor: bool = True, classes: bool = False) -> None:
        """A witness of that nature."""
        super().__init__(Rows(), Rows(), Rows())
        self.needs_held_out, self.needs_labels, self.own_floor, self.classes = held_out, labels, not floor, classes
        self.log: list[dict[str, list[float]]] = []

    def bind(self, dataset: Dataset, extractor: Extractor | None) -> None:
        """Refuse extractors without the data's classes, if it is that kind."""
        if self.classes:
            require_classes("witness", dataset, extractor)

    def update(self, features: Features, real: bool) -> None:
        """Keep samples, or labels."""
        part = known(features.labels, "witness", "labels") if self.needs_labels else features.samples
        assert part is not None
        (self.real if real else self.generated).update(part)

    def show_held_out(self, features: Features) -> None:
        """Keep held-out samples."""
        assert features.samples is not None and self.held_out is not None
        self.held_out.update(features.samples)

    def compute(self) -> list[Reading]:
        """The mean of the generated side; everything seen goes into the log."""
        sides = {"real": self.real, "generated": self.generated, "held_out": self.held_out}
        self.log.append(
            {n: side.compute().flatten(1).float().sum(1).tolist() if side.rows else [] for n, side in sides.items()}
            if not self.needs_labels else {"generated": self.generated.compute().tolist()}
        )  # fmt: skip
        return [Reading("", statistics.fmean(self.log[-1]["generated"]), {}, real=0.25)]


def sums(rows: Tensor) -> list[float]:
    """The fingerprints by which a witness knows samples."""
    return rows.flatten(1).float().sum(1).tolist()
