"""Networks in the form that mimicry and PyTorch-StudioGAN gave them, and the recipes that follow these."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, batch_norm, conv2d, interpolate

from gan_experiments.assembly import build_game
from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.modules import count_parameters
from gan_experiments.networks.biggan import BigGANDiscriminator, BigGANGenerator
from gan_experiments.networks.biggan_deep import BigGANDeepDiscriminator, BigGANDeepGenerator, bottleneck_down
from gan_experiments.networks.conditional import ConditionalBatchNorm
from gan_experiments.networks.informed import informing
from gan_experiments.networks.resnet import (
    MeanPool,
    Residual,
    ResNetDiscriminator,
    ResNetGenerator,
    down_block,
    up_block,
)
from gan_experiments.networks.sndcgan import SNDCGANDiscriminator, SNDCGANGenerator
from gan_experiments.schema import typed

TEN = Spec((3, 32, 32), tuple("abcdefghij"))
SMALL = ("model.generator.width=8", "model.discriminator.width=8")
BIG = ("model.generator.embedding_dim=12", "model.generator.latent_dim=8")


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]


def applied(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """The convolution written out, whatever makes its weight."""
    return conv2d(x, layer.weight, layer.bias, padding=layer.padding)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(("after", "halve"), [(5, True), (5, False), (3, False)])
def test_rectified_shortcuts_see_what_an_in_place_relu_leaves(after: int, halve: bool, first: bool) -> None:
    torch.manual_seed(0)
    block, x = down_block(3, 4, after, halve, first, rectified=True).double(), torch.randn(2, 3, 4, 4).double()
    left = x.clone() if first else nn.ReLU(inplace=True)(x.clone())
    one, two, *around = convolutions(block)
    h = applied(two, applied(one, left).relu())
    shortcut = applied(around[0], left) if around else left
    pool = 2 if halve else 1
    torch.testing.assert_close(block(x), avg_pool2d(h, pool) + avg_pool2d(shortcut, pool), atol=1e-12, rtol=1e-12)
    if not first:
        plain = down_block(3, 4, after, halve, first).double()
        plain.load_state_dict(block.state_dict())
        assert not torch.allclose(plain(x), block(x))


@pytest.mark.parametrize(("before", "halve"), [(8, True), (4, True), (8, False)])
def test_so_do_those_of_bottlenecks(before: int, halve: bool) -> None:
    torch.manual_seed(0)
    block, x = bottleneck_down(before, 8, halve, rectified=True).double(), torch.randn(2, before, 4, 4).double()
    h = x.relu()
    one, two, three, four, *more = convolutions(block)
    inner = applied(three, applied(two, applied(one, h).relu()).relu()).relu()
    pool = 2 if halve else 1
    shortcut = avg_pool2d(h, pool)
    if more:
        shortcut = torch.cat([shortcut, applied(more[0], shortcut)], 1)
    expected = avg_pool2d(applied(four, inner), pool) + shortcut
    torch.testing.assert_close(block(x), expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("upsampling", ["nearest", "bilinear"])
def test_both_ways_of_an_up_block_are_enlarged_before_they_are_convolved(upsampling: str) -> None:
    torch.manual_seed(0)
    block, x = up_block(3, 5, upsampling=upsampling).double(), torch.randn(2, 3, 4, 4).double()

    def enlarged(h: Tensor) -> Tensor:
        return interpolate(
            h, scale_factor=2, mode=upsampling, **({"align_corners": False} if "b" in upsampling else {})
        )

    one, two, around = convolutions(block)
    h = applied(one, enlarged(batch_norm(x, None, None, training=True).relu()))
    h = applied(two, batch_norm(h, None, None, training=True).relu())
    torch.testing.assert_close(block(x), h + applied(around, enlarged(x)), atol=1e-12, rtol=1e-12)


def test_settings_reach_every_block() -> None:
    for make in (ResNetDiscriminator, BigGANDiscriminator, BigGANDeepDiscriminator):
        for rectified in (False, True):
            blocks = [m for m in make(TEN, width=2, rectified_shortcut=rectified).modules() if isinstance(m, Residual)]
            sees_images = make is not BigGANDeepDiscriminator  # whose first layer is a convolution before the blocks
            assert [block.rectified for block in blocks] == [
                rectified and not (sees_images and place == 0) for place in range(len(blocks))
            ]
    for make, latents in ((ResNetGenerator, 8), (BigGANGenerator, 8), (BigGANDeepGenerator, 8)):
        own = make(TEN, latents, 2, upsampling="bilinear", norm_eps=1e-4)
        modes = [m.mode for m in own.modules() if isinstance(m, nn.Upsample)]
        assert set(modes) == {"bilinear"} and len(modes) >= 3  # bottlenecks share theirs with the shortcut
        assert {m.eps for m in own.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-4}
        assert {m.mode for m in make(TEN, latents, 2).modules() if isinstance(m, nn.Upsample)} == {"nearest"}
        with pytest.raises(UserError, match="upsampling='cubic'; there are nearest, bilinear"):
            make(TEN, latents, 2, upsampling="cubic")
        with pytest.raises(UserError, match="norm_eps=0"):
            make(TEN, latents, 2, norm_eps=0)
    for plain in (SNDCGANGenerator(TEN, 4, 2, norm_eps=1e-4), SNDCGANDiscriminator(TEN, 2, "batch", norm_eps=1e-4)):
        assert {m.eps for m in plain.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-4}


def test_features_may_be_averaged() -> None:
    h = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(MeanPool()(h), h.relu().mean((2, 3)))
    assert isinstance(ResNetDiscriminator(TEN, 2, pooling="mean").pool, MeanPool)


def test_gains_and_shifts_of_classes_can_be_drawn_and_normalised() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(40)
    plain = ConditionalBatchNorm(norm, 30)
    assert bool((plain.gain == 1).all()) and not plain.shift.any()
    drawn = ConditionalBatchNorm(norm, 30, "normal", None)
    assert float(drawn.gain.detach().std()) == pytest.approx(0.02, rel=0.1)
    assert float(drawn.gain.detach().mean()) == pytest.approx(1, abs=0.01) and not drawn.shift.any()
    both = ConditionalBatchNorm(norm, 30, "orthogonal", "orthogonal", normalise=True).double()
    with torch.no_grad():
        for _, stored in both.named_parameters():
            stored.add_(torch.randn_like(stored))
    x, classes = torch.randn(6, 40, 2, 2).double(), torch.tensor([0, 29, 3, 3, 1, 2])
    with informing(both, classes):
        for _ in range(500):
            found = both(x)
    g, s = (both.parametrizations[name].original for name in ("gain", "shift"))  # type: ignore[index,union-attr]
    gain, shift = (table / torch.linalg.matrix_norm(table, 2) for table in (g, s))
    expected = batch_norm(x, None, None, training=True) * (1 + gain[classes])[..., None, None]
    torch.testing.assert_close(found, expected + shift[classes][..., None, None], atol=1e-9, rtol=1e-9)
    with pytest.raises(UserError, match="gains='ortho' is no way"):
        ConditionalBatchNorm(norm, 3, "ortho")


FORMS = {  # of the generator, of the discriminator: what differs from the authors' form
    "sngan_cifar10": ({"upsampling": "bilinear", "zero_biases": False},
                      {"rectified_shortcut": True, "zero_biases": False}),
    "cgan_pd_cifar10": ({"upsampling": "bilinear", "zero_biases": False},
                        {"rectified_shortcut": True, "zero_biases": False}),
    "wgan_gp_cifar10": ({"upsampling": "bilinear", "zero_biases": False, "init": "glorot_branches"},
                        {"rectified_shortcut": True, "zero_biases": False, "pooling": "mean", "spectral_norm": False,
                         "init": "glorot_branches"}),
    "sagan_cifar10": ({"norm_eps": 1e-4, "init": "orthogonal"}, {"rectified_shortcut": True, "init": "orthogonal"}),
    "biggan_cifar10": ({"norm_eps": 1e-4, "latent_dim": 80}, {"rectified_shortcut": True}),
    "reacgan_cifar10": ({"norm_eps": 1e-4, "latent_dim": 80}, {"rectified_shortcut": True, "conditional": False}),
    "dcgan_cifar10": ({"norm_eps": 1e-4}, {"norm_eps": 1e-4, "norm": "batch", "slope": 0.0, "sum_positions": True,
                                           "spectral_norm": False}),
    "biggan_diffaugment_cifar10_10pct": ({"spectral_norm": True, "init": "normal", "zero_biases": False},
                                         {"width": 128, "wide": True, "init": "normal", "zero_biases": False}),
}  # fmt: skip
MODELS = {"sagan_cifar10": "sagan", "biggan_cifar10": "biggan", "reacgan_cifar10": "biggan", "dcgan_cifar10": "sndcgan"}


@pytest.mark.parametrize("experiment", FORMS)
def test_recipes_differ_from_the_authors_networks_in_what_they_say(
    experiment: str, composed: Callable[..., DictConfig]
) -> None:
    usual = composed(f"model={MODELS.get(experiment, 'resnet')}").model
    own = composed(f"experiment={experiment}").model
    for player, changed in zip(("generator", "discriminator"), FORMS[experiment], strict=True):
        conditional = {"conditional"} - set(changed)
        found = {key: own[player][key] for key in own[player] if own[player][key] != usual[player][key]}
        assert {key: value for key, value in found.items() if key not in conditional} == changed


def linear_maps(network: nn.Module) -> list[tuple[str, Tensor, Tensor]]:
    """Name, stored weight and bias of each map with a bias."""
    stored = dict(network.named_parameters())
    return [
        (name, stored.get(f"{name}.parametrizations.weight.original", layer.weight), layer.bias)
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None
    ]


@pytest.mark.parametrize("experiment", ["sngan_cifar10", "cgan_pd_cifar10", "wgan_gp_cifar10"])
def test_mimicrys_initial_values(experiment: str, composed: Callable[..., DictConfig]) -> None:
    """Glorot's uniform weights, sqrt(2) larger in branches; biases uniform up to 1 / sqrt(fan-in), and for WGAN-GP
    shortcuts and the last map too."""
    torch.manual_seed(0)
    game = build_game(typed(composed(f"experiment={experiment}", *SMALL)), TEN)
    for network in (game.generator, game.discriminator):
        branches = {id(m) for b in network.modules() if isinstance(b, Residual) for m in b.residual.modules()}
        shortcuts = {id(m) for b in network.modules() if isinstance(b, Residual) for m in b.shortcut.modules()}
        known = dict(network.named_modules())
        for name, weight, bias in linear_maps(network):
            fan_in, area = weight[0].numel(), weight[0, 0].numel()
            bound = math.sqrt(6 / (fan_in + len(weight) * area))
            layer = known[name]
            if id(layer) in branches:
                bound *= math.sqrt(2)
            elif experiment == "wgan_gp_cifar10" and (id(layer) in shortcuts or name == "output.2"):
                bound = 1 / math.sqrt(fan_in)
            largest = float(weight.detach().abs().max())
            assert largest <= bound * (1 + 1e-6) and (weight.numel() < 500 or largest > 0.97 * bound), name
            edge = float(bias.detach().abs().max())
            assert 0 < edge <= 1 / math.sqrt(fan_in) and (bias.numel() < 200 or edge > 0.95 / math.sqrt(fan_in)), name
    norms = [m for m in game.generator.modules() if isinstance(m, ConditionalBatchNorm)]
    assert len(norms) == (6 if experiment == "cgan_pd_cifar10" else 0)
    for norm in norms:
        assert float(norm.gain.detach().std()) == pytest.approx(0.02, rel=0.15) and not norm.shift.any()


@pytest.mark.parametrize("experiment", ["sagan_cifar10", "reacgan_cifar10"])
def test_studiogans_initial_values(experiment: str, composed: Callable[..., DictConfig]) -> None:
    """All weights and tables orthogonal, biases 0, and what is of classes in SAGAN's generator normalised as well."""
    torch.manual_seed(0)
    lines = SMALL if experiment == "sagan_cifar10" else (*SMALL, *BIG, "conditioning.data_to_data.dim=24")
    game = build_game(typed(composed(f"experiment={experiment}", *lines)), TEN)
    tables = 0
    for name, stored in game.named_parameters():
        if stored.ndim > 1:
            rows = stored.detach().flatten(1)
            small = rows @ rows.T if rows.shape[0] <= rows.shape[1] else rows.T @ rows
            torch.testing.assert_close(
                small, torch.eye(len(small)), atol=1e-5, rtol=0, msg=lambda m, n=name: f"{n}: {m}"
            )
            tables += "gain" in name or "shift" in name or "vectors" in name
        elif name.endswith("bias"):
            assert not stored.any(), name
    assert tables == (13 if experiment == "sagan_cifar10" else 13)


@pytest.mark.parametrize(
    ("ways", "lines", "published"),
    [
        ("multi_hinge", (), 2_415_180),
        ("auxiliary_classifier", ("conditioning.auxiliary_classifier.bias=false",), 2_415_170),
        ("twin_auxiliary_classifier", ("conditioning.twin_auxiliary_classifier.bias=false",), 2_417_090),
        ("discriminative_classifier", ("conditioning.discriminative_classifier.bias=false",), 2_417_090),
        ("contrastive", (), 2_517_186),
    ],
)
def test_heads_have_the_parameters_of_pytorch_studiogans(
    ways: str, lines: tuple[str, ...], published: int, composed: Callable[..., DictConfig]
) -> None:
    """On its BigGAN for CIFAR-10: 2,413,057 before the head, of 192 features; 11 scores in place of the logit (MHGAN);
    a logit and 10, 20 or 20 classes without biases; a logit, an embedding of 512 and as long vectors of classes."""
    config = composed("experiment=biggan_cifar10", f"conditioning=[{ways}]", *lines,
                      "model.generator.conditional=true", "model.discriminator.conditional=false")  # fmt: skip
    with torch.device("meta"):
        game = build_game(typed(config), TEN)
    assert count_parameters(game.discriminator) == published
