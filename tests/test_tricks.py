"""Tricks at points with known values: layers, views, adaptive probabilities, pools, top-k."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan_experiments import seeding
from gan_experiments.curves import Linear
from gan_experiments.data.base import Batch, Spec, Split
from gan_experiments.errors import UserError
from gan_experiments.game import Deal, Verdict
from gan_experiments.games.noise import NoiseGame, NoiseRound
from gan_experiments.networks.attention import SelfAttention
from gan_experiments.networks.blocks import LINEAR_MAPS
from gan_experiments.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gan_experiments.networks.heads import MinibatchDiscrimination, MinibatchStddev
from gan_experiments.networks.mlp import MLPDiscriminator, MLPGenerator
from gan_experiments.objectives.adversarial import Hinge, NonSaturating
from gan_experiments.runtime import Runtime
from gan_experiments.sampling import draw
from gan_experiments.trick import Trick
from gan_experiments.tricks import pipeline, views
from gan_experiments.tricks.adaptive import AdaptiveAugmentation, PseudoReals
from gan_experiments.tricks.labels import ClassHead, Classification
from gan_experiments.tricks.normalisation import ReferenceNorm, VirtualBatchNorm
from gan_experiments.tricks.packing import Packing
from gan_experiments.tricks.samples import Replay, TopK
from gan_experiments.tricks.surgery import Attention, NoiseInjection, NoiseLayer, SpectralNorm
from given import trainer_of

IMAGES = Spec((1, 8, 8), tuple("abc"))
LARGER = Spec((1, 16, 16))
POINTS = Spec((2,), tuple("abc"))
CPU = torch.device("cpu")


def named(trick: Trick, name: str) -> Trick:
    trick.name = name
    return trick


def game(*tricks: Trick, spec: Spec = IMAGES, norm: str = "batch") -> NoiseGame:
    torch.manual_seed(0)
    for place, trick in enumerate(tricks):
        trick.name = trick.name or f"t{place}"
    if spec.is_image:
        return NoiseGame(
            spec,
            lambda s: DCGANGenerator(s, 3, 4, norm=norm),
            lambda s: DCGANDiscriminator(s, 4, norm=norm),
            tricks,
        )
    return NoiseGame(spec, lambda s: MLPGenerator(s, 3, [6]), lambda s: MLPDiscriminator(s, [6]), tricks)


def deal(
    owner: NoiseGame,
    player: str = "discriminator",
    seed: int = 1,
    n: int = 8,
    progress: tuple[int, int] = (0, 1),
    reals: Tensor | None = None,
) -> NoiseRound:
    random = seeding.generator(seed, "reals")
    samples = torch.rand(n, *owner.spec.shape, generator=random) * 2 - 1 if reals is None else reals
    batch = Batch(samples, torch.arange(n) % 3)
    return owner.deal(Deal(n, lambda: batch, seed, CPU, frozenset(), False, player, *progress))


class TestBatchStatistics:
    def test_minibatch_discrimination_on_the_reference_rows(self) -> None:
        layer = MinibatchDiscrimination(2, 1, 2)
        with torch.no_grad():
            layer.project.weight.copy_(torch.eye(2))
        out = layer(torch.tensor([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0]]))
        torch.testing.assert_close(out[:, 2], torch.tensor([2.0497871, 2.0497871, 1.0995741]))
        torch.testing.assert_close(out[:, :2], torch.tensor([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0]]))

    def test_kernels_are_separate_projections(self) -> None:
        layer = MinibatchDiscrimination(1, 2, 1)
        with torch.no_grad():
            layer.project.weight.copy_(torch.tensor([[1.0], [3.0]]))
        out = layer(torch.tensor([[0.0], [1.0]]))
        torch.testing.assert_close(out[:, 1:], (1 + torch.exp(-torch.tensor([[1.0, 3.0], [1.0, 3.0]]))))

    def test_identical_samples_count_the_batch(self) -> None:
        assert MinibatchDiscrimination(3, 4, 2)(torch.ones(5, 3))[:, 3:].allclose(torch.tensor(5.0))

    def test_minibatch_stddev_is_the_population_deviation_of_groups(self) -> None:
        assert MinibatchStddev(2)(torch.tensor([[1.0], [3.0]]))[:, 1].tolist() == pytest.approx([1, 1])
        assert MinibatchStddev(4)(torch.ones(8, 3))[:, 3].tolist() == pytest.approx([1e-4] * 8)
        # groups of 2 of 4 samples: {0, 2} and {1, 3}
        found = MinibatchStddev(2)(torch.tensor([[0.0], [5.0], [2.0], [5.0]]))[:, 1]
        assert found.tolist() == pytest.approx([1, 1e-4, 1, 1e-4], abs=1e-6)
        assert MinibatchStddev(4)(torch.randn(7, 3)).isfinite().all()  # 7 is prime: groups of one


class TestPacking:
    def test_a_logit_judges_consecutive_samples_joined_on_channels(self) -> None:
        owner = game(Packing(3), norm="none")
        found = deal(owner, n=6)
        assert found.real.logits.shape == (2,)
        by_hand = owner.discriminator.network(found.reals.view(2, 3, 8, 8)).logits  # type: ignore[operator, union-attr]
        assert torch.equal(found.real.logits, by_hand)

    def test_slopes_are_those_of_packs_and_interpolation_shares_are_a_packs(self) -> None:
        owner = game(Packing(2), spec=POINTS)
        round = owner.deal(Deal(6, lambda: Batch(torch.ones(6, 2), None), 1, CPU, frozenset({"interpolates"})))
        assert round.slope("interpolates").shape == (3, 4)
        share = (round.interpolates - round.fakes) / (round.reals - round.fakes)
        torch.testing.assert_close(share[0::2], share[1::2])
        assert (share[0] - share[2]).abs().max() > 1e-3

    def test_packs_of_one_are_refused(self) -> None:
        with pytest.raises(UserError, match="size=1"):
            Packing(1)


class TestNorms:
    def test_own_statistics_count_as_one_more_sample(self) -> None:
        layer = VirtualBatchNorm(nn.BatchNorm1d(1), 2, own=True)
        out = layer(torch.tensor([[0.0], [2.0], [7.0]]))
        mean, square = (2 * 1 + 7) / 3, (2 * 2 + 49) / 3
        assert out[2].item() == pytest.approx((7 - mean) / math.sqrt(square - mean**2 + 1e-5), rel=1e-5)
        assert out[:2, 0].tolist() == pytest.approx([-1, 1], rel=1e-4)  # the reference by itself

    def test_without_own_statistics_only_the_reference_counts(self) -> None:
        out = VirtualBatchNorm(nn.BatchNorm1d(1), 2, own=False)(torch.tensor([[0.0], [2.0], [7.0]]))
        assert out[2].item() == pytest.approx(6, rel=1e-4)

    def test_maps_use_all_positions(self) -> None:
        x = torch.randn(5, 3, 4, 4)
        out = VirtualBatchNorm(nn.BatchNorm2d(3), 4, own=False)(x)
        torch.testing.assert_close(out[:4], nn.BatchNorm2d(3)(x[:4]), atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("own", [True, False])
    def test_a_sample_does_not_depend_on_the_others_of_its_batch(self, own: bool) -> None:
        owner = game(ReferenceNorm(["discriminator", "generator"], 4, own), spec=LARGER)
        data = Split(torch.randint(256, (20, 1, 16, 16), dtype=torch.uint8))
        owner.tricks["t0"].prepare(owner, data, 0)
        z = torch.randn(6, 3)
        torch.testing.assert_close(owner.sample(z)[:2], owner.sample(torch.cat([z[:2], -z[2:]]))[:2])
        x = torch.randn(6, 1, 16, 16)
        whole, part = owner.discriminator(x), owner.discriminator(x[:2])
        torch.testing.assert_close(whole.logits[:2], part.logits)
        torch.testing.assert_close(whole.features[1][:2], part.features[1])
        assert whole.logits.shape == (6,)

    def test_reference_batches_are_of_data_and_of_latents_and_are_saved(self) -> None:
        owner = game(ReferenceNorm(["discriminator", "generator"], 4), spec=LARGER)
        data = Split(torch.full((20, 1, 16, 16), 255, dtype=torch.uint8))
        owner.tricks["t0"].prepare(owner, data, 0)
        state = owner.state_dict()
        assert torch.equal(state["discriminator.reference"], torch.ones(4, 1, 16, 16))
        assert state["generator.reference"].std() > 0.3


class TestLayers:
    def test_spectral_norm_leaves_no_singular_value_above_one(self) -> None:
        owner = game(SpectralNorm(["discriminator"]))
        for _ in range(30):
            owner.discriminator(torch.randn(4, 1, 8, 8))
        maps = [m for m in owner.discriminator.modules() if isinstance(m, LINEAR_MAPS)]
        largest = [torch.linalg.matrix_norm(m.weight.flatten(1), 2).item() for m in maps]
        assert len(maps) == 2 and largest == pytest.approx([1] * len(maps), abs=1e-2)
        generator = [m for m in owner.generator.modules() if isinstance(m, LINEAR_MAPS)]
        assert torch.linalg.matrix_norm(generator[0].weight, 2).item() != pytest.approx(1, abs=1e-2)

    def test_spectral_norm_twice_is_refused(self) -> None:
        with pytest.raises(UserError, match="has it already.*spectral_norm=false"):
            SpectralNorm(["discriminator"]).network(
                "discriminator", lambda s: MLPDiscriminator(s, [4], spectral_norm=True)
            )(POINTS)

    def test_attention_is_the_identity_at_first_and_the_formula_afterwards(self) -> None:
        layer, x = SelfAttention(8), torch.randn(2, 8, 3, 3)
        assert torch.equal(layer(x), x)
        nn.init.constant_(layer.gamma, 0.5)
        q, k, v = (m.weight[:, :, 0, 0] @ x.flatten(2) for m in (layer.query, layer.key, layer.value))
        seen = torch.zeros(2, 4, 9)
        for i in range(9):  # position i looks at all positions j
            scores = torch.stack([(q[:, :, i] * k[:, :, j]).sum(1) for j in range(9)], 1).softmax(1)
            seen[:, :, i] = (v * scores[:, None]).sum(2)
        expected = x.flatten(2) + 0.5 * (layer.output.weight[:, :, 0, 0] @ seen)
        torch.testing.assert_close(layer(x).flatten(2), expected, atol=1e-5, rtol=1e-5)

    def test_attention_sits_at_its_resolution_in_both_networks(self) -> None:
        owner = game(Attention(["discriminator", "generator"]))
        for network in (owner.discriminator, owner.generator):
            assert isinstance(network.levels[0][1], SelfAttention)  # type: ignore[index, union-attr]
        with pytest.raises(UserError, match="resolution=16.*side 4"):
            game(Attention(["generator"], 16))

    def test_noise_starts_at_nothing_and_is_one_map_a_sample(self) -> None:
        torch.manual_seed(0)
        layer, x = NoiseLayer(3), torch.zeros(2, 3, 4, 4)
        assert torch.equal(layer(x), x)
        with torch.no_grad():
            layer.scale.copy_(torch.tensor([1.0, 2.0, 0.0]))
        out = layer(x)
        torch.testing.assert_close(out[:, 1], 2 * out[:, 0])
        assert out[:, 2].abs().max() == 0 and out[0, 0].std() > 0.3
        assert not torch.equal(out[0], out[1])

    def test_noise_layers_follow_hidden_maps_of_the_generator_only(self) -> None:
        owner = game(NoiseInjection())
        assert sum(isinstance(m, NoiseLayer) for m in owner.generator.modules()) == 1  # of two maps
        assert not any(isinstance(m, NoiseLayer) for m in owner.discriminator.modules())

    def test_samples_with_noise_can_be_drawn_again(self) -> None:
        owner = game(NoiseInjection())
        for layer in owner.generator.modules():
            if isinstance(layer, NoiseLayer):
                nn.init.constant_(layer.scale, 1.0)
        runtime = Runtime(CPU, "float32", False, 1, False, True)
        draws = []
        for number, seed in enumerate((5, 5, 6)):
            torch.manual_seed(number)  # whatever has been drawn before
            draws.append(draw(owner, 4, seeding.generator(seed, "z"), runtime).samples)
        assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
        latents = owner.latents(4, seeding.generator(5, "z"))
        assert not torch.equal(owner.sample(latents), owner.sample(latents))


class TestViews:
    def test_instance_noise_is_on_both_sides_in_both_moves_and_anneals(self) -> None:
        owner = game(views.InstanceNoise(Linear(0.5, 0.0)), spec=POINTS)
        trick = owner.tricks["t0"]
        zeros = torch.zeros(4000, 2)
        for player in ("discriminator", "generator"):
            for name in ("reals", "fakes"):
                assert trick.view(deal(owner, player), name, zeros).std().item() == pytest.approx(0.5, rel=0.05)
        assert trick.view(deal(owner, progress=(50, 100)), "reals", zeros).std().item() == pytest.approx(0.25, rel=0.05)
        assert trick.view(deal(owner, progress=(100, 100)), "reals", zeros) is zeros
        first, second = (trick.view(deal(owner, seed=seed), "reals", zeros) for seed in (1, 2))
        assert not torch.equal(first, second)
        assert not torch.equal(first, trick.view(deal(owner), "fakes", zeros))

    def test_color_keeps_what_it_should(self) -> None:
        images, random = torch.rand(6, 3, 8, 8), seeding.generator(0, "x")
        out = views.color(images, random)
        # Contrast and saturation keep the mean; brightness moves it by up to 0.5.
        moved = (out - images).mean((1, 2, 3))
        assert moved.abs().max() <= 0.5 and moved.std() > 0.05
        grey = torch.rand(6, 1, 8, 8)
        ratio = views.color(grey, random).std((1, 2, 3)) / grey.std((1, 2, 3))
        assert ratio.min() >= 0.5 and ratio.max() <= 1.5 and ratio.std() > 0.05

    def test_saturation_scales_colour_by_up_to_two(self) -> None:
        images = torch.rand(400, 3, 4, 4)
        out = views.color(images, seeding.generator(0, "x"))
        grey, shown = images.mean(1), out.mean(1)
        contrast = (shown[:, 0, 0] - shown[:, 1, 1]) / (grey[:, 0, 0] - grey[:, 1, 1])
        colour = (out[:, 0] - shown)[:, 0, 0] / (images[:, 0] - grey)[:, 0, 0] / contrast
        assert colour.min() > -0.01 and colour.max() < 2.01
        assert colour.std().item() == pytest.approx(2 / math.sqrt(12), rel=0.1)

    def test_translation_moves_by_up_to_an_eighth_with_zeros_coming_in(self) -> None:
        images = torch.ones(200, 1, 16, 16)
        shown = views.translation(images, seeding.generator(0, "x"))
        sums = shown.sum((1, 2, 3))
        assert sums.min() == 14 * 14 and sums.max() == 256
        point = torch.zeros(500, 1, 16, 16)
        point[:, :, 8, 8] = 1
        found = views.translation(point, seeding.generator(1, "x")).flatten(1).argmax(1)
        rows, columns = found // 16 - 8, found % 16 - 8
        assert sorted(set(rows.tolist())) == sorted(set(columns.tolist())) == [-2, -1, 0, 1, 2]

    def test_cutout_removes_a_square_of_half_the_side(self) -> None:
        shown = views.cutout(torch.ones(300, 1, 8, 8), seeding.generator(0, "x"))
        removed = (shown == 0).sum((1, 2, 3))
        assert removed.max() == 16 and removed.min() >= 4 and (removed == 16).float().mean() > 0.2

    def test_augmentation_is_differentiable_and_fresh_for_each_set(self) -> None:
        owner = game(views.DiffAugment())
        round = deal(owner)
        images = torch.rand(4, 1, 8, 8, requires_grad=True)
        shown = owner.tricks["t0"].view(round, "fakes", images)
        (gradient,) = torch.autograd.grad(shown.square().sum(), images)
        assert gradient.abs().sum() > 0
        assert torch.equal(shown, owner.tricks["t0"].view(round, "fakes", images))
        assert not torch.equal(shown, owner.tricks["t0"].view(round, "reals", images))
        with pytest.raises(UserError, match="policy"):
            views.DiffAugment(["colour"])


class TestPipeline:
    def test_probability_zero_is_the_identity(self) -> None:
        images = torch.rand(5, 3, 8, 8)
        random, never = seeding.generator(0, "x"), torch.tensor(0.0)
        torch.testing.assert_close(pipeline.warp(images, never, random, True, True), images, atol=1e-6, rtol=0)
        torch.testing.assert_close(pipeline.recolor(images, never, random), images, atol=1e-6, rtol=0)

    def test_blits_are_exact_mirrorings_turns_and_shifts(self) -> None:
        images = torch.rand(1, 1, 8, 8).expand(300, 1, 8, 8)
        out = pipeline.warp(images, torch.tensor(1.0), seeding.generator(0, "x"), True, False)
        known = set(images[0].flatten().tolist())
        assert all(min(abs(v - w) for w in known) < 1e-5 for v in out[:20].flatten().tolist())
        turns = [images[0].rot90(k, (1, 2)) for k in range(4)]
        turns += [turn.flip(2) for turn in turns]
        hits = [sum(torch.allclose(o, turn, atol=1e-5) for o in out) for turn in turns]
        assert all(hits) and 30 < sum(hits) < 300  # a ninth would have no shift of one pixel, either way

    def test_interpolation_is_bilinear_mirrored_and_twice_differentiable(self) -> None:
        image = torch.arange(4.0).view(1, 1, 1, 4)
        x, y = torch.tensor([[0.5, 2.25, -1.0, 4.0]]), torch.zeros(1, 4)
        assert pipeline.interpolate(image, x, y).flatten().tolist() == pytest.approx([0.5, 2.25, 1.0, 2.0])
        images = torch.rand(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
        places = torch.rand(2, 16, dtype=torch.float64) * 3

        def smooth(value: Tensor) -> Tensor:
            return pipeline.interpolate(value, places, places.flip(1)).pow(3)

        assert torch.autograd.gradcheck(smooth, images) and torch.autograd.gradgradcheck(smooth, images)

    def test_colours_keep_grey_where_they_should(self) -> None:
        grey = torch.rand(200, 1, 4, 4).expand(200, 3, 4, 4)
        out = pipeline.recolor(grey, torch.tensor(1.0), seeding.generator(0, "x"))
        assert (out - out.mean(1, keepdim=True)).abs().max() < 1e-4  # hue and saturation don't touch grey
        single = pipeline.recolor(grey[:, :1], torch.tensor(1.0), seeding.generator(0, "x"))
        slopes = ((single[:, 0, 0, 0] - single[:, 0, 1, 1]) / (grey[:, 0, 0, 0] - grey[:, 0, 1, 1])).sign()
        assert 0.3 < (slopes < 0).float().mean() < 0.7  # half of the images are negatives

    def test_colour_matrices_turn_scale_and_mirror_about_the_grey_axis(self) -> None:
        zero, one = torch.zeros(1), torch.ones(1)
        third = pipeline.colour_matrices(zero, one * 2 * math.pi / 3, one)[0]
        torch.testing.assert_close(third, torch.eye(3).roll(1, 0), atol=1e-6, rtol=0)  # red to green to blue
        red = torch.tensor([1.0, 0.0, 0.0])
        torch.testing.assert_close(pipeline.colour_matrices(zero, zero, zero)[0] @ red, torch.full((3,), 1 / 3))
        mirrored = pipeline.colour_matrices(one, zero, one)[0] @ red
        torch.testing.assert_close(mirrored, red - 2 / 3)
        torch.testing.assert_close(pipeline.colour_matrices(zero, zero, 2 * one)[0] @ red, 2 * red - 1 / 3)

    def test_contrast_and_brightness_have_the_papers_spread(self) -> None:
        flat = torch.zeros(4000, 1, 1, 2)
        flat[..., 1] = 1
        out = pipeline.recolor(flat, torch.tensor(1.0), seeding.generator(0, "x")).flatten(1)
        contrast = (out[:, 1] - out[:, 0]).abs()
        assert contrast.log2().std().item() == pytest.approx(0.5, rel=0.05)
        assert (out[:, 0].abs() / contrast).square().mean().sqrt().item() == pytest.approx(0.2, rel=0.05)

    def test_geometry_has_the_papers_spread_and_chance(self) -> None:
        def drawn(probability: float) -> Tensor:
            dice = pipeline.Dice(8000, torch.tensor(probability), seeding.generator(0, "x"))
            return pipeline.geometric_matrices(dice, 16, 16)

        always, half = drawn(1.0), drawn(0.5)
        linear = always[:, :2, :2]
        assert (linear.det().log2() / 2).std().item() == pytest.approx(0.2, rel=0.05)
        values = torch.linalg.svdvals(linear)
        stretch = (values[:, 0] / values[:, 1]).log2() / 2  # the absolute value of a normal draw
        assert stretch.square().mean().sqrt().item() == pytest.approx(0.2, rel=0.05)
        shift = torch.linalg.solve(linear, always[:, :2, 2])
        assert shift.std(0).tolist() == pytest.approx([2, 2], rel=0.05)
        turned = half[:, 0, 1].abs() > 1e-7
        assert turned.float().mean().item() == pytest.approx(0.5, abs=0.03)


class Sure(nn.Module):
    """A discriminator with one logit for everything."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(logit))

    def forward(self, samples: Tensor) -> Verdict:
        return Verdict(self.logit.expand(len(samples)))


class Quarters(nn.Module):
    """A discriminator that takes three of four samples for real."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, samples: Tensor) -> Verdict:
        return Verdict(self.scale * torch.tensor([1.0, 1.0, 1.0, -1.0]).repeat(len(samples) // 4))


def adapted(trick: Any, logit: float, moves: int) -> float:
    owner = NoiseGame(IMAGES, lambda s: DCGANGenerator(s, 3, 4), lambda s: Sure(logit), [named(trick, "a")])
    for move in range(moves):
        trick.after_move(deal(owner, n=64, seed=move), lambda name, value: None)
    return float(trick.probability)


class TestAdaptive:
    def test_the_step_is_the_papers(self) -> None:
        assert adapted(AdaptiveAugmentation(), 3.0, 4) == pytest.approx(5.12e-4)  # 64 * 4 / 500,000
        assert adapted(AdaptiveAugmentation(), 3.0, 7) == pytest.approx(5.12e-4)
        assert adapted(AdaptiveAugmentation(), 3.0, 8) == pytest.approx(2 * 5.12e-4)

    def test_the_target_is_the_mean_sign_at_which_it_turns(self) -> None:
        for target, risen in ((0.3, True), (0.7, False)):  # three quarters of the logits are positive: a mean of 0.5
            trick = AdaptiveAugmentation(target=target)
            owner = NoiseGame(IMAGES, lambda s: DCGANGenerator(s, 3, 4), lambda s: Quarters(), [named(trick, "a")])
            trick.probability.fill_(0.5)
            for move in range(4):
                trick.after_move(deal(owner, seed=move), lambda name, value: None)
            assert (trick.probability > 0.5) == risen

    def test_the_trainer_lets_it_see_every_move(self) -> None:
        trainer = trainer_of("points", ["trick/apa"], "trick.apa.length=50", "trick.apa.target=-0.99")
        for _ in range(8):
            trainer.step()
        trick = trainer.game.tricks["apa"]
        assert isinstance(trick, PseudoReals) and trick.probability > 0
        assert "trick/apa_probability" in trainer.meter.sums

    def test_it_stays_between_zero_and_one(self) -> None:
        assert adapted(AdaptiveAugmentation(), -3.0, 8) == 0
        assert adapted(AdaptiveAugmentation(length=500), 3.0, 24) == 1
        assert adapted(PseudoReals(length=500), 3.0, 24) == 1

    def test_the_boundary_of_the_loss_counts(self) -> None:
        trick = AdaptiveAugmentation()
        trick.boundary = 5.0
        assert adapted(trick, 3.0, 4) == 0

    def test_only_moves_of_the_discriminator_count(self) -> None:
        trick = AdaptiveAugmentation()
        owner = NoiseGame(IMAGES, lambda s: DCGANGenerator(s, 3, 4), lambda s: Sure(3.0), [named(trick, "a")])
        for move in range(8):
            trick.after_move(deal(owner, "generator", seed=move), lambda name, value: None)
        assert trick.probability == 0

    def test_pseudo_reals_replace_reals_in_the_discriminators_moves_only(self) -> None:
        trick = PseudoReals(probability=0.25)
        owner = game(trick, spec=POINTS)
        reals = torch.full((2000, 2), 50.0)
        shown = deal(owner, n=2000, reals=reals).reals
        replaced = (shown != 50).any(1)
        assert replaced.float().mean().item() == pytest.approx(0.25, abs=0.03)
        assert not shown.requires_grad
        assert torch.equal(deal(owner, "generator", n=2000, reals=reals).reals, reals)


class TestSamples:
    def test_the_pool_fills_first_then_a_share_of_the_batch_is_former_samples(self) -> None:
        trick = Replay(32, 0.25)
        owner = game(trick, spec=POINTS)
        fresh = torch.arange(8.0)[:, None].expand(8, 2)
        for move in range(4):
            out = trick.fakes(deal(owner, seed=move), fresh + 10 * move)
            assert torch.equal(out, fresh + 10 * move)  # nothing is exchanged before the pool is full
        counts = []
        for move in range(4, 60):
            out = trick.fakes(deal(owner, seed=move), fresh + 10 * move)
            former = out[:, 0] < 10 * move
            counts.append(former.sum().item())
            kept = (trick.pool[:, 0] >= 10 * move).sum().item()
            assert kept == former.sum()  # a new sample is in the pool for every one that came out
        assert sum(counts) / len(counts) == pytest.approx(2, abs=0.6)
        assert len({float(v) for v in trick.pool[:, 0]}) == 32  # each sample once

    def test_the_generators_moves_are_its_own(self) -> None:
        trick = Replay(4)
        owner, samples = game(trick, spec=POINTS), torch.ones(8, 2)
        assert trick.fakes(deal(owner, "generator"), samples) is samples and trick.filled == 0

    def test_the_generator_learns_from_its_best_samples(self) -> None:
        trick = TopK(0.5)
        owner = game(trick, spec=POINTS)
        round = deal(owner, "generator", n=8)
        best = round.fake.logits.topk(4).values
        expected = torch.nn.functional.softplus(-best).mean()
        torch.testing.assert_close(NonSaturating().generator(round.contest("generator")), expected)
        assert round.contest("discriminator") is round
        assert torch.equal(Hinge().generator(round.contest("generator")), -best.mean())

    def test_one_of_two_in_the_reference_batch(self) -> None:
        trick = TopK(0.5)
        contest = type("Contest", (), {})()
        contest.deal, contest.fake = deal(game(spec=POINTS)).deal, Verdict(torch.tensor([-1.0, 1.0]))
        assert NonSaturating().generator(trick.contest("generator", contest)).item() == pytest.approx(0.3132617)


class TestLabels:
    def test_the_logit_is_the_sum_over_classes(self) -> None:
        owner = game(named(ClassHead(), "labels"), spec=POINTS)
        verdict = deal(owner).real
        classes = verdict.heads["classes"]
        assert classes.shape == (8, 3)
        torch.testing.assert_close(verdict.logits, classes.logsumexp(1))
        # The reference's example: l = (2, 0, -1) has Z = 2.1698460.
        assert torch.tensor([2.0, 0.0, -1.0]).logsumexp(0).item() == pytest.approx(2.1698460)
        assert "classes" in owner.deals()

    def test_without_features_the_discriminator_is_undecided(self) -> None:
        owner = game(named(ClassHead(), "labels"), spec=POINTS)
        bias = owner.discriminator.network.head[-1].bias  # type: ignore[index, union-attr]
        assert bias.logsumexp(0).item() == pytest.approx(0, abs=1e-6)  # type: ignore[operator, union-attr]

    def test_classification_is_the_cross_entropy_of_real_labels(self) -> None:
        owner = game(named(ClassHead(), "labels"), spec=POINTS)
        round = deal(owner)
        logits, labels = round.real.heads["classes"], round.labels
        expected = -torch.stack([row.log_softmax(0)[label] for row, label in zip(logits, labels, strict=True)]).mean()
        torch.testing.assert_close(Classification()(round), expected)

    def test_unlabelled_data_are_refused(self) -> None:
        with pytest.raises(UserError, match="labels needs labelled data"):
            game(named(ClassHead(), "labels"), spec=Spec((2,)))
