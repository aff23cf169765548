"""LAPGAN: the pyramid, sampling in a chain, levels that learn apart from each other, published networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.functional import softplus

from gan_experiments.assembly import build_game, build_trainer
from gan_experiments.data.base import Batch, Dataset, Spec, Split
from gan_experiments.errors import UserError
from gan_experiments.game import Deal
from gan_experiments.games.lapgan import LaplacianGame, Level, LevelRound, RefiningRound
from gan_experiments.modules import count_parameters
from gan_experiments.networks import lapgan
from gan_experiments.networks.lapgan import doubled, halved
from gan_experiments.objectives.adversarial import Adversarial, NonSaturating
from gan_experiments.objectives.penalties import R1, R2
from gan_experiments.objectives.relativistic import RelativisticAverage, RelativisticPairing
from gan_experiments.objectives.weights import HistoricalAveraging
from gan_experiments.schema import typed
from gan_experiments.trainer import Trainer
from given import FLOAT32
from trick_bench import attempt

CLASSES = tuple("abc")


def small(side: int = 32, conditional: bool = False, coarsest: int = 8, channels: int = 2) -> LaplacianGame:
    torch.manual_seed(0)
    return LaplacianGame(
        Spec((channels, side, side), CLASSES),
        lambda spec: lapgan.CoarseGenerator(spec, 5, 7, conditional=conditional),
        lambda spec: lapgan.CoarseDiscriminator(spec, 6, 0.0, 0.1, conditional),
        lambda spec: lapgan.ResidualGenerator(spec, 3, conditional),
        lambda spec: lapgan.ResidualDiscriminator(spec, 4, 0.0, conditional),
        coarsest,
    )


def images(n: int = 6, side: int = 32, channels: int = 2) -> Tensor:
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(3)) * 2 - 1


def rounds(game: LaplacianGame, player: str = "discriminator") -> list[LevelRound]:
    """One round at each level, on the same data."""
    batch = Batch(images(side=game.spec.shape[-1], channels=game.spec.shape[0]), torch.arange(6) % 3)
    found: dict[int, LevelRound] = {}
    for seed in range(100):
        round = game.deal(Deal(6, lambda: batch, seed, torch.device("cpu"), player=player))
        found.setdefault(game.place(round.level), round)
    assert len(found) == len(game.levels)
    return [found[place] for place in range(len(found))]


def test_a_pyramid_can_be_undone_exactly() -> None:
    x = images().double()
    coarsest, residuals = x, []
    while coarsest.shape[-1] > 8:
        below = halved(coarsest)
        residuals.append(coarsest - doubled(below))
        coarsest = below
    assert [tuple(r.shape[-2:]) for r in residuals] == [(32, 32), (16, 16)] and coarsest.shape[-1] == 8
    for residual in reversed(residuals):
        coarsest = doubled(coarsest) + residual
    torch.testing.assert_close(coarsest, x, rtol=0, atol=1e-15)
    assert halved(torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])).item() == 3
    even = torch.full((1, 1, 4, 4), 0.7)
    assert torch.equal(doubled(even), torch.full((1, 1, 8, 8), 0.7)) and torch.equal(halved(even), even[..., :2, :2])
    torch.testing.assert_close(doubled(halved(x)).mean((2, 3)), x.mean((2, 3)))


def test_every_level_sees_the_data_at_its_size_and_its_own_coarse_versions() -> None:
    game, x = small(), images()
    first, second, third = rounds(game)
    assert isinstance(second, RefiningRound) and isinstance(third, RefiningRound)
    assert not isinstance(first, RefiningRound)
    assert torch.equal(third.reals, x) and torch.equal(second.reals, halved(x))
    assert torch.equal(first.reals, halved(halved(x)))
    assert torch.equal(third.coarse, doubled(halved(x)))
    for round, level in zip((second, third), game.games()[1:], strict=True):
        made = round.coarse + level.generator(round.z, round.coarse)
        torch.testing.assert_close(round.fakes, made)
        torch.testing.assert_close(round.fake.logits, level.discriminator(made).logits)
        torch.testing.assert_close(round.real.logits, level.discriminator(round.reals).logits)
        assert round.draw(4, torch.Generator().manual_seed(0)).shape == (4, *level.spec.shape)
    torch.testing.assert_close(third.judge(x, "reals").logits, third.real.logits)
    torch.testing.assert_close(second.judge(x, "reals").logits, second.real.logits)  # larger samples are reduced


def test_levels_are_equally_likely_and_follow_from_the_seed_alone() -> None:
    game = small()
    deal = Deal(6, lambda: Batch(images(), None), 0, torch.device("cpu"), player="generator")
    places = [game.place(game.deal(replace(deal, seed=seed)).level) for seed in range(600)]
    counts = torch.tensor(places).bincount(minlength=3)
    assert (counts - 200).abs().max() < 45
    assert places[:20] == [game.place(game.deal(replace(deal, seed=seed)).level) for seed in range(20)]


class Fixed(nn.Module):
    """A residual generator that adds a number of its own."""

    def __init__(self, spec: Spec, calls: list[tuple[int, Tensor, Tensor]]) -> None:
        super().__init__()
        self.side, self.calls = spec.shape[-1], calls
        self.latent_dim = self.side**2
        self.number = nn.Parameter(torch.tensor(float(self.side)))

    def forward(self, z: Tensor, coarse: Tensor) -> Tensor:
        self.calls.append((self.side, z, coarse))
        return self.number.expand_as(coarse)


def test_sampling_goes_down_the_levels_each_with_its_generator_and_latents() -> None:
    calls: list[tuple[int, Tensor, Tensor]] = []
    game = LaplacianGame(
        Spec((1, 32, 32)),
        lambda spec: lapgan.CoarseGenerator(spec, 5, 7),
        lambda spec: lapgan.CoarseDiscriminator(spec, 6),
        lambda spec: Fixed(spec, calls),
        lambda spec: lapgan.ResidualDiscriminator(spec, 4),
    )
    z = game.latents(3, torch.Generator().manual_seed(0))
    assert z.shape == (3, 5 + 16**2 + 32**2) and -1 <= z.min() < -0.9 < 0.9 < z.max() <= 1
    samples = game.sample(z)
    coarsest = game.games()[0].generator(z[:, :5])
    torch.testing.assert_close(samples, doubled(doubled(coarsest) + 16) + 32)
    assert [side for side, _, _ in calls] == [16, 32]
    assert torch.equal(calls[0][1], z[:, 5 : 5 + 16**2]) and torch.equal(calls[1][1], z[:, 5 + 16**2 :])
    torch.testing.assert_close(calls[1][2], doubled(doubled(coarsest) + 16))


@pytest.mark.parametrize("player", ["discriminator", "generator"])
@pytest.mark.parametrize("loss", [NonSaturating(), RelativisticAverage()])
def test_a_move_at_a_level_moves_that_level_alone(player: str, loss: Any) -> None:
    game = small()
    for place, round in enumerate(rounds(game, player)):
        game.zero_grad(set_to_none=True)
        Adversarial(loss, player)(round).backward()
        moved = [all(p.grad is not None for p in network.parameters()) for network in game.sides[player]]
        assert moved == [number == place for number in range(3)]
        others = [level for level in game.games() if level is not round.level]
        assert all(parameter.grad is None for level in others for parameter in level.parameters())


def test_the_loss_is_the_levels_own_by_hand() -> None:
    game = small()
    for round, level in zip(rounds(game), game.games(), strict=True):
        real, fake = level.discriminator(round.reals).logits, level.discriminator(round.fakes).logits
        by_hand = softplus(-real).mean() + softplus(fake).mean()
        torch.testing.assert_close(Adversarial(NonSaturating(), "discriminator")(round), by_hand)
        watching = replace(round.deal, watches=frozenset({"reals"}))
        again = type(round)(game, level, watching)
        x = level.shrunk(images()).requires_grad_(True)
        (slope,) = torch.autograd.grad(level.discriminator(x).logits.sum(), x)
        torch.testing.assert_close(R1()(again), 0.5 * slope.flatten(1).square().sum(1).mean())


def test_weights_are_those_of_all_levels_and_stand_ins_those_of_one() -> None:
    game = small()
    round = rounds(game)[1]
    weights = round.weights("discriminator")
    assert len(weights) == sum(len(list(network.parameters())) for network in game.sides["discriminator"])
    assert weights["1.head.weight"] is game.games()[1].discriminator.head.weight
    doubled_head = {**weights, "1.head.weight": 2 * weights["1.head.weight"], "0.head.weight": torch.zeros(1)}
    against = round.against(doubled_head)
    bias = game.games()[1].discriminator.head.bias
    torch.testing.assert_close(against.real.logits - bias, 2 * (round.real.logits - bias))
    assert against.weights("discriminator")["1.head.weight"] is doubled_head["1.head.weight"]
    history: Any = HistoricalAveraging("discriminator")
    for round in rounds(game):  # levels' weights have names of their own
        history(round), history.after_move(round, lambda name, value: None)
    assert history(round).item() == 0


def test_published_networks() -> None:
    """The published code's: 128 planes, 5x5 and 5x5 of stride 2; 7x7, 7x7, 5x5; 600 and 1,200 units."""
    spec, coarse = Spec((3, 32, 32)), Spec((3, 8, 8))
    convolutions = 3 * 25 * 128 + 128 + 128 * 25 * 128 + 128
    assert count_parameters(lapgan.ResidualDiscriminator(spec)) == convolutions + 128 * 12**2 + 1
    generator = 4 * 49 * 128 + 128 + 128 * 49 * 128 + 128 + 128 * 25 * 3 + 3
    assert count_parameters(lapgan.ResidualGenerator(spec)) == generator
    assert count_parameters(lapgan.CoarseDiscriminator(coarse)) == 192 * 600 + 600 + 600 * 601 + 601
    assert count_parameters(lapgan.CoarseGenerator(coarse)) == 101 * 1200 + 1201 * 1200 + 1201 * 192
    torch.manual_seed(0)
    for network, std in ((lapgan.CoarseDiscriminator(coarse), 0.005), (lapgan.CoarseGenerator(coarse), 0.05)):
        weights = torch.cat([p.flatten() for p in network.parameters() if p.ndim == 2])
        assert weights.std().item() == pytest.approx(std, rel=0.01)
    conditional = lapgan.ResidualGenerator(Spec((3, 32, 32), CLASSES), conditional=True)
    assert count_parameters(conditional) == generator + 49 * 128 + 4 * 32**2  # one more plane, made of the class


def test_class_conditional_levels_use_the_classes_asked_for() -> None:
    game = small(conditional=True)
    assert game.labelled and not small().labelled
    z = game.latents(2, torch.Generator().manual_seed(0))
    ones, twos = (game.sample(z, torch.full((2,), k)) for k in (1, 2))
    assert not torch.allclose(ones, twos) and torch.equal(ones, game.sample(z, torch.tensor([1, 1])))
    first, second, _ = rounds(game)
    assert torch.equal(second.asked, torch.arange(6) % 3)  # coarse images have classes
    assert len(first.asked) == 6 and first.real.logits.shape == second.fake.logits.shape == (6,)
    for round in (first, second):
        other = round.judge(round.reals, "reals", (torch.arange(6) + 1) % 3).logits
        assert not torch.allclose(other, round.real.logits)
    with pytest.raises(UserError, match="no class|classes"):
        game.sample(z)
    with pytest.raises(UserError, match="conditional=true needs data of 2 or more classes"):
        lapgan.ResidualGenerator(Spec((1, 16, 16)), conditional=True)


@pytest.mark.parametrize("coarsest", [32, 12, 1])
def test_impossible_pyramids_are_refused(coarsest: int) -> None:
    with pytest.raises(UserError, match=f"model.coarsest={coarsest}: must be a power of two, 2 to 16"):
        small(coarsest=coarsest)


def test_other_impossible_choices_are_refused() -> None:
    with pytest.raises(UserError, match="ResidualDiscriminator takes images of side 10 or more, not 8"):
        small(side=16, coarsest=4)
    with pytest.raises(UserError, match="trick replay keeps samples of one size, and LaplacianGame has several"):
        raise UserError(attempt("replay", game="lapgan"))
    with pytest.raises(UserError, match="some levels use classes, others do not"):
        LaplacianGame(
            Spec((1, 32, 32), CLASSES),
            lambda spec: lapgan.CoarseGenerator(spec, 5, 7, conditional=True),
            lambda spec: lapgan.CoarseDiscriminator(spec, 6, conditional=True),
            lambda spec: lapgan.ResidualGenerator(spec, 3),
            lambda spec: lapgan.ResidualDiscriminator(spec, 4),
        )


@pytest.mark.parametrize(
    "tricks",
    [("packing",), ("unrolled",), ("instance_noise", "top_k"), ("minibatch_discrimination", "apa"), ("spectral_norm",)],
)
def test_tricks_and_losses_act_at_each_level(tricks: tuple[str, ...]) -> None:
    assert not attempt(*tricks, game="lapgan", steps=6)


def trainer_of(composed: Callable[..., DictConfig], *lines: str) -> Trainer:
    settings = typed(
        composed(
            "model=lapgan", "schedule=constant", "schedule.images=600", "schedule.batch_size=6",
            "model.generator.width=2", "model.discriminator.width=2", "model.coarse_generator.width=4",
            "model.coarse_discriminator.width=4", *lines,
        )
    )  # fmt: skip
    random = torch.Generator().manual_seed(0)
    splits = [Split(torch.randint(256, (n, 1, 16, 16), dtype=torch.uint8, generator=random), torch.arange(n) % 3)
              for n in (60, 30)]  # fmt: skip
    dataset = Dataset("noise", Spec((1, 16, 16), CLASSES), *splits)
    return build_trainer(settings, build_game(settings, dataset.spec), dataset, FLOAT32)[0]


@pytest.mark.parametrize("classes", [[], ["conditioning=[native]"]])
def test_training_moves_all_levels_and_continues_bit_for_bit(
    classes: list[str], composed: Callable[..., DictConfig]
) -> None:
    whole, parts = trainer_of(composed, *classes), trainer_of(composed, *classes)
    start = {name: p.clone() for name, p in whole.game.named_parameters()}
    for _ in range(12):
        whole.step()
    assert all(not torch.equal(start[name], p) for name, p in whole.game.named_parameters())
    for _ in range(5):
        parts.step()
    again = trainer_of(composed, *classes)
    again.load_state_dict(parts.state_dict())
    for _ in range(7):
        again.step()
    assert isinstance(again.game, LaplacianGame) and all(isinstance(level, Level) for level in again.game.levels)
    pairs = zip(whole.game.state_dict().values(), again.game.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert again.images == 72


def test_a_level_learns_what_coarse_images_lack() -> None:
    """Light images are grainy, dark ones are not: how much noise becomes detail depends on the coarse image."""
    torch.manual_seed(0)
    game = LaplacianGame(
        Spec((1, 16, 16)),
        lapgan.CoarseGenerator,
        lapgan.CoarseDiscriminator,
        lambda spec: lapgan.ResidualGenerator(spec, 4),
        lambda spec: lapgan.ResidualDiscriminator(spec, 8, 0.0),
    )
    level = game.games()[1]
    light = torch.arange(32).view(-1, 1, 1, 1) % 2
    optimizers = {name: torch.optim.Adam(n[1].parameters(), 2e-3, (0.0, 0.9)) for name, n in game.sides.items()}
    sets = frozenset({"reals", "fakes"})
    for step in range(60):
        data = light - 0.5 + 0.5 * light * torch.randn(32, 1, 16, 16)
        deal = Deal(32, lambda data=data: Batch(data, None), step, torch.device("cpu"), watches=sets)
        for player, optimizer in optimizers.items():
            game.zero_grad(set_to_none=True)
            round = RefiningRound(game, level, deal)
            cost = Adversarial(RelativisticPairing(), player)(round)
            if player == "discriminator":
                cost = cost + 0.02 * (R1()(round) + R2()(round))
            cost.backward()
            optimizer.step()
    with torch.no_grad():
        flat = (light - 0.5).expand(-1, -1, 16, 16)
        made = level.refine(flat, level.latents(32, torch.Generator().manual_seed(0)), None)
    grain = (made - flat).flatten(1).std(1)
    assert 0.25 < grain[1::2].mean() < 0.7 and grain[::2].mean() < 0.12  # 0.5 and 0 in the data
