"""Truncated normals in closed form, styles moved towards centres, and what can't be truncated."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan_experiments import seeding
from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.game import Game
from gan_experiments.games.autoregressive import AutoregressiveGame
from gan_experiments.games.info import InfoGame
from gan_experiments.games.noise import NoiseGame
from gan_experiments.games.style import StyleGame
from gan_experiments.networks.mlp import MLPDiscriminator, MLPGenerator
from gan_experiments.networks.pixelcnn import PixelCNN
from gan_experiments.networks.stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator
from gan_experiments.sampling import draw, slerp, walk
from gan_experiments.truncation import (
    NONE,
    ClusteredTruncation,
    ResampledNormal,
    StyleTruncation,
    TruncationChoice,
    draws_normals,
    style_centres,
    styles_of,
)
from given import FLOAT32

CLASSES = ("cat", "dog", "7", "a/b")


def style_game(classes: tuple[str, ...] = (), side: int = 16) -> StyleGame:
    """A tiny StyleGAN2 whose mean style is not 0."""
    torch.manual_seed(3)
    widths: dict[str, Any] = {"channel_base": 64, "channel_max": 8, "conditional": bool(classes), "mapping_layers": 2}
    game = StyleGame(
        Spec((1, side, side), classes),
        partial(StyleGAN2Generator, latent_dim=5, style_dim=6, **widths),
        partial(StyleGAN2Discriminator, **widths),
    )
    # Mapping weights are small numbers times their learning rate; biases tell styles apart from their mean.
    game.styled.mapping.mean.normal_()
    return game.requires_grad_(False).eval()  # type: ignore[return-value]


def mlp_game(latent: str = "normal", kind: type[NoiseGame] = NoiseGame, **more: Any) -> Game:
    generator = partial(MLPGenerator, latent_dim=20, hidden=(8,))
    return kind(Spec((2,)), generator, partial(MLPDiscriminator, hidden=(8,)), latent=latent, **more)


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def density(t: float) -> float:
    return math.exp(-t * t / 2) / math.sqrt(2 * math.pi)


def within(t: float) -> float:
    """The share of normals in +-t."""
    return math.erf(t / math.sqrt(2))


@pytest.mark.parametrize("limit", [0.1, 0.7, 2.0])
def test_truncated_latents_have_the_truncated_normal_distribution(limit: float) -> None:
    free = torch.randn(400, 500, generator=random(1))
    latents = ResampledNormal(limit).latents(free, random(2))
    assert latents.abs().max() <= limit and latents.shape == free.shape and latents.dtype == free.dtype
    inside = free.abs() <= limit
    assert torch.equal(latents[inside], free[inside]) and len(latents[~inside].unique()) > 0.9 * (~inside).sum()
    # Var = 1 - 2 t phi(t) / (2 Phi(t) - 1); redrawn numbers alone must have it too.
    variance = 1 - 2 * limit * density(limit) / within(limit)
    for numbers in (latents.flatten(), latents[~inside]):
        spread = 4 / math.sqrt(len(numbers))
        assert float(numbers.double().square().mean()) == pytest.approx(variance, rel=spread)
        assert abs(float(numbers.double().mean())) < spread * limit
        share = float((numbers.abs() <= limit / 2).double().mean())
        assert share == pytest.approx(within(limit / 2) / within(limit), abs=2 * spread)


def test_far_limits_change_nothing_and_near_ones_still_answer() -> None:
    free = torch.randn(50, 40, generator=random())
    assert torch.equal(ResampledNormal(40.0).latents(free, random(1)), free)
    near = ResampledNormal(1e-6).latents(free, random(1))
    assert 5e-7 < float(near.abs().max()) <= 1e-6


def test_limits_share_base_latents_and_classes() -> None:
    game = style_game(CLASSES)
    wide, narrow = (
        draw(game, 6, random(5), FLOAT32, truncation=ResampledNormal(limit)).labels for limit in (50.0, 0.3)
    )
    free = draw(game, 6, random(5), FLOAT32)
    assert wide is not None and narrow is not None and free.labels is not None
    assert torch.equal(wide, narrow) and torch.equal(wide, free.labels)
    far = draw(game, 6, random(5), FLOAT32, truncation=ResampledNormal(50.0)).samples
    assert torch.equal(far, free.samples)
    assert not torch.equal(draw(game, 6, random(5), FLOAT32, truncation=ResampledNormal(0.3)).samples, free.samples)


@pytest.mark.parametrize("classes", [(), CLASSES])
def test_psi_1_is_no_truncation_and_psi_0_is_one_image(classes: tuple[str, ...]) -> None:
    game = style_game(classes)
    free = draw(game, 5, random(), FLOAT32).samples
    assert free.std(0).max() > 0
    torch.testing.assert_close(draw(game, 5, random(), FLOAT32, truncation=StyleTruncation(1.0)).samples, free)
    same = draw(game, 5, random(), FLOAT32, truncation=StyleTruncation(0.0)).samples
    mean = game.styled.mapping.mean.expand(1, game.styled.layers, -1)
    torch.testing.assert_close(same, game.styled.synthesis(mean).expand_as(same))


def test_psi_moves_styles_on_straight_lines_in_the_first_layers() -> None:
    game, z = style_game(), torch.randn(4, 5, generator=random())
    styles, mean = styles_of(game, z, None), game.styled.mapping.mean
    moved = StyleTruncation(0.3, cutoff=2).styles(game, z, None)
    assert moved.shape == (4, game.styled.layers, 6) and game.styled.layers == 6
    expected = mean + 0.3 * (styles - mean)
    for layer in range(6):
        torch.testing.assert_close(moved[:, layer], expected if layer < 2 else styles)
    torch.testing.assert_close(StyleTruncation(0.3, 2).sample(game, z, None), game.truncated(z, 0.3, 2))


def test_several_centres_take_the_nearest() -> None:
    game, z = style_game(), torch.randn(30, 5, generator=random())
    styles = styles_of(game, z, None)
    centres = styles[[3, 11, 20]] + 0.01 * torch.randn(3, 6, generator=random(1))
    moved = ClusteredTruncation(0.25, centres).styles(game, z, None)
    for style, layers in zip(styles, moved, strict=True):
        nearest = min(centres, key=lambda centre: float((centre - style).square().sum()))  # noqa: B023
        torch.testing.assert_close(layers, (nearest + 0.25 * (style - nearest)).expand(6, -1))
    assert len(ClusteredTruncation(0.0, centres).styles(game, z, None)[:, 0].unique(dim=0)) == 3


def test_centres_are_means_of_the_styles_nearest_to_them() -> None:
    game = style_game(CLASSES)
    centres = style_centres(game, 3, random(4), FLOAT32.device, 2500)
    again, generator = [], random(4)
    for n in (1000, 1000, 500):
        z = game.latents(n, generator)
        again.append(styles_of(game, z, game.ask(n, generator)))
    styles = torch.cat(again)
    nearest = torch.cdist(styles, centres).argmin(1)
    assert len(nearest.unique()) == 3
    for number, centre in enumerate(centres):
        spread = float(styles.std())
        torch.testing.assert_close(centre, styles[nearest == number].mean(0), atol=0.01 * spread, rtol=0)
    torch.testing.assert_close(style_centres(game, 1, random(4), FLOAT32.device, 2500)[0], styles.mean(0))


def test_walks_are_truncated_like_samples() -> None:
    game, truncation = style_game(), StyleTruncation(0.5)
    first, second = walk(game, 3, random(), FLOAT32, 0.25, True, truncation)
    generator = random()
    a, b = game.latents(3, generator), game.latents(3, generator)
    torch.testing.assert_close(first, truncation.sample(game, a, None))
    torch.testing.assert_close(second, truncation.sample(game, slerp(a, b, torch.full((3,), 0.25)), None))
    inside = ResampledNormal(0.2)
    short, _ = walk(game, 3, random(), FLOAT32, 0.0, True, inside)
    assert not torch.equal(short, game.sample(a))


def test_draws_truncated_in_training_mode_leave_the_game_as_it_was() -> None:
    game = style_game().train()
    before = copy.deepcopy(game.state_dict())
    draw(game, 4, random(), FLOAT32, truncation=StyleTruncation(0.4))
    assert game.training and all(torch.equal(before[name], value) for name, value in game.state_dict().items())


# what doesn't fit


def test_which_latents_are_normal() -> None:
    assert draws_normals(mlp_game()) and draws_normals(style_game())
    assert draws_normals(AutoregressiveGame(Spec((1, 4, 4)), partial(PixelCNN, width=2, blocks=1)))
    assert not draws_normals(mlp_game("uniform"))
    assert not draws_normals(mlp_game(kind=InfoGame, categories=(3,), continuous=1))


def built(game: Game, **choice: Any) -> Any:
    return TruncationChoice(**choice).build(game, FLOAT32.device)


@pytest.mark.parametrize(
    ("make", "choice", "said"),
    [
        (mlp_game, {"psi": 0.7}, "has no styles .*; truncation of its normal latents fits"),
        (
            partial(mlp_game, "uniform"),
            {"psi": 0.7},
            r"has no styles \(model=stylegan, stylegan2 and stylegan3 have\)$",
        ),
        (partial(mlp_game, "uniform"), {"limit": 0.7}, "NoiseGame are uniform or hold codes"),
        (style_game, {"limit": -1.0}, "expected a limit above 0"),
        (style_game, {"limit": math.nan}, "expected a limit above 0"),
        (style_game, {"psi": -0.1}, "psi -0.1: expected 0"),
        (style_game, {"psi": math.inf}, "psi inf: expected 0"),
        (style_game, {"psi": 0.5, "cutoff": 7}, "--cutoff 7: this generator has 6 layers"),
        (style_game, {"psi": 0.5, "centres": 70_000}, "centres 70000: expected 1 to 60,000"),
        (style_game, {"psi": 0.5, "centres": 0}, "--centres 0: must be 1 or more"),
        (style_game, {"psi": 0.5, "limit": 0.5}, "--truncation shortens latents and --psi moves styles; give one"),
        (style_game, {"cutoff": 3}, "--cutoff 3 says where --psi applies"),
    ],
)
def test_misfits_are_said_in_one_line(make: Callable[[], Game], choice: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        built(make(), **choice)
    assert "\n" not in str(caught.value)


def test_what_is_on_record() -> None:
    game = style_game()
    assert built(game) is NONE and NONE.name == "none"
    assert built(game, limit=0.7).name == "latents within 0.7"
    assert built(game, psi=0.5).name == "psi 0.5 towards the mean style"
    assert built(game, psi=0.5, cutoff=2).name == "psi 0.5 towards the mean style in the first 2 layers"
    centres = style_centres(game, 2, seeding.generator(0, "centres"), FLOAT32.device, 50)
    assert ClusteredTruncation(0.5, centres).name == "psi 0.5 towards the nearest of 2 centres"


def test_styles_of_a_wrapped_call_are_those_the_generator_makes() -> None:
    game, z = style_game(CLASSES), torch.randn(3, 5, generator=random())
    classes = torch.tensor([0, 1, 2])
    seen: list[Tensor] = []
    handle = game.styled.mapping.register_forward_hook(lambda module, inputs, output: seen.append(output))
    game.sample(z, classes)
    handle.remove()
    assert isinstance(game.generator, nn.Module) and torch.equal(styles_of(game, z, classes), seen[0])
    assert not torch.equal(styles_of(game, z, classes.flip(0)), seen[0])
