"""FastGAN: published counts, skip-layer excitation and gates by hand, reconstruction of what the discriminator sees."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.game import Verdict
from gan_experiments.modules import count_parameters
from gan_experiments.networks.fastgan import (
    Decoder,
    Excitation,
    FastGANDiscriminator,
    FastGANGenerator,
    GatedLinear,
    Halving,
    Noise,
    error,
    quarter,
)
from gan_experiments.objectives.reconstruction import Reconstruction


@pytest.mark.parametrize(("blocks", "count"), [("double", 105_684_175), ("single", 79_354_307)])
def test_published_counts(blocks: str, count: int) -> None:
    """Projected GAN's generator and its lite form at 256x256, width 128."""
    with torch.device("meta"):
        assert count_parameters(FastGANGenerator(Spec((3, 256, 256)), width=128, blocks=blocks)) == count
        bare = FastGANGenerator(Spec((3, 256, 256)), width=128, blocks=blocks, spectral_norm=False)
    assert count_parameters(bare) == count


def test_the_map_to_colours_may_do_without_a_bias() -> None:
    """As FastGAN's published one; Projected GAN's has it."""
    for bias in (True, False):
        last = FastGANGenerator(Spec((1, 8, 8)), 4, 2, output_bias=bias).output[0]
        assert isinstance(last, nn.Conv2d) and (last.bias is not None) == bias


def test_blocks_alternate() -> None:
    """One more convolution at 8, 32 and 128, with two noises each."""
    with torch.device("meta"):
        generator = FastGANGenerator(Spec((3, 256, 256)), width=4)
    noises = [sum(isinstance(part, Noise) for part in level.modules()) for level in generator.levels]
    assert noises == [0, 2, 0, 2, 0, 2, 0]
    assert generator.shapes == [(64, 4), (32, 8), (16, 16), (8, 32), (8, 64), (4, 128), (2, 256)]
    assert list(generator.excitations) == ["64", "128", "256"]


@pytest.mark.parametrize("side", [8, 16, 64, 128])
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_and_patches(side: int, channels: int) -> None:
    spec = Spec((channels, side, side))
    images = FastGANGenerator(spec, 5, 2)(torch.randn(2, 5))
    assert images.shape == (2, channels, side, side) and images.abs().max() <= 1
    discriminator = FastGANDiscriminator(spec, 2, decoder_width=2)
    verdict = discriminator(images)
    beside = 1 if side < 32 else 25
    assert verdict.logits.shape == (2, 25 + beside)
    assert [x.shape[-1] for x in verdict.features] == [side >> step for step in range(int(math.log2(side // 8)) + 1)]
    assert verdict.features[-1].shape == (2, 16, 8, 8)
    assert verdict.heads["reconstruction"].shape == (2,)
    assert not FastGANDiscriminator(spec, 2, reconstruct=False)(images).heads


@pytest.mark.parametrize("side", [512, 1024])
def test_large_images_shrink_first(side: int) -> None:
    with torch.no_grad():
        verdict = FastGANDiscriminator(Spec((1, side, side)), 1, decoder_width=1)(torch.zeros(2, 1, side, side))
    assert [x.shape[-1] for x in verdict.features] == [256, 128, 64, 32, 16, 8]
    with torch.device("meta"):
        generator = FastGANGenerator(Spec((1, side, side)), width=8)
    assert generator.shapes[-1][1] == side and "1024" not in generator.excitations and "512" in generator.excitations


def test_excitation_and_gate_by_hand() -> None:
    torch.manual_seed(0)
    excitation = Excitation(2, 3)
    earlier, x = torch.randn(2, 2, 8, 8), torch.randn(2, 3, 16, 16)
    first, second = excitation.gate[1].weight, excitation.gate[3].weight
    means = earlier.view(2, 2, 4, 2, 4, 2).mean((3, 5))
    h = torch.einsum("oihw,nihw->no", first, means)
    h = h * torch.sigmoid(h)
    scale = torch.sigmoid(torch.einsum("oi,ni->no", second[:, :, 0, 0], h))
    assert torch.allclose(excitation(earlier, x), x * scale[:, :, None, None], atol=1e-6)
    assert torch.allclose(GatedLinear()(torch.cat([x, -x], 1)), x * torch.sigmoid(-x))


def test_early_maps_excite_late_ones() -> None:
    """Side 64 by side 4 in the generator; the fourth map by the first in the discriminator."""
    torch.manual_seed(0)
    generator = FastGANGenerator(Spec((1, 64, 64)), 3, 2).eval()
    z = torch.randn(2, 3)
    with torch.no_grad():
        h = generator.levels[0](z)
        early = h
        for level in generator.levels[1:]:
            h = level(h)
        by_hand = generator.output(generator.excitations["64"](early, h))
    assert torch.allclose(generator(z), by_hand, atol=1e-6)
    discriminator = FastGANDiscriminator(Spec((1, 64, 64)), 4, decoder_width=1).eval()
    with torch.no_grad():
        maps = discriminator(torch.randn(2, 1, 64, 64)).features
        excited = discriminator.excitations[0](maps[0], discriminator.levels[2](maps[2]))
    assert len(discriminator.excitations) == 1 and torch.allclose(maps[3], excited, atol=1e-6)


def test_noise_starts_silent_and_latents_can_be_normalised() -> None:
    torch.manual_seed(0)
    noise, x = Noise(), torch.randn(2, 3, 4, 4)
    assert torch.equal(noise(x), x)
    with torch.no_grad():
        noise.scale.fill_(2.0)
    added = noise(x) - x
    assert torch.allclose(added[:, 0], added[:, 2], atol=1e-6) and not torch.allclose(added[0], added[1])
    z = torch.randn(3, 5)
    for normalise in (False, True):
        generator = FastGANGenerator(Spec((1, 8, 8)), 5, 2, normalise_latents=normalise, tanh=False).eval()
        assert torch.allclose(generator(z), generator(3 * z), atol=1e-5) == normalise


def test_initial_weights() -> None:
    torch.manual_seed(0)
    generator = FastGANGenerator(Spec((3, 16, 16)), 64, 8, spectral_norm=False)
    convolutions = [m.weight for m in generator.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert all(float(w.detach().std()) == pytest.approx(0.02, rel=0.1) for w in convolutions)
    norms = torch.cat([m.weight.detach() for m in generator.modules() if isinstance(m, nn.BatchNorm2d)])
    assert float(norms.mean()) == pytest.approx(1, abs=0.01) and float(norms.std()) == pytest.approx(0.02, rel=0.2)


def test_both_ways_down_count_alike() -> None:
    torch.manual_seed(0)
    halving, x = Halving(2, 3).eval(), torch.randn(2, 2, 8, 8)
    assert torch.allclose(halving(x), 0.5 * halving.main(x) + 0.5 * halving.direct(x))


def test_quarters_in_reading_order() -> None:
    x = torch.arange(16.0).view(1, 1, 4, 4)
    corners = [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    assert [quarter(x, corner).flatten().tolist() for corner in range(4)] == corners


def test_error_is_the_mean_absolute_difference_from_averaged_pixels() -> None:
    target = torch.tensor([[1.0, 3.0], [5.0, 7.0]]).view(1, 1, 2, 2)
    assert error(torch.full((1, 1, 1, 1), 1.5), target).item() == pytest.approx(2.5)
    assert error(torch.zeros(1, 1, 2, 2), target).item() == pytest.approx(4)


def test_decoders_reconstruct_the_image_that_is_shown_and_its_quarter() -> None:
    torch.manual_seed(0)
    discriminator = FastGANDiscriminator(Spec((1, 16, 16)), 2, decoder_width=2)
    decoders = discriminator.decoders
    assert decoders is not None
    made = {"last": torch.zeros(2, 1, 16, 16), "small": torch.zeros(2, 1, 16, 16), "part": torch.zeros(2, 1, 8, 8)}
    read: dict[str, Tensor] = {}

    class Fixed(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def forward(self, h: Tensor) -> Tensor:
            read[self.name] = h
            return made[self.name]

    for name in made:
        setattr(decoders, name, Fixed(name))
    images = torch.rand(2, 1, 16, 16)
    images[:, :, 8:, :8] = 1.0
    random = torch.get_rng_state()
    corner = int(torch.randint(4, ()))
    torch.set_rng_state(random)
    verdict = discriminator(images)
    whole, part = images.flatten(1).mean(1), quarter(images, corner).flatten(1).mean(1)
    assert torch.allclose(verdict.heads["reconstruction"], 2 * whole + part, atol=1e-5)
    assert torch.equal(read["last"], verdict.features[-1])
    assert torch.equal(read["part"], quarter(verdict.features[-2], corner))
    with torch.device("meta"):
        assert Decoder(8, 3, 128, 32)(torch.zeros(2, 8, 8, 8)).shape == (2, 3, 128, 128)
        assert Decoder(8, 3, 4, 32)(torch.zeros(2, 8, 8, 8)).shape == (2, 3, 4, 4)


def test_reconstruction_is_of_real_images_only() -> None:
    class Round:
        real = Verdict(torch.zeros(2), (), {"reconstruction": torch.tensor([1.0, 4.0])})

    term = Reconstruction()
    assert term.needs == ("real", "reconstruction") and term.player == "discriminator"
    assert term(Round()).item() == 2.5


def test_everything_learns_and_half_precision_works() -> None:
    torch.manual_seed(0)
    spec = Spec((1, 64, 64))
    generator, discriminator = FastGANGenerator(spec, 5, 2), FastGANDiscriminator(spec, 4, decoder_width=2)
    verdict = discriminator(generator(torch.randn(3, 5)))
    (verdict.logits.mean() + verdict.heads["reconstruction"].mean()).backward()
    for network in (generator, discriminator):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        verdict = discriminator(generator(torch.randn(3, 5)))
    assert verdict.logits.dtype is torch.bfloat16 and verdict.heads["reconstruction"].dtype is torch.float32


def test_what_cannot_be_built_is_refused() -> None:
    for network in (FastGANGenerator, FastGANDiscriminator):
        with pytest.raises(UserError, match=f"{network.__name__} takes square images of side 8 to 1024"):
            network(Spec((1, 28, 28)))
        with pytest.raises(UserError, match=f"{network.__name__}: width=0"):
            network(Spec((1, 8, 8)), width=0)
    with pytest.raises(UserError, match="blocks='triple': use alternating, double, single"):
        FastGANGenerator(Spec((1, 8, 8)), blocks="triple")
