"""R3GAN: published counts and initial weights, resampling by hand, classes, slopes; its augmentation, experiments."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.nn.functional import conv2d

from gan_experiments import seeding
from gan_experiments.config import build
from gan_experiments.curves import Cosine
from gan_experiments.data.base import Dataset, Spec, Split
from gan_experiments.errors import UserError
from gan_experiments.experiment import run
from gan_experiments.logging.status import State, read_status
from gan_experiments.modules import count_parameters
from gan_experiments.networks.informed import informing, uses_classes
from gan_experiments.networks.r3gan import Downsampling, R3GANDiscriminator, R3GANGenerator, ResidualBlock, Upsampling
from gan_experiments.tricks.augmentation import Augmentation, cut

TEN, THOUSAND = (tuple(map(str, range(n))) for n in (10, 1000))
SMALL = {"width": 16, "groups": 4, "blocks": 1}


@pytest.mark.parametrize(
    ("classes", "width", "conditional", "generator", "discriminator"),
    [
        (TEN, 768, True, 20_781_952, 21_280_512),
        (TEN, 768, False, 20_732_160, 20_683_776),
        (THOUSAND, 1536, True, 82_914_304, 86_548_992),
    ],
)
def test_published_counts(
    classes: tuple[str, ...], width: int, conditional: bool, generator: int, discriminator: int
) -> None:
    spec = Spec((3, 32, 32), classes)
    with torch.device("meta"):
        assert count_parameters(R3GANGenerator(spec, width=width, conditional=conditional)) == generator
        assert count_parameters(R3GANDiscriminator(spec, width=width, conditional=conditional)) == discriminator


@pytest.mark.parametrize(
    ("side", "classes", "generator", "discriminator", "overrides"),
    [
        (64, THOUSAND, 103_570_432, 107_205_120, {"width": [1536] * 5}),
        (64, THOUSAND, 103_570_432, 107_205_120, {"width": [1536] * 5, "groups": [96] * 5, "blocks": [2] * 5}),
        (64, (), 22_429_824, 22_381_440, {}),
        (64, (), 22_429_824, 22_381_440, {"width": [768, 768, 768, 768, 384], "groups": [96, 96, 96, 96, 48]}),
        (256, (), 23_057_952, 23_009_568, {}),
    ],
)
def test_published_networks_at_larger_sides(
    side: int, classes: tuple[str, ...], generator: int, discriminator: int, overrides: dict[str, Any]
) -> None:
    """ImageNet at 64x64 keeps its width, FFHQ halves it beyond 32; the latter's by hand (`test_recipes.r3gan`)."""
    spec = Spec((3, side, side), classes)
    with torch.device("meta"):
        own = R3GANGenerator(spec, conditional=bool(classes), **overrides)
        judge = R3GANDiscriminator(spec, conditional=bool(classes), **overrides)
    assert (count_parameters(own), count_parameters(judge)) == (generator, discriminator)
    assert own.shapes == judge.shapes[::-1]


def test_lists_have_a_number_for_each_side() -> None:
    torch.manual_seed(0)
    spec, plan = Spec((1, 16, 16)), {"width": [16, 8, 24], "groups": [4, 2, 3], "blocks": [1, 3, 2]}
    generator, discriminator = R3GANGenerator(spec, 5, **plan), R3GANDiscriminator(spec, **plan)
    assert discriminator(generator(torch.randn(2, 5))).logits.shape == (2,)
    assert discriminator.shapes == generator.shapes[::-1] == [(24, 16), (8, 8), (16, 4)]
    for network in (generator, discriminator):
        blocks = [part for part in network.modules() if isinstance(part, ResidualBlock)]
        grouped = [block.branch[2] for block in blocks]
        assert sorted((c.in_channels, c.groups) for c in grouped if isinstance(c, nn.Conv2d)) == [
            (16, 2), (16, 2), (16, 2), (32, 4), (48, 3), (48, 3),
        ]  # fmt: skip
        first = torch.cat([block.branch[0].weight.flatten() * block.branch[0].in_channels ** 0.5 for block in blocks])
        gain = math.sqrt(2 / 1.04) * 6**-0.25  # of six blocks in all
        assert float(first.detach().std()) == pytest.approx(gain, rel=0.04)


def test_widths_halve_above_side_32() -> None:
    with torch.device("meta"):
        generator, discriminator = R3GANGenerator(Spec((3, 256, 256))), R3GANDiscriminator(Spec((3, 256, 256)))
    published = [(768, 4), (768, 8), (768, 16), (768, 32), (384, 64), (192, 128), (96, 256)]
    assert generator.shapes == published and discriminator.shapes == published[::-1]
    groups = [part.groups for part in generator.modules() if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3)]
    assert groups == [96] * 8 + [48, 48, 24, 24, 12, 12]


@pytest.mark.parametrize(("side", "channels"), [(8, 1), (16, 3), (64, 3)])
def test_shapes_and_features(side: int, channels: int) -> None:
    spec = Spec((channels, side, side))
    generator, discriminator = R3GANGenerator(spec, 5, **SMALL), R3GANDiscriminator(spec, **SMALL)
    images = generator(torch.randn(3, 5))
    assert images.shape == (3, channels, side, side)
    verdict = discriminator(images)
    assert verdict.logits.shape == (3,)
    assert [tuple(f.shape[1:]) for f in verdict.features] == [(c, s, s) for c, s in discriminator.shapes]
    assert isinstance(discriminator.head, nn.Linear) and discriminator.head.out_features == 1


def blurred(images: Tensor) -> Tensor:
    """[1, 2, 1] / 4 along both sides, zeros beyond."""
    line = torch.tensor([1.0, 2.0, 1.0]) / 4
    c = images.shape[1]
    return conv2d(images, torch.outer(line, line).expand(c, 1, 3, 3), padding=1, groups=c)


def test_resampling_filters_with_1_2_1() -> None:
    x = torch.randn(2, 3, 8, 8)
    inside = slice(1, -1)
    halved = blurred(x).unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))
    assert torch.allclose(Downsampling()(x)[..., inside, inside], halved[..., inside, inside], atol=1e-6)
    doubled = blurred(x.repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert torch.allclose(Upsampling()(x)[..., inside, inside], doubled[..., inside, inside], atol=1e-6)
    spot = torch.zeros(1, 1, 4, 4)
    spot[..., 1, 2] = 1
    line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
    assert torch.allclose(Upsampling()(spot)[0, 0, 1:5, 3:7], torch.outer(line, line))
    y = torch.randn(2, 3, 16, 16)
    assert torch.allclose((Upsampling()(x) * y).sum(), 4 * (x * Downsampling()(y)).sum(), rtol=1e-4)
    assert not Upsampling().state_dict()


def test_initial_weights() -> None:
    torch.manual_seed(0)
    discriminator = R3GANDiscriminator(Spec((3, 32, 32)), width=128, groups=8)
    blocks = [part for part in discriminator.modules() if isinstance(part, ResidualBlock)]
    assert len(blocks) == 8
    gain = math.sqrt(2 / 1.04) * 8**-0.25
    for first, second in ((block.branch[0], block.branch[2]) for block in blocks):
        assert float(first.weight.detach().std()) == pytest.approx(gain / math.sqrt(128), rel=0.03)  # type: ignore[union-attr,operator]
        assert float(second.weight.detach().std()) == pytest.approx(gain / math.sqrt(32 * 9), rel=0.03)  # type: ignore[union-attr,operator]
    assert all(not block.branch[4].weight.any() for block in blocks)  # type: ignore[union-attr,operator]
    assert float(discriminator.pool[0].weight.detach().std()) == pytest.approx(1 / 4, rel=0.1)  # type: ignore[index]
    generator = R3GANGenerator(Spec((3, 8, 8), TEN), width=512, groups=8, blocks=1, conditional=True)
    joined, basis = generator.levels[0][0], generator.levels[0][1]  # type: ignore[index]
    assert float(basis.basis.detach().std()) == pytest.approx(1, rel=0.05)
    assert float(basis.linear.weight.detach().std()) == pytest.approx(1 / math.sqrt(128), rel=0.05)
    assert float(joined.vectors.table.weight.detach().std()) == pytest.approx(1 / math.sqrt(10), rel=0.1)
    head = R3GANDiscriminator(Spec((3, 8, 8), TEN), width=512, groups=8, blocks=1, conditional=True).head
    assert float(head.vectors.table.weight.detach().std()) == pytest.approx(1 / math.sqrt(10 * 512), rel=0.05)  # type: ignore[union-attr,operator]


def test_networks_are_linear_at_first_and_not_later() -> None:
    torch.manual_seed(0)
    spec = Spec((2, 16, 16))
    for network, x in ((R3GANGenerator(spec, 6, **SMALL), torch.randn(2, 6)),
                       (R3GANDiscriminator(spec, **SMALL), torch.randn(2, 2, 16, 16))):  # fmt: skip

        def outputs(inputs: Tensor, network: nn.Module = network) -> Tensor:
            result = network(inputs)
            return result if isinstance(result, Tensor) else result.logits

        with torch.no_grad():
            assert torch.allclose(outputs(-3 * x), -3 * outputs(x), atol=1e-4)
            for part in network.modules():
                if isinstance(part, ResidualBlock):
                    part.branch[4].weight.normal_()  # type: ignore[union-attr,operator]
            assert not torch.allclose(outputs(-3 * x), -3 * outputs(x), rtol=0.1)


def test_block_by_hand() -> None:
    torch.manual_seed(0)
    block = ResidualBlock(4, 8, 2, depth=3)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_()
    narrow, bias, grouped, other, wide = (next(part.parameters()) for part in block.branch)
    x = torch.randn(2, 4, 5, 5)
    h = torch.einsum("oi,nihw->nohw", narrow[:, :, 0, 0], x) + bias[:, None, None]
    h = torch.where(h > 0, h, 0.2 * h)
    h = torch.cat([conv2d(h[:, :4], grouped[:4], padding=1), conv2d(h[:, 4:], grouped[4:], padding=1)], 1)
    h = h + other[:, None, None]
    h = torch.where(h > 0, h, 0.2 * h)
    assert torch.allclose(block(x), x + torch.einsum("oi,nihw->nohw", wide[:, :, 0, 0], h), atol=1e-3, rtol=1e-4)


def test_classes_change_samples_and_logits() -> None:
    torch.manual_seed(0)
    spec = Spec((1, 8, 8), ("a", "b"))
    generator = R3GANGenerator(spec, 5, **SMALL, conditional=True, embedding_dim=3)
    discriminator = R3GANDiscriminator(spec, **SMALL, conditional=True)
    z, classes = torch.randn(1, 5).expand(2, 5), torch.tensor([0, 1])
    with informing(generator, classes):
        images = generator(z)
    assert not torch.allclose(images[0], images[1])
    with informing(discriminator, classes):
        verdict = discriminator(images)
    h = discriminator.pool(verdict.features[-1])
    weight, vectors = (p for _, p in sorted(discriminator.head.named_parameters()))
    assert torch.allclose(verdict.logits, ((h @ weight.T) * vectors.T[classes]).sum(1), atol=1e-6)
    plain = R3GANGenerator(spec, 5, **SMALL), R3GANDiscriminator(spec, **SMALL)
    assert [uses_classes(network) for network in (generator, discriminator, *plain)] == [True, True, False, False]


def test_what_cannot_be_built_is_refused() -> None:
    for network in (R3GANGenerator, R3GANDiscriminator):
        with pytest.raises(UserError, match=f"{network.__name__}: conditional=true needs labelled data"):
            network(Spec((1, 8, 8)), conditional=True)
        with pytest.raises(UserError, match=f"{network.__name__} takes square images of side 8"):
            network(Spec((1, 28, 28)))
        with pytest.raises(UserError, match=r"groups=5 must divide width \* expansion = 32"):
            network(Spec((1, 8, 8)), width=16, groups=5)
        with pytest.raises(UserError, match="width=12 must be a multiple of 8 at side 256.*one for each side"):
            network(Spec((1, 256, 256)), width=12, groups=8)
        with pytest.raises(UserError, match=r"groups=4: groups as wide as at 4x4 don't divide the widths \[16, .* 2\]"):
            network(Spec((1, 256, 256)), width=16, groups=4)
        for wrong, said in (
            ({"blocks": 0}, "blocks=0 must be 1 or more$"),
            ({"blocks": [1, 0]}, r"blocks=\[1, 0\] must be 1 or more, all of them"),
            ({"width": [16]}, r"width=\[16\] has 1 numbers; give one for all, or one for each side 4, 8$"),
            ({"groups": [4, 4, 4]}, r"groups=\[4, 4, 4\] has 3 numbers"),
            ({"groups": [4, 5]}, r"groups=5 must divide width \* expansion = 32"),
            ({"width": [16, 10], "groups": 4}, "groups=4: groups as wide"),
            ({"expansion": 0}, "expansion=0 must be 1 or more"),
        ):
            with pytest.raises(UserError, match=said):
                network(Spec((1, 8, 8)), **({"width": 16, "groups": 4} | wrong))


def test_second_derivatives_and_bfloat16() -> None:
    torch.manual_seed(0)
    spec = Spec((1, 8, 8))
    discriminator, generator = R3GANDiscriminator(spec, **SMALL), R3GANGenerator(spec, 5, **SMALL)
    with torch.no_grad():
        for parameter in discriminator.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x = torch.randn(2, 1, 8, 8, requires_grad=True)
    (slope,) = torch.autograd.grad(discriminator(x).logits.sum(), x, create_graph=True)
    slope.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in discriminator.parameters() if p.ndim > 1)
    with torch.autocast("cpu", torch.bfloat16):
        logits = discriminator(generator(torch.randn(2, 5))).logits
    assert logits.dtype is torch.bfloat16 and logits.isfinite().all()


def test_cutout_covers_what_it_should() -> None:
    """A centre even over the side and half a side's width cover 1 - (1 - 1/4)^2 = 7/16 of each side on average."""
    random = seeding.generator(0, "cut")
    images = torch.ones(4000, 2, 16, 16)
    masks = 1 - cut(images, torch.tensor(1.0), random)
    assert torch.equal(masks[:, 0], masks[:, 1])
    assert float(masks.mean()) == pytest.approx((7 / 16) ** 2, abs=0.005)
    extent = masks[:, 0].amax(1).sum(1)
    assert extent.max() == 8 and extent.min() == 4
    share = (cut(images, torch.tensor(0.25), random) == 0).flatten(1).any(1).float().mean()
    assert float(share) == pytest.approx(0.25, abs=0.03)


class Deal:
    images, total, player = 25, 100, "discriminator"

    def random(self, name: str) -> torch.Generator:
        return seeding.generator(0, name)


class Round:
    deal = Deal()


def augmented(images: Tensor, trick: Augmentation) -> Tensor:
    trick.name = "augment"
    return trick.view(Round(), "reals", images)  # type: ignore[arg-type]


def test_augmentation_has_a_planned_strength_and_factors() -> None:
    torch.manual_seed(0)
    images = torch.rand(300, 3, 8, 8) + 0.5

    def changed(trick: Augmentation) -> float:
        return float((augmented(images, trick) - images).abs().flatten(1).amax(1).gt(1e-4).float().mean())

    assert changed(Augmentation(0.0)) == 0
    assert changed(Augmentation(1.0, geometry=0, color=0, cutout=0)) == 0
    assert changed(Augmentation(1.0, geometry=0, color=0, cutout=0.25)) == pytest.approx(0.25, abs=0.06)
    assert changed(Augmentation(0.5, geometry=0, color=0.5, cutout=0)) == pytest.approx(1 - 0.75**5, abs=0.06)
    assert changed(Augmentation(0.8)) > 0.95
    curve = Augmentation(Cosine(0.0, 0.5))
    reported: dict[str, float] = {}
    curve.name = "augment"
    curve.after_move(Round(), reported.__setitem__)  # type: ignore[arg-type]
    assert reported == {"trick/augment_probability": pytest.approx(0.25 * (1 - math.cos(math.pi / 4)))}
    images.requires_grad_(True)
    augmented(images, Augmentation(0.5)).sum().backward()
    assert images.grad is not None and images.grad.any()
    with pytest.raises(UserError, match="color=2, cutout=1.0: each multiplies"):
        Augmentation(0.3, color=2)
    with pytest.raises(UserError, match=r"probability=1.5 must be within \[0, 1\]"):
        Augmentation(1.5)


def test_schedule_moves_five_numbers(composed: Callable[..., DictConfig]) -> None:
    config = composed("experiment=r3gan_cifar10")
    curves = {
        "rate": (config.schedule.generator.optimizer.lr, 2e-4, 5e-5),
        "beta2": (config.schedule.discriminator.optimizer.betas[1], 0.9, 0.99),
        "gamma": (config.regularizer.r2.weight, 0.05, 0.005),
        "half-life": (config.schedule.ema.half_life, 0, 5_000_000),
        "augmentation": (config.trick.augment.probability, 0, 0.55),
    }
    for name, (node, start, end) in curves.items():
        curve = build(node, name)
        values = [curve(images, 250_000_000) for images in (0, 10_000_000, 20_000_000, 40_000_000)]
        assert values == pytest.approx([start, (start + end) / 2, end, end]), name
    config = composed("experiment=r3gan_cifar10", "schedule.discriminator.optimizer.lr.over=null")
    assert build(config.regularizer.r1.weight, "gamma")(250_000_000, 250_000_000) == pytest.approx(0.005)


def pictures(channels: int = 3, side: int = 32) -> Dataset:
    """Labelled pictures in place of downloads."""
    random = seeding.generator(0, "pictures")
    parts = [
        Split(torch.randint(256, (n, channels, side, side), dtype=torch.uint8, generator=random), torch.arange(n) % 10)
        for n in (60, 50)
    ]
    return Dataset("pictures", Spec((channels, side, side), TEN), *parts)


@pytest.mark.parametrize("experiment", ["r3gan_cifar10", "r3gan_ffhq64", "r3gan_stacked_mnist"])
def test_experiments_take_two_steps(experiment: str, composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    """On other data and with small networks; the stacked one on its own kind of data."""
    small = [f"model.{player}.{key}={value}" for player in ("generator", "discriminator")
             for key, value in (("width", 16), ("groups", 4))]  # fmt: skip
    config = composed(
        f"experiment={experiment}", *small, "logger=none", "schedule.steps=2", "schedule.images=null",
        "schedule.batch_size=4", "evaluation.samples=50", "evaluation.batch_size=25", "samples.count=4",
        "metric=none", "extractor=none", "run.objective=null",
    )  # fmt: skip
    OmegaConf.set_struct(config, False)
    config.dataset = {"_target_": f"{__name__}.pictures", "side": 64 if "64" in experiment else 32}
    run(config, tmp_path / "run")
    status = read_status(tmp_path / "run" / "status.json")
    assert status is not None and status.state is State.COMPLETED and status.step == 2
