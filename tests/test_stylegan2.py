"""StyleGAN2: published counts and initial values, modulation and blocks written out, path length regularization."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, leaky_relu

from gan_experiments import runtime as machine
from gan_experiments.assembly import build_game, build_trainer
from gan_experiments.config import build
from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.modules import count_parameters
from gan_experiments.networks.equalised import ROOT_2, DownConv2d, EqualConv2d, EqualLinear, LeakyReLU
from gan_experiments.networks.informed import informing
from gan_experiments.networks.mapping import ClassProduct, Mapping, styling
from gan_experiments.networks.resample import blur, downsample, upsample
from gan_experiments.networks.stylegan import Constant, Noise, StyleGANGenerator
from gan_experiments.networks.stylegan2 import (
    ModulatedConv2d,
    ResidualHalving,
    StyleGAN2Discriminator,
    StyleGAN2Generator,
)
from gan_experiments.networks.stylegan3 import StyleGAN3Generator
from gan_experiments.objectives.path_length import PathLength
from gan_experiments.schema import typed
from gan_experiments.trainer import Trainer
from given import Given, differing, ignored, named
from trick_bench import GAMES, compose_plainly

CIFAR = Spec((3, 32, 32), tuple("abcdefghij"))


@pytest.mark.parametrize(
    ("conditional", "made", "judge"), [(False, 19_947_539, 20_720_641), (True, 20_215_315, 23_089_664)]
)
def test_published_numbers_of_parameters_for_cifar(conditional: bool, made: int, judge: int) -> None:
    with torch.device("meta"):
        generator = StyleGAN2Generator(CIFAR, mapping_layers=2, conditional=conditional)
        discriminator = StyleGAN2Discriminator(CIFAR, residual=False, conditional=conditional)
    assert (count_parameters(generator), count_parameters(discriminator)) == (made, judge)


@pytest.mark.parametrize(
    ("side", "base", "made", "judge"),
    [
        (256, 32768, 30_034_338, 28_864_129),
        (1024, 32768, 30_370_060, 29_012_513),
        (256, 16384, 24_767_458, 24_001_089),
    ],
)
def test_published_numbers_of_parameters(side: int, base: int, made: int, judge: int) -> None:
    spec = Spec((3, side, side))
    with torch.device("meta"):
        generator, discriminator = StyleGAN2Generator(spec, channel_base=base), StyleGAN2Discriminator(spec, base)
    assert (count_parameters(generator), count_parameters(discriminator)) == (made, judge)


@pytest.mark.parametrize(("side", "channels"), [(8, 1), (32, 3), (128, 3)])
@pytest.mark.parametrize("residual", [True, False])
def test_every_size(side: int, channels: int, residual: bool) -> None:
    spec = Spec((channels, side, side))
    generator = StyleGAN2Generator(spec, 6, 5, 2, channel_max=4)
    discriminator = StyleGAN2Discriminator(spec, channel_max=4, residual=residual)
    images = generator(torch.randn(4, 6))
    assert images.shape == (4, channels, side, side)
    assert generator.layers == 2 * int(math.log2(side)) - 2
    verdict = discriminator(images)
    assert verdict.logits.shape == (4,)
    assert [tuple(feature.shape[1:3]) for feature in verdict.features] == discriminator.shapes
    assert isinstance(discriminator.head, nn.Linear) and discriminator.head.out_features == 1


@pytest.mark.parametrize("make", [StyleGAN2Generator, StyleGAN2Discriminator])
def test_what_cannot_be_is_refused(make: Any) -> None:
    for shape in ((3, 4, 4), (1, 28, 28), (3, 2048, 2048), (2,)):
        with pytest.raises(UserError, match=make.__name__):
            make(Spec(shape))
    with pytest.raises(UserError, match="conditional: true needs labelled data"):
        make(Spec((3, 8, 8)), channel_max=4, conditional=True)


def slow_convolution(x: Tensor, layer: ModulatedConv2d, styles: Tensor) -> Tensor:
    """Weights made for each sample (Karras et al. 2020, equations 1 and 3), one grouped convolution."""
    scales = styles @ layer.affine.weight.t() / math.sqrt(styles.shape[1]) + layer.affine.bias
    kernels = []
    for scale in scales:
        kernel = layer.weight / math.sqrt(layer.weight[0].numel()) * scale[None, :, None, None]
        if layer.demodulate:
            kernel = torch.stack([one / (one.square().sum() + 1e-8).sqrt() for one in kernel])
        kernels.append(kernel)
    n, before, side, _ = x.shape
    flat = x.reshape(1, n * before, side, side)
    if layer.doubles:
        turned = torch.cat([kernel.transpose(0, 1) for kernel in kernels])
        y = blur(conv_transpose2d(flat, turned, stride=2, groups=n), (1, 3, 3, 1), (1, 1), gain=4)
    else:
        y = conv2d(flat, torch.cat(kernels), padding=layer.padding, groups=n)  # type: ignore[arg-type]
    return y.view(n, -1, *y.shape[2:]) + layer.shift.view(-1, 1, 1)


@pytest.mark.parametrize(("kernel", "demodulate", "doubles"), [(3, True, False), (3, True, True), (1, False, False)])
def test_modulation_against_weights_made_for_each_sample(kernel: int, demodulate: bool, doubles: bool) -> None:
    torch.manual_seed(0)
    layer = ModulatedConv2d(4, 3, kernel, 5, place=1, demodulate=demodulate, doubles=doubles).double()
    nn.init.normal_(layer.shift)
    nn.init.normal_(layer.affine.bias)
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64, requires_grad=True)
    styles = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    gradients = []
    for fast in (True, False):
        if fast:
            with styling(layer, styles):
                y = layer(x)
        else:
            y = slow_convolution(x, layer, styles[:, 1])
        (slope,) = torch.autograd.grad(y.square().sum(), styles, create_graph=True)
        gradients.append([y, slope, *torch.autograd.grad(slope.square().sum(), [x, layer.weight])])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_demodulated_maps_keep_their_spread() -> None:
    torch.manual_seed(0)
    layer = ModulatedConv2d(64, 64, 3, 5, place=0)
    with styling(layer, 10 * torch.randn(4, 1, 5)), torch.no_grad():
        y = layer(torch.randn(4, 64, 32, 32))[:, :, 1:-1, 1:-1]
    assert float(y.std()) == pytest.approx(1, abs=0.05)


def test_images_are_sums_over_resolutions() -> None:
    torch.manual_seed(0)
    generator = StyleGAN2Generator(Spec((3, 16, 16)), 6, 5, 2, channel_max=8)
    styles, total = torch.randn(2, 6, 5), torch.zeros(2, 3, 2, 2)
    with styling(generator, styles):
        h = styles
        for level, to_rgb in zip(generator.levels, generator.to_rgb, strict=True):
            h = level(h)
            total = upsample(total) + to_rgb(h)
    torch.testing.assert_close(generator.synthesis(styles), total)
    places = [
        [part.place for part in level.modules() if isinstance(part, ModulatedConv2d)] for level in generator.levels
    ]
    assert places == [[0], [1, 2], [3, 4]] and [part.place for part in generator.to_rgb] == [1, 3, 5]


def test_residual_blocks_written_out() -> None:
    torch.manual_seed(0)
    block = ResidualHalving(3, 4, clamp=None)
    first, _, second, _ = block.through
    assert isinstance(first, EqualConv2d) and isinstance(second, DownConv2d)
    assert first.bias is not None and second.bias is not None
    nn.init.normal_(first.bias), nn.init.normal_(second.bias)
    x = torch.randn(2, 3, 8, 8)
    h = ROOT_2 * leaky_relu(conv2d(x, first.weight / math.sqrt(27), first.bias, padding=1), 0.2)
    h = blur(h, (1, 3, 3, 1), (2, 2))
    h = ROOT_2 * leaky_relu(conv2d(h, second.weight / math.sqrt(27), second.bias, stride=2), 0.2)
    around = conv2d(downsample(x), block.around.weight / math.sqrt(3))
    torch.testing.assert_close(block(x), (around + h) * math.sqrt(0.5))


def test_initial_values() -> None:
    torch.manual_seed(0)
    generator = StyleGAN2Generator(Spec((3, 16, 16)), 60, 50, 2, channel_max=32)
    discriminator = StyleGAN2Discriminator(Spec((3, 16, 16)), channel_max=32)
    modulated = [part for part in generator.modules() if isinstance(part, ModulatedConv2d)]
    assert all(bool((part.affine.bias == 1).all()) and not part.shift.any() for part in modulated)
    assert not any(part.scale.any() or len(part.scale) > 1 for part in generator.modules() if isinstance(part, Noise))
    (constant,) = [part for part in generator.modules() if isinstance(part, Constant)]
    assert float(constant.maps.detach().std()) == pytest.approx(1, rel=0.15)
    mapping = [part for part in generator.mapping.modules() if isinstance(part, EqualLinear)]
    assert all(float(part.weight.detach().std()) == pytest.approx(100, rel=0.05) for part in mapping)
    assert all(part.lr_multiplier == 0.01 and part.gain == 1 for part in mapping)
    rest = [part for part in discriminator.modules() if isinstance(part, EqualLinear | EqualConv2d)]
    weights = torch.cat([part.weight.detach().flatten() for part in [*modulated, *rest]])
    assert float(weights.std()) == pytest.approx(1, rel=0.02)
    assert not any(part.bias.any() for part in rest if part.bias is not None)
    gains = {part.gain for part in [*generator.modules(), *discriminator.modules()] if isinstance(part, LeakyReLU)}
    assert sorted(gains) == pytest.approx([1, ROOT_2])


def test_activations_and_colours_are_clamped_if_asked() -> None:
    generator = StyleGAN2Generator(Spec((3, 8, 8)), 6, 5, 2, channel_max=8, clamp=0.5)
    with torch.no_grad():
        for part in generator.to_rgb:
            part.shift.fill_(9.0)  # type: ignore[union-attr, operator]
    torch.testing.assert_close(generator(torch.randn(2, 6))[:, :, 3:5, 3:5], torch.ones(2, 3, 2, 2))
    clamps = [part.clamp for part in generator.levels.modules() if isinstance(part, LeakyReLU)]
    assert clamps == [0.5] * 3
    judge = StyleGAN2Discriminator(Spec((3, 8, 8)), channel_max=8, clamp=256)
    assert [part.clamp for part in judge.levels.modules() if isinstance(part, LeakyReLU)] == [
        256, 256, pytest.approx(256 * math.sqrt(0.5))
    ]  # fmt: skip


def test_the_logit_of_a_class_is_a_scaled_product() -> None:
    torch.manual_seed(0)
    head = ClassProduct(6, 3, depth=1)
    linear = next(part for part in head.body.modules() if isinstance(part, EqualLinear))
    nn.init.normal_(head.project.bias), nn.init.normal_(head.embedding.embed.bias)
    h, classes = torch.randn(2, 6), torch.tensor([2, 0])
    with informing(head, classes):
        logits = head(h)
    for sample, label in enumerate(classes):
        embedded = head.embedding.embed.weight[:, label] / math.sqrt(3) + head.embedding.embed.bias
        embedded = embedded / embedded.square().mean().sqrt()
        vector = ROOT_2 * leaky_relu(linear.weight @ embedded * 0.01 / math.sqrt(6), 0.2)
        projected = head.project.weight @ h[sample] / math.sqrt(6) + head.project.bias
        torch.testing.assert_close(logits[sample, 0], projected @ vector / math.sqrt(6))


def test_the_class_joins_the_latents_with_a_norm_of_its_own() -> None:
    torch.manual_seed(0)
    spec = Spec((3, 8, 8), tuple("abc"))
    mapping = StyleGAN2Generator(spec, 6, 5, 1, channel_max=4, conditional=True).mapping
    seen: list[Tensor] = []
    mapping.body.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with informing(mapping, torch.tensor([1, 2])):
        mapping(100 * torch.randn(2, 6))
    assert seen[0].shape == (2, 11)
    torch.testing.assert_close(seen[0][:, :6].square().mean(1), torch.ones(2))
    torch.testing.assert_close(seen[0][:, 6:].square().mean(1), torch.ones(2))


def test_groups_are_compared_or_not() -> None:
    torch.manual_seed(0)
    images = torch.randn(4, 3, 8, 8)
    for group, together in ((0, False), (4, True)):
        judge = StyleGAN2Discriminator(Spec((3, 8, 8)), channel_max=8, group=group)
        same = torch.allclose(judge(images).logits[:1], judge(images[:1]).logits, atol=1e-5)
        assert same != together
        (slope,) = torch.autograd.grad(judge(images.requires_grad_()).logits.sum(), images, create_graph=True)
        slope.square().sum().backward()
        images = images.detach()


def test_half_precision() -> None:
    torch.manual_seed(0)
    spec = Spec((3, 16, 16))
    generator, judge = StyleGAN2Generator(spec, 6, 5, 2, channel_max=32), StyleGAN2Discriminator(spec, channel_max=32)
    z = torch.randn(4, 6)
    exact = generator(z)
    with torch.autocast("cpu", torch.bfloat16):
        rough = generator(z)
        assert rough.dtype == torch.float32 and generator.mapping(z).dtype == torch.float32
        seen = judge(exact).logits
    assert bool((rough - exact).std() < 0.02 * exact.std())
    torch.testing.assert_close(seen.float(), judge(exact).logits, atol=0.1, rtol=0.1)


# Path length regularization


def styled(matrix: Tensor, styles: Tensor, seed: int = 0, images: int = 0) -> Given:
    """A generator whose images (n, 1, 2, 2) are linear in the styles (n, layers, d)."""
    return Given(
        seed=seed, images=images, styles=styles, player="generator",
        synthesise=lambda styles: torch.einsum("pld,nld->np", matrix, styles).view(-1, 1, 2, 2),
    )  # fmt: skip


def path_length(**options: Any) -> PathLength:
    return named(PathLength(**options), "path_length")  # type: ignore[return-value]


def test_path_length_of_a_linear_generator() -> None:
    """J^T y is the matrix times y: sum over a style, mean over layers, y of deviation 1/sqrt(4 pixels)."""
    torch.manual_seed(0)
    matrix, styles = torch.randn(4, 3, 5), torch.randn(8, 3, 5)
    term = path_length(shrink=2)
    round = styled(matrix, styles)
    y = torch.randn(4, 1, 2, 2, generator=round.deal.random("path_length")).view(4, 4) / 2
    expected = torch.einsum("pld,np->nld", matrix, y).square().sum(2).mean(1).sqrt()
    torch.testing.assert_close(term.lengths(round), expected)
    target = 0.01 * expected.mean()
    torch.testing.assert_close(term(round), (expected - target).square().mean())
    assert len(path_length(shrink=3).lengths(round)) == 2 and len(path_length(shrink=9).lengths(round)) == 1


def test_the_average_moves_before_it_is_used_and_is_state() -> None:
    """From a = 0 at length 1: a = 0.01, and 2 * 0.99^2 = 1.9602."""
    term = path_length()
    term.lengths = lambda round: torch.ones(4)  # type: ignore[method-assign]
    assert term.weight(0, 1) * float(term(None)) == pytest.approx(1.9602)  # type: ignore[arg-type]
    assert float(term(None)) == pytest.approx(0.99**2)  # type: ignore[arg-type]  # unmoved until the move is made
    reports: dict[str, Any] = {}
    term.after_move(None, reports.__setitem__)  # type: ignore[arg-type]
    assert float(reports["generator/path_length_average"]) == pytest.approx(0.01)
    other = path_length()
    other.load_state_dict(copy.deepcopy(term.state_dict()))
    for each in (term, other):
        each.lengths = lambda round: torch.ones(4)  # type: ignore[method-assign]
        assert float(each(None)) == pytest.approx((1 - 0.0199) ** 2)  # type: ignore[arg-type]


def test_its_gradient_reaches_the_generator() -> None:
    matrix = torch.randn(4, 1, 1, dtype=torch.float32).requires_grad_()
    term = path_length(decay=1e-6, shrink=1)
    value = term(styled(matrix, torch.randn(1, 1, 1)))
    (gradient,) = torch.autograd.grad(value, matrix)
    # |J^T y| = |m . y|: with a = 0 the penalty is (m . y)^2, homogeneous of degree 2.
    assert float((gradient * matrix).sum().detach()) == pytest.approx(2 * float(value.detach()), rel=1e-3)
    constant = path_length()
    flat = torch.zeros(4, 1, 1).requires_grad_()
    value = constant(styled(flat, torch.randn(2, 1, 1)))
    assert float(value.detach()) < 1e-12
    assert torch.autograd.grad(value, flat)[0].isfinite().all()


def test_settings_that_cannot_be_are_refused() -> None:
    for options in ({"decay": 0.0}, {"decay": 1.5}, {"shrink": 0}):
        with pytest.raises(UserError, match=f"{next(iter(options))}="):
            PathLength(**options)  # type: ignore[arg-type]


def run(model: str, *lines: str) -> Trainer:
    config, _ = compose_plainly(*GAMES[model], "regularizer=[r1,path_length]", *lines)
    settings = typed(OmegaConf.create({**config, "dataset": {"_target_": "trick_bench.images"}}))
    dataset = build(settings.dataset, "dataset")
    runtime = machine.choose(settings.runtime, True)
    return build_trainer(settings, build_game(settings, dataset.spec), dataset, runtime)[0]


LAZY = ("regularizer.r1.every=2", "regularizer.path_length.every=2", "schedule.generator.lazy=separate",
        "schedule.discriminator.lazy=separate", "schedule.steps=4")  # fmt: skip


def test_the_published_objective_resumes_exactly() -> None:
    straight, first, second = (run("stylegan2", *LAZY) for _ in range(3))
    for _ in range(4):
        straight.step()
    for _ in range(2):
        first.step()
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    (term,) = [term for term in second.sides["generator"].terms if isinstance(term, PathLength)]
    assert float(term.average) > 0
    for _ in range(2):
        second.step()
    assert not differing(straight, second)
    mapping = straight.game.generator.mapping  # type: ignore[union-attr]
    assert mapping.mean.any()  # type: ignore[union-attr, operator]


def test_a_game_without_styles_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"generator/path_length \(PathLength\) needs styles.*model=stylegan2") as error:
        run("images")
    assert "\n" not in str(error.value)


def test_half_precision_of_path_lengths() -> None:
    """As for slopes of the discriminator: in float32 where the run says so, in the networks' precision otherwise."""
    kinds = []

    def synthesise(styles: Tensor) -> Tensor:
        kinds.append((styles.flatten(1) @ styles.flatten(1).t()).dtype)
        return styles[:, :, None]

    round: Any = SimpleNamespace(styles=torch.randn(4, 1, 4), synthesise=synthesise)
    for exact in (True, False):
        round.deal = SimpleNamespace(full_precision_slopes=exact, random=lambda name: torch.Generator())
        with torch.autocast("cpu", torch.bfloat16):
            path_length()(round)
    assert kinds == [torch.float32, torch.bfloat16]
    path_length().after_move(round, ignored)


@pytest.mark.parametrize(
    ("network", "model", "kept"),
    [
        (StyleGANGenerator, "stylegan", 0.995),
        (StyleGAN2Generator, "stylegan2", 0.995),
        (StyleGAN3Generator, "stylegan3", 0.998),
    ],
)
def test_the_published_share_of_the_mean_style_is_kept(
    network: type[nn.Module], model: str, kept: float, composed: Callable[..., DictConfig]
) -> None:
    own = composed(f"model={model}").model.generator
    assert own.mean_decay == kept == inspect.signature(network).parameters["mean_decay"].default
    mapping = Mapping(Spec((3, 8, 8)), 4, 4, 1, decay=own.mean_decay)
    for _ in range(3):
        mapping.follow(torch.full((2, 4), 2.0))
    torch.testing.assert_close(mapping.mean, torch.full((4,), 2 * (1 - kept**3)), rtol=1e-4, atol=0)
