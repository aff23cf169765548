"""BigGAN and BigGAN-deep: published counts, what each level is told, shortcuts, projection, initial weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, conv2d
from torch.nn.utils import parametrize

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.modules import count_parameters
from gan_experiments.networks.attention import SelfAttention
from gan_experiments.networks.biggan import (
    BigGANDiscriminator,
    BigGANGenerator,
    CodedBatchNorm,
    CodedGenerator,
    ProjectionDiscriminator,
    coding,
)
from gan_experiments.networks.biggan_deep import (
    BigGANDeepDiscriminator,
    BigGANDeepGenerator,
    bottleneck_down,
    bottleneck_up,
)
from gan_experiments.networks.heads import MinibatchStddev, widen_head
from gan_experiments.networks.informed import informing, uses_classes

GENERATORS = [BigGANGenerator, BigGANDeepGenerator]
SIDES = (8, 16, 32, 64, 128, 256, 512)
DISCRIMINATORS = [BigGANDiscriminator, BigGANDeepDiscriminator]
Maker = Callable[..., Any]


def spec(side: int, classes: int = 3, channels: int = 3) -> Spec:
    return Spec((channels, side, side), tuple(str(k) for k in range(classes)))


PUBLISHED = [
    (BigGANGenerator, 32, 10, 9_416_196),
    (BigGANDiscriminator, 32, 10, 2_415_170),
    (BigGANGenerator, 128, 1000, 70_433_988),
    (BigGANDiscriminator, 128, 1000, 87_982_370),
    (BigGANDeepGenerator, 32, 10, 7_762_948),
    (BigGANDeepDiscriminator, 32, 10, 2_908_930),
    (BigGANDeepGenerator, 128, 1000, 50_244_484),
    (BigGANDeepDiscriminator, 128, 1000, 34_590_210),
]


@pytest.mark.parametrize(("make", "side", "classes", "published"), PUBLISHED)
def test_the_published_number_of_parameters(make: Maker, side: int, classes: int, published: int) -> None:
    """ajbrock/BigGAN-PyTorch and POSTECH-CVLab/PyTorch-StudioGAN."""
    with torch.device("meta"):
        network = make(spec(side, classes), conditional=True, spectral_norm=False)
    assert count_parameters(network) == published


def test_latents_are_20_numbers_a_level() -> None:
    with torch.device("meta"):
        found = {
            side: BigGANGenerator(spec(side), width=1, spectral_norm=False).latent_dim for side in (32, 64, 128, 256)
        }
    assert found == {32: 80, 64: 100, 128: 120, 256: 140}


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("side", [8, 16, 32, 64])
@pytest.mark.parametrize(("generator", "discriminator"), list(zip(GENERATORS, DISCRIMINATORS, strict=True)))
def test_shapes_at_every_size(generator: Maker, discriminator: Maker, side: int, conditional: bool) -> None:
    data = spec(side, channels=2)
    g, d = generator(data, width=1, conditional=conditional), discriminator(data, width=1, conditional=conditional)
    assert uses_classes(g) == uses_classes(d) == conditional
    classes = torch.tensor([0, 2]) if conditional else None
    with informing(g, classes), informing(d, classes):
        images = g(torch.randn(2, g.latent_dim))
        verdict = d(images)
    assert images.shape == (2, 2, side, side) and images.abs().max() <= 1
    assert [s for _, s in g.shapes] == [4 << level for level in range(len(g.levels))]
    assert verdict.logits.shape == (2,)
    assert [tuple(f.shape[1:]) for f in verdict.features] == [(c, s, s) for c, s in d.shapes]


def test_the_discriminators_sides_are_the_published_ones() -> None:
    with torch.device("meta"):
        plain, deep = (
            {side: [s for _, s in make(spec(side), width=1, spectral_norm=False).shapes] for side in SIDES}
            for make in DISCRIMINATORS
        )
    assert plain == {
        8: [4, 2, 2, 2], 16: [8, 4, 4, 4], 32: [16, 8, 8, 8], 64: [32, 16, 8, 4, 4], 128: [64, 32, 16, 8, 4, 4],
        256: [128, 64, 32, 16, 8, 4, 4], 512: [256, 128, 64, 32, 16, 8, 4, 4],
    }  # fmt: skip
    assert deep == {
        8: [8, 4, 2, 2], 16: [16, 8, 4, 4], 32: [32, 16, 8, 8], 64: [64, 32, 16, 8, 4], 128: [128, 64, 32, 16, 8, 4],
        256: [256, 128, 64, 32, 16, 8, 4], 512: [512, 256, 128, 64, 32, 16, 8, 4],
    }  # fmt: skip


def test_the_widths_are_the_published_ones() -> None:
    """Channels over width after each level, of the published tables for all sides from 32 on."""
    g = {32: [4, 4, 4, 4], 64: [16, 8, 4, 2, 1], 128: [16, 16, 8, 4, 2, 1], 256: [16, 16, 8, 8, 4, 2, 1],
         512: [16, 16, 8, 8, 4, 2, 1, 1]}  # fmt: skip
    d = {32: [2, 2, 2, 2], 64: [1, 2, 4, 8, 16], 128: [1, 2, 4, 8, 16, 16], 256: [1, 2, 4, 8, 8, 16, 16],
         512: [1, 1, 2, 4, 8, 8, 16, 16]}  # fmt: skip
    tables = dict(zip([*GENERATORS, *DISCRIMINATORS], [g, g, d, {**d, 32: [4, 4, 4, 4]}], strict=True))
    with torch.device("meta"):
        for make, table in tables.items():
            found = {side: [c for c, _ in make(spec(side), width=1, spectral_norm=False).shapes] for side in table}
            assert found == table, make


@pytest.mark.parametrize("make", [*GENERATORS, *DISCRIMINATORS])
@pytest.mark.parametrize("side", [256, 512])
def test_the_large_ones_are_there(make: Maker, side: int) -> None:
    with torch.device("meta"):
        network = make(spec(side), width=4, spectral_norm=False)
        assert [s for s, level in zip([s for _, s in network.shapes], network.levels, strict=True)
                if any(isinstance(m, SelfAttention) for m in level.modules())] == [64]  # fmt: skip
        inputs = torch.empty(2, network.latent_dim) if make in GENERATORS else torch.empty(2, 3, side, side)
        outputs = network(inputs)
    if make in GENERATORS:
        assert outputs.shape == (2, 3, side, side)
    else:
        assert network.shapes[-1] == (64, 4) and outputs.features[-1].shape == (2, 64, 4, 4)


@pytest.mark.parametrize("make", [*GENERATORS, *DISCRIMINATORS])
def test_what_cant_be_made_is_refused_in_one_line(make: Maker) -> None:
    for shape in [(1, 28, 28), (3, 48, 48), (3, 4, 4), (1, 32, 16), (2,)]:
        with pytest.raises(UserError, match=make.__name__):  # type: ignore[attr-defined]
            make(Spec(shape))
    with pytest.raises(UserError, match="conditional=true needs labelled data of two or more classes"):
        make(spec(8, 1), width=1, conditional=True)
    with pytest.raises(UserError, match="attention_resolution=64: .* has feature maps of side"):
        make(spec(8), width=1, attention_resolution=64)
    with torch.no_grad(), pytest.raises(UserError, match="needs the classes of samples"):
        network = make(spec(8), width=1, conditional=True)
        network(torch.randn(2, network.latent_dim) if make in GENERATORS else torch.randn(2, 3, 8, 8))


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(UserError, match="latent_dim=81: .*each of its 4 levels; set a multiple of 4"):
        BigGANGenerator(spec(32), 81, 1)
    with pytest.raises(UserError, match="latent_dim=0"):
        BigGANGenerator(spec(32), 0, 1)
    for make in (BigGANDeepGenerator, BigGANDeepDiscriminator):
        with pytest.raises(UserError, match=f"depth=0: {make.__name__}"):
            make(spec(8), width=1, depth=0)


def test_coded_batch_norm_starts_at_an_ordinary_one_and_is_the_formula() -> None:
    torch.manual_seed(0)
    norm, x, code = CodedBatchNorm(3, 2).double(), torch.randn(4, 3, 5, 5).double(), torch.randn(4, 2).double()
    plain = batch_norm(x, None, None, training=True)
    with coding(norm, torch.zeros_like(code)):
        torch.testing.assert_close(norm(x), plain)
    with coding(norm, code):
        told = norm(x)
    assert norm.code is None
    for n in range(4):
        for c in range(3):
            gain = 1 + sum(norm.gain.weight[c, k] * code[n, k] for k in range(2))
            shift = sum(norm.shift.weight[c, k] * code[n, k] for k in range(2))
            torch.testing.assert_close(told[n, c], gain * plain[n, c] + shift)
    assert list(norm.norm.parameters()) == []


def heard(network: CodedGenerator, z: Tensor, classes: Tensor | None) -> list[list[Tensor]]:
    """What the norms of each level after the first are told when images are made of z."""
    codes: list[list[Tensor]] = [[] for _ in network.levels]
    hooks = [
        part.register_forward_pre_hook(lambda norm, _, level=level: codes[level].append(norm.code))
        for level, module in enumerate(network.levels)
        for part in module.modules()
        if isinstance(part, CodedBatchNorm)
    ]
    with informing(network, classes):
        network(z)
    for hook in hooks:
        hook.remove()
    assert not codes[0] and not any(
        part.code is not None for part in network.modules() if isinstance(part, CodedBatchNorm)
    )
    return codes[1:]


@pytest.mark.parametrize("conditional", [False, True])
def test_each_level_of_biggan_is_told_the_class_and_its_own_piece(conditional: bool) -> None:
    network = BigGANGenerator(spec(32), 8, 1, conditional=conditional, embedding_dim=3)
    z, classes = torch.randn(2, 8), torch.tensor([2, 0])
    embedded = [] if network.embedding is None else [network.embedding.table.weight[classes]]
    first: list[Tensor] = []
    network.levels[0].register_forward_pre_hook(lambda _, inputs: first.append(inputs[0]))
    codes = heard(network, z, classes if conditional else None)
    assert len(first) == 1 and torch.equal(first[0], z[:, :2])
    assert [len(level) for level in codes] == [2, 2, 2]
    for place, level in enumerate(codes, start=1):
        expected = torch.cat([*embedded, z[:, 2 * place : 2 * place + 2]], 1)
        assert all(torch.equal(code, expected) for code in level)


@pytest.mark.parametrize("conditional", [False, True])
def test_each_level_of_biggan_deep_is_told_the_class_and_all_latents(conditional: bool) -> None:
    network = BigGANDeepGenerator(spec(16), 5, 1, depth=3, conditional=conditional, embedding_dim=3)
    z, classes = torch.randn(2, 5), torch.tensor([2, 0])
    embedded = [] if network.embedding is None else [network.embedding.table.weight[classes]]
    expected = torch.cat([*embedded, z], 1)
    first: list[Tensor] = []
    network.levels[0].register_forward_pre_hook(lambda _, inputs: first.append(inputs[0]))
    codes = heard(network, z, classes if conditional else None)
    assert torch.equal(first[0], expected)
    assert [len(level) for level in codes] == [12, 12]  # four norms a block
    assert all(torch.equal(code, expected) for level in codes for code in level)


def one_by_one(layer: nn.Conv2d, x: Tensor) -> Tensor:
    return conv2d(x, layer.weight, layer.bias, padding=layer.kernel_size[0] // 2)


@pytest.mark.parametrize(("after", "double"), [(8, False), (8, True), (4, True)])
def test_a_bottleneck_up_is_the_papers_block(after: int, double: bool) -> None:
    """1x1 to a quarter, norms with ReLU before every convolution, and a shortcut that drops channels."""
    torch.manual_seed(0)
    block, x, code = bottleneck_up(8, after, 3, double).double(), torch.randn(2, 8, 4, 4).double(), torch.randn(2, 3)
    norms = [m for m in block.modules() if isinstance(m, CodedBatchNorm)]
    convolutions = [m for m in block.modules() if isinstance(m, nn.Conv2d)]
    assert [tuple(m.weight.shape[:3]) for m in convolutions] == [(2, 8, 1), (2, 2, 3), (2, 2, 3), (after, 2, 1)]
    h = x
    with coding(block, code.double()):
        for place, (norm, layer) in enumerate(zip(norms, convolutions, strict=True)):
            h = norm(h).relu()
            if place == 1 and double:
                h = h.repeat_interleave(2, 2).repeat_interleave(2, 3)
            h = one_by_one(layer, h)
        kept = x[:, :after]
        expected = h + (kept.repeat_interleave(2, 2).repeat_interleave(2, 3) if double else kept)
        torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize(("before", "halve"), [(8, False), (8, True), (3, True), (3, False)])
def test_a_bottleneck_down_is_the_papers_block(before: int, halve: bool) -> None:
    """ReLU before every convolution, and a shortcut that adds channels made by a 1x1 convolution."""
    torch.manual_seed(0)
    block, x = bottleneck_down(before, 8, halve).double(), torch.randn(2, before, 4, 4).double()
    convolutions = [m for m in block.modules() if isinstance(m, nn.Conv2d)]
    shapes = [(2, before, 1), (2, 2, 3), (2, 2, 3), (8, 2, 1), *([(8 - before, before, 1)] if before != 8 else [])]
    assert [tuple(m.weight.shape[:3]) for m in convolutions] == shapes
    h, untouched = x, x.clone()
    for layer in convolutions[:4]:
        h = one_by_one(layer, h.relu())
    shortcut = x if before == 8 else torch.cat([x, one_by_one(convolutions[4], x)], 1)
    expected = h + shortcut
    torch.testing.assert_close(block(x), nn.functional.avg_pool2d(expected, 2) if halve else expected)
    assert torch.equal(x, untouched)


@pytest.mark.parametrize("make", DISCRIMINATORS)
def test_the_projection_is_added_to_the_logit(make: Callable[..., ProjectionDiscriminator]) -> None:
    torch.manual_seed(0)
    network, x, classes = (
        make(spec(16), width=2, conditional=True).eval(),
        torch.randn(3, 3, 16, 16),
        torch.tensor([2, 0, 2]),
    )
    with informing(network, classes), torch.no_grad():
        verdict = network(x)
    assert network.vectors is not None and isinstance(network.head, nn.Linear) and network.head.out_features == 1
    pooled = verdict.features[-1].relu().sum((2, 3))
    vectors = network.vectors.table.weight.t()[classes]
    expected = network.head(pooled).squeeze(1) + (vectors * pooled).sum(1)
    torch.testing.assert_close(verdict.logits, expected.detach())
    wider = widen_head(network, lambda width: MinibatchStddev(3), "a trick")
    with informing(wider, classes):
        assert wider(x).logits.shape == (3,)


@pytest.mark.parametrize("make", [*GENERATORS, *DISCRIMINATORS])
def test_initial_weights_are_orthogonal(make: Maker) -> None:
    torch.manual_seed(0)
    network = make(spec(16), width=4, conditional=True, spectral_norm=False)
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.Embedding)]
    for layer in layers:
        w = layer.weight.detach().flatten(1)
        w = w if len(w) <= w.shape[1] else w.t()
        torch.testing.assert_close(w @ w.t(), torch.eye(len(w)), atol=1e-5, rtol=0)
        assert isinstance(layer, nn.Embedding) or layer.bias is None or not layer.bias.any()
    assert any(isinstance(m, nn.Embedding) for m in layers) == (make in GENERATORS)


@pytest.mark.parametrize("make", [*GENERATORS, *DISCRIMINATORS])
@pytest.mark.parametrize("normalised", [False, True])
def test_spectral_norm_is_of_all_linear_maps_but_the_generators_embedding(make: Maker, normalised: bool) -> None:
    network = make(spec(8), width=2, conditional=True, spectral_norm=normalised)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert parametrize.is_parametrized(layer, "weight") == normalised
        elif isinstance(layer, nn.Embedding):
            assert not parametrize.is_parametrized(layer)
    assert count_parameters(network) == count_parameters(
        make(spec(8), width=2, conditional=True, spectral_norm=not normalised)
    )


@pytest.mark.parametrize(("generator", "discriminator"), list(zip(GENERATORS, DISCRIMINATORS, strict=True)))
def test_gradients_reach_every_weight_also_of_slopes(generator: Maker, discriminator: Maker) -> None:
    torch.manual_seed(0)
    g, d = generator(spec(16), width=4, conditional=True), discriminator(spec(16), width=4, conditional=True)
    for layer in [*g.modules(), *d.modules()]:
        if isinstance(layer, SelfAttention):
            nn.init.ones_(layer.gamma)
    classes = torch.tensor([0, 1, 2, 2])
    with informing(g, classes), informing(d, classes):
        images = g(torch.randn(4, g.latent_dim))
        logits = d(images).logits
        (slope,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
        (logits.sum() + slope.square().sum()).backward()
    for network in (g, d):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
            # A bias before a batch norm is dead, as published.
            assert name.endswith("bias") or parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("make", GENERATORS)
def test_bfloat16_is_near_float32(make: Maker) -> None:
    torch.manual_seed(0)
    network, classes = make(spec(16), width=4, conditional=True).eval(), torch.tensor([0, 1, 2, 2])
    z = torch.randn(4, network.latent_dim)
    with informing(network, classes), torch.no_grad():
        exact = network(z)
        with torch.autocast("cpu", torch.bfloat16):
            near = network(z)
    torch.testing.assert_close(near.float(), exact, rtol=0.1, atol=0.05)
