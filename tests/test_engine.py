"""The engine against hand-written steps: gradients, who moves, what is computed, where randomness comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from gan_experiments.curves import Linear
from gan_experiments.data.base import Batch, Spec, Split
from gan_experiments.errors import NonFinite, UserError
from gan_experiments.game import Game, Round, Term, Verdict
from gan_experiments.games.noise import NoiseGame
from gan_experiments.meter import Meter
from gan_experiments.metrics.extractors import Extractor, Features
from gan_experiments.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gan_experiments.networks.mlp import MLPDiscriminator, MLPGenerator
from gan_experiments.objectives.adversarial import Adversarial, Loss, NonSaturating, Wasserstein
from gan_experiments.objectives.penalties import R1, R2, GradientPenalty
from gan_experiments.observers.clipping import WeightClipping
from gan_experiments.observers.diagnostics import Diagnostics
from gan_experiments.observers.ema import Ema
from gan_experiments.players import Player, TunedOptimizer
from gan_experiments.runtime import Runtime
from gan_experiments.trainer import Observer, Trainer

FLOAT32 = Runtime(torch.device("cpu"), "float32", False, 1, False, True)
BATCH = 8


def points_game() -> NoiseGame:
    torch.manual_seed(3)
    spec = Spec((2,))
    return NoiseGame(spec, lambda s: MLPGenerator(s, 4, [16]), lambda s: MLPDiscriminator(s, [16]))


def image_game() -> NoiseGame:
    """With batch norm on both sides, where an extra forward pass would leave a trace."""
    torch.manual_seed(3)
    spec = Spec((1, 8, 8))
    return NoiseGame(spec, lambda s: DCGANGenerator(s, 4, 4), lambda s: DCGANDiscriminator(s, 4, norm="batch"))


def data(game: Game) -> Split:
    generator = torch.Generator().manual_seed(0)
    if game.spec.is_image:
        return Split(torch.randint(0, 256, (64, *game.spec.shape), dtype=torch.uint8, generator=generator))
    return Split(torch.randn(64, *game.spec.shape, generator=generator))


def make_trainer(
    game: NoiseGame,
    extra: Sequence[Term] = (),
    observers: Sequence[Observer] = (),
    loss: Loss | None = None,
    moves: int = 1,
    optimizer: dict[str, Any] | None = None,
) -> Trainer:
    loss = loss or NonSaturating()
    settings = {"lr": 1e-2, "betas": (0.5, 0.9), **(optimizer or {})}
    players = []
    for name, modules in game.sides.items():
        terms: list[Term] = [Adversarial(loss, name), *(term for term in extra if term.player == name)]
        tuned = TunedOptimizer(torch.optim.Adam, [p for m in modules for p in m.parameters()], settings, name)
        players.append(Player(name, modules, tuned, terms, moves if name == "discriminator" else 1))
    return Trainer(game, players, data(game), FLOAT32, BATCH, 100, seed=7, observers=observers)


def named(term: Term, name: str) -> Term:
    term.name = name
    return term


class Spy(Observer):
    """Keeps what every move saw and the gradients it left."""

    def __init__(self) -> None:
        self.rounds: list[tuple[str, Any]] = []
        self.gradients: list[list[Tensor]] = []

    def after_move(self, trainer: Trainer, player: Player, round: Round) -> None:
        self.rounds.append((player.name, round))
        self.gradients.append([p.grad.clone() for p in player.parameters if p.grad is not None])


def snapshot(module: nn.Module) -> list[Tensor]:
    return [tensor.clone() for tensor in (*module.parameters(), *module.buffers())]


def same(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_gradients_equal_a_handwritten_detach_step_bit_for_bit() -> None:
    spy = Spy()
    trainer = make_trainer(points_game(), [named(R1(weight=5.0), "r1")], [spy])
    by_hand = points_game()
    trainer.step()
    (_, d_round), (_, g_round) = spy.rounds

    reals = d_round.reals.detach().requires_grad_(True)
    with torch.no_grad():
        fakes = by_hand.generator(d_round.z)
    real, fake = by_hand.discriminator(reals).logits, by_hand.discriminator(fakes.detach()).logits
    (slope,) = torch.autograd.grad(real.sum(), reals, create_graph=True)
    cost = softplus(-real).mean() + softplus(fake).mean() + 5.0 * (0.5 * slope.flatten(1).square().sum(1).mean())
    expected = torch.autograd.grad(cost, list(by_hand.discriminator.parameters()), allow_unused=True)
    assert same(spy.gradients[0], [gradient for gradient in expected if gradient is not None])

    optimizer = torch.optim.Adam(by_hand.discriminator.parameters(), lr=1e-2, betas=(0.5, 0.9), fused=True)
    for parameter, gradient in zip(by_hand.discriminator.parameters(), expected, strict=True):
        parameter.grad = gradient
    optimizer.step()
    cost = softplus(-by_hand.discriminator(by_hand.generator(g_round.z)).logits).mean()
    assert same(spy.gradients[1], torch.autograd.grad(cost, list(by_hand.generator.parameters())))


@pytest.mark.parametrize("make", [points_game, image_game])
def test_only_the_movers_parameters_change_and_require_gradients(make: Any) -> None:
    trainer = make_trainer(make())
    for player, other in (trainer.players, trainer.players[::-1]):
        before = {p.name: [q.clone() for q in p.parameters] for p in trainer.players}
        trainer.move(player)
        assert not same(before[player.name], player.parameters)
        assert same(before[other.name], other.parameters)
        assert all(parameter.grad is None for parameter in other.parameters) or other is trainer.players[0]
        assert not any(parameter.requires_grad for parameter in trainer.game.parameters())


def count_calls(trainer: Trainer) -> dict[str, int]:
    calls = {"generator": 0, "discriminator": 0}

    def count(name: str) -> Any:
        def hook(*_: Any) -> None:
            calls[name] += 1

        return hook

    for name in calls:
        getattr(trainer.game, name).register_forward_hook(count(name))
    trainer.step()
    return calls


def test_networks_are_called_no_more_often_than_needed() -> None:
    assert count_calls(make_trainer(points_game())) == {"generator": 2, "discriminator": 3}
    with_r1 = make_trainer(points_game(), [named(R1(), "r1"), named(R2(), "r2")])
    assert count_calls(with_r1) == {"generator": 2, "discriminator": 3}
    critic = make_trainer(points_game(), [named(GradientPenalty(), "gp")], loss=Wasserstein(), moves=5)
    assert count_calls(critic) == {"generator": 6, "discriminator": 16}


class NeedsCode(Term):
    """A term of another family."""

    needs = ("code", "fake")

    def __call__(self, round: Round) -> Tensor:
        raise AssertionError("never called")


class NeedsLabels(Term):
    """A term that reads labels."""

    needs = ("labels",)

    def __call__(self, round: Round) -> Tensor:
        raise AssertionError("never called")


def test_an_unmet_need_is_refused_at_build_with_names() -> None:
    with pytest.raises(UserError, match=r"generator/info \(NeedsCode\) needs code, which NoiseGame does not"):
        make_trainer(points_game(), [named(NeedsCode("generator"), "info")])
    with pytest.raises(UserError, match="needs labels"):
        make_trainer(points_game(), [named(NeedsLabels("discriminator"), "aux")])


class Curious(Term):
    """Reads everything and draws numbers of its own."""

    needs = ("real", "fake", "interpolates")

    def __call__(self, round: Any) -> Tensor:
        noise = torch.randn(3) + torch.randn(3, generator=round.deal.random("curious"))
        return round.real.logits.mean() + round.judge(round.interpolates, "interpolates").logits.mean() + noise.sum()


def normalised_game() -> NoiseGame:
    """Spectrally normalised, where reading a weight in training mode would move its power iteration."""
    torch.manual_seed(3)
    sizes = {"latent_dim": 4, "width": 4, "spectral_norm": True}
    spec = Spec((1, 8, 8))
    return NoiseGame(
        spec, lambda s: DCGANGenerator(s, **sizes), lambda s: DCGANDiscriminator(s, 4, norm="none", spectral_norm=True)
    )


class Brightness(Extractor):
    """Two classes of images, dark and bright."""

    def extract(self, images: Tensor) -> Features:
        mean = images.float().mean((1, 2, 3))
        return Features(mean[:, None], torch.stack([127.5 - mean, mean - 127.5], 1))


@pytest.mark.parametrize("make", [points_game, image_game, normalised_game])
def test_logging_terms_and_diagnostics_do_not_change_a_bit(make: Any) -> None:
    classifier = Brightness("brightness", "", 1, 2, "none").freeze() if make().spec.is_image else None
    plain, watched = (
        make_trainer(make()),
        make_trainer(
            make(),
            [named(Curious(name, weight=0), f"c{name}") for name in ("generator", "discriminator")]
            + [named(R1(weight=0), "r1"), named(GradientPenalty(weight=0.0), "gp")],
            [Diagnostics(data(make()), BATCH, 1, BATCH, classifier, singular_values=2)],
        ),
    )
    for trainer in (plain, watched):
        for _ in range(4):
            trainer.step()
    assert same(snapshot(plain.game), snapshot(watched.game))
    assert {"discriminator/r1", "discriminator/gp", "generator/cgenerator", "slope/reals"} <= set(watched.meter.sums)
    assert {"logits/held_out", "overfitting/r_t", "diversity/batch"} <= set(watched.meter.sums)
    assert any(name.startswith("singular/generator/") for name in watched.meter.sums)
    assert ("diversity/class_entropy" in watched.meter.sums) == make().spec.is_image
    assert "discriminator/r1" not in plain.meter.sums


def test_lazy_terms_count_as_often_as_they_are_left_out() -> None:
    every, lazy = Spy(), Spy()
    first = make_trainer(points_game(), [named(R1(weight=6.0), "r1")], [every])
    second = make_trainer(points_game(), [named(R1(weight=2.0, every=3), "r1")], [lazy])
    first.step(), second.step()
    assert same(every.gradients[0], lazy.gradients[0])
    second.step()
    assert second.meter.counts["discriminator/r1"] == 1


def test_weights_follow_curves() -> None:
    ramp, fixed = Spy(), Spy()
    first = make_trainer(points_game(), [named(R1(weight=Linear(0.0, 8.0, over=2 * BATCH)), "r1")], [ramp])
    second = make_trainer(points_game(), [], [fixed])
    first.step(), second.step()
    torch.testing.assert_close(ramp.gradients[0], fixed.gradients[0])
    weight = first.players[0].terms[1].weight
    assert [weight(t, 0) for t in (0, BATCH, 2 * BATCH)] == [0.0, 4.0, 8.0]


def test_learning_rates_and_betas_follow_curves() -> None:
    trainer = make_trainer(points_game(), optimizer={"lr": Linear(1e-2, 0.0), "betas": [0.0, Linear(0.9, 0.99)]})
    trainer.step(), trainer.step()
    group = trainer.players[0].tuned.optimizer.param_groups[0]
    assert group["lr"] == pytest.approx(1e-2 * 0.99)
    assert group["betas"] == (0.0, pytest.approx(0.9 + 0.09 * 0.01))
    with pytest.raises(UserError, match="Adam takes no momentum"):
        make_trainer(points_game(), optimizer={"momentum": 0.9})


def test_each_move_has_batch_and_latents_of_its_own() -> None:
    spy = Spy()
    trainer = make_trainer(points_game(), observers=[spy], moves=2)
    trainer.step()
    (_, first), (_, second), (name, third) = spy.rounds
    assert name == "generator"
    for field in ("z", "reals"):
        a, b, c = (getattr(round, field) for round in (first, second, third))
        assert not torch.equal(a, b) and not torch.equal(a, c)
    seen = torch.cat([first.reals, second.reals])
    assert len(seen.unique(dim=0)) == 2 * BATCH  # no sample twice within an epoch
    assert trainer.images == 2 * BATCH


def test_weight_clipping_after_each_move_of_the_discriminator() -> None:
    trainer = make_trainer(points_game(), observers=[WeightClipping(0.01)], loss=Wasserstein())
    trainer.step()
    assert max(float(p.abs().max()) for p in trainer.players[0].parameters) <= 0.01
    assert max(float(p.abs().max()) for p in trainer.players[1].parameters) > 0.01
    with pytest.raises(UserError, match="limit"):
        WeightClipping(0)


def test_average_halves_the_distance_every_half_life() -> None:
    game = image_game()
    ema = Ema(game, half_life=4 * BATCH)
    trainer = make_trainer(game)
    start = [p.clone() for p in game.generator.parameters()]
    with torch.no_grad():
        for parameter in game.generator.parameters():
            parameter.add_(1.0)
        game.generator.levels[0][2].running_mean.fill_(5.0)  # type: ignore[index, operator, union-attr]
    for _ in range(4):
        ema.after_step(trainer)
    with ema.applied():
        for parameter, before in zip(game.generator.parameters(), start, strict=True):
            torch.testing.assert_close(parameter.detach(), before + 0.5)
        assert game.generator.levels[0][2].running_mean.unique() == 5.0  # type: ignore[index, union-attr]
    for parameter, before in zip(game.generator.parameters(), start, strict=True):
        torch.testing.assert_close(parameter.detach(), before + 1.0)


def test_average_with_half_life_zero_copies_and_buffers_can_be_averaged() -> None:
    game = image_game()
    copy, smooth = Ema(game, half_life=0), Ema(game, half_life=BATCH, buffers="average")
    with torch.no_grad():
        for parameter in game.generator.parameters():
            parameter.mul_(3.0)
        game.generator.levels[0][2].running_mean.fill_(5.0)  # type: ignore[index, operator, union-attr]
    trainer = make_trainer(game)
    copy.after_step(trainer), smooth.after_step(trainer)
    live = snapshot(game.generator)
    with copy.applied():
        assert same(snapshot(game.generator), live)
    with smooth.applied():
        assert game.generator.levels[0][2].running_mean.unique() == 2.5  # type: ignore[index, union-attr]
    with pytest.raises(UserError, match="buffers"):
        Ema(game, 0, "sometimes")


def test_nan_names_the_term_and_the_step() -> None:
    class Poison(Term):
        def __call__(self, round: Round) -> Tensor:
            return torch.zeros(()) / (0.0 if self.calls == 2 else 1.0) + self.tick()

        calls = 0

        def tick(self) -> float:
            self.calls += 1
            return 0.0

    trainer = make_trainer(points_game(), [named(Poison("generator"), "poison")])
    for _ in range(5):
        trainer.step()
    with pytest.raises(NonFinite, match="generator/poison became NaN or infinite at step 2"):
        trainer.meter.drain()


def test_meter_gives_means_and_starts_again() -> None:
    meter = Meter(torch.device("cpu"), str)
    for value in (1.0, 3.0):
        meter.add("a/b", torch.tensor(value), 0)
    assert meter.drain() == {"a/b": 2.0}
    assert meter.drain() == {}


def test_gradient_norm_is_the_norm_of_all_gradients() -> None:
    spy = Spy()
    trainer = make_trainer(points_game(), observers=[spy])
    trainer.step()
    flat = torch.cat([gradient.flatten() for gradient in spy.gradients[0]])
    assert trainer.meter.sums["discriminator/gradient_norm"].item() == pytest.approx(flat.norm().item(), rel=1e-5)


def test_batches_reach_the_networks_as_floats_in_the_unit_range() -> None:
    spy = Spy()
    trainer = make_trainer(image_game(), observers=[spy])
    trainer.step()
    batch: Batch = spy.rounds[0][1].batch
    assert batch.samples.dtype == torch.float32
    assert -1 <= float(batch.samples.min()) < float(batch.samples.max()) <= 1
    assert isinstance(spy.rounds[0][1].real, Verdict)


def test_slopes_in_reduced_precision_are_float32_and_close() -> None:
    slopes = []
    for precision, exact in (("float32", True), ("bfloat16", True), ("bfloat16", False)):
        game = image_game()
        game.discriminator = DCGANDiscriminator(game.spec, 4, norm="none").requires_grad_(False)
        torch.manual_seed(1)
        for parameter in game.discriminator.parameters():
            nn.init.normal_(parameter, 0, 0.1)
        trainer = make_trainer(game)
        trainer.runtime = Runtime(torch.device("cpu"), precision, False, 1, False, exact)
        round = trainer.deal(trainer.players[0], [named(R1(), "r1")])
        with trainer.runtime.autocast():
            slopes.append(round.slope("reals").detach())
    assert slopes[1].dtype == torch.float32
    torch.testing.assert_close(slopes[1], slopes[0], rtol=1e-5, atol=1e-7)
    assert not torch.equal(slopes[2], slopes[0])
    torch.testing.assert_close(slopes[2], slopes[0], rtol=0.1, atol=0.02)


def test_float16_scales_each_players_loss_apart_and_skips_overflows() -> None:
    half = Runtime(torch.device("cpu"), "float16", False, 1, False, True)
    spies = Spy(), Spy()
    exact = make_trainer(points_game(), [named(R1(weight=5.0), "r1")], [spies[0]])
    scaled = make_trainer(points_game(), [named(R1(weight=5.0), "r1")], [spies[1]])
    scaled.runtime = half
    scaled.scalers = {player.name: half.scaler() for player in scaled.players}
    exact.step(), scaled.step()
    for ours, theirs in zip(spies[1].gradients[0], spies[0].gradients[0], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0.02, atol=2e-3)
    first, second = (scaled.scalers[name] for name in ("discriminator", "generator"))
    assert first is not None and second is not None and first is not second

    before = [p.clone() for p in scaled.players[0].parameters]
    first.load_state_dict({**first.state_dict(), "scale": 2.0**120})
    scaled.move(scaled.players[0])
    assert same(before, scaled.players[0].parameters)  # an overflow moves nothing
    assert first.get_scale() == 2.0**119 and second.get_scale() == 2.0**16
    scaled.meter.check()  # and is not an error


def test_deterministic_mode_trains_image_games() -> None:
    from gan_experiments import runtime as machine
    from gan_experiments.schema import RuntimeConfig

    chosen = machine.choose(RuntimeConfig(device="cpu", precision="bfloat16", deterministic=True, threads=1), True)
    ends = []
    for _ in range(2):
        trainer = make_trainer(image_game(), [named(GradientPenalty(), "gp")])
        trainer.runtime = chosen
        with machine.applied(chosen):
            trainer.step(), trainer.step()
        ends.append(snapshot(trainer.game))
    assert same(*ends)


class Threshold(nn.Module):
    """A discriminator of points whose logit is three times the first coordinate."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, samples: Tensor) -> Verdict:
        return Verdict(self.scale * samples[:, 0])


class Fixed(nn.Module):
    """A generator whose samples all lie at (-2, 0), or with `right` at (2, 0)."""

    latent_dim = 1

    def __init__(self, right: bool) -> None:
        super().__init__()
        self.point = nn.Parameter(torch.tensor([2.0 if right else -2.0, 0.0]))

    def forward(self, z: Tensor) -> Tensor:
        return self.point.expand(len(z), 2)


@pytest.mark.parametrize("fooled", [False, True])
def test_diagnostics_tell_training_held_out_and_generated_samples_apart(fooled: bool) -> None:
    game = NoiseGame(Spec((2,)), lambda s: Fixed(fooled), lambda s: Threshold())
    held_out = Split(torch.tensor([[-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]]))
    trainer = make_trainer(game, optimizer={"lr": 0.0})
    trainer.data = Split(torch.tensor([[1.0, 0.0]]).repeat(64, 1))
    trainer.observers = [Diagnostics(held_out, every=BATCH, seed=0, batch_size=4)]
    trainer.step()
    found = trainer.meter.drain()
    assert found["accuracy/train"] == 1.0
    assert found["accuracy/held_out"] == 0.25
    assert found["accuracy/generated"] == (0.0 if fooled else 1.0)
    assert found["discriminator/probability_real"] == pytest.approx(1 / (1 + 2.718281828**-3), rel=1e-4)
    assert found["discriminator/probability_fake"] == pytest.approx(
        1 / (1 + 2.718281828 ** (-6 if fooled else 6)), rel=1e-3
    )
    assert found["slope/reals"] == found["slope/fakes"] == pytest.approx(3.0)
