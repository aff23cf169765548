"""Relativistic losses (Jolicoeur-Martineau 2019): whether the data look more real than the samples, not how real.

In the formulas r = D(x) and f = D(G(z)) are logits, <.> is the batch mean and sp(t) = log(1 + e^t). Both losses of a
pair are one formula with the sides exchanged, and only differences of logits count: adding a constant to all logits
changes nothing. No form carries the factor 1/2 that some versions put in front; it would rescale every penalty beside.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import relu, softplus

from gan_experiments.errors import UserError
from gan_experiments.objectives.adversarial import Contest, Loss


def logistic(lead: Tensor) -> Tensor:
    """sp(-t), elementwise: minus the log-probability of being ahead by t."""
    return softplus(-lead)


def squared(lead: Tensor) -> Tensor:
    """(t - 1)^2, elementwise: no factor 1/2, unlike LeastSquares."""
    return (lead - 1).square()


def hinge(lead: Tensor) -> Tensor:
    """relu(1 - t), elementwise: nothing once ahead by one."""
    return relu(1 - lead)


class Relativistic(Loss):
    """D wants the data ahead of the samples, G the samples ahead of the data, in the same sense of ahead."""

    compares_batches: ClassVar[bool] = True
    boundary = None

    @abstractmethod
    def cost(self, lead: Tensor) -> Tensor:
        """What a lead, a difference of logits, costs the side that should have it, elementwise."""

    @abstractmethod
    def compare(self, ahead: Tensor, behind: Tensor) -> Tensor:
        """The cost, a scalar, to the side whose logits (n,) should be ahead of the other's."""

    def discriminator(self, contest: Contest) -> Tensor:
        """Data ahead of samples."""
        return self.compare(contest.real.logits, contest.fake.logits)

    def generator(self, contest: Contest) -> Tensor:
        """Samples ahead of data."""
        return self.compare(contest.fake.logits, contest.real.logits)


class Paired(Relativistic):
    """D: <cost(r - f)>; G: <cost(f - r)>: each real sample against the generated one at its place in the batch."""

    def compare(self, ahead: Tensor, behind: Tensor) -> Tensor:
        """Mean over pairs; UserError when the sides differ in size."""
        if ahead.shape != behind.shape:
            raise UserError(
                f"{type(self).__name__} pairs real with generated samples: it needs as many verdicts on either side, "
                f"got {len(ahead)} and {len(behind)}"
            )
        return self.cost(ahead - behind).mean()


class Average(Relativistic):
    """D: <cost(r - <f>)> + <cost(<r> - f)>; G: the same with r and f exchanged: each sample against the other's mean.

    The means are those of the move's whole batch: over parts of it the loss would be another.
    """

    def compare(self, ahead: Tensor, behind: Tensor) -> Tensor:
        """Each side's samples against the other side's mean."""
        return self.cost(ahead - behind.mean(0)).mean() + self.cost(ahead.mean(0) - behind).mean()


class RelativisticPairing(Paired):
    """RpGAN, D: <sp(-(r - f))>; G: <sp(-(f - r))>; log 2 each at equal logits (Jolicoeur-Martineau 2019, RSGAN)."""

    def cost(self, lead: Tensor) -> Tensor:
        """sp(-t)."""
        return logistic(lead)


class RelativisticLeastSquares(Paired):
    """D: <(r - f - 1)^2>; G: <(f - r - 1)^2>; 1 each at equal logits."""

    def cost(self, lead: Tensor) -> Tensor:
        """(t - 1)^2."""
        return squared(lead)


class RelativisticHinge(Paired):
    """D: <relu(1 - (r - f))>; G: <relu(1 - (f - r))>; 1 each at equal logits."""

    def cost(self, lead: Tensor) -> Tensor:
        """relu(1 - t)."""
        return hinge(lead)


class RelativisticAverage(Average):
    """RaSGAN, D: <sp(-(r - <f>))> + <sp(f - <r>)>; G: with r and f exchanged; log 4 each at equal logits."""

    def cost(self, lead: Tensor) -> Tensor:
        """sp(-t)."""
        return logistic(lead)


class RelativisticAverageLeastSquares(Average):
    """RaLSGAN, D: <(r - <f> - 1)^2> + <(f - <r> + 1)^2>; G: with r and f exchanged; 2 each at equal logits."""

    def cost(self, lead: Tensor) -> Tensor:
        """(t - 1)^2."""
        return squared(lead)


class RelativisticAverageHinge(Average):
    """RaHingeGAN, D: <relu(1 - (r - <f>))> + <relu(1 + (f - <r>))>; G: with r and f exchanged; 2 at equal logits."""

    def cost(self, lead: Tensor) -> Tensor:
        """relu(1 - t)."""
        return hinge(lead)
