"""Consistency regularization: what the transform does, values by hand, and who may use it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.objectives.consistency import (
    Consistency,
    LatentConsistency,
    LatentNeighbours,
    LatentSensitivity,
    flip_and_shift,
)
from gan_experiments.tricks.samples import Replay
from given import Given, game_of, named

IMAGES = torch.arange(2 * 3 * 8 * 8, dtype=torch.float32).view(2, 3, 8, 8)


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_without_flip_and_shift_it_is_the_identity() -> None:
    assert torch.equal(flip_and_shift(IMAGES, 0.0, 0.0, random()), IMAGES)
    assert torch.equal(flip_and_shift(IMAGES, 0.0, 0.1, random()), IMAGES)  # less than a pixel


def test_a_certain_flip_mirrors_left_and_right() -> None:
    assert torch.equal(flip_and_shift(IMAGES, 1.0, 0.0, random()), IMAGES.flip(-1))


def test_every_result_is_a_flip_and_a_reflected_shift_drawn_for_each_image() -> None:
    image = torch.arange(16 * 8, dtype=torch.float32).view(1, 1, 16, 8)
    n = 2000
    padded = torch.nn.functional.pad(image, (1, 1, 2, 2), mode="reflect")
    possible = [
        view.flip(-1) if flip else view
        for flip in (False, True)
        for y in range(5)
        for x in range(3)
        for view in [padded[..., y : y + 16, x : x + 8]]
    ]
    moved = flip_and_shift(image.expand(n, 1, 16, 8), 0.5, 0.125, random())
    counts = [int((moved == view).flatten(1).all(1).sum()) for view in possible]
    assert sum(counts) == n  # all 30 are different
    assert min(counts) > n / 30 * 0.6 and max(counts) < n / 30 * 1.4


def test_it_is_differentiable_and_loses_nothing_but_the_border() -> None:
    images = IMAGES.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(flip_and_shift(images, 0.5, 0.125, random(3)).sum(), images)
    assert gradient.sum() == images.numel()


def first_pixel(images: Tensor) -> Tensor:
    return images[:, 0, 0, 0]


def test_consistency_is_the_mean_squared_change_of_the_logit() -> None:
    images = torch.zeros(2, 1, 2, 2)
    images[0, 0, 0] = torch.tensor([1.0, 4.0])
    images[1, 0, 0] = torch.tensor([2.0, 3.0])
    term = Consistency(flip=1.0)  # 2 pixels can't be shifted by an eighth
    assert term(Given(first_pixel, reals=images)).item() == (9 + 1) / 2
    assert Consistency(flip=0.0)(Given(first_pixel, reals=IMAGES)).item() > 0
    assert Consistency(flip=0.0, shift=0.0)(Given(first_pixel, reals=IMAGES)).item() == 0


def test_consistency_reads_its_own_set_and_shows_the_other_under_a_name_of_its_own() -> None:
    round = Given(first_pixel, reals=IMAGES, fakes=-IMAGES)
    Consistency("fakes")(round)
    assert sorted(round.seen) == ["fakes", "transformed fakes"]
    assert (Consistency("fakes").needs, Consistency().needs) == (("fakes",), ("reals",))


def test_draws_belong_to_the_move_and_the_set() -> None:
    def change(at: str, seed: int) -> float:
        return Consistency(at)(Given(first_pixel, reals=IMAGES, fakes=IMAGES, seed=seed)).item()

    assert change("reals", 1) == change("reals", 1)
    assert len({change(at, seed) for at in ("reals", "fakes") for seed in range(8)}) > 4


def test_gradient_reaches_the_discriminator_from_both_sides() -> None:
    scale = torch.tensor(3.0, requires_grad=True)
    images = torch.tensor([1.0, 4.0]).view(1, 1, 1, 2)
    round = Given(lambda x: scale * first_pixel(x), reals=images)
    (gradient,) = torch.autograd.grad(Consistency(flip=1.0)(round), scale)
    assert gradient.item() == 2 * 3.0 * 9  # d/ds (s - 4 s)^2


@pytest.mark.parametrize("wrong", [{"flip": 1.5}, {"flip": -1}, {"shift": 1.0}, {"shift": -0.1}])
def test_nonsense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match="Consistency"):
        Consistency(**wrong)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="std"):
        LatentConsistency(std=-1)


def test_points_are_refused_with_what_would_fit() -> None:
    Consistency().check(game_of(Spec((3, 8, 8))))
    with pytest.raises(UserError, match=r"discriminator/cr: flips and shifts are for images.*regularizer=\[zcr\]"):
        named(Consistency(), "cr").check(game_of(Spec((2,))))


def neighbours(seed: int = 0) -> Given:
    """G doubles, D sums; so a step e of z moves G by 2 e and D by the sum of 2 e."""
    latents = torch.randn(4, 3, generator=random(9))
    return Given(generator=lambda z: 2 * z, latents=latents, fakes=2 * latents, seed=seed)


def test_latent_terms_measure_the_same_step_with_opposite_signs() -> None:
    d, g = LatentConsistency(std=0.05), LatentSensitivity(std=0.05)
    round = neighbours()
    step = (d.neighbours(round) - round.fakes) / 2
    assert d(round).item() == pytest.approx((2 * step.sum(1)).square().mean().item(), rel=1e-4)
    assert g(round).item() == pytest.approx(-4 * step.square().mean().item(), rel=1e-4)
    assert LatentConsistency(std=0.0)(round).item() == 0 and LatentSensitivity(std=0.0)(round).item() == 0


def test_steps_have_the_standard_deviation_asked_for_and_follow_the_move() -> None:
    z = torch.zeros(4000, 2)
    term = LatentConsistency(std=0.05)

    def steps(seed: int) -> Tensor:
        return term.neighbours(Given(latents=z, seed=seed))

    assert steps(0).std().item() == pytest.approx(0.05, rel=0.05)
    assert abs(steps(0).mean().item()) < 0.003
    assert torch.equal(steps(0), steps(0)) and not torch.equal(steps(0), steps(1))


def test_the_generator_is_rewarded_for_larger_changes() -> None:
    scale, z = torch.tensor(2.0, requires_grad=True), torch.randn(6, 2)
    round = Given(generator=lambda z: scale * z, latents=z, fakes=scale * z)
    value = LatentSensitivity()(round)
    (gradient,) = torch.autograd.grad(value, scale)
    assert value.item() < 0
    assert gradient.item() == pytest.approx(value.item(), rel=1e-4)  # -s^2 c at s = 2: derivative -2 s c = the value


@pytest.mark.parametrize("term", [LatentConsistency(), LatentSensitivity()])
def test_samples_of_other_latents_are_refused(term: LatentNeighbours) -> None:
    replay = Replay()
    replay.name = "replay"
    with pytest.raises(UserError, match="trick replay replaces generated samples"):
        term.check(game_of(Spec((2,)), replay=replay))
    term.check(game_of(Spec((2,))))
