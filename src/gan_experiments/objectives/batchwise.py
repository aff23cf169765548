"""Losses that set every sample of a batch against all others; r = D(x) and f = D(G(z)) are logits, <.> is the mean."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import softplus

from gan_experiments.objectives.adversarial import Contest, Loss


class Softmax(Loss):
    """D: -<r> + Z; G: -1/2 (<r> + <f>) + Z, Z = log sum e^v over all logits of both sides (Lin 2017, softmax GAN).

    D wants the softmax over the whole batch even on the data and none on the samples, G wants it even on all.
    Both are log(2n) at equal logits of n real and n generated samples.
    """

    compares_batches: ClassVar[bool] = True
    boundary = None

    def discriminator(self, contest: Contest) -> Tensor:
        """Cross-entropy of the softmax with 1/n on each real sample."""
        real = contest.real.logits
        return torch.cat([real, contest.fake.logits]).logsumexp(0).mean() - real.mean()

    def generator(self, contest: Contest) -> Tensor:
        """Cross-entropy of the softmax with 1/(2n) on each sample of either side."""
        both = torch.cat([contest.real.logits, contest.fake.logits])
        return both.logsumexp(0).mean() - both.mean()


class DualContrastive(Loss):
    """D: <log(1 + sum_j e^(f_j - r_i))>_i + <log(1 + sum_i e^(f_j - r_i))>_j (Yu et al. 2021); G: r and f exchanged.

    Each real sample is told from all generated ones, and each generated one from all real ones. Each of the two parts
    is log(1 + n) at equal logits of n samples a side.
    """

    compares_batches: ClassVar[bool] = True
    boundary = None

    def discriminator(self, contest: Contest) -> Tensor:
        """Data above all samples, samples below all data."""
        return self.contrast(contest.real.logits, contest.fake.logits)

    def generator(self, contest: Contest) -> Tensor:
        """Samples above all data, data below all samples."""
        return self.contrast(contest.fake.logits, contest.real.logits)

    def contrast(self, above: Tensor, below: Tensor) -> Tensor:
        """Both parts, for logits (n,) of the side that should be above and of the other."""
        each_above = softplus(below.logsumexp(0) - above).mean()
        each_below = softplus(below + (-above).logsumexp(0)).mean()
        return each_above + each_below
