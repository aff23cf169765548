"""The autoregressive model: what it may see, its likelihood, its sampling number by number, and that it learns."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from gan_experiments import seeding
from gan_experiments.data.base import Dataset, Spec, Split
from gan_experiments.errors import UserError
from gan_experiments.experiment import run
from gan_experiments.games.autoregressive import AutoregressiveGame
from gan_experiments.inference import load_generator
from gan_experiments.logging.records import read_records
from gan_experiments.networks.discretised import Categorical, Levels, LogisticMixture
from gan_experiments.networks.mlp import MLPGenerator
from gan_experiments.networks.pixelcnn import MaskedConv2d, PixelCNN
from gan_experiments.objectives.likelihood import Likelihood
from gan_experiments.signals import Interrupted
from test_resume import equal, final, measured, signal_after
from test_vae import deal

Compose = Callable[..., DictConfig]


def wild(shape: tuple[int, int, int], **sizes: int) -> PixelCNN:
    """A network with large weights everywhere."""
    torch.manual_seed(0)
    network = PixelCNN(Spec(shape), **{"width": 6, "blocks": 2, "first": 5, **sizes})
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0, 0.3)
    return network


@pytest.mark.parametrize("colours", [1, 3])
def test_numbers_see_those_before_and_nothing_else(colours: int) -> None:
    network = wild((colours, 5, 4), levels=4, mixtures=0).double()
    x = torch.randn(1, colours, 5, 4, dtype=torch.float64, requires_grad=True)
    said = network.look(x, lambda layer, h: layer(h), network.positions).view(colours, 4, 5, 4)
    order = torch.arange(colours * 20).view(5, 4, colours).permute(2, 0, 1)  # colours of a pixel one after the other
    reached = torch.zeros(colours * 20, colours * 20, dtype=torch.bool)
    for place in itertools.product(range(colours), range(5), range(4)):
        slope = sum(torch.autograd.grad(said[place[0], k, place[1], place[2]], x, retain_graph=True)[0].abs()
                    for k in range(4))  # fmt: skip
        assert isinstance(slope, Tensor)
        reached[order[place], order.flatten()] = (slope[0] != 0).flatten()
    assert not reached.triu().any()  # exactly 0 for itself and all that come later
    later, earlier = order[0, 1:, 1:-1], (order[0, 1:, :-2], order[0, :-1, 2:])  # left, and above to the right
    assert all(reached[later, before].any() for before in earlier)
    assert all(reached[order[k], order[k - 1]].any() for k in range(1, colours))  # the colour before of the same pixel


def test_masks_of_the_paper() -> None:
    first, later = MaskedConv2d(1, 2, 3, 1, first=True), MaskedConv2d(2, 2, 3, 1)
    assert first.mask[1, 0].tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0]]
    assert later.mask[0, 1].tolist() == [[1, 1, 1], [1, 1, 0], [0, 0, 0]]
    colours = MaskedConv2d(3, 6, 1, 3, first=True).mask[:, :, 0, 0]
    assert colours.tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 0]]
    assert MaskedConv2d(3, 3, 1, 3).mask[:, :, 0, 0].tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]


def test_the_probabilities_of_all_images_sum_to_one() -> None:
    for mixtures in (0, 2):
        network = wild((1, 2, 3), levels=3, mixtures=mixtures)
        values = network.levels.value(torch.arange(3))
        everything = torch.cartesian_prod(*[values] * 6).view(-1, 1, 2, 3)
        with torch.no_grad():
            assert network.log_likelihood(everything).exp().sum().item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(("shape", "mixtures"), [((1, 6, 5), 0), ((3, 4, 5), 2)])
def test_sampling_with_a_memory_is_sampling_with_whole_evaluations(shape: tuple[int, int, int], mixtures: int) -> None:
    network = wild(shape, levels=8, mixtures=mixtures)
    game = AutoregressiveGame(Spec(shape), lambda spec: network)
    latents = game.latents(4, torch.Generator().manual_seed(1))
    uniforms = torch.special.ndtr(latents).view(4, *shape)
    slow = torch.zeros(4, *shape)
    for row, column, colour in itertools.product(range(shape[1]), range(shape[2]), range(shape[0])):
        with torch.no_grad():
            parameters = network(slow)[:, colour, row, column]
        level = network.levels.invert(parameters, uniforms[:, colour, row, column])
        slow[:, colour, row, column] = network.levels.value(level)
    samples = game.sample(latents)
    assert torch.equal(samples, slow) and torch.equal(samples, game.sample(latents))
    assert torch.equal(game.sample(latents[1:3]), samples[1:3])


def test_draws_are_as_frequent_as_their_probabilities() -> None:
    """Chi-square of 40,000 images of two numbers with three levels: 8 degrees of freedom."""
    for mixtures in (0, 2):
        network = wild((1, 1, 2), levels=3, mixtures=mixtures)
        game = AutoregressiveGame(Spec((1, 1, 2)), lambda spec, n=network: n)
        levels = network.levels.nearest(game.sample(game.latents(40_000, torch.Generator().manual_seed(0))))
        seen = (3 * levels[:, 0, 0, 0] + levels[:, 0, 0, 1]).bincount(minlength=9)
        everything = network.levels.value(torch.cartesian_prod(torch.arange(3), torch.arange(3))).view(-1, 1, 1, 2)
        with torch.no_grad():
            expected = network.log_likelihood(everything).exp() * 40_000
        assert ((seen - expected) ** 2 / expected).sum() < 26  # 1 in 1,000


@pytest.mark.parametrize("law", [Categorical(16), LogisticMixture(16, 3)])
def test_inverting_even_numbers_gives_the_probabilities(law: Levels) -> None:
    torch.manual_seed(1)
    parameters = torch.randn(2, law.parameters)
    even = ((torch.arange(20_000) + 0.5) / 20_000).repeat(2, 1)
    levels = law.invert(parameters[:, None].expand(-1, 20_000, -1), even)
    shares = torch.stack([row.bincount(minlength=16) for row in levels]) / 20_000
    every = torch.arange(16).expand(2, -1)
    exact = law.log_likelihood(parameters[:, None].expand(-1, 16, -1), every).exp()
    torch.testing.assert_close(exact.sum(1), torch.ones(2))
    torch.testing.assert_close(shares, exact, rtol=0, atol=3e-4)


def test_levels_are_the_nearest_and_bytes_at_256() -> None:
    eight, bytes_ = Categorical(8), Categorical(256)
    images = torch.arange(256) / 127.5 - 1
    assert torch.equal(bytes_.nearest(images), torch.arange(256))
    assert torch.allclose(bytes_.value(bytes_.nearest(images)), images, atol=1e-6)
    assert torch.equal(eight.nearest(eight.value(torch.arange(8))), torch.arange(8))
    assert eight.nearest(torch.tensor([-3.0, 3.0])).tolist() == [0, 7]


@pytest.mark.parametrize("mixtures", [0, 3])
def test_bits_of_a_known_distribution(mixtures: int) -> None:
    """Every level equally likely: log2(levels) bits a number, whatever the image."""
    network = PixelCNN(Spec((1, 4, 4)), width=4, blocks=1, levels=8, mixtures=mixtures)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    if mixtures:  # logistic distributions so narrow and far that all that counts is the middle of the range
        with torch.no_grad():
            network.last.bias[2 * mixtures :] = -20.0  # type: ignore[index]
    game = AutoregressiveGame(Spec((1, 4, 4)), lambda spec: network)
    share = Likelihood().share("generator", 1.0)
    share.check(game)
    middle = network.levels.value(torch.tensor([3, 4]))[torch.randint(0, 2, (5, 1, 4, 4))]
    images = middle if mixtures else network.levels.value(torch.randint(0, 8, (5, 1, 4, 4)))
    figures = share.figures(game.deal(deal(images)))  # type: ignore[attr-defined]
    assert figures["bits_per_dim"].item() == pytest.approx(1 if mixtures else 3, abs=1e-3)
    assert share(game.deal(deal(images))).item() == pytest.approx(-figures["log_likelihood"].item())


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match="PixelCNN models images, but the data are points"):
        PixelCNN(Spec((2,)))
    for wrong in ({"first": 4}, {"levels": 1}, {"levels": 257}, {"width": 2}, {"mixtures": -1}):
        with pytest.raises(UserError, match="must be at least the 3 colours"):
            PixelCNN(Spec((3, 4, 4)), **wrong)
    with pytest.raises(UserError, match="MLPGenerator is not autoregressive"):
        AutoregressiveGame(Spec((1, 4, 4)), MLPGenerator)


def test_a_published_block_has_the_published_features() -> None:
    """h = 128: 2h to h by 1x1, h to h by 3x3, h to 2h by 1x1 (table 1 there)."""
    network = PixelCNN(Spec((3, 32, 32)), width=128, blocks=15, mixtures=0, positions=False)
    block = network.blocks[0]
    assert [tuple(p.shape) for p in block.parameters()][::2] == [(128, 256, 1, 1), (128, 128, 3, 3), (256, 128, 1, 1)]
    assert network(torch.zeros(1, 3, 32, 32)[:, :, :32]).shape == (1, 3, 32, 32, 256)


def copies() -> Dataset:
    """Rows that repeat the first, a random one of 4 numbers at two levels: 4 bits an image of 16 numbers."""
    random = seeding.generator(0, "copies")
    splits = []
    for n in (2000, 400):
        rows = torch.randint(0, 2, (n, 1, 1, 4), generator=random).mul(255).to(torch.uint8)
        splits.append(Split(rows.expand(-1, -1, 4, -1).contiguous()))
    return Dataset("copies", Spec((1, 4, 4)), *splits)


TRIAL = (
    "model=autoregressive", "loss=likelihood", "metric=none", "extractor=none", "logger=none", "schedule=constant",
    "schedule.images=null", "samples.count=4", "model.generator.width=8", "model.generator.blocks=2",
    "model.generator.first=3", "schedule.generator.optimizer.lr=1e-2", "schedule.ema.half_life=0", "log.every=6400",
)  # fmt: skip


@pytest.mark.parametrize("head", [("mixtures=0", "levels=2"), ("mixtures=2", "levels=256")])
def test_it_learns_what_there_is_to_know(head: tuple[str, str], composed: Compose, tmp_path: Path) -> None:
    lines = [f"model.generator.{line}" for line in head]
    config = composed(*TRIAL, "schedule.steps=300", *lines)
    config.dataset = {"_target_": f"{__name__}.copies"}
    run(config, tmp_path / "run")
    records = [record for record in read_records(tmp_path / "run" / "metrics.jsonl") if record["kind"] == "train"]
    last = records[-1]["values"]
    assert 4 / 16 - 0.01 < last["held_out/bits_per_dim"] < 4 / 16 + 0.03
    nats = -last["held_out/bits_per_dim"] * 16 * math.log(2)
    assert last["held_out/log_likelihood"] == pytest.approx(nats, rel=1e-4)
    samples = load_generator(tmp_path / "run").sample(200)
    assert (samples == samples[:, :, :1]).flatten(1).all(1).float().mean() > 0.9  # whole images of equal rows
    assert len((samples[:, 0, 0] > 0).unique(dim=0)) == 16


def test_a_stopped_run_continues_bit_for_bit(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = composed(*TRIAL, "schedule.steps=5", "schedule.ema.half_life=100", "log.every=128")
    config.dataset = {"_target_": f"{__name__}.copies"}
    run(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        signal_after(2, patch)
        with pytest.raises(Interrupted):
            run(config, tmp_path / "parts")
    run(config, tmp_path / "parts")
    assert equal(final(tmp_path / "whole"), final(tmp_path / "parts")) == []
    assert measured(tmp_path / "whole") == measured(tmp_path / "parts")
