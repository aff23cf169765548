"""Networks: shapes at every size, features per level, published structure."""

from __future__ import annotations

import pytest
import torch

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.modules import count_parameters
from gan_experiments.networks.dcgan import DCGANDiscriminator, DCGANGenerator, doubling, halving
from gan_experiments.networks.mlp import MLPDiscriminator, MLPGenerator


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 16, 32, 64, 128])
def test_dcgan_at_every_size(side: int, channels: int) -> None:
    spec = Spec((channels, side, side))
    generator, discriminator = DCGANGenerator(spec, 6, 4), DCGANDiscriminator(spec, 4)
    images = generator(torch.randn(2, 6))
    assert images.shape == (2, channels, side, side)
    assert images.abs().max() <= 1
    verdict = discriminator(images)
    assert verdict.logits.shape == (2,)
    sides = [feature.shape[-1] for feature in verdict.features]
    assert sides == [side >> level for level in range(1, len(sides) + 1)]
    assert sides[-1] == 4


def test_dcgan_64_has_the_published_number_of_parameters() -> None:
    """Width 64 at 64x64 without biases: 3,576,704 and 2,765,568 in pytorch_GAN_zoo."""
    spec = Spec((3, 64, 64))
    with torch.device("meta"):
        bare = DCGANGenerator(spec, 100, 64, bias=False), DCGANDiscriminator(spec, 64, bias=False)
        usual = DCGANGenerator(spec, 100, 64), DCGANDiscriminator(spec, 64)
    assert tuple(map(count_parameters, bare)) == (3_576_704, 2_765_568)
    extra = (3, 64 + 1)  # of the generator's last layer; of the discriminator's first and of its head
    assert tuple(map(count_parameters, usual)) == (3_576_704 + extra[0], 2_765_568 + extra[1])


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_dcgan_without_biases_has_none(norm: str) -> None:
    spec = Spec((3, 16, 16))
    for network in (
        DCGANGenerator(spec, 6, 4, norm=norm, bias=False),
        DCGANDiscriminator(spec, 4, norm=norm, bias=False),
    ):
        maps = [
            m for m in network.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d | torch.nn.Linear)
        ]
        assert maps and all(layer.bias is None for layer in maps)


@pytest.mark.parametrize("kernel", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("side", [8, 32])
def test_dcgan_with_other_kernels_doubles_and_halves_exactly(side: int, kernel: int) -> None:
    spec = Spec((1, side, side))
    generator, discriminator = DCGANGenerator(spec, 6, 4, kernel=kernel), DCGANDiscriminator(spec, 4, kernel=kernel)
    h = torch.randn(2, 6)
    for level, shape in zip(generator.levels, generator.shapes, strict=True):
        h = level(h)
        assert h.shape[1:] == (shape[0], shape[1], shape[1])
    images = generator(torch.randn(2, 6))
    assert images.shape == (2, 1, side, side)
    assert [f.shape[-1] for f in discriminator(images).features] == [width for _, width in discriminator.shapes]


def test_a_doubling_is_the_transpose_of_a_halving() -> None:
    """So G's convolutions are D's backwards, as the paper has it, for odd kernels too."""
    torch.manual_seed(0)
    for kernel in (4, 5):
        up, down = doubling(3, 2, kernel, bias=False).double(), halving(2, 3, kernel, bias=False).double()
        down.weight.data.copy_(up.weight)
        x, y = torch.randn(1, 2, 8, 8).double(), torch.randn(1, 3, 4, 4).double()
        torch.testing.assert_close((down(x) * y).sum(), (x * up(y)).sum())


def test_dcgan_refuses_kernels_that_would_skip_pixels() -> None:
    for network in (DCGANGenerator, DCGANDiscriminator):
        with pytest.raises(UserError, match="kernel=1: convolutions of stride 2 need kernels of side 2 or more"):
            network(Spec((1, 16, 16)), kernel=1)


def test_dcgan_width_is_capped_and_normalisation_can_be_chosen() -> None:
    wide = DCGANGenerator(Spec((3, 128, 128)), 8, 64, max_width=128)
    assert max(layer.weight.shape[1] for layer in wide.modules() if isinstance(layer, torch.nn.ConvTranspose2d)) == 128
    plain = DCGANDiscriminator(Spec((1, 16, 16)), 4, norm="none")
    assert not list(plain.buffers())
    with pytest.raises(UserError, match="unknown normalisation 'bath'; there are none, batch"):
        DCGANGenerator(Spec((1, 16, 16)), norm="bath")
    with pytest.raises(UserError, match="unknown activation"):
        DCGANGenerator(Spec((1, 16, 16)), activation="rely")


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 4, 4), (3, 256, 256), (1, 32, 16), (2,)])
def test_dcgan_refuses_what_it_cant_make(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="DCGANGenerator"):
        DCGANGenerator(Spec(shape))
    with pytest.raises(UserError, match="DCGANDiscriminator"):
        DCGANDiscriminator(Spec(shape))


def test_dcgan_initial_weights() -> None:
    torch.manual_seed(0)
    net = DCGANDiscriminator(Spec((1, 32, 32)), 32)
    weights = torch.cat([layer[0].weight.detach().flatten() for layer in net.levels])  # type: ignore[index]
    assert float(weights.mean()) == pytest.approx(0, abs=1e-3)
    assert float(weights.std()) == pytest.approx(0.02, rel=0.02)
    own = DCGANDiscriminator(Spec((1, 32, 32)), 32, init_std=None)
    assert float(own.levels[0][0].weight.detach().std()) > 0.1  # type: ignore[index]


@pytest.mark.parametrize("shape", [(2,), (1, 8, 8), (3, 16, 16)])
def test_mlp_for_points_and_images(shape: tuple[int, ...]) -> None:
    spec = Spec(shape)
    generator = MLPGenerator(spec, 5, [7, 9], batch_norm=True)
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.mul_(50)
    samples = generator(torch.randn(4, 5))
    assert samples.shape == (4, *shape)
    assert (samples.abs().max() <= 1) == spec.is_image  # points are unbounded
    verdict = MLPDiscriminator(spec, [7, 9])(samples)
    assert verdict.logits.shape == (4,)
    assert [tuple(feature.shape) for feature in verdict.features] == [(4, 7), (4, 9)]
