"""Adversarial losses at points with known values and gradients, and their optima on three-point densities.

Values: r = (2, 0), f = (-1, 1), worked out by hand from the formulas in each class.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.nn.functional import softplus

from contests import BATCH, FAKE, REAL, SINGLE, ZEROS, P, Q, contest, on_three_points, optimum, slopes
from gan_experiments.config import conf_dir
from gan_experiments.errors import UserError
from gan_experiments.experiment import run
from gan_experiments.logging.status import State, read_status
from gan_experiments.objectives.adversarial import (
    BoundarySeeking,
    CrossEntropy,
    Hinge,
    LeastSquares,
    Loss,
    Minimax,
    NonSaturating,
    Wasserstein,
)
from gan_experiments.objectives.batchwise import DualContrastive, Softmax
from tiny import TINY

LOG4, LOG2 = math.log(4), math.log(2)
LOSSES = sorted(file.stem for file in (Path(conf_dir()) / "loss").glob("*.yaml"))
ALONE = {"evidence": "vae", "likelihood": "autoregressive"}  # losses of games without a discriminator

TABLE = [
    (Minimax(), 1.2232993, -0.8132617, LOG4, -LOG2),
    (NonSaturating(), 1.2232993, 0.8132617, LOG4, LOG2),
    (BoundarySeeking(), 1.2232993, 0.5, LOG4, 0.0),
    (LeastSquares(), 1.0, 1.0, 0.5, 0.5),
    (LeastSquares(-1, 1, 0), 1.5, 0.5, 1.0, 0.0),
    (Hinge(), 1.5, 0.0, 2.0, 0.0),
    (Wasserstein(), -1.0, 0.0, 0.0, 0.0),
    (Softmax(), 1.4401897, 1.9401897, math.log(8), math.log(8)),
    (DualContrastive(), 1.7566182, 4.5774520, 2 * math.log(5), 2 * math.log(5)),
]


@pytest.mark.parametrize(("loss", "d", "g", "d_zero", "g_zero"), TABLE, ids=lambda value: type(value).__name__)
def test_values_on_a_known_batch(loss: Loss, d: float, g: float, d_zero: float, g_zero: float) -> None:
    assert loss.discriminator(BATCH).item() == pytest.approx(d, abs=1e-6)
    assert loss.generator(BATCH).item() == pytest.approx(g, abs=1e-6)
    assert loss.discriminator(ZEROS).item() == pytest.approx(d_zero, abs=1e-6)
    assert loss.generator(ZEROS).item() == pytest.approx(g_zero, abs=1e-6)


ONE_LOGIT = [
    (NonSaturating(), 0.6754903, 0.9740770), (Minimax(), 0.6754903, -0.4740770), (LeastSquares(), 0.25, 1.125),
    (Hinge(), 0.5, 0.5), (Wasserstein(), -2.0, 0.5), (BoundarySeeking(), 0.6754903, 0.125),
    (Softmax(), 0.1269280, 1.1269280), (DualContrastive(), 0.2538560, 4.2538560),
]  # fmt: skip


@pytest.mark.parametrize(("loss", "d", "g"), ONE_LOGIT, ids=lambda value: type(value).__name__)
def test_values_of_single_logits(loss: Loss, d: float, g: float) -> None:
    assert loss.discriminator(SINGLE).item() == pytest.approx(d, abs=1e-6)
    assert loss.generator(SINGLE).item() == pytest.approx(g, abs=1e-6)


def sigmoid(value: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-value))


R, F, N = REAL, FAKE, len(REAL)
SHARES = torch.cat([R, F]).exp() / torch.cat([R, F]).exp().sum()


def contrast_slopes(above: Tensor, below: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the dual contrastive loss, from its double sum over pairs."""
    ratio = torch.exp(below[None, :] - above[:, None])
    to_above = ratio / (1 + ratio.sum(1, keepdim=True)) / N + ratio / (1 + ratio.sum(0, keepdim=True)) / N
    return -to_above.sum(1), to_above.sum(0)


ZERO = torch.zeros(N, dtype=torch.float64)
GRADIENTS = [
    (NonSaturating(), (-sigmoid(-R) / N, sigmoid(F) / N), (ZERO, -sigmoid(-F) / N)),
    (Minimax(), (-sigmoid(-R) / N, sigmoid(F) / N), (ZERO, -sigmoid(F) / N)),
    (NonSaturating(0.9, 0.2), ((sigmoid(R) - 0.9) / N, (sigmoid(F) - 0.2) / N), (ZERO, -sigmoid(-F) / N)),
    (BoundarySeeking(), (-sigmoid(-R) / N, sigmoid(F) / N), (ZERO, F / N)),
    (LeastSquares(-1, 1, 0.5), ((R - 1) / N, (F + 1) / N), (ZERO, (F - 0.5) / N)),
    (Hinge(), (-(R < 1).double() / N, (F > -1).double() / N), (ZERO, ZERO - 1 / N)),
    (Wasserstein(), (ZERO - 1 / N, ZERO + 1 / N), (ZERO, ZERO - 1 / N)),
    (Softmax(), (SHARES[:N] - 1 / N, SHARES[N:]), (SHARES[:N] - 0.5 / N, SHARES[N:] - 0.5 / N)),
    (DualContrastive(), contrast_slopes(R, F), contrast_slopes(F, R)[::-1]),
]


@pytest.mark.parametrize(("loss", "d", "g"), GRADIENTS, ids=lambda value: type(value).__name__)
def test_gradients_with_respect_to_every_logit(loss: Loss, d: tuple[Tensor, Tensor], g: tuple[Tensor, Tensor]) -> None:
    for half, expected in ((loss.discriminator, d), (loss.generator, g)):
        for got, closed in zip(slopes(half), expected, strict=True):
            torch.testing.assert_close(got, closed, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("loss", "slope"),
    [
        (NonSaturating(), lambda f: -1 / (1 + math.exp(f))),
        (Minimax(), lambda f: -1 / (1 + math.exp(-f))),
        (BoundarySeeking(), lambda f: f),
        (LeastSquares(), lambda f: f - 1),
        (Hinge(), lambda f: -1.0),
        (Wasserstein(), lambda f: -1.0),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("logit", [-30.0, -0.7, 0.0, 2.0])
def test_generator_gradients(loss: Loss, slope: Callable[[float], float], logit: float) -> None:
    (_, got) = slopes(loss.generator, torch.zeros(1), torch.tensor([logit]))
    assert got.item() == pytest.approx(slope(logit), abs=1e-6)


def test_only_the_minimax_generator_saturates() -> None:
    sure = torch.tensor([-20.0])
    assert abs(slopes(Minimax().generator, sure, sure)[1].item()) < 1e-8
    assert slopes(NonSaturating().generator, sure, sure)[1].item() == pytest.approx(-1.0)


def test_saturating_and_nonsaturating_generators_differ_by_the_symmetric_term() -> None:
    gap = NonSaturating().generator(BATCH) - Minimax().generator(BATCH)
    f = BATCH.fake.logits
    assert gap.item() == pytest.approx((softplus(-f) + softplus(f)).mean().item())


def test_least_squares_refuses_equal_targets() -> None:
    with pytest.raises(UserError, match="both"):
        LeastSquares(1, 1, 1)


# Smoothed targets


@pytest.mark.parametrize("loss", [NonSaturating(), Minimax(), NonSaturating(1, 0)])
def test_without_smoothing_the_values_are_those_of_the_plain_formula_bit_for_bit(loss: Loss) -> None:
    torch.manual_seed(0)
    r, f = 20 * torch.randn(100), 20 * torch.randn(100)
    assert torch.equal(loss.discriminator(contest(r, f)), softplus(-r).mean() + softplus(f).mean())


def test_one_sided_smoothing_at_known_points() -> None:
    smooth = NonSaturating(real_target=0.9)
    unlikely = torch.tensor([-200.0], dtype=torch.float64)  # adds nothing on the generated side
    for r, value in ((1.5, 0.3514133), (math.log(9), 0.3250830)):
        got = smooth.discriminator(contest(torch.tensor([r], dtype=torch.float64), unlikely))
        assert got.item() == pytest.approx(value, abs=1e-6)
    assert slopes(smooth.discriminator, torch.tensor([math.log(9)]), torch.zeros(1))[0].item() == pytest.approx(
        0, abs=1e-6
    )


@pytest.mark.parametrize("kind", [NonSaturating, Minimax])
def test_smoothing_leaves_the_generators_half_alone(kind: type[CrossEntropy]) -> None:
    assert torch.equal(kind(0.8).generator(BATCH), kind().generator(BATCH))


@pytest.mark.parametrize("kind", [NonSaturating, Minimax])
def test_smoothed_optimum(kind: type[CrossEntropy]) -> None:
    logits, least = optimum(kind(real_target=0.9).discriminator)
    torch.testing.assert_close(logits.sigmoid(), 0.9 * P / (P + Q), atol=1e-6, rtol=0)
    assert least == pytest.approx(1.2849318, abs=1e-6)


def test_smoothed_optimum_where_both_densities_are_the_same() -> None:
    same = torch.tensor([math.log(0.45 / 0.55)], dtype=torch.float64)
    assert NonSaturating(0.9).discriminator(contest(same, same)).item() == pytest.approx(1.3762776, abs=1e-6)
    real, fake = slopes(NonSaturating(0.9).discriminator, same, same)
    assert (real + fake).item() == pytest.approx(0, abs=1e-9)


def test_the_boundary_to_which_samples_are_drawn_is_that_of_the_smoothed_optimum() -> None:
    smooth, boundary = BoundarySeeking(0.9), torch.tensor([math.log(0.45 / 0.55)], dtype=torch.float64)
    assert torch.equal(smooth.discriminator(BATCH), NonSaturating(0.9).discriminator(BATCH))
    assert smooth.generator(contest(boundary, boundary)).item() == pytest.approx(0, abs=1e-15)
    assert smooth.boundary == pytest.approx(boundary.item()) and BoundarySeeking().boundary == 0


def test_two_sided_smoothing_puts_the_samples_density_in_the_numerator() -> None:
    logits, _ = optimum(NonSaturating(0.9, 0.1).discriminator)
    torch.testing.assert_close(logits.sigmoid(), (0.9 * P + 0.1 * Q) / (P + Q), atol=1e-6, rtol=0)


def test_two_sided_smoothing_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "gan_experiments"):
        NonSaturating(0.9)
        Minimax()
    assert not caplog.records
    with caplog.at_level(logging.WARNING, "gan_experiments"):
        loss = Minimax(0.9, 0.1)
        loss.discriminator(BATCH)
        loss.discriminator(BATCH)
    (record,) = caplog.records
    message = record.getMessage()
    assert "Minimax" in message and "fake_target=0.1" in message and "\n" not in message


@pytest.mark.parametrize(
    ("real", "fake"), [(1.1, 0), (0.9, -0.1), (0.5, 0.5), (0.1, 0.9), (math.nan, 0), (1, math.nan)]
)
@pytest.mark.parametrize("kind", [NonSaturating, Minimax, BoundarySeeking])
def test_targets_that_are_no_probabilities_of_being_real_are_refused(
    kind: type[CrossEntropy], real: float, fake: float
) -> None:
    with pytest.raises(UserError, match=f"{kind.__name__}: real_target={real} and fake_target={fake}"):
        kind(real, fake)


# Optimal discriminators for reals that follow P and samples that follow Q


@pytest.mark.parametrize(
    ("loss", "value", "best"),
    [
        (NonSaturating(), 1.2751294, torch.log(P / Q)),
        (Minimax(), 1.2751294, torch.log(P / Q)),
        (BoundarySeeking(), 1.2751294, torch.log(P / Q)),
        (LeastSquares(), 0.44588745 / 2, P / (P + Q)),
        (LeastSquares(-1, 1, 0), 2 * 0.44588745, (P - Q) / (P + Q)),
        (LeastSquares(-2, 3, 0), 25 * 0.44588745 / 2, (3 * P - 2 * Q) / (P + Q)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_optimal_discriminator_and_value_of_the_game(loss: Loss, value: float, best: Tensor) -> None:
    logits, least = optimum(loss.discriminator)
    assert least == pytest.approx(value, abs=1e-6)
    torch.testing.assert_close(logits, best, atol=1e-6, rtol=0)


def test_optimal_hinge_discriminator_is_the_sign_of_the_difference() -> None:
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    descent = torch.optim.SGD([logits], lr=0.05)
    for step in range(1000):  # piecewise linear: gradient descent with a shrinking step
        descent.param_groups[0]["lr"] = 0.05 * (1 - step / 1000)
        descent.zero_grad()
        cost = Hinge().discriminator(on_three_points(logits))
        cost.backward()
        descent.step()
    assert cost.item() == pytest.approx(1.4, abs=1e-3)  # 2 - 2 TV
    torch.testing.assert_close(logits.detach(), torch.sign(P - Q), atol=0.03, rtol=0)


def test_generators_losses_at_the_optimal_discriminator() -> None:
    best = on_three_points(torch.log(P / Q))
    assert Minimax().generator(best).item() == pytest.approx(-0.6400035, abs=1e-6)
    assert NonSaturating().generator(best).item() == pytest.approx(0.8792817, abs=1e-6)
    assert Minimax().discriminator(best).item() == pytest.approx(LOG4 - 2 * 0.05558247, abs=1e-6)


def test_least_squares_with_centred_targets_descends_pearsons_divergence() -> None:
    """Mao et al. 2017: with targets -1, 1, 0, E_p D*^2 + E_q D*^2 = chi^2(p + q, 2q), here the sum (p-q)^2 / (p+q)."""
    best = (P - Q) / (P + Q)
    both = on_three_points(best)
    loss = LeastSquares(-1, 1, 0)
    total = 2 * loss.generator(both) + 2 * loss.generator(contest(both.fake.logits, both.real.logits))
    assert total.item() == pytest.approx(0.21645022, abs=1e-6)


def test_nonsaturating_generator_descends_reverse_kl_less_twice_jensen_shannon() -> None:
    """Arjovsky & Bottou 2017, theorem 2.5: with D optimal and held fixed, its gradient is that of KL(q, p) - 2 JSD."""
    weights = Q.log().clone().requires_grad_()
    density = weights.softmax(0)
    costs = torch.stack([NonSaturating().generator(contest(v, v)) for v in torch.log(P / Q)[:, None]])
    (got,) = torch.autograd.grad((density * costs).sum(), weights, retain_graph=True)
    middle = (P + density) / 2
    twice = (P * (P / middle).log()).sum() + (density * (density / middle).log()).sum()
    (closed,) = torch.autograd.grad((density * (density / P).log()).sum() - twice, weights)
    torch.testing.assert_close(got, closed, atol=1e-12, rtol=0)


def test_optimal_softmax_discriminator() -> None:
    """e^v is proportional to p / (p + q); the value is log 2 - KL(p, m), and log n more for n samples a side."""
    logits, least = optimum(Softmax().discriminator)
    best = torch.log(P / (P + Q))
    torch.testing.assert_close(logits - logits[0], best - best[0], atol=1e-6, rtol=0)
    assert least == pytest.approx(LOG2 - (P * (2 * P / (P + Q)).log()).sum().item() + math.log(20), abs=1e-8)


def test_optimal_dual_contrastive_discriminator_for_many_samples() -> None:
    """Each part tends to Donsker and Varadhan's bound: 2 log n - KL(p, q) - KL(q, p) at v = log p/q."""
    copies = 2000
    logits, least = optimum(DualContrastive().discriminator, copies)
    best = torch.log(P / Q)
    torch.testing.assert_close(logits - logits[0], best - best[0], atol=1e-3, rtol=0)
    assert least == pytest.approx(2 * math.log(20 * copies) - 0.21801191 - 0.23927818, abs=1e-3)


@pytest.mark.parametrize("loss", [Softmax(), DualContrastive()], ids=lambda loss: type(loss).__name__)
def test_losses_over_the_batch_ignore_shifts_and_order(loss: Loss) -> None:
    assert loss.compares_batches
    base = contest(R, F)
    for other in (contest(R + 7, F + 7), contest(R.flip(0), F), contest(R, F.flip(0))):
        assert loss.discriminator(other).item() == pytest.approx(loss.discriminator(base).item(), abs=1e-12)
        assert loss.generator(other).item() == pytest.approx(loss.generator(base).item(), abs=1e-12)
    huge = contest(1000 + R, -1000 - F)
    assert math.isfinite(loss.discriminator(huge)) and math.isfinite(loss.generator(huge))


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_on_disk_takes_two_steps(loss: str, composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    lines = ["schedule.images=null", "schedule.steps=2", "metric=none", f"loss={loss}"]
    given = {line.split("=")[0] for line in lines}
    lines += [line for line in TINY if line.split("=")[0] not in given]
    if loss in ("ebgan", "began"):
        lines += ["model=mlp_autoencoder", "regularizer=[pulling_away]"]
    if loss in ALONE:
        lines = [line for line in lines if not line.startswith(("model.", "dataset."))]
        lines += [f"model={ALONE[loss]}", "dataset=fashion10k", "model.generator.width=2", "samples.count=2"]
    run(composed(*lines), tmp_path / "run")
    status = read_status(tmp_path / "run" / "status.json")
    assert status is not None and status.state is State.COMPLETED and status.step == 2
