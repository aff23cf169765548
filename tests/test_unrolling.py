"""Unrolled GANs: gradients against finite differences of really training the discriminator, which stays as it is."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from gan_experiments.data.base import Batch, Spec, Split
from gan_experiments.errors import UserError
from gan_experiments.game import Deal, Term
from gan_experiments.games.noise import NoiseGame
from gan_experiments.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gan_experiments.networks.mlp import MLPDiscriminator, MLPGenerator
from gan_experiments.objectives.adversarial import Adversarial, NonSaturating
from gan_experiments.objectives.penalties import R1, GradientPenalty
from gan_experiments.players import Player, TunedOptimizer
from gan_experiments.runtime import Runtime
from gan_experiments.trainer import Trainer
from gan_experiments.trick import Trick
from gan_experiments.tricks.normalisation import ReferenceNorm
from gan_experiments.tricks.surgery import SpectralNorm
from gan_experiments.tricks.unrolling import Unrolled

CPU = torch.device("cpu")
Make = type[torch.optim.Optimizer]
ADAM = {"lr": 0.05, "betas": (0.5, 0.9)}


class DefaultDtype(Runtime):
    """Samples in torch's default dtype, so that finite differences can be taken in float64."""

    def layout(self, samples: Tensor) -> Tensor:
        return samples.to(torch.get_default_dtype())


def points_game(tricks: Sequence[Trick] = ()) -> NoiseGame:
    torch.manual_seed(0)
    return NoiseGame(
        Spec((2,)), lambda s: MLPGenerator(s, 2, [5], "tanh"), lambda s: MLPDiscriminator(s, [5], "tanh"), tricks
    )


def trainer_of(game: NoiseGame, make: Any, settings: dict[str, Any], extra: Sequence[Term] = ()) -> Trainer:
    players = []
    for name, modules in game.sides.items():
        terms = [Adversarial(NonSaturating(), name), *(term for term in extra if term.player == name)]
        parameters = [p for module in modules for p in module.parameters()]
        players.append(Player(name, modules, TunedOptimizer(make, parameters, settings, name), terms))
    data = torch.rand(32, *game.spec.shape) * 2 - 1
    split = Split(data.float() if data.ndim == 2 else (data * 127 + 127).to(torch.uint8))
    return Trainer(game, players, split, DefaultDtype(CPU, "float32", False, 1, False, True), 8, 50, 0)


def objective_after_training(trainer: Trainer, steps: int, batch: Tensor) -> float:
    """The generator's objective on a round, after the discriminator has really been trained on it."""
    world = copy.deepcopy(trainer)
    player = world.sides["discriminator"]
    deal = Deal(8, lambda: Batch(batch, None), 3, CPU)
    watches = frozenset(player.terms[-1].watches)
    for _ in range(steps):
        player.watch(True)
        round = world.game.deal(Deal(8, lambda: Batch(batch.clone(), None), 3, CPU, watches))
        cost = sum(term.weight(0, 1) * term(round) for term in player.terms)
        player.tuned.optimizer.zero_grad()
        cost.backward()
        player.watch(False)
        player.tuned.optimizer.step()
    round = world.game.deal(deal)
    return float(world.sides["generator"].terms[0](round).detach())


def unrolled_gradient(trainer: Trainer, steps: int, batch: Tensor) -> Tensor:
    trick, player = Unrolled(steps), trainer.sides["generator"]
    watches = trick.watches(trainer.sides, "generator")
    round = trainer.game.deal(Deal(8, lambda: Batch(batch.clone(), None), 3, CPU, watches, False, "generator"))
    player.watch(True)
    value = player.terms[0](trick.foresee(round, trainer.sides))
    gradients = torch.autograd.grad(value, player.parameters)
    player.watch(False)
    return torch.cat([gradient.flatten() for gradient in gradients])


@pytest.mark.parametrize(
    ("make", "settings", "extra"),
    [
        (torch.optim.SGD, {"lr": 0.5}, ()),
        (torch.optim.Adam, ADAM, ()),
        (torch.optim.Adam, ADAM, (R1(weight=2.0),)),
        (torch.optim.Adam, ADAM, (GradientPenalty(weight=2.0),)),
    ],
    ids=["sgd", "adam", "adam-r1", "adam-gp"],
)
def test_gradients_are_those_of_the_discriminator_really_trained_ahead(
    make: Make, settings: dict[str, Any], extra: Sequence[Term]
) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        game = points_game()
        game.double()
        trainer = trainer_of(game, make, {**settings, "fused": False} if make is torch.optim.Adam else settings, extra)
        trainer.step()  # Adam's averages are under way
        batch = torch.randn(8, 2)
        for steps in (1, 3):
            found = unrolled_gradient(trainer, steps, batch)
            place = 0
            for parameter in trainer.sides["generator"].parameters[:3]:
                flat, entry = parameter.data.view(-1), 1
                values = []
                for sign in (1, -1):
                    flat[entry] += sign * 1e-4
                    values.append(objective_after_training(trainer, steps, batch))
                    flat[entry] -= sign * 1e-4
                numeric = (values[0] - values[1]) / 2e-4
                assert found[place + entry].item() == pytest.approx(numeric, rel=2e-3, abs=2e-6)
                place += parameter.numel()
    finally:
        torch.set_default_dtype(torch.float32)


def test_simulated_weights_are_those_of_real_steps_with_spectral_norm() -> None:
    """Power iterations go on from step to step, and those of the discriminator itself stay."""
    torch.set_default_dtype(torch.float64)
    try:
        game = points_game([named(SpectralNorm(["discriminator"]), "sn")]).double()
        trainer = trainer_of(game, torch.optim.Adam, {**ADAM, "fused": False})
        trainer.step()
        batch, buffers = torch.randn(8, 2), copy.deepcopy(dict(game.discriminator.named_buffers()))
        round = game.deal(Deal(8, lambda: Batch(batch.clone(), None), 3, CPU, player="generator"))
        later = Unrolled(4).foresee(round, trainer.sides)
        assert all(torch.equal(value, buffers[name]) for name, value in game.discriminator.named_buffers())
        value = trainer.sides["generator"].terms[0](later)
        assert value.item() == pytest.approx(objective_after_training(trainer, 4, batch), abs=1e-12)
    finally:
        torch.set_default_dtype(torch.float32)


def normed(norm: str, *more: Trick) -> NoiseGame:
    return NoiseGame(
        Spec((1, 16, 16)), lambda s: DCGANGenerator(s, 3, 4), lambda s: DCGANDiscriminator(s, 4, norm=norm),
        [named(Unrolled(1)), *more],
    )  # fmt: skip


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_slopes_through_norms_that_torch_differentiates_twice_only_are_refused(norm: str) -> None:
    with pytest.raises(UserError, match="trick unrolled .* r1 .*model.discriminator.norm=none or layer") as error:
        trainer_of(normed(norm), torch.optim.Adam, ADAM, [named_term(R1())])
    assert "\n" not in str(error.value)
    trainer_of(normed(norm), torch.optim.Adam, ADAM)
    trainer_of(normed(norm), torch.optim.Adam, ADAM, [named_term(R1(every=2))])  # lazy terms are not simulated


@pytest.mark.parametrize("norm", ["none", "layer", "virtual"])
def test_slopes_through_other_norms_are_unrolled(norm: str) -> None:
    virtual = [named(ReferenceNorm(["discriminator"], 4), "virtual_batch_norm")] if norm == "virtual" else []
    game = normed("batch" if virtual else norm, *virtual)
    trainer = trainer_of(game, torch.optim.Adam, ADAM, [named_term(R1())])
    trainer.move(trainer.sides["generator"])
    assert all(p.isfinite().all() for p in game.parameters())


def named_term(term: Term) -> Term:
    term.name = "r1"
    return term


def test_no_steps_are_the_ordinary_game() -> None:
    plain, unrolled = points_game(), points_game([named(Unrolled(0))])
    runs = [trainer_of(game, torch.optim.Adam, ADAM) for game in (plain, unrolled)]
    for run in runs:
        run.data = runs[0].data
        run.step()
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), unrolled.parameters(), strict=True))


def named(trick: Trick, name: str = "unrolled") -> Trick:
    trick.name = name
    return trick


def test_the_discriminator_is_what_it_was_bit_for_bit() -> None:
    """Parameters, batch norm's statistics, power iterations and the optimizer's averages."""
    torch.manual_seed(0)
    game = NoiseGame(
        Spec((1, 16, 16)), lambda s: DCGANGenerator(s, 3, 4), lambda s: DCGANDiscriminator(s, 4),
        [named(Unrolled(3)), named(SpectralNorm(["discriminator"]), "sn")],
    )  # fmt: skip
    trainer = trainer_of(game, torch.optim.Adam, ADAM)
    trainer.step()
    discriminator = trainer.sides["discriminator"]
    before = copy.deepcopy((game.discriminator.state_dict(), discriminator.tuned.optimizer.state_dict()["state"]))
    generator = [p.clone() for p in game.generator.parameters()]
    trainer.move(trainer.sides["generator"])
    after = (game.discriminator.state_dict(), discriminator.tuned.optimizer.state_dict()["state"])
    assert all(torch.equal(before[0][name], after[0][name]) for name in before[0])
    assert all(
        torch.equal(torch.as_tensor(a), torch.as_tensor(after[1][key][name]))
        for key, state in before[1].items()
        for name, a in state.items()
    )
    assert not all(torch.equal(a, b) for a, b in zip(generator, game.generator.parameters(), strict=True))
    assert all(p.grad is None or not p.requires_grad for p in game.discriminator.parameters())


@pytest.mark.parametrize(
    ("make", "settings", "said"),
    [
        (torch.optim.RMSprop, {"lr": 0.1}, "RMSprop; it can simulate Adam and SGD"),
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}, "SGD with momentum"),
        (torch.optim.Adam, {"lr": 0.1, "weight_decay": 0.1}, "Adam with weight_decay"),
    ],
)
def test_what_cannot_be_simulated_is_refused(make: Make, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=f"trick unrolled.*{said}"):
        trainer_of(points_game([named(Unrolled(2))]), make, settings)
    with pytest.raises(UserError, match="steps=-1"):
        Unrolled(-1)
