"""Networks: shapes at every size, features per level, published structure."""

from __future__ import annotations

import pytest
import torch

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.modules import count_parameters
from gan_experiments.networks.dcgan import DCGANDiscriminator, DCGANGenerator
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
    """Width 64 at 64x64 without the head's and the last layer's biases: 3,576,704 and 2,765,568 in pytorch_GAN_zoo."""
    spec = Spec((3, 64, 64))
    generator, discriminator = DCGANGenerator(spec, 100, 64), DCGANDiscriminator(spec, 64)
    biases = 3  # of the generator's last layer
    assert count_parameters(generator) - biases == 3_576_704
    assert count_parameters(discriminator) - 64 - 1 == 2_765_568  # first convolution's and head's biases


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
