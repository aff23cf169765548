"""SNGAN's and SAGAN's residual networks: published counts and initial weights, blocks against slow formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, batch_norm, conv2d
from torch.nn.utils import parametrize

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.modules import count_parameters
from gan_experiments.networks.attention import SelfAttention
from gan_experiments.networks.conditional import condition_norms
from gan_experiments.networks.resnet import (
    Residual,
    ResNetDiscriminator,
    ResNetGenerator,
    SumPool,
    down_block,
    up_block,
)

PUBLISHED = {  # trainable parameters of kwotsin/mimicry's networks
    32: (4_276_739, 1_053_825),
    48: (4_878_083, 10_141_441),
    64: (12_220_675, 10_141_441),
    128: (32_150_787, 29_017_857),
}


@pytest.mark.parametrize("side", PUBLISHED)
def test_sngan_has_the_published_number_of_parameters(side: int) -> None:
    spec = Spec((3, side, side))
    with torch.device("meta"):
        counts = (
            count_parameters(ResNetGenerator(spec)),
            count_parameters(ResNetDiscriminator(spec, spectral_norm=False)),
        )
    assert counts == PUBLISHED[side]


@pytest.mark.parametrize(("classes", "published"), [(10, (4_304_387, 1_055_105)), (100, (4_580_867, 1_066_625))])
def test_cgan_with_projection_has_the_published_number_of_parameters(classes: int, published: tuple[int, int]) -> None:
    """Conditional batch norm in the blocks alone, a vector a class in the discriminator."""
    spec = Spec((3, 32, 32))
    with torch.device("meta"):
        generator, discriminator = ResNetGenerator(spec), ResNetDiscriminator(spec, spectral_norm=False)
        assert condition_norms(generator, classes) == 6
    vectors = classes * discriminator.shapes[-1][0]
    assert (count_parameters(generator), count_parameters(discriminator) + vectors) == published


def test_sagan_has_the_published_number_of_parameters() -> None:
    spec = Spec((3, 32, 32))
    with torch.device("meta"):
        generator = ResNetGenerator(spec, attention=True, spectral_norm=True)
        discriminator = ResNetDiscriminator(spec, attention=True)
        condition_norms(generator, 10)
    assert (count_parameters(generator), count_parameters(discriminator) + 10 * 128) == (4_386_308, 1_075_586)


def test_wide_sngan_128_of_a_thousand_classes_has_the_published_number_of_parameters() -> None:
    spec = Spec((3, 128, 128))
    with torch.device("meta"):
        generator, discriminator = ResNetGenerator(spec), ResNetDiscriminator(spec, wide=True, spectral_norm=False)
        condition_norms(generator, 1000)
    assert (count_parameters(generator), count_parameters(discriminator) + 1000 * 1024) == (41_996_931, 39_443_137)


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("side", [8, 16, 32, 48, 64, 128])
def test_shapes_at_every_size(side: int, attention: bool) -> None:
    spec = Spec((2, side, side))
    generator = ResNetGenerator(spec, 5, 1, attention=attention)
    discriminator = ResNetDiscriminator(spec, 1, attention=attention)
    images = generator(torch.randn(2, 5))
    assert images.shape == (2, 2, side, side) and images.abs().max() <= 1
    h = torch.randn(2, 5)
    for level, (channels, width) in zip(generator.levels, generator.shapes, strict=True):
        h = level(h)
        assert h.shape == (2, channels, width, width)
    verdict = discriminator(images)
    assert verdict.logits.shape == (2,)
    assert [tuple(f.shape[1:]) for f in verdict.features] == [(c, s, s) for c, s in discriminator.shapes]


def test_the_discriminators_sides_are_the_published_ones() -> None:
    sides = {side: [s for _, s in ResNetDiscriminator(Spec((3, side, side)), 1).shapes] for side in PUBLISHED}
    assert sides == {32: [16, 8, 8, 8], 48: [24, 12, 6, 3, 3], 64: [32, 16, 8, 4, 2], 128: [64, 32, 16, 8, 4, 4]}


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 4, 4), (3, 256, 256), (1, 32, 16), (2,)])
def test_other_sizes_are_refused_in_one_line(shape: tuple[int, ...]) -> None:
    for network in (ResNetGenerator, ResNetDiscriminator):
        with pytest.raises(UserError, match=network.__name__) as error:
            network(Spec(shape))
        assert "\n" not in str(error.value)
        assert len(shape) == 1 or "side 8, 16, 32, 48, 64 or 128; the data are" in str(error.value)


def convolution(layer: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(layer, nn.Conv2d) and layer.bias is not None
    return conv2d(x, layer.weight, layer.bias, padding=layer.kernel_size[0] // 2)


def enlarged(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def shifted(norm: nn.BatchNorm2d) -> None:
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)


def test_an_up_block_is_the_papers_formula() -> None:
    torch.manual_seed(0)
    block, x = up_block(3, 5).double(), torch.randn(2, 3, 4, 4).double()
    convolutions = [layer for layer in block.modules() if isinstance(layer, nn.Conv2d)]
    norms = [layer for layer in block.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        shifted(norm)
    one, two = ((norm.weight, norm.bias) for norm in norms)
    h = enlarged(batch_norm(x, None, None, *one, training=True).relu())
    h = batch_norm(convolution(convolutions[0], h), None, None, *two, training=True).relu()
    expected = convolution(convolutions[1], h) + convolution(convolutions[2], enlarged(x))
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("halve", [False, True])
@pytest.mark.parametrize(("hidden", "after"), [(3, 5), (5, 5), (3, 3)])
def test_a_down_block_is_the_papers_formula(hidden: int, after: int, halve: bool, first: bool) -> None:
    torch.manual_seed(0)
    block, x = down_block(3, hidden, after, halve, first).double(), torch.randn(2, 3, 4, 4).double()
    before = x.clone()
    convolutions = [layer for layer in block.modules() if isinstance(layer, nn.Conv2d)]
    h = convolution(convolutions[0], x if first else x.relu())
    h = convolution(convolutions[1], h.relu())
    shortcut = convolution(convolutions[2], x) if halve or after != 3 else x
    pool = 2 if halve else 1
    torch.testing.assert_close(block(x), avg_pool2d(h, pool) + avg_pool2d(shortcut, pool))
    assert torch.equal(x, before)  # what features and shortcuts see is left alone
    assert convolutions[0].weight.shape[:2] == (hidden, 3)


def test_features_are_summed_after_a_relu() -> None:
    h = torch.tensor([[[[1.0, -5.0], [2.0, 4.0]], [[-1.0, -1.0], [0.5, 0.25]]]])
    assert SumPool()(h).tolist() == [[7.0, 0.75]]
    many = torch.full((1, 1, 64, 64), 1.0078125, dtype=torch.bfloat16)
    assert SumPool()(many).item() == 4128.0  # summed in float32


def test_channels_change_in_the_second_convolution_or_with_wide_in_the_first() -> None:
    for wide, hidden in ((False, [2, 2, 4, 8, 16]), (True, [2, 4, 8, 16, 32])):
        network = ResNetDiscriminator(Spec((3, 64, 64)), 2, wide=wide, spectral_norm=False)
        firsts = [next(m for m in level.modules() if isinstance(m, nn.Conv2d)) for level in network.levels]
        assert [layer.out_channels for layer in firsts] == hidden


def glorot_bound(layer: nn.Module) -> float:
    assert isinstance(layer.weight, Tensor)
    fan = (layer.weight.shape[0] + layer.weight.shape[1]) * layer.weight[0, 0].numel()
    return math.sqrt(6 / fan)


def test_initial_weights_are_glorots_larger_by_sqrt_2_in_residual_branches() -> None:
    torch.manual_seed(0)
    spec = Spec((3, 32, 32))
    for network in (ResNetGenerator(spec, 64, 16, attention=True), ResNetDiscriminator(spec, 16, spectral_norm=False)):
        branches = {id(m) for b in network.modules() if isinstance(b, Residual) for m in b.residual.modules()}
        layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        assert any(id(layer) in branches for layer in layers) and any(id(layer) not in branches for layer in layers)
        for layer in layers:
            bound = glorot_bound(layer) * (math.sqrt(2) if id(layer) in branches else 1)
            largest = float(layer.weight.detach().abs().max())
            assert largest <= bound * (1 + 1e-6)
            assert layer.weight.numel() < 1000 or largest > 0.98 * bound
            assert layer.bias is None or not layer.bias.any()


@pytest.mark.parametrize("init", ["orthogonal", "normal"])
def test_initial_weights_can_be_others(init: str) -> None:
    """SAGAN's in PyTorch-StudioGAN, and those of Zhao et al. 2020 for CIFAR: alike in and out of branches."""
    torch.manual_seed(0)
    spec = Spec((3, 32, 32))
    generator = ResNetGenerator(spec, 64, 16, attention=True, init=init)
    discriminator = ResNetDiscriminator(spec, 16, attention=True, spectral_norm=False, init=init)
    for layer in (*generator.modules(), *discriminator.modules()):
        if isinstance(layer, nn.BatchNorm2d):
            assert bool((layer.weight == 1).all()) and not layer.bias.any()
        if isinstance(layer, nn.Conv2d | nn.Linear):
            rows = layer.weight.detach().flatten(1)
            assert layer.bias is None or not layer.bias.any()
            if init == "orthogonal":
                small = rows @ rows.T if rows.shape[0] <= rows.shape[1] else rows.T @ rows
                torch.testing.assert_close(small, torch.eye(len(small)), atol=1e-5, rtol=0)
            elif rows.numel() > 1000:
                assert float(rows.std()) == pytest.approx(0.02, rel=0.05) and abs(float(rows.mean())) < 2e-3


def test_spectral_norm_begins_with_the_initial_weights_that_were_asked_for() -> None:
    torch.manual_seed(0)
    network = ResNetDiscriminator(Spec((1, 16, 16)), 16, init="normal")
    stored = [p for name, p in network.named_parameters() if name.endswith("original")]
    assert stored and all(float(p.detach().std()) == pytest.approx(0.02, rel=0.1) for p in stored if p.numel() > 1000)


def test_unknown_initial_weights_are_refused() -> None:
    for network in (ResNetGenerator, ResNetDiscriminator):
        with pytest.raises(
            UserError, match=f"{network.__name__}: unknown init='ortho'; there are glorot, .*orthogonal,"
        ):
            network(Spec((1, 16, 16)), init="ortho")


@pytest.mark.parametrize("normalised", [False, True])
def test_spectral_norm_is_of_every_weight_or_of_none(normalised: bool) -> None:
    torch.manual_seed(0)
    spec = Spec((3, 16, 16))
    networks = (
        ResNetGenerator(spec, 8, 4, attention=True, spectral_norm=normalised),
        ResNetDiscriminator(spec, 4, attention=True, spectral_norm=normalised),
    )
    for network in networks:
        for _ in range(30):
            network(torch.randn(2, 8) if network is networks[0] else torch.randn(2, 3, 16, 16))
        network.eval()
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                assert parametrize.is_parametrized(layer, "weight") == normalised
                largest = float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2))
                assert (largest == pytest.approx(1, abs=0.02)) or not normalised
    assert parametrize.is_parametrized(ResNetDiscriminator(spec, 1).head, "weight")  # by default in one alone
    assert not any(parametrize.is_parametrized(layer) for layer in ResNetGenerator(spec, 8, 1).modules())


def attention_places(network: ResNetGenerator | ResNetDiscriminator) -> list[int]:
    return [
        side
        for level, (_, side) in zip(network.levels, network.shapes, strict=True)
        if any(isinstance(part, SelfAttention) for part in level.modules())
    ]


def test_attention_is_at_half_the_side_at_most_32_or_where_asked() -> None:
    for side, place in ((8, 4), (32, 16), (48, 24), (64, 32), (128, 32)):
        spec = Spec((1, side, side))
        assert attention_places(ResNetGenerator(spec, 4, 1, attention=True)) == [place]
        assert attention_places(ResNetDiscriminator(spec, 1, attention=True)) == [place]
    spec = Spec((1, 32, 32))
    discriminator = ResNetDiscriminator(spec, 1, attention=True, attention_resolution=8)
    assert attention_places(discriminator) == [8]  # once, though three levels have that side
    assert not attention_places(ResNetGenerator(spec, 4, 1))
    with pytest.raises(
        UserError, match="attention_resolution=5: ResNetGenerator has feature maps of side 4, 8, 16, 32"
    ):
        ResNetGenerator(spec, 4, 1, attention=True, attention_resolution=5)
    with pytest.raises(UserError, match="attention_resolution=4: ResNetDiscriminator has feature maps of side 8, 16"):
        ResNetDiscriminator(spec, 1, attention=True, attention_resolution=4)


@pytest.mark.parametrize("pool", [1, 2])
def test_attention_with_pooled_keys_and_values_is_the_formula(pool: int) -> None:
    torch.manual_seed(0)
    layer, x = SelfAttention(16, pool).double(), torch.randn(2, 16, 4, 4).double()
    assert torch.equal(layer(x), x)
    nn.init.constant_(layer.gamma, 0.7)
    query, key, value, output = (m.weight[:, :, 0, 0] for m in (layer.query, layer.key, layer.value, layer.output))
    expected = x.clone()
    for n in range(2):
        queries = [query @ x[n, :, i, j] for i in range(4) for j in range(4)]
        pooled = []
        for i in range(0, 4, pool):
            for j in range(0, 4, pool):
                patch = x[n, :, i : i + pool, j : j + pool].flatten(1)
                pooled.append(((key @ patch).amax(1), (value @ patch).amax(1)))
        for place, q in enumerate(queries):
            shares = torch.stack([torch.exp(q @ k) for k, _ in pooled])
            seen = sum(share * v for share, (_, v) in zip(shares / shares.sum(), pooled, strict=True))
            expected[n, :, place // 4, place % 4] += 0.7 * (output @ seen)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)  # the softmax is in float32


def test_a_gradient_penalty_reaches_every_weight() -> None:
    torch.manual_seed(0)
    discriminator = ResNetDiscriminator(Spec((3, 16, 16)), 4, attention=True)
    for layer in discriminator.modules():
        if isinstance(layer, SelfAttention):
            nn.init.ones_(layer.gamma)
    x = torch.randn(2, 3, 16, 16, requires_grad=True)
    (slope,) = torch.autograd.grad(discriminator(x).logits.sum(), x, create_graph=True)
    slope.square().sum().backward()
    for name, parameter in discriminator.named_parameters():
        assert name.endswith("bias") or (parameter.grad is not None and parameter.grad.abs().sum() > 0), name


def test_bfloat16_is_near_float32() -> None:
    torch.manual_seed(0)
    spec = Spec((3, 16, 16))
    generator, discriminator = ResNetGenerator(spec, 8, 8).eval(), ResNetDiscriminator(spec, 8).eval()
    z = torch.randn(4, 8)
    with torch.no_grad():
        exact, logits = generator(z), discriminator(generator(z)).logits
        with torch.autocast("cpu", torch.bfloat16):
            near, judged = generator(z), discriminator(exact).logits
    torch.testing.assert_close(near.float(), exact, rtol=0.05, atol=0.05)
    torch.testing.assert_close(judged.float(), logits, rtol=0.05, atol=0.05 * float(logits.abs().max()))
