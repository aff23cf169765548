"""Two-sample tests: can a classifier, or the nearest neighbour, tell generated samples from real ones?"""

from __future__ import annotations

import math
import warnings
from typing import final

import torch
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.errors import UserError
from gan_experiments.metrics.base import Detail, Reading, Rows
from gan_experiments.metrics.intervals import NORMAL, of_share
from gan_experiments.metrics.needs import require_package
from gan_experiments.metrics.neighbours import nearest
from gan_experiments.metrics.stopped_network import tell_apart
from gan_experiments.metrics.vectors import VectorMetric

LEAST = 20
"""Least samples a side: with fewer, no accuracy is far from chance."""

CONSTANT = 1e-6
"""Deviation, relative to a feature's size, up to which it is taken for rounding."""


@final
class TwoSampleTests(VectorMetric[Rows]):
    """Accuracies of telling generated from real features: 0.5 by chance, 1 at worst.

    The main number is the accuracy of a network with `hidden` ReLU units (0: logistic regression), trained on one half
    of equally many samples a side and tested on the other (Lopez-Paz and Oquab 2017; details hold the p-value and the
    range under equal distributions, N(1/2, 1/(4 n))). Features are standardised by the training half, and the network
    stops by cross-validation in it (metrics/stopped_network.py), so that it learns whatever can be learned from few
    samples too. `nn_accuracy` is that of the nearest other sample, with its parts
    on reals and on generated samples (Xu et al. 2018): below 0.5 speaks of memorised samples, a low part on reals with
    a high one on generated samples of mode collapse. At most `samples` a side are used. Weakness: a test's power grows
    with the samples, and accuracies near 1, as of most generators in good features, don't rank.
    """

    name = "two_sample"

    def __init__(self, hidden: int = 20, samples: int = 5000, seed: int = 0) -> None:
        """Tests of at most that many samples a side; UserError for impossible numbers."""
        if hidden < 0 or samples < LEAST:
            raise UserError(f"metric two_sample: hidden={hidden}, samples={samples}; expected at least 0 and {LEAST}")
        if not hidden:
            require_package("metric two_sample with hidden=0", "sklearn", "scikit-learn", "evaluation")
        super().__init__(Rows(), Rows())
        self.hidden, self.samples, self.seed = hidden, samples, seed

    def compute(self) -> list[Reading]:
        """The four accuracies; UserError with fewer than 20 samples a side."""
        real, generated = self.real.compute(), self.generated.compute()
        m = min(len(real), len(generated), self.samples)
        if m < LEAST:
            raise UserError(f"metric two_sample needs at least {LEAST} samples a side, got {m}")
        real, generated = self.pick(real, "real", m), self.pick(generated, "generated", m)
        return [self.classify(real, generated), *self.neighbours(real, generated)]

    def pick(self, rows: Tensor, name: str, count: int) -> Tensor:
        """`count` of rows (n, d) in random order."""
        order = torch.randperm(len(rows), generator=seeding.generator(self.seed, "two_sample", name))
        return rows[order[:count].to(rows.device)].float()

    def classify(self, real: Tensor, generated: Tensor) -> Reading:
        """The held-out accuracy of a classifier of rows (m, d) a side."""
        half = len(real) // 2
        train, test = (torch.cat([real[part], generated[part]]).double() for part in (slice(half), slice(half, None)))
        mean, deviation = train.mean(0), train.std(0)
        # Features that don't vary are of no use to the classifier, and would be divided by 0.
        varying = deviation > CONSTANT * mean.abs()
        train, test = (((part - mean) / deviation)[:, varying] for part in (train, test))
        guesses = self.guess(train, test)
        n = len(test)
        hits = int((guesses == torch.arange(n) * 2 // n).sum())
        spread = 0.5 / math.sqrt(n)
        details: dict[str, Detail] = {
            "classifier": f"network with {self.hidden} hidden units" if self.hidden else "logistic regression",
            "tested": n,
            "p_value": math.erfc((hits / n - 0.5) / spread / math.sqrt(2)) / 2,
            "chance_low": 0.5 - NORMAL * spread,
            "chance_high": 0.5 + NORMAL * spread,
            "seed": self.seed,
        }
        how = "score interval over tested samples, the trained classifier held fixed"
        return Reading("", hits / n, details, interval=of_share(hits, n), interval_from=how)

    def guess(self, train: Tensor, test: Tensor) -> Tensor:
        """The sides (n,), 1 for generated, of rows `test` (n, d) by a classifier of `train`, one half of each side."""
        sides = torch.arange(len(train)) * 2 // len(train)
        if train.shape[1] == 0:
            return torch.arange(len(test)) % 2
        if self.hidden:
            seed = seeding.derive(self.seed, "two_sample", "classifier")
            return tell_apart(train, sides, test, self.hidden, seed)
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(max_iter=1000)
        with warnings.catch_warnings():
            # Where the sides can be told apart perfectly, the optimum is at infinity.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(train.cpu().numpy(), sides.numpy())
        return torch.from_numpy(model.predict(test.cpu().numpy()))

    def neighbours(self, real: Tensor, generated: Tensor) -> list[Reading]:
        """The leave-one-out accuracies of the nearest neighbour of rows (m, d) a side."""
        m = len(real)
        # In random order, so that of equally near samples no side is preferred.
        order = torch.randperm(2 * m, generator=seeding.generator(self.seed, "two_sample", "neighbours"))
        union, side = torch.cat([real, generated])[order.to(real.device)], order // m
        neighbour = nearest(union, union, themselves=True).points[:, 0].cpu()
        hits = side[neighbour] == side
        mutual = float((neighbour[neighbour] == torch.arange(2 * m)).double().mean())
        details: dict[str, Detail] = {"samples_a_side": m, "mutual_neighbours": mutual, "seed": self.seed}
        parts = (("nn_accuracy", hits), ("nn_accuracy_real", hits[side == 0]), ("nn_accuracy_fake", hits[side == 1]))
        how = "score interval; two samples that are each other's nearest hit or miss together and count accordingly"
        readings = []
        for name, part in parts:
            share = float(part.double().mean())
            # The variance of the mean is share (1 - share) (1 + mutual) / n: that of fewer independent samples.
            effective = round(len(part) / (1 + mutual))
            interval = of_share(round(share * effective), effective)
            readings.append(Reading(name, share, details, interval=interval, interval_from=how))
        return readings
