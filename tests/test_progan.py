"""Progressive growing: published counts, stages, fades, equalised layers, an exact resume in the middle of a fade."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from gan_experiments import experiment
from gan_experiments import runtime as machine
from gan_experiments.assembly import build_game, build_trainer
from gan_experiments.config import build, composed
from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.modules import count_parameters
from gan_experiments.networks.blur import FadingBlur
from gan_experiments.networks.equalised import (
    ROOT_2,
    DownConv2d,
    EqualConv2d,
    EqualLinear,
    LeakyReLU,
    PixelNorm,
    StddevMap,
    UpConv2d,
)
from gan_experiments.networks.growth import Stage, double, fade, halve, stage_at
from gan_experiments.networks.informed import readings
from gan_experiments.networks.progan import ProGANDiscriminator, ProGANGenerator
from gan_experiments.schema import typed
from gan_experiments.trainer import Trainer
from given import differing
from trick_bench import GAMES, compose_plainly


def networks(side: int = 16, first: int = 4, images_per_phase: float | None = 10) -> tuple[ProGANGenerator, nn.Module]:
    torch.manual_seed(0)
    spec = Spec((3, side, side))
    growth = {"first": first, "images_per_phase": images_per_phase}
    return ProGANGenerator(spec, 6, 64, 8, **growth), ProGANDiscriminator(spec, 64, 8, **growth)  # type: ignore[arg-type]


def at(images: int, *parts: nn.Module) -> None:
    for part in parts:
        part.growth.at(images, 1000)  # type: ignore[union-attr, operator]


def test_published_numbers_of_parameters() -> None:
    """As counted in facebookresearch/pytorch_GAN_zoo at 1024, with the maps of all resolutions and of the last only."""
    spec = Spec((3, 1024, 1024))
    with torch.device("meta"):
        assert count_parameters(ProGANGenerator(spec)) == 23_086_795
        assert count_parameters(ProGANDiscriminator(spec)) == 23_087_249
        assert count_parameters(ProGANGenerator(spec, first=1024)) == 23_079_187
        assert count_parameters(ProGANDiscriminator(spec, first=1024)) == 23_077_137


@pytest.mark.parametrize("side", [4, 8, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_have_the_datas_side_at_every_stage(side: int, channels: int) -> None:
    spec = Spec((channels, side, side))
    generator = ProGANGenerator(spec, 5, 64, 6, images_per_phase=10)
    discriminator = ProGANDiscriminator(spec, 64, 6, images_per_phase=10)
    doublings = int(math.log2(side // 4))
    for phase in range(2 * doublings + 2):
        at(10 * phase + 5, generator, discriminator)
        images = generator(torch.randn(4, 5))
        assert images.shape == (4, channels, side, side)
        now = 4 * 2 ** min((phase + 1) // 2, doublings)
        torch.testing.assert_close(images, double(halve(images, side // now), side // now))
        verdict = discriminator(images)
        assert verdict.logits.shape == (4,)
        assert [feature.shape[2] for feature in verdict.features] == [
            *[2**k for k in range(int(math.log2(now)) - 1, 1, -1)],
            4,
        ]


@pytest.mark.parametrize(
    ("images", "total", "per_phase", "expected"),
    [
        (0, 1000, 100, Stage(0, 1.0)),
        (99, 1000, 100, Stage(0, 1.0)),
        (100, 1000, 100, Stage(1, 0.0)),
        (125, 1000, 100, Stage(1, 0.25)),
        (200, 1000, 100, Stage(1, 1.0)),
        (399, 1000, 100, Stage(2, 0.99)),
        (400, 1000, 100, Stage(2, 1.0)),
        (900, 1000, 100, Stage(2, 1.0)),
        (399, 1000, None, Stage(1, 0.995)),
        (700, 1000, None, Stage(2, 0.5)),
        (1000, 1000, None, Stage(2, 1.0)),
        (0, 1, None, Stage(0, 1.0)),
    ],
)
def test_stages(images: int, total: int, per_phase: float | None, expected: Stage) -> None:
    stage = stage_at(images, total, 2, per_phase)
    assert stage.doublings == expected.doublings and stage.share == pytest.approx(expected.share)


def test_a_network_that_does_not_grow_is_whole_at_once() -> None:
    assert stage_at(0, 1, 0, None) == Stage(0, 1.0)
    generator, discriminator = networks(first=16)
    assert generator.growth.stage == Stage(0, 1.0)
    assert len(discriminator(generator(torch.randn(2, 6))).features) == len(discriminator.levels)  # type: ignore[arg-type]


def test_equalised_layers_multiply_standard_normal_weights_at_run_time() -> None:
    torch.manual_seed(0)
    dense = EqualLinear(40, 300, gain=ROOT_2, lr_multiplier=0.01, first_bias=1.0)
    assert float(dense.weight.detach().std()) == pytest.approx(100, rel=0.03)
    x = torch.randn(7, 40)
    torch.testing.assert_close(dense(x), x @ dense.weight.t() * 0.01 * math.sqrt(2 / 40) + 1)
    same, up, down = EqualConv2d(5, 300, 3, gain=ROOT_2), UpConv2d(5, 4, (1, 1)), DownConv2d(5, 4, (1, 1), gain=2)
    assert float(same.weight.detach().std()) == pytest.approx(1, rel=0.03)
    assert same.bias is not None and not same.bias.any()
    maps = torch.randn(2, 5, 8, 8)
    nn.init.normal_(same.bias)
    scaled = nn.functional.conv2d(maps, same.weight * math.sqrt(2 / 45), same.bias, padding=1)
    torch.testing.assert_close(same(maps), scaled)
    for layer in (up, down):
        assert layer.bias is not None
        nn.init.normal_(layer.bias)
    doubled = nn.functional.conv2d(double(maps), up.weight.flip(2, 3) / math.sqrt(45), up.bias, padding=1)
    torch.testing.assert_close(up(maps), doubled)
    halved = halve(nn.functional.conv2d(maps, down.weight * 2 / math.sqrt(45), down.bias, padding=1))
    torch.testing.assert_close(down(maps), halved)


def test_a_spectrally_normalised_weight_has_no_gain() -> None:
    """Whoever sets the weight's scale sets that of the map: its largest singular value is 1."""
    for layer in (EqualLinear(6, 9, bias=False), EqualConv2d(6, 9, 1, bias=False)):
        normal = nn.utils.parametrizations.spectral_norm(layer, n_power_iterations=50)
        inputs = torch.eye(6) if isinstance(layer, EqualLinear) else torch.eye(6)[:, :, None, None]
        largest = torch.linalg.matrix_norm(normal(inputs).detach().flatten(1), 2)
        assert float(largest) == pytest.approx(1, abs=1e-3)
        assert count_parameters(normal) == 54


def test_small_layers() -> None:
    x = torch.tensor([[3.0, 4.0]])
    torch.testing.assert_close(PixelNorm()(x), x / math.sqrt(12.5))
    torch.testing.assert_close(LeakyReLU(2, clamp=5)(torch.tensor([-1.0, 2.0, 9.0])), torch.tensor([-0.4, 4.0, 5.0]))
    both = StddevMap(2)(torch.tensor([1.0, 3.0]).view(2, 1, 1, 1))
    assert both[:, 1].flatten().tolist() == pytest.approx([math.sqrt(1 + 1e-8)] * 2)
    maps = torch.randn(6, 3, 4, 4)
    compared = StddevMap(3)(maps)
    assert torch.equal(compared[:, :3], maps)
    for place in range(2):  # groups of samples 2 apart
        spread = maps[place::2].var(0, unbiased=False).add(1e-8).sqrt().mean()
        torch.testing.assert_close(compared[place::2, 3], spread.expand(3, 4, 4))


def test_initial_values() -> None:
    generator, discriminator = networks(32)
    for network in (generator, discriminator):
        layers = [part for part in network.modules() if isinstance(part, EqualLinear | EqualConv2d)]
        weights = torch.cat([layer.weight.detach().flatten() for layer in layers])
        assert float(weights.std()) == pytest.approx(1, rel=0.05) and float(weights.mean()) == pytest.approx(
            0, abs=0.05
        )
        assert not any(layer.bias is not None and layer.bias.any() for layer in layers)
    first = next(part for part in generator.modules() if isinstance(part, EqualLinear))
    head = discriminator.head
    assert isinstance(head, EqualLinear)
    assert first.scale == pytest.approx(math.sqrt(2 / (6 * 16)))
    assert head.scale == pytest.approx(1 / math.sqrt(8))
    assert generator.to_rgb[0].scale == pytest.approx(1 / math.sqrt(8))  # type: ignore[union-attr]
    torch.testing.assert_close(generator(torch.ones(1, 6)), generator(torch.full((1, 6), 9.0)))


def test_generated_images_fade() -> None:
    """In evaluation (1 - a) low + a high; in training what the discriminator's fade makes that of."""
    generator, _ = networks()
    z = torch.randn(3, 6)
    at(14, generator)
    assert generator.growth.stage == Stage(1, pytest.approx(0.4))
    coarse = generator.levels[0](z)
    low, high = generator.to_rgb[0](coarse), generator.to_rgb[1](generator.levels[1](coarse))
    blend = double(0.6 * double(low) + 0.4 * high)
    torch.testing.assert_close(generator.eval()(z), blend)
    trained = halve(generator.train()(z))
    torch.testing.assert_close(double(fade(trained, 0.4)), blend)
    torch.testing.assert_close(trained - double(halve(trained)), high - double(halve(high)))


def test_the_discriminator_fades_alike() -> None:
    _, network = networks()
    assert isinstance(network, ProGANDiscriminator)
    at(14, network)
    images = torch.randn(4, 3, 16, 16)
    small, smaller = halve(images), halve(images, 4)
    seen = 0.6 * double(smaller) + 0.4 * small
    through, around = network.levels[1](network.from_rgb[1](seen)), network.from_rgb[0](smaller)
    last = network.levels[2](0.6 * around + 0.4 * through)
    verdict = network(images)
    torch.testing.assert_close(verdict.logits, network.head(network.pool(last))[:, 0])
    torch.testing.assert_close(verdict.features[0], 0.6 * around + 0.4 * through)


def test_only_the_layers_of_the_stage_run() -> None:
    generator, discriminator = networks()
    for images, running in ((5, 1), (25, 2), (35, 3)):
        at(images, generator, discriminator)
        generator.zero_grad(), discriminator.zero_grad()
        discriminator(generator(torch.randn(4, 6))).logits.sum().backward()
        for levels in (generator.levels, list(discriminator.levels)[::-1]):  # type: ignore[arg-type]
            seen = [any(p.grad is not None for p in level.parameters()) for level in levels]
            assert seen == [place < running for place in range(3)]


def test_the_clock_is_saved_and_stays_where_it_is_read() -> None:
    generator, _ = networks()
    at(14, generator)
    assert generator.state_dict()["growth.clock"].tolist() == [14, 1000]
    other, _ = networks()
    other.load_state_dict(generator.state_dict())
    assert other.growth.stage == generator.growth.stage
    assert generator.to("meta").growth.clock.device.type == "cpu"
    assert generator.growth.stage == other.growth.stage


def test_records_say_where_growth_stands(tmp_path: Path) -> None:
    settings = (
        "experiment=progan", "model.generator.channel_max=4", "model.discriminator.channel_max=4", "metric=none",
        "schedule.images=56", "schedule.batch_size=4", "log.every=4", "samples.every=1000", "logger=none",
        "model.generator.images_per_phase=8",
    )  # fmt: skip
    experiment.run(composed(*settings, f"run.dir={tmp_path}"), tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for player in ("generator", "discriminator"):
        found = [
            (row["values"][f"{player}/side"], row["values"][f"{player}/fade_in"])
            for row in rows
            if row["kind"] == "train"
        ]
        # A record is of the step that ends there, so that the first half of a fade shows as what it began with.
        grown = [(side, share) for side in (8.0, 16.0, 32.0) for share in (0.0, 0.5, 1.0, 1.0)]
        assert found == [(4.0, 1.0), (4.0, 1.0), *grown]


def test_records_say_how_far_a_blur_has_faded() -> None:
    blur = FadingBlur(sigma=2.0, fade=100)
    assert readings([nn.Sequential(blur)]) == {"blur": 2.0}
    blur.at(75, 1000)
    assert readings([nn.Sequential(blur)]) == {"blur": 0.5}
    blur.at(200, 1000)
    assert readings([nn.Identity(), blur]) == {"blur": 0.0}


@pytest.mark.parametrize("make", [ProGANGenerator, ProGANDiscriminator])
def test_what_cannot_be_is_refused(make: type[nn.Module]) -> None:
    for shape in ((3, 2, 2), (1, 28, 28), (3, 2048, 2048), (2,)):
        with pytest.raises(UserError, match=make.__name__):
            make(Spec(shape))
    for options in ({"first": 2}, {"first": 6}, {"first": 32}, {"images_per_phase": 0}):
        with pytest.raises(UserError, match=f"{make.__name__}: {next(iter(options))}=") as error:
            make(Spec((3, 16, 16)), **options)
        assert "\n" not in str(error.value)


def run(*lines: str) -> Trainer:
    config, _ = compose_plainly(*GAMES["progan"], *lines)
    settings = typed(OmegaConf.create({**config, "dataset": {"_target_": "trick_bench.images"}}))
    dataset = build(settings.dataset, "dataset")
    runtime = machine.choose(settings.runtime, True)
    return build_trainer(settings, build_game(settings, dataset.spec), dataset, runtime)[0]


def test_a_resume_in_the_middle_of_a_fade_is_exact() -> None:
    lines = ("schedule.steps=6", "schedule.ema.half_life=50", "schedule.ema.buffers=average")
    straight, first, second = run(*lines), run(*lines), run(*lines)
    for _ in range(6):
        straight.step()
    for _ in range(3):
        first.step()
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    second.step()
    growth: Tensor = second.game.generator.growth  # type: ignore[union-attr, assignment]
    assert growth.stage == Stage(1, 0.5)  # type: ignore[attr-defined]
    for observer in second.observers:
        if type(observer).__name__ == "Ema":
            with observer.applied():  # type: ignore[attr-defined]
                assert growth.stage == Stage(1, 0.5)  # type: ignore[attr-defined]
    for _ in range(2):
        second.step()
    assert not differing(straight, second)


def test_gradient_penalties_reach_the_weights_during_a_fade() -> None:
    _, network = networks()
    at(14, network)
    images = torch.randn(4, 3, 16, 16, requires_grad=True)
    (slope,) = torch.autograd.grad(network(images).logits.sum(), images, create_graph=True)
    slope.square().sum().backward()
    assert network.from_rgb[0][0].weight.grad.abs().sum() > 0  # type: ignore[union-attr, index]


def test_half_precision() -> None:
    generator, discriminator = networks()
    at(14, generator, discriminator)
    z = torch.randn(4, 6)
    exact = discriminator(generator(z)).logits
    with torch.autocast("cpu", torch.bfloat16):
        rough = discriminator(generator(z)).logits
    torch.testing.assert_close(rough.float(), exact, atol=0.1, rtol=0.1)
