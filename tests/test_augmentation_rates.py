"""How often each augmentation happens and how far it goes, counted one by one (Karras et al. 2020, appendix B)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.objectives.consistency import flip_and_shift
from gan_experiments.tricks import augmentation, pipeline, views

Kind = Callable[[float], dict[str, Tensor]]
N, SIDE, P = 20_000, 64, 0.3
ALL_BUT_NONE = {"flip": 0.5, "turn": 0.75, "shift": 1 - 16**-2, "luma": 0.5}
"""The share of happenings that change something: a mirroring by a coin, 0 to 3 quarter turns, shifts of less than half
a pixel of 8 on both axes."""


def dice(probability: float, seed: int = 0) -> pipeline.Dice:
    return pipeline.Dice(N, torch.tensor(probability), seeding.generator(seed, "rates"))


def blits(probability: float) -> dict[str, Tensor]:
    """What blits did to each image, read off their matrices."""
    matrices = pipeline.blit_matrices(dice(probability), SIDE, SIDE).double()
    linear = matrices[:, :2, :2]
    mirrored = linear.det().round()
    cos, sin = linear[:, 1, 1], linear[:, 1, 0]
    quarters = (torch.atan2(sin, cos) / (math.pi / 2)).round() % 4
    return {"flip": (mirrored < 0).double(), "turn": quarters, "shift": torch.linalg.solve(linear, matrices[:, :2, 2])}


def geometry(probability: float) -> dict[str, Tensor]:
    """What geometric transformations did: log2 of both scales, whether anything turned, the shift."""
    matrices = pipeline.geometric_matrices(dice(probability), SIDE, SIDE).double()
    linear = matrices[:, :2, :2]
    stretches = torch.linalg.svdvals(linear)
    found = {
        "scale": linear.det().log2() / 2,
        "stretch": (stretches[:, 0] / stretches[:, 1]).log2() / 2,
        "rotation": linear[:, 0, 1].abs() + linear[:, 1, 0].abs(),
        "shift": torch.linalg.solve(linear, matrices[:, :2, 2]),
    }
    return {name: torch.where(value.abs() < 1e-5, 0.0, value) for name, value in found.items()}


def colours(probability: float) -> dict[str, Tensor]:
    """What colour transformations did, read off what became of black, red, green and blue."""
    pixels = torch.cat([torch.zeros(3, 1), torch.eye(3)], 1).view(1, 3, 1, 4).expand(N, 3, 1, 4)
    shown = pipeline.recolor(pixels, torch.tensor(probability), seeding.generator(0, "rates"))[:, :, 0].double()
    black, linear = shown[:, :, :1], shown[:, :, 1:] - shown[:, :, :1]
    along = linear.sum((1, 2)) / 3  # what grey is multiplied by
    basis = torch.tensor([[1.0, -1.0, 0.0], [1.0, 1.0, -2.0]], dtype=torch.float64)
    basis = basis / basis.norm(dim=1, keepdim=True)
    across = basis @ linear @ basis.t()
    found = {
        "brightness": black[:, 0, 0] / along,
        "contrast": along.abs().log2(),
        "luma": (along < 0).double(),
        "hue": torch.atan2(across[:, 1, 0] - across[:, 0, 1], across[:, 0, 0] + across[:, 1, 1]),
        "saturation": (across.det().sqrt() / along.abs()).log2(),
    }
    return {name: torch.where(value.abs() < 1e-5, 0.0, value) for name, value in found.items()}


def happened(value: Tensor) -> Tensor:
    """Bool (n,): which images were changed."""
    return (value != 0).flatten(1).any(1) if value.ndim > 1 else value != 0


def check_share(changed: Tensor, expected: float) -> None:
    """Fail unless the share is within four standard errors of a binomial count."""
    share, error = changed.double().mean().item(), math.sqrt(expected * (1 - expected) / len(changed))
    assert abs(share - expected) < 4 * error + 1e-3, (share, expected)


@pytest.mark.parametrize("kind", [blits, geometry, colours])
def test_each_augmentation_changes_the_published_share_of_images(kind: Kind) -> None:
    changed = {name: happened(value) for name, value in kind(P).items()}
    shares = {name: P * ALL_BUT_NONE.get(name, 1.0) if kind is not geometry else P for name in changed}
    for name, images in changed.items():
        check_share(images, shares[name])
    for one, other in itertools.combinations(changed, 2):  # each by a coin of its own
        check_share(changed[one] & changed[other], shares[one] * shares[other])


@pytest.mark.parametrize("kind", [blits, geometry])
def test_a_shift_is_along_both_axes_or_neither(kind: Kind) -> None:
    x, y = kind(P)["shift"].unbind(1)
    still = 1 / 16 if kind is blits else 0.0  # along one axis, of those that are shifted
    for along, across in ((x, y), (y, x)):
        check_share((across != 0)[along != 0], 1 - still)


def check_even(values: Tensor, low: float, high: float) -> None:
    """Fail unless the values are spread evenly from low to high."""
    shares = torch.histc(values.float(), 8, low, high) / len(values)
    assert shares.sum().item() == pytest.approx(1, abs=1e-3)
    for share in shares.tolist():
        assert abs(share - 1 / 8) < 4 * math.sqrt(7 / 64 / len(values)) + 1e-3, shares


def test_each_augmentation_goes_as_far_as_published() -> None:
    blit, warp, colour = blits(1.0), geometry(1.0), colours(1.0)
    for quarter in range(4):
        check_share(blit["turn"] == quarter, 1 / 4)
    for along in blit["shift"].unbind(1):
        assert along.abs().max() == SIDE / 8
        for step in range(-7, 8):  # the outermost steps are half as likely
            check_share(along == step, 1 / 16)
    spreads = {
        "scale": (warp, 0.2),
        "brightness": (colour, 0.2),
        "contrast": (colour, 0.5),
        "saturation": (colour, 1.0),
    }
    for name, (found, spread) in spreads.items():
        assert found[name].mean().item() == pytest.approx(0, abs=0.05 * spread), name
        assert found[name].std().item() == pytest.approx(spread, rel=0.03), name
    assert warp["stretch"].square().mean().sqrt().item() == pytest.approx(0.2, rel=0.03)  # of unknown sign
    assert warp["shift"].std(0).tolist() == pytest.approx([SIDE / 8] * 2, rel=0.03)
    check_even(colour["hue"], -math.pi, math.pi)


def test_rotations_are_even_over_the_circle_and_twice_at_most() -> None:
    chance = 1 - math.sqrt(1 - P)
    matrices = pipeline.geometric_matrices(dice(P), SIDE, SIDE).double()[:, :2, :2]
    round_ones = torch.linalg.svdvals(matrices).diff(dim=1).abs()[:, 0] < 1e-6  # not stretched: one angle to be seen
    angles = torch.atan2(matrices[:, 1, 0], matrices[:, 0, 0])[round_ones]
    turned = angles.abs() > 1e-5
    check_share(turned, P)
    assert pytest.approx(P) == 2 * chance - chance**2
    check_even(angles[turned], -math.pi, math.pi)


def test_planned_augmentation_multiplies_the_probability_by_each_kinds_factor() -> None:
    images = torch.rand(4000, 3, 8, 8, generator=seeding.generator(1, "x"))
    covered = augmentation.cut(images, torch.tensor(P), seeding.generator(0, "rates"))
    check_share((covered != images).flatten(1).any(1), P)
    assert torch.equal(augmentation.cut(images, torch.tensor(0.0), seeding.generator(0, "rates")), images)
    corners = augmentation.cut(torch.ones(4000, 1, 32, 32), torch.tensor(1.0), seeding.generator(0, "rates"))
    removed = (corners == 0).sum((1, 2, 3))
    assert removed.max() == 256 and removed.min() >= 64
    # along one side the mean length is 1/2 less 2 times (1/4)^2 / 2 cut off
    assert removed.double().mean().item() / 1024 == pytest.approx((7 / 16) ** 2, rel=0.03)


def test_what_has_no_coin_happens_to_every_image() -> None:
    images = torch.rand(3000, 3, 16, 16, generator=seeding.generator(1, "x"))
    random = seeding.generator(0, "rates")
    for operation in (views.color, views.cutout):
        check_share((operation(images, random) != images).flatten(1).any(1), 1.0)
    check_share((views.translation(images, random) != images).flatten(1).any(1), 1 - 1 / 25)  # steps of -2 to 2


@pytest.mark.parametrize(("flip", "shift", "steps"), [(0.5, 0.125, 5), (0.3, 0.0, 1), (0.0, 0.25, 9)])
def test_consistency_mirrors_by_its_probability_and_always_shifts(flip: float, shift: float, steps: int) -> None:
    ramp = torch.arange(16.0).view(1, 1, 1, 16).expand(N // 4, 1, 16, 16) + 100 * torch.arange(16.0).view(1, 1, 16, 1)
    shown = flip_and_shift(ramp, flip, shift, seeding.generator(0, "rates"))[:, 0]
    mirrored = shown[:, 8, 7] > shown[:, 8, 8]
    check_share(mirrored, flip)
    columns = torch.where(mirrored, shown[:, 8, 7], shown[:, 8, 8]) % 100 - 8
    rows = (shown[:, 8, 8] // 100) - 8
    for moved in (rows, columns):
        for step in range(-(steps // 2), steps // 2 + 1):
            check_share(moved == step, 1 / steps)
