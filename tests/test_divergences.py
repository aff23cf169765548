"""f-GANs: known values and gradients, divergences and optima on three points, bounds, and exponentials kept in hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from contests import BATCH, FAKE, REAL, SINGLE, ZEROS, P, Q, contest, on_three_points, optimum, slopes
from gan_experiments.errors import UserError
from gan_experiments.objectives.adversarial import Minimax, NonSaturating
from gan_experiments.objectives.divergences import (
    FGan,
    Gan,
    JensenShannon,
    KullbackLeibler,
    Neyman,
    Pearson,
    ReverseKullbackLeibler,
    SquaredHellinger,
    TotalVariation,
)

KINDS: list[type[FGan]] = [
    KullbackLeibler, ReverseKullbackLeibler, Pearson, Neyman, SquaredHellinger, JensenShannon, Gan, TotalVariation,
]  # fmt: skip
EXPONENTIAL = [KullbackLeibler, ReverseKullbackLeibler, Neyman, SquaredHellinger]
LOG4, LOG2, E = math.log(4), math.log(2), math.e

# D on r = (2, 0), f = (-1, 1); G alternative and saturating there; D, alternative G and saturating G at zeros
TABLE = [
    (KullbackLeibler, -1 + (E**-2 + 1) / 2, 0, -(E**-2 + 1) / 2, 1 / E, 0, -1 / E),
    (ReverseKullbackLeibler, (E**-2 + 1) / 2 - 1, (E + 1 / E) / 2, 1, 0, 1, 1),
    (Pearson, -1 + 0.25, 0, -0.25, 0, 0, 0),
    (Neyman, (E**-2 + 1) / 2 - (E**0.5 + E**-0.5) + 1, (E + 1 / E) / 2 - 1, -2 + E**0.5 + E**-0.5, 0, 0, 0),
    (SquaredHellinger, (E**-2 + 1) / 2 + (E + 1 / E) / 2 - 2, (E + 1 / E) / 2 - 1, 1 - (E + 1 / E) / 2, 0, 0, 0),
    (JensenShannon, 1.2232993 - LOG4, 0.8132617 - LOG2, -0.8132617 + LOG2, 0, 0, 0),
    (Gan, 1.2232993, 0.8132617, -0.8132617, LOG4, LOG2, -LOG2),
    (TotalVariation, -math.tanh(2) / 4, 0, 0, 0, 0, 0),
]


@pytest.mark.parametrize(("kind", "d", "alternative", "saturating", "d0", "alternative0", "saturating0"), TABLE)
def test_values_on_a_known_batch(
    kind: type[FGan],
    d: float,
    alternative: float,
    saturating: float,
    d0: float,
    alternative0: float,
    saturating0: float,
) -> None:
    for batch, (own, first, second) in (
        (BATCH, (d, alternative, saturating)),
        (ZEROS, (d0, alternative0, saturating0)),
    ):
        assert kind().discriminator(batch).item() == pytest.approx(own, abs=1e-6)
        assert kind().generator(batch).item() == pytest.approx(first, abs=1e-6)  # the default form
        assert kind(generator="alternative").generator(batch).item() == pytest.approx(first, abs=1e-6)
        assert kind(generator="saturating").generator(batch).item() == pytest.approx(second, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "d"),
    [
        (KullbackLeibler, -1.5 + math.exp(-1.5)),
        (ReverseKullbackLeibler, math.exp(-1.5) - 0.5 - 1),
        (Pearson, -1.5 + 0.0625 - 0.5),
        (Neyman, math.exp(-1.5) - 2 * math.exp(0.25) + 1),
        (SquaredHellinger, math.exp(-1.5) + math.exp(-0.5) - 2),
        (JensenShannon, 0.6754903 - LOG4),
        (Gan, 0.6754903),
        (TotalVariation, -math.tanh(1.5) / 2 - math.tanh(0.5) / 2),
    ],
)
def test_values_of_single_logits(kind: type[FGan], d: float) -> None:
    assert kind().discriminator(SINGLE).item() == pytest.approx(d, abs=1e-6)


def sigmoid(v: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-v))


Slope = Callable[[Tensor], Tensor]
DERIVATIVES: list[tuple[type[FGan], Slope, Slope]] = [  # of T and of f*(T)
    (KullbackLeibler, torch.ones_like, lambda v: torch.exp(v - 1)),
    (ReverseKullbackLeibler, lambda v: torch.exp(-v), torch.ones_like),
    (Pearson, torch.ones_like, lambda v: v / 2 + 1),
    (Neyman, lambda v: torch.exp(-v), lambda v: torch.exp(-v / 2)),
    (SquaredHellinger, lambda v: torch.exp(-v), torch.exp),
    (JensenShannon, lambda v: sigmoid(-v), sigmoid),
    (Gan, lambda v: sigmoid(-v), sigmoid),
    (TotalVariation, lambda v: (1 - v.tanh() ** 2) / 2, lambda v: (1 - v.tanh() ** 2) / 2),
]


@pytest.mark.parametrize(("kind", "activation", "conjugate"), DERIVATIVES)
def test_gradients_with_respect_to_every_logit(kind: type[FGan], activation: Slope, conjugate: Slope) -> None:
    n, zero = len(REAL), torch.zeros_like(REAL)
    expected = {
        kind().discriminator: (-activation(REAL) / n, conjugate(FAKE) / n),
        kind(generator="alternative").generator: (zero, -activation(FAKE) / n),
        kind(generator="saturating").generator: (zero, -conjugate(FAKE) / n),
    }
    for half, closed in expected.items():
        torch.testing.assert_close(slopes(half), closed, atol=1e-12, rtol=0)


OPTIMA = [
    (KullbackLeibler, 0.21801191, 1 + torch.log(P / Q)),
    (ReverseKullbackLeibler, 0.23927818, torch.log(P / Q)),
    (Pearson, 0.44, 2 * (P / Q - 1)),
    (Neyman, 0.58333333, 2 * torch.log(P / Q)),
    (SquaredHellinger, 0.11271513, torch.log(P / Q) / 2),
    (JensenShannon, 2 * 0.05558247, torch.log(P / Q)),
    (Gan, -1.2751294, torch.log(P / Q)),
]


@pytest.mark.parametrize(("kind", "divergence", "best"), OPTIMA)
def test_optimal_discriminator_and_divergence(kind: type[FGan], divergence: float, best: Tensor) -> None:
    logits, least = optimum(kind().discriminator)
    assert -least == pytest.approx(divergence, abs=1e-6)
    torch.testing.assert_close(logits, best, atol=1e-6, rtol=0)


def test_total_variation_is_reached_far_out() -> None:
    far = on_three_points(40 * torch.sign(P - Q))
    assert -TotalVariation().discriminator(far).item() == pytest.approx(0.3, abs=1e-9)


@pytest.mark.parametrize(("kind", "second"), [(KullbackLeibler, 1), (ReverseKullbackLeibler, 1), (Pearson, 2),
                                              (Neyman, 2), (SquaredHellinger, 0.5), (JensenShannon, 0.5)])  # fmt: skip
def test_near_equality_all_agree_up_to_half_the_second_derivative(kind: type[FGan], second: float) -> None:
    """D_f(p, q) = f''(1)/2 * chi^2(p, q) + third order, here with one density in a hundred apart."""
    p, q = torch.tensor([51, 49], dtype=torch.int64), torch.tensor([50, 50], dtype=torch.int64)
    ratio = p.double() / q
    best = {KullbackLeibler: 1 + ratio.log(), Pearson: 2 * (ratio - 1), Neyman: 2 * ratio.log(),
            SquaredHellinger: ratio.log() / 2}.get(kind, ratio.log())  # fmt: skip
    both = contest(best.repeat_interleave(p), best.repeat_interleave(q))
    assert -kind().discriminator(both).item() == pytest.approx(second / 2 * 4e-4, rel=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_no_discriminator_exceeds_the_divergence(kind: type[FGan]) -> None:
    """Also beyond the limit, where exponentials go on as lines: T stays where f* is what it is."""
    truth = {**{k: value for k, value, _ in OPTIMA}, TotalVariation: 0.3}[kind]
    random = torch.Generator().manual_seed(0)
    for scale in (1.0, 30.0):
        for _ in range(50):
            logits = scale * torch.randn(3, generator=random, dtype=torch.float64)
            assert -kind().discriminator(on_three_points(logits)).item() <= truth + 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_a_larger_output_is_more_real(kind: type[FGan]) -> None:
    v = torch.linspace(-15, 15, 61, dtype=torch.float64)
    # far out tanh and the sigmoid are flat to the last bit
    assert bool((kind().activation(v).diff() >= 0).all()) and bool((kind().conjugate(v).diff()[30:] >= 0).all())
    assert bool((kind().activation(v[25:36]).diff() > 0).all()) and bool(
        (kind().conjugate(v[28:]).diff()[:5] > 0).all()
    )


def test_the_gan_divergence_is_the_original_game() -> None:
    both = contest(REAL, FAKE)
    torch.testing.assert_close(Gan().discriminator(both), NonSaturating().discriminator(both))
    torch.testing.assert_close(Gan().generator(both), NonSaturating().generator(both))
    torch.testing.assert_close(Gan("saturating").generator(both), Minimax().generator(both))


@pytest.mark.parametrize(
    ("kind", "half", "sign"),
    [
        (KullbackLeibler, "conjugate", 1),
        (ReverseKullbackLeibler, "activation", -1),
        (Neyman, "activation", -1),
        (Neyman, "conjugate", -1),
        (SquaredHellinger, "activation", -1),
        (SquaredHellinger, "conjugate", 1),
    ],
)
@pytest.mark.parametrize("far", [60.0, 1e4])
def test_where_a_plain_exponential_overflows_the_gradient_is_finite_and_alive(
    kind: type[FGan], half: str, sign: int, far: float
) -> None:
    v = torch.tensor([sign * far], requires_grad=True)
    value = getattr(kind(), half)(v)
    (slope,) = torch.autograd.grad(value.sum(), v)
    assert bool(value.isfinite()) and bool(slope.isfinite())
    assert slope.item() > 1e-2  # a larger output is still more real
    for loss in (kind("alternative"), kind("saturating")):
        for logits in (v.detach(), -v.detach()):
            both = contest(logits, logits)
            assert math.isfinite(loss.discriminator(both)) and math.isfinite(loss.generator(both))


@pytest.mark.parametrize("kind", EXPONENTIAL)
def test_within_the_limit_the_formula_is_exact_and_its_continuation_smooth(kind: type[FGan]) -> None:
    inside = torch.linspace(-2, 2, 9, dtype=torch.float64)
    tight, wide = kind(limit=2.0), kind(limit=30.0)  # type: ignore[call-arg]
    for half in ("activation", "conjugate"):
        torch.testing.assert_close(getattr(tight, half)(inside), getattr(wide, half)(inside), atol=1e-14, rtol=0)
        for edge in (-2.0, 2.0):
            v = torch.tensor([edge - 1e-7, edge + 1e-7], dtype=torch.float64, requires_grad=True)
            out = getattr(tight, half)(v)
            (slope,) = torch.autograd.grad(out.sum(), v)
            assert (out[1] - out[0]).abs().item() < 1e-5
            assert slope[0].item() == pytest.approx(slope[1].item(), rel=1e-5)


def test_exponentials_go_on_as_their_tangent() -> None:
    loss = ReverseKullbackLeibler(limit=3.0)
    v = torch.tensor([-3.0, -4.0, -7.0], dtype=torch.float64)
    torch.testing.assert_close(loss.activation(v), -math.exp(3) * torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64))


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_forms_are_refused(kind: type[FGan]) -> None:
    with pytest.raises(UserError, match=f"{kind.__name__}: generator='best': use saturating or alternative"):
        kind("best")


@pytest.mark.parametrize("limit", [0.0, -1.0, 100.0, math.nan])
def test_limits_that_overflow_are_refused(limit: float) -> None:
    with pytest.raises(UserError, match="Neyman: limit="):
        Neyman(limit=limit)
