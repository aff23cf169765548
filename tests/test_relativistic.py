"""Relativistic losses: known values and gradients, what they ignore, and the optimum of the pairing loss."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from contests import BATCH, FAKE, REAL, SINGLE, ZEROS, P, Q, contest, minimise, slopes
from gan_experiments.errors import UserError
from gan_experiments.objectives.adversarial import Loss
from gan_experiments.objectives.relativistic import (
    Paired,
    RelativisticAverage,
    RelativisticAverageHinge,
    RelativisticAverageLeastSquares,
    RelativisticHinge,
    RelativisticLeastSquares,
    RelativisticPairing,
)

PAIRED: list[Loss] = [RelativisticPairing(), RelativisticLeastSquares(), RelativisticHinge()]
AVERAGE: list[Loss] = [RelativisticAverage(), RelativisticAverageLeastSquares(), RelativisticAverageHinge()]
ALL = PAIRED + AVERAGE


def name(value: object) -> str:
    return type(value).__name__


TABLE = [
    (RelativisticPairing(), 0.6809245, 1.6809245, math.log(2)),
    (RelativisticLeastSquares(), 4.0, 8.0, 1.0),
    (RelativisticHinge(), 1.0, 2.0, 1.0),
    (RelativisticAverage(), 0.8200752, 2.8200752, math.log(4)),
    (RelativisticAverageLeastSquares(), 2.0, 10.0, 2.0),
    (RelativisticAverageHinge(), 1.0, 4.0, 2.0),
]


@pytest.mark.parametrize(("loss", "d", "g", "zero"), TABLE, ids=name)
def test_values_on_a_known_batch(loss: Loss, d: float, g: float, zero: float) -> None:
    assert loss.discriminator(BATCH).item() == pytest.approx(d, abs=1e-6)
    assert loss.generator(BATCH).item() == pytest.approx(g, abs=1e-6)
    assert loss.discriminator(ZEROS).item() == pytest.approx(zero, abs=1e-6)
    assert loss.generator(ZEROS).item() == pytest.approx(zero, abs=1e-6)


@pytest.mark.parametrize(
    ("loss", "d", "g"),
    [
        (RelativisticPairing(), 0.1269280, 2.1269280),
        (RelativisticLeastSquares(), 1.0, 9.0),
        (RelativisticHinge(), 0.0, 3.0),
        (RelativisticAverage(), 0.2538560, 4.2538560),  # twice the pairing: of one pair each is the other's mean
        (RelativisticAverageLeastSquares(), 2.0, 18.0),
        (RelativisticAverageHinge(), 0.0, 6.0),
    ],
    ids=name,
)
def test_values_of_single_logits(loss: Loss, d: float, g: float) -> None:
    assert loss.discriminator(SINGLE).item() == pytest.approx(d, abs=1e-6)
    assert loss.generator(SINGLE).item() == pytest.approx(g, abs=1e-6)


def logistic(lead: Tensor) -> Tensor:
    return -1 / (1 + lead.exp())


def squared(lead: Tensor) -> Tensor:
    return 2 * (lead - 1)


def hinge(lead: Tensor) -> Tensor:
    return -(lead < 1).double()


COSTS = {"logistic": logistic, "squared": squared, "hinge": hinge}
N = len(REAL)


def pair_slopes(cost: str, ahead: Tensor, behind: Tensor) -> tuple[Tensor, Tensor]:
    """Closed form for <cost(a - b)>: the cost's derivative at each pair's lead."""
    slope = COSTS[cost](ahead - behind) / N
    return slope, -slope


def average_slopes(cost: str, ahead: Tensor, behind: Tensor) -> tuple[Tensor, Tensor]:
    """Closed form for <cost(a - <b>)> + <cost(<a> - b)>: own slope and the mean of those on the other side."""
    above, below = COSTS[cost](ahead - behind.mean()), COSTS[cost](ahead.mean() - behind)
    return (above + below.mean()) / N, -(below + above.mean()) / N


@pytest.mark.parametrize("losses", [(PAIRED, pair_slopes), (AVERAGE, average_slopes)], ids=["paired", "average"])
@pytest.mark.parametrize("kind", range(3), ids=list(COSTS))
def test_gradients_with_respect_to_every_logit(losses, kind: int) -> None:  # type: ignore[no-untyped-def]
    options, closed = losses
    cost = list(COSTS)[kind]
    ahead, behind = closed(cost, REAL, FAKE)
    torch.testing.assert_close(slopes(options[kind].discriminator), (ahead, behind), atol=1e-12, rtol=0)
    ahead, behind = closed(cost, FAKE, REAL)
    torch.testing.assert_close(slopes(options[kind].generator), (behind, ahead), atol=1e-12, rtol=0)


@pytest.mark.parametrize("loss", ALL, ids=name)
def test_only_differences_of_logits_count(loss: Loss) -> None:
    assert loss.compares_batches
    base, moved = contest(REAL, FAKE), contest(REAL + 7, FAKE + 7)
    assert loss.discriminator(moved).item() == pytest.approx(loss.discriminator(base).item(), abs=1e-12)
    assert loss.generator(moved).item() == pytest.approx(loss.generator(base).item(), abs=1e-12)
    real, fake = slopes(loss.generator)
    assert (real.sum() + fake.sum()).item() == pytest.approx(0, abs=1e-12)


def test_the_two_sides_of_the_logistic_forms_differ_by_the_mean_lead() -> None:
    lead = (REAL - FAKE).mean().item()
    both = contest(REAL, FAKE)
    for loss, factor in ((RelativisticPairing(), 1), (RelativisticAverage(), 2)):
        gap = loss.generator(both) - loss.discriminator(both)
        assert gap.item() == pytest.approx(factor * lead, abs=1e-12)


@pytest.mark.parametrize("loss", ALL, ids=name)
def test_only_pairs_depend_on_the_order(loss: Loss) -> None:
    base, turned = contest(REAL, FAKE), contest(REAL, FAKE.roll(1))
    same = loss.discriminator(base).item() == pytest.approx(loss.discriminator(turned).item(), abs=1e-9)
    assert same is not isinstance(loss, Paired)


def test_pairs_need_equal_sides() -> None:
    with pytest.raises(UserError, match="RelativisticPairing pairs real with generated.*4 and 1"):
        RelativisticPairing().discriminator(contest(torch.zeros(4), torch.zeros(1)))


def test_optimum_of_the_pairing_loss() -> None:
    """Over all pairs: v = log p/q up to a constant, value log 2 - JSD(p x q, q x p) on the space of pairs."""
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    counts = (torch.outer(P, Q) * 400).round().long().flatten()  # of each pair among 20 reals x 20 samples
    first, second = torch.arange(3).repeat_interleave(3), torch.arange(3).repeat(3)
    first, second = first.repeat_interleave(counts), second.repeat_interleave(counts)
    least = minimise(lambda: RelativisticPairing().discriminator(contest(logits[first], logits[second])), [logits])
    best = torch.log(P / Q)
    torch.testing.assert_close(logits.detach() - logits.detach()[0], best - best[0], atol=1e-6, rtol=0)
    forth, back = torch.outer(P, Q), torch.outer(Q, P)
    middle = (forth + back) / 2
    divergence = 0.5 * (forth * (forth / middle).log()).sum() + 0.5 * (back * (back / middle).log()).sum()
    assert counts.sum().item() == 400
    assert least == pytest.approx(math.log(2) - divergence.item(), abs=1e-8)
