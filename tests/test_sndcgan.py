"""SNDCGAN's plain convolutional networks: published counts, layers against slow formulas, initial weights, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, conv2d, conv_transpose2d, leaky_relu, relu
from torch.nn.utils import parametrize

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.modules import count_parameters
from gan_experiments.networks.sndcgan import SNDCGANDiscriminator, SNDCGANGenerator

CIFAR = Spec((3, 32, 32))


def test_deep_conv_has_the_published_number_of_parameters() -> None:
    """PyTorch-StudioGAN's DCGAN for CIFAR-10."""
    with torch.device("meta"):
        generator = SNDCGANGenerator(CIFAR)
        discriminator = SNDCGANDiscriminator(CIFAR, norm="batch", sum_positions=True, spectral_norm=False)
    assert (count_parameters(generator), count_parameters(discriminator)) == (3_812_355, 2_931_009)


@pytest.mark.parametrize("side", [8, 32, 128])
def test_shapes_at_every_size(side: int) -> None:
    spec = Spec((2, side, side))
    generator, discriminator = SNDCGANGenerator(spec, 5, 1), SNDCGANDiscriminator(spec, 1)
    images = generator(torch.randn(3, 5))
    assert images.shape == (3, 2, side, side)
    verdict = discriminator(images)
    assert verdict.logits.shape == (3,)
    for network, maps in ((discriminator, verdict.features), (generator, levels(generator, torch.randn(3, 5)))):
        assert [(*h.shape[1:],) for h in maps] == [(c, s, s) for c, s in network.shapes]


def levels(generator: SNDCGANGenerator, z: Tensor) -> list[Tensor]:
    maps, h = [], z
    for level in generator.levels:
        h = level(h)
        maps.append(h)
    return maps


def test_generator_against_a_slow_formula() -> None:
    """4x4 maps without norm or ReLU; then thrice a transposed convolution, batch norm, ReLU; a convolution and tanh."""
    torch.manual_seed(0)
    generator = SNDCGANGenerator(CIFAR, 6, 2).double()
    z = torch.randn(4, 6, dtype=torch.float64)
    first = generator.levels[0][0]
    h = (z @ first.weight.T + first.bias).view(4, 16, 4, 4)
    for level in list(generator.levels)[1:]:
        convolution = level[0]
        h = conv_transpose2d(h, convolution.weight, convolution.bias, 2, 1)
        h = relu(batch_norm(h, None, None, training=True))
    last = generator.output[0]
    torch.testing.assert_close(generator(z), torch.tanh(conv2d(h, last.weight, last.bias, padding=1)))


@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("slope", [0.0, 0.1])
def test_discriminator_against_a_slow_formula(slope: float, summed: bool) -> None:
    torch.manual_seed(0)
    discriminator = SNDCGANDiscriminator(CIFAR, 2, slope=slope, sum_positions=summed, spectral_norm=False).double()
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    convolutions = [layer for layer in discriminator.levels.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.stride[0] for layer in convolutions] == [1, 2, 1, 2, 1, 2, 1]
    h = x
    for layer in convolutions:
        h = leaky_relu(conv2d(h, layer.weight, layer.bias, 2 if layer.kernel_size == (4, 4) else 1, 1), slope)
    h = h.sum((2, 3)) if summed else h.flatten(1)
    expected = h @ discriminator.head.weight.T + discriminator.head.bias
    torch.testing.assert_close(discriminator(x).logits, expected.squeeze(1))


def test_initial_weights_are_orthogonal_or_torchs_own() -> None:
    torch.manual_seed(0)
    for network in (SNDCGANGenerator(CIFAR, 8, 2), SNDCGANDiscriminator(CIFAR, 2, spectral_norm=False)):
        for layer in network.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                rows = layer.weight.detach().flatten(1)
                product = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
                torch.testing.assert_close(product, torch.eye(len(product)), atol=1e-5, rtol=0)
                assert layer.bias is not None and not layer.bias.any()
    assert SNDCGANDiscriminator(CIFAR, 2, orthogonal=False).head.bias.any()


def test_every_map_can_be_normalised_spectrally() -> None:
    for network in (SNDCGANGenerator(CIFAR, 3, 2, spectral_norm=True), SNDCGANDiscriminator(CIFAR, 2)):
        maps = [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)]
        assert maps and all(parametrize.is_parametrized(layer, "weight") for layer in maps)


def test_slopes_can_be_differentiated_again() -> None:
    discriminator = SNDCGANDiscriminator(CIFAR, 2)
    x = torch.randn(2, 3, 32, 32, requires_grad=True)
    (slope,) = torch.autograd.grad(discriminator(x).logits.sum(), x, create_graph=True)
    slope.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in discriminator.levels[0].parameters())


def test_other_sizes_are_refused_in_one_line() -> None:
    for network in (SNDCGANGenerator, SNDCGANDiscriminator):
        with pytest.raises(UserError, match=f"{network.__name__} takes square images of side 8 to 128"):
            network(Spec((3, 48, 48)))
