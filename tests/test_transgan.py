"""TransGAN: published counts, attention against a slow reference, windows, scales, twice differentiable."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.modules import count_parameters
from gan_experiments.networks.transgan import (
    Attention,
    ClassToken,
    TokenMap,
    TokenNorm,
    TokenRootMeanSquare,
    TransGANDiscriminator,
    TransGANGenerator,
    initialise,
)


def small(side: int, channels: int = 3) -> tuple[TransGANGenerator, TransGANDiscriminator]:
    spec = Spec((channels, side, side))
    return (
        TransGANGenerator(spec, 4, 64, (2, 1), heads=1, whole=16, window=8),
        TransGANDiscriminator(spec, 16, depths=(1, 1), heads=2, whole=8, window=4),
    )


def test_published_numbers_of_parameters() -> None:
    with torch.device("meta"):
        spec = Spec((3, 32, 32))
        assert count_parameters(TransGANGenerator(spec)) == 83_312_495
        assert count_parameters(TransGANDiscriminator(spec)) == 10_210_400


def test_the_published_generator_for_256x256_by_hand() -> None:
    """ViT_custom_local544444_256_rp of the published code: two bicubic doublings, then windows of 16."""
    with torch.device("meta"):
        found = TransGANGenerator(Spec((3, 256, 256)), 512, depths=[5, 4, 4, 4, 4, 4], norm="pixel", bicubic=2)

    def block(d: int, window: int) -> int:
        return 3 * d * d + d * d + d + 4 * (2 * window - 1) ** 2 + 8 * d * d + 5 * d

    stages = [
        (1024, 8, 5, 8),
        (1024, 16, 4, 16),
        (1024, 32, 4, 32),
        (256, 64, 4, 16),
        (64, 128, 4, 16),
        (16, 256, 4, 16),
    ]
    tokens = sum(d * side**2 + count * block(d, window) for d, side, count, window in stages)
    assert count_parameters(found) == (512 + 1) * 64 * 1024 + tokens + 16 * 3 + 3 == 205_291_927


@pytest.mark.parametrize("side", [8, 16, 32])
def test_shapes(side: int) -> None:
    generator, discriminator = small(side, channels=1)
    images = generator(torch.randn(2, 4))
    assert images.shape == (2, 1, side, side)
    verdict = discriminator(images)
    assert verdict.logits.shape == (2,)
    assert [tuple(f.shape) for f in verdict.features] == [(2, 12, side // 2, side // 2), (2, 16, side // 4, side // 4)]
    assert discriminator.shapes == [(12, side // 2), (16, side // 4)]
    stages = [(64, 8), (16, 16), (4, 32)][: int(math.log2(side // 8)) + 1]
    assert generator.shapes == stages
    assert [len(level) for level in generator.levels] == [5, 3, 3][: len(stages)]  # two blocks, then one a stage


def test_bicubic_doublings_keep_the_width() -> None:
    generator = TransGANGenerator(Spec((3, 32, 32)), 4, 64, (1,), heads=1, bicubic=1, whole=8, window=4)
    assert generator.shapes == [(64, 8), (64, 16), (16, 32)]
    assert generator(torch.randn(1, 4)).shape == (1, 3, 32, 32)


def attended_slowly(layer: Attention, x: Tensor, window: int) -> Tensor:
    """One token at a time: softmax over the tokens of its window of q k / sqrt(d) + b."""
    n, c, h, w = x.shape
    d = c // layer.heads
    weight = layer.queries_keys_values.weight[:, :, 0, 0]
    q, k, v = (torch.einsum("oc,nchw->nohw", part, x) for part in weight.split(c))
    result = torch.zeros_like(x)
    for head in range(layer.heads):
        part = slice(head * d, (head + 1) * d)
        for y in range(h):
            for z in range(w):
                top, left = y - y % window, z - z % window
                box = (slice(None), part, slice(top, top + window), slice(left, left + window))
                score = (q[:, part, y, z, None, None] * k[box]).sum(1) / math.sqrt(d)
                for a in range(window):
                    for b in range(window):
                        row = (y % window - a + window - 1) * (2 * window - 1) + z % window - b + window - 1
                        score[:, a, b] += layer.biases[row, head]
                share = score.flatten(1).softmax(1).view(n, 1, window, window)
                result[:, part, y, z] = (share * v[box]).sum((2, 3))
    return layer.output(result)  # type: ignore[no-any-return]


@pytest.mark.parametrize("window", [2, 4])
def test_attention_is_a_softmax_within_windows_with_a_bias_an_offset(window: int) -> None:
    torch.manual_seed(0)
    layer = Attention(6, 2, window, noise=False)
    with torch.no_grad():
        layer.biases.normal_()
        layer.queries_keys_values.weight.mul_(2)
        x = torch.randn(2, 6, 4, 4)
        torch.testing.assert_close(layer(x), attended_slowly(layer, x, window))


def test_attention_without_places_does_not_care_for_order() -> None:
    torch.manual_seed(0)
    layer = Attention(4, 2, 0, noise=False)
    x = torch.randn(1, 4, 6, 1)
    order = torch.randperm(6)
    torch.testing.assert_close(layer(x)[:, :, order], layer(x[:, :, order]))


def test_attention_noise_is_one_number_a_token_times_a_strength_of_0_at_first() -> None:
    layer = Attention(4, 1, 2, noise=True)
    x = torch.randn(3, 4, 2, 2)
    assert torch.equal(layer(x), layer(x))
    assert layer.strength is not None
    with torch.no_grad():
        layer.strength.fill_(0.5)
    torch.manual_seed(3)
    found = layer(x)
    torch.manual_seed(3)
    noise = torch.randn(3, 1, 2, 2)
    layer.strength = None
    torch.testing.assert_close(found, layer(x + 0.5 * noise))


def test_normalisations_are_of_each_token() -> None:
    x = torch.randn(2, 5, 3, 3) * 4 + 1
    normal = TokenNorm(5)(x)
    torch.testing.assert_close(normal.mean(1), torch.zeros(2, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(normal.var(1, unbiased=False), torch.ones(2, 3, 3), atol=1e-3, rtol=0)
    torch.testing.assert_close(TokenRootMeanSquare(5)(x), x / x.square().mean(1, keepdim=True).sqrt())


def test_the_class_token_sees_the_others_through_attention_alone() -> None:
    layer = ClassToken(4, 1, 2, "layer", noise=False)
    one, other = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    assert layer(one).shape == (2, 4)
    assert not torch.allclose(layer(one), layer(other))
    torch.testing.assert_close(layer(one), layer(one.flip(3)))  # in no order
    with torch.no_grad():
        layer.block.attend[1].output.weight.zero_()  # type: ignore[union-attr]
    torch.testing.assert_close(layer(one), layer(other))


def test_each_scale_sees_its_own_patches_and_the_pooled_scale_before() -> None:
    """With the second scale's patches off, only the first one's tokens, averaged, come through; and the other way."""
    torch.manual_seed(0)
    _, discriminator = small(16)
    seen: list[Tensor] = []
    discriminator.levels[1].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    images = torch.randn(2, 3, 16, 16)
    first = discriminator(images).features[0]
    torch.testing.assert_close(seen[0][:, :12], torch.nn.functional.avg_pool2d(first, 2))
    torch.testing.assert_close(seen[0][:, 12:], discriminator.patches[1](images))
    assert discriminator.patches[1].kernel_size == discriminator.patches[1].stride == (4, 4)


def test_first_weights() -> None:
    torch.manual_seed(0)
    discriminator = TransGANDiscriminator(Spec((3, 32, 32)), 96, depths=(1, 1))
    maps = [layer for layer in discriminator.modules() if isinstance(layer, TokenMap)]
    weights = torch.cat([layer.weight.detach().flatten() for layer in maps])
    assert float(weights.std()) == pytest.approx(0.02, rel=0.02)
    assert all(not layer.bias.any() for layer in maps if layer.bias is not None)
    patch = discriminator.patches[0].weight.detach()
    bound = math.sqrt(6 / ((3 + 72) * 4))  # Xavier's
    assert bound * 0.95 < float(patch.abs().max()) <= bound
    places = discriminator.levels[0][0].vectors.detach()  # type: ignore[index]
    assert float(places.std()) == pytest.approx(0.02, rel=0.05)
    generator = TransGANGenerator(Spec((3, 8, 8)), 16, 64, (1,))
    assert float(generator.output.weight.detach().abs().max()) <= math.sqrt(6 / (64 + 3))
    initialise(torch.nn.ReLU())  # has none


def test_both_are_twice_differentiable() -> None:
    torch.manual_seed(0)
    generator, discriminator = small(16)
    images = generator(torch.randn(2, 4)).detach().requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(images).logits.sum(), images, create_graph=True)
    slope.square().sum().backward()  # type: ignore[no-untyped-call]
    weight = discriminator.levels[0][1].attend[1].queries_keys_values.weight  # type: ignore[index, union-attr]
    assert weight.grad.isfinite().all() and weight.grad.any()


def test_half_precision() -> None:
    generator, discriminator = small(16)
    with torch.autocast("cpu", torch.bfloat16):
        logits = discriminator(generator(torch.randn(2, 4))).logits
    assert logits.isfinite().all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"width": 30}, "heads=4 must divide the stages' widths, 30, 7, 1"),
        ({"width": 8}, "heads=4 must divide the stages' widths, 8, 2, 0"),
        ({"depths": []}, "depths=.. must be a list of numbers"),
        ({"norm": "bath"}, "unknown norm 'bath'; there are layer, pixel"),
        ({"whole": 16, "window": 12}, "window=12 must divide maps of side 32"),
    ],
)
def test_generators_refuse_what_does_not_fit(changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        TransGANGenerator(Spec((3, 32, 32)), **{"latent_dim": 2, "width": 64, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shares": [0.5, 0.25]}, "add up to 1"),
        ({"shares": [1.0]}, "as many as depths"),
        ({"patch": 3}, "patches of side 6 don't divide images of side 32"),
        ({"heads": 5}, "heads=5 must divide"),
    ],
)
def test_discriminators_refuse_what_does_not_fit(changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        TransGANDiscriminator(Spec((3, 32, 32)), **{"width": 16, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 4, 4), (3, 512, 512), (2,)])
def test_sizes_that_it_has_not(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="TransGANGenerator"):
        TransGANGenerator(Spec(shape))
    with pytest.raises(UserError, match="TransGANDiscriminator"):
        TransGANDiscriminator(Spec(shape))
