"""Slope penalties on discriminators whose gradient is known in closed form."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gan_experiments.config import build_named
from gan_experiments.data.base import Batch, Spec
from gan_experiments.errors import UserError
from gan_experiments.game import Deal, Round, Term, Verdict
from gan_experiments.games.noise import NoiseGame, NoiseRound
from gan_experiments.networks.mlp import MLPDiscriminator, MLPGenerator
from gan_experiments.objectives.penalties import R1, R2, GradientPenalty, MaxGradient
from given import configured


class Fixed(Round):
    """A round with given sample sets and a discriminator given as a function."""

    def __init__(self, logits: Callable[[Tensor], Tensor], **sets: Tensor) -> None:
        super().__init__(Deal(1, lambda: None, 0, torch.device("cpu")))  # type: ignore[arg-type, return-value]
        self.logits = logits
        self.sets = {name: value.clone().requires_grad_(True) for name, value in sets.items()}

    def judge(self, samples: Tensor, name: str, classes: Tensor | None = None) -> Verdict:
        return Verdict(self.logits(samples))

    def generate(self, latents: Tensor) -> Tensor:
        raise NotImplementedError

    def draw(self, n: int, random: torch.Generator) -> Tensor:
        raise NotImplementedError

    def weights(self, player: str) -> dict[str, Tensor]:
        raise NotImplementedError

    def points(self, name: str) -> tuple[Tensor, Callable[[], Tensor]]:
        return self.sets[name], lambda: self.logits(self.sets[name])


def linear(*w: float) -> Callable[[Tensor], Tensor]:
    """D = w.x + 1."""
    return lambda x: x @ torch.tensor(w, dtype=torch.float32) + 1


def bowl(x: Tensor) -> Tensor:
    """D = |x|^2 / 2, whose gradient is x."""
    return x.square().flatten(1).sum(1) / 2


def value(term: Term, logits: Callable[[Tensor], Tensor], points: Tensor | None = None) -> float:
    points = torch.randn(6, 2) if points is None else points
    round = Fixed(logits, reals=points, fakes=points, interpolates=points, perturbed=points)
    return (term.weight(0, 1) * term(round)).item()


@pytest.mark.parametrize(
    ("term", "logits", "expected"),
    [
        (GradientPenalty(weight=10), linear(3, 4), 160),
        (GradientPenalty(weight=10, one_sided=True), linear(3, 4), 160),
        (R1(weight=10), linear(3, 4), 125),
        (R2(weight=10), linear(3, 4), 125),
        (GradientPenalty(weight=10), linear(0.3, 0.4), 2.5),
        (GradientPenalty(weight=10, one_sided=True), linear(0.3, 0.4), 0),
        (GradientPenalty(weight=10), linear(0.6, 0.8), 0),
        (GradientPenalty(["reals", "fakes"], weight=1), linear(3, 4), 16),
        (GradientPenalty(["reals", "fakes"], power=4, weight=1), linear(3, 4), 256),
        (GradientPenalty(["reals", "fakes"], target=0, power=6, weight=1), linear(3, 4), 15625),
        (GradientPenalty(target=0, power=6, weight=2), linear(3, 4), 31250),
        (MaxGradient(weight=10), linear(3, 4), 250),
    ],
)
def test_linear_discriminators(term: Term, logits: Callable[[Tensor], Tensor], expected: float) -> None:
    assert value(term, logits) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_quadratic_discriminator_takes_the_mean_over_samples() -> None:
    points = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert value(R1(weight=10), bowl, points) == pytest.approx(12.5)
    assert value(GradientPenalty(weight=1), bowl, points) == pytest.approx(0.5)  # norms 1 and 2
    assert value(GradientPenalty(weight=1, target=2, one_sided=True), bowl, points) == pytest.approx(0)


def test_largest_gradient_of_the_batch() -> None:
    points = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert value(MaxGradient(weight=10), bowl, points) == pytest.approx(40)
    assert MaxGradient().watches == ("interpolates",) and MaxGradient("reals").watches == ("reals",)


@pytest.mark.parametrize(
    ("option", "steep", "flat"),
    [
        ("gradient_penalty", 160, 2.5),
        ("gradient_penalty_one_sided", 160, 0),
        ("gradient_penalty_real_fake", 250, 2.5),
        ("zero_centred", 250, 2.5),
        ("wgan_div", 31250, 0.03125),
        ("dragan", 160, 2.5),
        ("max_gradient", 250, 2.5),
    ],
)
def test_options_at_linear_discriminators(option: str, steep: float, flat: float) -> None:
    (term,) = build_named(configured("points", [f"regularizer/{option}"]).regularizer, "regularizer").values()
    assert value(term, linear(3, 4)) == pytest.approx(steep, rel=1e-5)
    assert value(term, linear(0.3, 0.4)) == pytest.approx(flat, rel=1e-4, abs=1e-9)


def sets(n: int, point: float) -> NoiseRound:
    """A round of `n` real samples N(0, 9) and generated ones all at `point`."""
    spec = Spec((1,))
    game = NoiseGame(spec, lambda s: MLPGenerator(s, 1, [2]), lambda s: MLPDiscriminator(s, [2]))
    with torch.no_grad():
        for parameter in game.generator.parameters():
            parameter.zero_()
        list(game.generator.parameters())[-1].fill_(point)
    reals = 3 * torch.randn(n, 1, generator=torch.Generator().manual_seed(0))
    return game.deal(Deal(n, lambda: Batch(reals, None), 5, torch.device("cpu")))


def test_interpolates_are_uniform_between_each_pair() -> None:
    round = sets(20000, 1.0)
    shares = (round.interpolates - round.fakes) / (round.reals - round.fakes)
    assert shares.mean().item() == pytest.approx(0.5, abs=0.01)
    assert shares.square().mean().item() == pytest.approx(1 / 3, abs=0.01)
    assert shares.var().item() == pytest.approx(1 / 12, abs=0.005)  # one share for the whole batch would give 0


def test_perturbations_are_symmetric_and_scale_with_the_batch() -> None:
    round = sets(20000, 1.0)
    noise = (round.perturbed - round.reals).detach()
    half = 0.5 * round.reals.std().item()
    assert half == pytest.approx(1.5, rel=0.02)
    assert abs(noise.mean().item()) < 0.02 * half  # noise from U(0, 1) would have a mean of a quarter
    assert 0.95 * half < noise.abs().max().item() <= half
    assert noise.square().mean().item() == pytest.approx(half**2 / 9, rel=0.05)  # share^2 and noise^2: a third each


def test_a_single_number_has_no_spread_to_be_moved_by() -> None:
    round = sets(1, 1.0)
    assert torch.equal(round.perturbed, round.reals)


def test_norm_runs_over_all_dimensions_of_an_image() -> None:
    images = torch.randn(2, 3, 32, 32)
    found = value(GradientPenalty(weight=10), lambda x: x.flatten(1).sum(1), images)
    assert found == pytest.approx(29621.49, rel=1e-5)  # over channels only it would be 0.5359 a pixel


def test_a_flat_discriminator_gives_finite_gradients() -> None:
    scale = torch.zeros(2, requires_grad=True)
    round = Fixed(lambda x: x @ scale, interpolates=torch.randn(4, 2), reals=torch.randn(4, 2))
    penalty = 10 * GradientPenalty()(round)
    assert penalty.item() == pytest.approx(10, rel=1e-4)
    (gradient,) = torch.autograd.grad(penalty, scale)
    assert gradient.isfinite().all()
    assert R1()(round).item() == 0


def test_r1_reads_reals_and_r2_reads_fakes() -> None:
    round = Fixed(bowl, reals=torch.tensor([[1.0, 0.0]]), fakes=torch.tensor([[3.0, 4.0]]))
    assert R1()(round).item() == pytest.approx(0.5)
    assert R2()(round).item() == pytest.approx(12.5)
    assert (R1().watches, R2().watches) == (("reals",), ("fakes",))
    assert GradientPenalty(["reals", "fakes"], target=0)(round).item() == pytest.approx((1 + 25) / 2)


def test_gradient_reaches_the_discriminator() -> None:
    w = torch.tensor([3.0, 4.0], requires_grad=True)
    round = Fixed(lambda x: x @ w, reals=torch.randn(5, 2))
    (gradient,) = torch.autograd.grad(R1(weight=1)(round), w)
    torch.testing.assert_close(gradient, torch.tensor([3.0, 4.0]))  # d/dw |w|^2 / 2


@pytest.mark.parametrize("make", [lambda: GradientPenalty(["bogus"]), lambda: MaxGradient("bogus")])
def test_other_sets_of_samples_are_refused_with_those_there_are(make: Callable[[], Term]) -> None:
    with pytest.raises(UserError, match="bogus.*interpolates, perturbed, reals, fakes$"):
        make()


@pytest.mark.parametrize("wrong", [{"power": 3}, {"power": 0}, {"at": []}, {"at": "reals"}, {"at": ["reals", "reals"]}])
def test_nonsense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError, match="GradientPenalty"):
        GradientPenalty(**wrong)  # type: ignore[arg-type]
