"""Fréchet and kernel distances inside each class, and their means over the classes."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.metrics.base import (
    Accumulator,
    Detail,
    QualityMetric,
    Reading,
    joined,
    known,
    require_classes,
    require_vectors,
)
from gan_experiments.metrics.extractors import Extractor, Features
from gan_experiments.metrics.frechet import frechet_distance
from gan_experiments.metrics.intervals import jackknife
from gan_experiments.metrics.order import settled

BLOCKS = 10
"""Blocks of each class's samples that the jackknife leaves out in turn."""

WIDEST = 512
"""Most features with which Fréchet distances are computed eleven times, for an interval."""

UNKNOWN = -1
"""The class of a sample that wasn't asked to be of any, or that no classifier has seen."""

JACKKNIFE = f"jackknife over {BLOCKS} blocks of each class's samples on both sides; a bias is not in it"


@final
class ClassRows(Accumulator):
    """All features (n, d) seen, the classes asked for and the classes predicted."""

    rows: list[Tensor]
    given: list[Tensor]
    predicted: list[Tensor]

    def __init__(self) -> None:
        """No samples yet."""
        super().__init__()
        for name in ("rows", "given", "predicted"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, features: Features) -> None:
        """Keep the features of samples, and what is known of their classes."""
        rows, logits, _, labels = features
        nothing = torch.full((len(rows),), UNKNOWN, device=self.device)
        self.rows.append(rows.to(self.device))
        self.given.append(nothing if labels is None else labels.to(self.device))
        self.predicted.append(nothing if logits is None else logits.argmax(1).to(self.device))

    def compute(self) -> tuple[Tensor, Tensor, Tensor]:
        """Features (n, d), classes given (n,), classes predicted (n,), at random places that follow from them."""
        parts = joined(self.rows), joined(self.given), joined(self.predicted)
        order = settled(*parts)
        rows, given, predicted = (part[order] for part in parts)
        return rows, given, predicted


@dataclass(frozen=True)
class Comparison:
    """Numbers of the classes that both sides hold, how many the generated side lacks, and the distances.

    `fids` and `kids` hold a list over classes of the distances, then such a list without each block of samples, where
    these were computed; nothing where there are no classes.
    """

    classes: list[int]
    absent: int
    fids: list[list[float]]
    kids: list[list[float]]


@final
class PerClass(QualityMetric[ClassRows]):
    """Means over classes of the FID and the KID of a class: `per_class_fid`, `per_class_kid`; `per_class_absent`.

    Smaller is better; the KID may be negative. Unlike the FID of all samples they see mixed-up classes. Classes with
    fewer than two generated samples have no distance: they are left out of the means and counted by `per_class_absent`.
    `labels`: "given" takes the classes asked for; "predicted" those that the classifier finds, on both sides; "auto"
    the former where there are any. `real` is the same for held-out samples. Weakness: with few samples a class the FID
    is biased upwards, the more the more features there are, and held-out classes are often the smaller ones; the KID
    isn't biased.
    """

    needs_held_out = True
    own_floor = True

    def __init__(self, labels: str = "auto", ddof: int = 1, seed: int = 0) -> None:
        """Distances by those labels, covariances dividing by n - ddof; UserError for other labels than the three."""
        if labels not in ("auto", "given", "predicted"):
            raise UserError(f"metric per_class: labels={labels}; expected auto, given or predicted")
        if ddof not in (0, 1):
            raise UserError(f"metric per_class: ddof={ddof}; expected 0 or 1")
        super().__init__(ClassRows(), ClassRows(), ClassRows())
        self.labels = labels
        self.ddof = ddof
        self.seed = seed

    def bind(self, dataset: Dataset, extractor: Extractor | None) -> None:
        """UserError for data without classes, and unless an extractor classifies them or labels are "given"."""
        require_vectors("per_class", dataset, extractor)
        if self.labels != "given" or not dataset.spec.classes:
            require_classes("per_class", dataset, extractor)

    def update(self, features: Features, real: bool) -> None:
        """Take features (n, d) with logits (n, k) or labels (n,)."""
        if self.labels == "given":
            known(features.labels, "per_class", "the classes that were asked for")
        (self.real if real else self.generated).update(features)

    def show_held_out(self, features: Features) -> None:
        """Take held-out features (n, d) with logits (n, k) or labels (n,)."""
        assert self.held_out is not None
        self.held_out.update(features)

    def names(self) -> list[str]:
        """Three, all called per_class."""
        return ["per_class_fid", "per_class_kid", "per_class_absent"]

    def compute(self) -> list[Reading]:
        """The three readings; UserError where no class has two samples on both sides."""
        sides = [side.compute() for side in self.sides()]
        given = self.labels != "predicted" and all(bool((labels != UNKNOWN).all()) for _, labels, _ in sides)
        reals, generated, held_out = (by_class(rows, asked if given else predicted) for rows, asked, predicted in sides)
        found = self.compare(reals, generated, repeated=True)
        floor = self.compare(reals, held_out, repeated=False)
        if not found.classes:
            raise UserError(f"metric per_class: none of {len(reals)} classes has two samples on both sides; draw more")
        details: dict[str, Detail] = {
            "labels": "given" if given else "predicted",
            "classes": [float(number) for number in found.classes],
            "training_samples": mean_size(reals, found.classes),
            "generated_samples": mean_size(generated, found.classes),
            "held_out_samples": mean_size(held_out, floor.classes),
        }
        return [
            reading("per_class_fid", found.fids, floor.fids, {**details, "ddof": self.ddof}),
            reading("per_class_kid", found.kids, floor.kids, details),
            Reading("per_class_absent", float(found.absent), {"classes": len(reals)}, real=float(floor.absent)),
        ]

    def compare(self, reals: dict[int, Tensor], others: dict[int, Tensor], repeated: bool) -> Comparison:
        """Distances of each class's rows (n, d), also without each block of them if `repeated` and there are enough."""
        possible = [number for number, rows in reals.items() if len(rows) >= 2]
        classes = [number for number in possible if number in others and len(others[number]) >= 2]
        absent = len(possible) - len(classes)
        repeated = repeated and all(min(len(reals[number]), len(others[number])) >= 2 * BLOCKS for number in classes)
        fids, kids = [], []
        for number in classes:
            x, y = reals[number], others[number]
            generator = seeding.generator(self.seed, "per_class", number)
            # At random, because stored samples may be in an order.
            own, other = ((torch.randperm(len(side), generator=generator) % BLOCKS).to(side.device) for side in (x, y))
            fids.append([class_frechet(x, y, self.ddof)])
            if repeated and x.shape[1] <= WIDEST:
                fids[-1] += [class_frechet(x[own != b], y[other != b], self.ddof) for b in range(BLOCKS)]
            kids.append(class_discrepancies(x, y, own, other)[: None if repeated else 1])
        return Comparison(classes, absent, transpose(fids), transpose(kids))


def reading(name: str, found: list[list[float]], floor: list[list[float]], details: dict[str, Detail]) -> Reading:
    """The mean over classes, with a jackknife's interval where there are means without blocks, and the floor's mean."""
    value, *without = (statistics.fmean(values) for values in found)
    whole = Reading(name, value, {**details, "per_class": found[0]}, real=statistics.fmean(floor[0]) if floor else None)
    if not without:
        return whole
    error, interval = jackknife(value, without)
    return whole._replace(error=error, error_from=JACKKNIFE, interval=interval, interval_from=JACKKNIFE)


def by_class(rows: Tensor, labels: Tensor) -> dict[int, Tensor]:
    """Rows (n, d) apart by their labels (n,), in ascending order of these."""
    counts = labels.bincount()
    parts = torch.split(rows[labels.argsort(stable=True)], counts.tolist())
    return {number: part for number, part in enumerate(parts) if len(part) > 0}


def mean_size(side: dict[int, Tensor], classes: list[int]) -> float:
    """How many samples the classes have on average, 0 without classes."""
    return sum(len(side[number]) for number in classes) / max(1, len(classes))


def transpose(table: list[list[float]]) -> list[list[float]]:
    """Columns of a table as rows."""
    return [list(column) for column in zip(*table, strict=True)]


def class_frechet(x: Tensor, y: Tensor, ddof: int) -> float:
    """Fréchet distance of rows x (m, d) and y (n, d), in float64.

    With no more rows than features the trace of (C1 C2)^(1/2) is the nuclear norm of A B^T, A and B being the centred
    rows / sqrt(n - ddof): exact and cheaper where the covariances have no full rank.
    """
    x, y = x.double(), y.double()
    means = x.mean(0), y.mean(0)
    a, b = ((rows - mean) / (len(rows) - ddof) ** 0.5 for rows, mean in zip((x, y), means, strict=True))
    if min(len(x), len(y)) > x.shape[1]:
        return frechet_distance(means[0], a.T @ a, means[1], b.T @ b)
    root = torch.linalg.matrix_norm(a @ b.T, ord="nuc")
    return float((means[0] - means[1]).square().sum() + a.square().sum() + b.square().sum() - 2 * root)


def class_discrepancies(x: Tensor, y: Tensor, x_blocks: Tensor, y_blocks: Tensor) -> list[float]:
    """The squared discrepancy of x (m, d) and y (n, d), as squared_discrepancy gives it, and those without each block.

    One pass over the pairs adds the kernel up over pairs of blocks; whatever is left out is then subtracted.
    """
    within_x, within_y = block_sums(x, x, x_blocks, x_blocks), block_sums(y, y, y_blocks, y_blocks)
    within_x -= block_diagonal(x, x_blocks).diag()
    within_y -= block_diagonal(y, y_blocks).diag()
    across = block_sums(x, y, x_blocks, y_blocks)
    x_sizes, y_sizes = (blocks.bincount(minlength=BLOCKS).double() for blocks in (x_blocks, y_blocks))
    values = []
    for keep in torch.cat([torch.ones(1, BLOCKS), 1 - torch.eye(BLOCKS)]).double().to(x.device):
        m, n = keep @ x_sizes, keep @ y_sizes
        value = keep @ within_x @ keep / (m * (m - 1)) + keep @ within_y @ keep / (n * (n - 1))
        values.append(float(value - 2 * (keep @ across @ keep) / (m * n)))
    return values


def block_sums(x: Tensor, y: Tensor, x_blocks: Tensor, y_blocks: Tensor) -> Tensor:
    """Sums (blocks, blocks) of (x_i.y_j/d + 1)^3 over pairs by their blocks; float32 products, added up in float64."""
    sums = torch.zeros(BLOCKS, BLOCKS, dtype=torch.float64, device=x.device)
    for block in range(BLOCKS):
        kernel = torch.addmm(x.new_ones(()), x[x_blocks == block], y.T, alpha=1 / x.shape[1]).pow_(3)
        sums[block].index_add_(0, y_blocks, kernel.sum(0, dtype=torch.float64))
    return sums


def block_diagonal(x: Tensor, blocks: Tensor) -> Tensor:
    """Sums (blocks,) of (x_i.x_i/d + 1)^3 over the rows of each block."""
    diagonal = (x.double().square().sum(1) / x.shape[1] + 1).pow(3)
    return torch.zeros(BLOCKS, dtype=torch.float64, device=x.device).index_add_(0, blocks, diagonal)
