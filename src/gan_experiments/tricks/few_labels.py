"""A few labels: a seeded, class-balanced choice of the training samples whose labels may be used."""

from __future__ import annotations

import torch
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.data.base import Batch, Spec, Split
from gan_experiments.errors import UserError
from gan_experiments.game import Game
from gan_experiments.trick import Trick


def balanced_rows(labels: Tensor, classes: int, per_class: int, seed: int) -> Tensor:
    """Ascending places of `per_class` samples of each class, drawn by `seed`; UserError when a class has too few."""
    order = torch.randperm(len(labels), generator=seeding.generator(seed, "labelled samples"))
    shuffled = labels.cpu()[order]
    counts = shuffled.bincount(minlength=classes)
    if int(counts.min()) < per_class:
        raise UserError(
            f"labels_per_class={per_class}: class number {int(counts.argmin())} has {int(counts.min())} samples only"
        )
    places = [order[(shuffled == label).nonzero().flatten()[:per_class]] for label in range(classes)]
    return torch.cat(places).sort().values


class FewLabels(Trick):
    """Keeps `per_class` labelled samples a class and deals batches of them; `seed` draws which, whatever the run's is.

    A game that has it in place of labels shows its networks no other label.
    """

    def __init__(self, per_class: int, seed: int = 0) -> None:
        super().__init__()
        if per_class < 1:
            raise UserError(f"labels_per_class={per_class}: must be 1 or more")
        self.per_class, self.seed = per_class, seed
        self.data: Split | None = None
        self.rows = torch.empty(0, dtype=torch.int64)

    def bind(self, spec: Spec) -> None:
        """UserError for data without classes."""
        if len(spec.classes) < 2:
            raise UserError(
                "a few labels need labelled data of two or more classes, which this data set is not; "
                "set dataset=fashion10k or another with labels"
            )

    def prepare(self, game: Game, data: Split, seed: int) -> None:
        """Choose the samples; a resume chooses the same."""
        assert data.labels is not None
        self.data, self.rows = data, balanced_rows(data.labels, len(game.spec.classes), self.per_class, self.seed)

    def places(self, n: int, random: torch.Generator) -> Tensor:
        """Places (n,) of `n` of the labelled samples in shuffled order, each as often as the others but for one."""
        count = len(self.rows)
        orders = [torch.randperm(count, generator=random, device=random.device) for _ in range(-(-n // count))]
        return self.rows[torch.cat(orders)[:n].cpu()]

    def take(self, places: Tensor, device: torch.device) -> Batch:
        """Labelled samples at places in the data."""
        assert self.data is not None
        samples, labels = self.data.take(places)
        assert labels is not None
        return Batch(samples.to(device), labels.to(device))
