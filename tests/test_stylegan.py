"""StyleGAN: published counts, adaptive instance norm written out, styles layer by layer, and the game of styles."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from gan_experiments import runtime as machine
from gan_experiments.assembly import build_game, build_trainer
from gan_experiments.composition import check_tricks
from gan_experiments.config import build, conf_dir
from gan_experiments.data.base import Batch, Spec
from gan_experiments.errors import UserError
from gan_experiments.game import Deal
from gan_experiments.games.style import StyleGame, StyleRound
from gan_experiments.modules import count_parameters
from gan_experiments.networks.dcgan import DCGANGenerator
from gan_experiments.networks.equalised import ROOT_2, EqualLinear
from gan_experiments.networks.informed import informing
from gan_experiments.networks.mapping import Mapping, styling
from gan_experiments.networks.progan import Blur
from gan_experiments.networks.stylegan import AdaIN, Constant, Noise, StyleGANDiscriminator, StyleGANGenerator
from gan_experiments.networks.stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator
from gan_experiments.schema import typed
from gan_experiments.trainer import Trainer
from given import differing
from trick_bench import GAMES, compose_plainly

SPEC = Spec((3, 16, 16), tuple("abc"))


def generator(**options: Any) -> StyleGANGenerator:
    torch.manual_seed(0)
    return StyleGANGenerator(SPEC, 6, 5, 2, channel_max=8, **options)


def game(mixing: float = 0.5, first: bool = False, **options: Any) -> StyleGame:
    """A small game of StyleGAN2, or of the `first` StyleGAN."""
    torch.manual_seed(0)
    makes: Any = (StyleGANGenerator, StyleGANDiscriminator) if first else (StyleGAN2Generator, StyleGAN2Discriminator)
    return StyleGame(
        SPEC,
        lambda spec: makes[0](spec, 6, 5, 2, channel_max=8, **options),
        lambda spec: makes[1](spec, channel_max=8, **options),
        mixing=mixing,
    )


def dealt(game: StyleGame, n: int = 8, seed: int = 1) -> StyleRound:
    def fetch() -> Batch:
        return Batch(torch.zeros(n, 3, 16, 16), torch.arange(n) % 3)

    return game.deal(Deal(n, fetch, seed, torch.device("cpu")))


def test_published_numbers_of_parameters() -> None:
    """26.2 million at 1024 (table 1's caption); 26,219,627 with the maps to colours of all resolutions."""
    spec = Spec((3, 1024, 1024))
    with torch.device("meta"):
        assert count_parameters(StyleGANGenerator(spec)) == 26_212_019
        assert count_parameters(StyleGANGenerator(spec, first=4)) == 26_219_627
        assert count_parameters(StyleGANDiscriminator(spec, first=4)) == 23_087_249
        for depth, count in ((8, 2_101_248), (2, 525_312)):
            assert count_parameters(Mapping(spec, 512, 512, depth)) == count


@pytest.mark.parametrize(("side", "channels"), [(8, 1), (16, 3), (64, 3)])
def test_every_size(side: int, channels: int) -> None:
    spec = Spec((channels, side, side))
    made = StyleGANGenerator(spec, 6, 5, 2, channel_max=4)
    images = made(torch.randn(4, 6))
    assert images.shape == (4, channels, side, side)
    assert made.layers == 2 * int(math.log2(side)) - 2
    judge = StyleGANDiscriminator(spec, channel_max=4)
    verdict = judge(images)
    assert verdict.logits.shape == (4,)
    assert [tuple(feature.shape[1:3]) for feature in verdict.features] == judge.shapes
    for make in (StyleGANGenerator, StyleGANDiscriminator):
        with pytest.raises(UserError, match=make.__name__):
            make(Spec((3, 4, 4)))


def test_adaptive_instance_norm_is_equation_1() -> None:
    layer = AdaIN(3, 5, place=1)
    nn.init.normal_(layer.affine.bias)
    x, styles = torch.randn(2, 3, 4, 4) * 3 + 1, torch.randn(2, 4, 5)
    with styling(layer, styles):
        result = layer(x)
    assert layer.told is None
    for sample in range(2):
        y = layer.affine.weight @ styles[sample, 1] / math.sqrt(5) + layer.affine.bias
        for channel in range(3):
            map_ = x[sample, channel]
            normal = (map_ - map_.mean()) / (map_.var(unbiased=False) + 1e-8).sqrt()
            torch.testing.assert_close(result[sample, channel], (1 + y[channel]) * normal + y[3 + channel])


def test_initial_values() -> None:
    made = generator()
    (constant,) = [part for part in made.modules() if isinstance(part, Constant)]
    assert torch.equal(constant.maps, torch.ones(1, 8, 4, 4))
    noises = [part for part in made.modules() if isinstance(part, Noise)]
    assert len(noises) == 6 and not any(part.scale.any() for part in noises) and noises[0].scale.shape == (8,)
    affine = [part.affine for part in made.modules() if isinstance(part, AdaIN)]
    assert not any(part.bias.any() for part in affine) and affine[0].scale == pytest.approx(1 / math.sqrt(5))
    layers = [part for part in made.mapping.modules() if isinstance(part, EqualLinear)]
    assert all(layer.lr_multiplier == 0.01 and layer.gain == ROOT_2 for layer in layers)
    weights = torch.cat([layer.weight.detach().flatten() for layer in layers])
    assert float(weights.std()) == pytest.approx(100, rel=0.25)
    blurs = [part.taps for part in made.modules() if isinstance(part, Blur)]
    assert blurs == [(1, 2, 1)] * 2
    assert [part.taps for part in StyleGANDiscriminator(SPEC).modules() if isinstance(part, Blur)] == [(1, 2, 1)] * 2


@pytest.mark.parametrize(("weight_gain", "gain"), [(ROOT_2, 1.0), (1.0, ROOT_2)])
def test_mapping_written_out(weight_gain: float, gain: float) -> None:
    torch.manual_seed(0)
    mapping = Mapping(SPEC, 6, 5, 2, weight_gain=weight_gain, gain=gain)
    first, second = (part for part in mapping.modules() if isinstance(part, EqualLinear))
    z = torch.randn(3, 6)
    h = z / z.square().mean(1, keepdim=True).sqrt()
    for layer, width in ((first, 6), (second, 5)):
        nn.init.normal_(layer.bias)
        h = h @ layer.weight.t() * 0.01 * weight_gain / math.sqrt(width) + 0.01 * layer.bias
        h = gain * h.where(h > 0, 0.2 * h)
    torch.testing.assert_close(mapping(z), h)


def test_noise_is_one_map_a_sample_scaled_a_channel() -> None:
    layer = Noise(3)
    with torch.no_grad():
        layer.scale.copy_(torch.tensor([0.0, 1.0, -2.0]))
    x = torch.randn(2, 3, 8, 8)
    torch.manual_seed(0)
    added = layer(x) - x
    torch.manual_seed(0)
    noise = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(added, noise * torch.tensor([0.0, 1.0, -2.0]).view(3, 1, 1))


def features(network: StyleGANGenerator | StyleGAN2Generator, styles: Tensor) -> list[Tensor]:
    """What each level gives."""
    found, h = [], styles
    with styling(network, styles), torch.no_grad():
        for level in network.levels:
            h = level(h)
            found.append(h)
    return found


@pytest.mark.parametrize("kind", [StyleGANGenerator, StyleGAN2Generator])
def test_a_style_acts_from_its_own_layer_on(kind: Any) -> None:
    network = kind(SPEC, 6, 5, 2, channel_max=8)
    assert network.layers == 6
    styles = torch.randn(1, 6, 5)
    before, image = features(network, styles), network.synthesis(styles)
    for place in range(6):
        other = styles.clone()
        other[:, place] += 1
        same = [torch.equal(a, b) for a, b in zip(before, features(network, other), strict=True)]
        first = place // 2 if kind is StyleGANGenerator else (place + 1) // 2
        assert same == [level < first for level in range(3)]
        assert not torch.allclose(image, network.synthesis(other))


def test_it_can_grow() -> None:
    network = generator(first=8, images_per_phase=10)
    for images, layers, side in ((5, 4, 8), (15, 6, 16), (25, 6, 16)):
        network.growth.at(images, 100)
        assert network.layers == layers
        image = network(torch.randn(2, 6))
        small = nn.functional.avg_pool2d(image, 16 // side)
        torch.testing.assert_close(image, nn.functional.interpolate(small, size=16))


def test_mean_style_is_a_moving_average_of_training() -> None:
    network = generator(mean_decay=0.9)
    z = torch.randn(4, 6)
    mean = network.mapping(z).mean(0)
    assert not network.mapping.mean.any()
    network(z), network(z)
    torch.testing.assert_close(network.mapping.mean, (1 - 0.9**2) * mean)
    network.eval()(z)
    torch.testing.assert_close(network.mapping.mean, (1 - 0.9**2) * mean)


def test_styles_are_mixed_from_a_random_layer_on() -> None:
    played = game(mixing=0.5)
    round = dealt(played, 200)
    own, other = (played.styled.mapping(z) for z in (round.z, round.others))
    crossovers = []
    for sample, styles in enumerate(round.styles):
        kept = [torch.equal(layer, own[sample]) for layer in styles]
        crossovers.append(sum(kept))
        assert kept == [place < crossovers[-1] for place in range(6)]
        assert all(torch.allclose(layer, other[sample]) for layer in styles[crossovers[-1] :])
    counts = [crossovers.count(place) for place in range(7)]
    assert counts[0] == 0 and 80 < counts[6] < 120 and min(counts[1:6]) > 8
    assert torch.equal(dealt(played, 200).styles, round.styles)
    assert not torch.equal(dealt(played, 200, seed=2).crossovers, round.crossovers)


def test_images_are_made_of_the_rounds_styles() -> None:
    played = game()
    round = dealt(played)
    (gradient,) = torch.autograd.grad(round.fakes.sum(), round.styles)
    assert gradient.abs().sum((0, 2)).gt(0).all()
    torch.testing.assert_close(round.fakes, played.styled.synthesis(round.styles))
    torch.testing.assert_close(round.generate(round.z.clone()), round.fakes)  # the same mixture, for other latents too
    plain = dealt(game(mixing=0.0))
    assert plain.others is None
    torch.testing.assert_close(plain.fakes, plain.game.sample(plain.z))
    assert {"styles", "fakes", "reals", "latents"} <= played.deals()


def test_mixing_is_rare_or_frequent_as_told() -> None:
    assert not bool((dealt(game(mixing=1.0), 100).crossovers == 6).any())
    assert bool((dealt(game(mixing=0.0), 100).crossovers == 6).all())


def test_truncation_moves_styles_towards_their_mean() -> None:
    played = game().eval()
    mapping = played.styled.mapping
    nn.init.normal_(mapping.mean)
    z = torch.randn(3, 6)
    torch.testing.assert_close(played.truncated(z, 1.0), played.sample(z))
    middle = played.styled.synthesis(mapping.mean.expand(1, 6, 5))
    torch.testing.assert_close(played.truncated(z, 0.0), middle.expand(3, -1, -1, -1))
    styles = mapping(z)
    near = mapping.mean + 0.7 * (styles - mapping.mean)
    mixed = torch.stack([near, near, *[styles] * 4], 1)
    torch.testing.assert_close(played.truncated(z, 0.7, cutoff=2), played.styled.synthesis(mixed))
    torch.testing.assert_close(mapping(z), styles)


@pytest.mark.parametrize("first", [True, False])
def test_classes_reach_mapping_and_discriminator(first: bool) -> None:
    played = game(first=first, conditional=True)
    assert played.labelled and played.judges_classes
    images = torch.randn(1, 3, 16, 16).expand(3, -1, -1, -1)
    with informing(played.discriminator, torch.tensor([0, 1, 1])), torch.no_grad():
        logits = played.discriminator.eval()(images).logits
    played.train()
    assert torch.allclose(logits[1], logits[2]) and not torch.allclose(logits[0], logits[1])
    round = dealt(played)
    assert round.fakes.shape == (8, 3, 16, 16) and round.fake.logits.shape == (8,)
    with torch.no_grad():
        played.eval()
        z = torch.randn(2, 6)
        a, b = (played.sample(z, torch.tensor(classes)) for classes in ([0, 0], [0, 1]))
        assert torch.allclose(a[0], b[0]) and not torch.allclose(a[1], b[1])
        torch.testing.assert_close(played.truncated(z, 1.0, classes=torch.tensor([0, 1])), b)


def run(*lines: str) -> Trainer:
    """A run on labelled images, grown from side 4 to 8."""
    config, choices = compose_plainly(*GAMES["stylegan"], "model.generator.first=4", *lines)
    node = OmegaConf.create({**config, "dataset": {"_target_": "trick_bench.images"}})
    check_tricks(node, [Path(conf_dir())], choices)
    settings = typed(node)
    dataset = build(settings.dataset, "dataset")
    runtime = machine.choose(settings.runtime, True)
    return build_trainer(settings, build_game(settings, dataset.spec), dataset, runtime)[0]


def test_the_conditional_game_trains_and_resumes_exactly() -> None:
    lines = ("conditioning=[native]", "schedule.steps=4", "regularizer=[r1]", "model.discriminator.mapping_layers=2")
    straight, first, second = run(*lines), run(*lines), run(*lines)
    before = {name: value.clone() for name, value in straight.game.named_parameters()}
    for _ in range(4):
        straight.step()
    straight.meter.check()
    still = [name for name, value in straight.game.named_parameters() if torch.equal(before[name], value)]
    assert not still and any("embedding" in name for name in before), still
    for _ in range(2):
        first.step()
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for _ in range(2):
        second.step()
    assert not differing(straight, second)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="StyleGame needs a generator of styles, which DCGANGenerator is not"):
        StyleGame(SPEC, lambda spec: DCGANGenerator(spec, 4, 4), lambda spec: StyleGANDiscriminator(spec, 64, 4))
    with pytest.raises(UserError, match=r"mixing=1.5"):
        game(mixing=1.5)
    for make in (StyleGANGenerator, StyleGANDiscriminator):
        with pytest.raises(UserError, match="conditional: true needs labelled data"):
            make(Spec((3, 8, 8)), channel_max=4, conditional=True)


def test_half_precision() -> None:
    network = generator()
    z = torch.randn(4, 6)
    exact = network(z)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(z)
        assert network.mapping(z).dtype == torch.float32
    assert (rough.float() - exact).std() < 0.05 * exact.std()
