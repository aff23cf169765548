"""Lazy penalties: joined to a move, or as updates of their own with corrected rates (StyleGAN2)."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from gan_experiments.curves import Linear
from gan_experiments.data.base import Split
from gan_experiments.errors import UserError
from gan_experiments.game import Round
from gan_experiments.objectives.outputs import LeCam
from gan_experiments.objectives.penalties import R1, R2
from gan_experiments.objectives.weights import HistoricalAveraging
from gan_experiments.observers.diagnostics import Diagnostics
from gan_experiments.players import Player, TunedOptimizer, lazy_correction
from gan_experiments.trainer import Observer, Trainer
from gan_experiments.tricks.adaptive import PseudoReals
from gan_experiments.tricks.samples import Replay
from given import BATCH, differing, trainer_of

EVERY = "regularizer.r1.every=3"
SEPARATE = "schedule.discriminator.lazy=separate"


def lazy(*lines: str) -> Trainer:
    """A run with R1 every third move, in updates of its own."""
    return trainer_of("points", ["regularizer/r1"], EVERY, SEPARATE, *lines)


@pytest.mark.parametrize(
    ("every", "lr", "corrected", "beta", "corrected_beta"),
    [(16, 0.0025, 0.00235294, 0.99, 0.99058546), (4, 0.0025, 0.002, 0.99, 0.99199197)],
)
def test_rates_are_corrected_for_the_extra_updates(
    every: int, lr: float, corrected: float, beta: float, corrected_beta: float
) -> None:
    c = lazy_correction([R1(every=every), R2(), R2(weight=0, every=5)], "schedule.discriminator")
    assert c == every / (every + 1)
    weight = [torch.nn.Parameter(torch.zeros(1))]
    for settings in ({"lr": lr, "betas": (0.5, beta)}, {"lr": Linear(lr, lr), "betas": [0.5, Linear(beta, beta)]}):
        tuned = TunedOptimizer(torch.optim.Adam, weight, settings, "here", correction=c)
        tuned.set(50, 100)
        (group,) = tuned.optimizer.param_groups
        assert group["lr"] == pytest.approx(corrected, abs=1e-8)
        assert group["betas"] == (pytest.approx(0.5**c), pytest.approx(corrected_beta, abs=1e-8))
    assert lazy_correction([R1(), R2()], "here") == 1.0


def test_different_intervals_are_refused() -> None:
    options, lines = ["regularizer/r1", "regularizer/r2"], ("regularizer.r1.every=4", "regularizer.r2.every=8")
    with pytest.raises(UserError, match=r"schedule.discriminator.lazy=separate: .* different intervals \[4, 8\]"):
        trainer_of("points", options, *lines, SEPARATE)
    trainer_of("points", options, *lines)


def weights(trainer: Trainer) -> list[Tensor]:
    return [p.detach().clone() for p in trainer.sides["discriminator"].parameters]


def test_the_penalty_has_an_update_of_its_own_by_the_same_optimizer() -> None:
    trainer = lazy("regularizer.r1.weight=2")
    player = trainer.sides["discriminator"]
    assert [[term.name for term in terms] for terms in player.due()] == [["adversarial"], ["r1"]]
    reference = lazy("regularizer.r1.weight=2")
    mirror = reference.sides["discriminator"]

    # By hand: one Adam step on the loss, one on 3 * 2 * R1 at new latents, with lr and betas of c = 3/4.
    adam = torch.optim.Adam(mirror.parameters, lr=0.75 * 2e-4, betas=(0.5**0.75, 0.999**0.75))
    for number, terms in enumerate(mirror.due()):
        mirror.watch(True)
        round = reference.deal(mirror, terms, number)
        value = 6 * terms[0](round) if number else terms[0](round)
        adam.zero_grad()
        value.backward()
        mirror.watch(False)
        adam.step()
    trainer.move(player)
    for ours, theirs in zip(player.parameters, mirror.parameters, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
    assert {int(value["step"]) for value in player.tuned.optimizer.state.values()} == {1, 2}  # R1 leaves biases alone
    assert player.move_count == 1


def test_between_penalties_there_is_one_update() -> None:
    trainer = lazy()
    player = trainer.sides["discriminator"]
    lengths = []
    for _ in range(7):
        lengths.append(len(player.due()))
        trainer.move(player)
    assert lengths == [2, 1, 1, 2, 1, 1, 2]
    assert trainer.meter.counts["discriminator/r1"] == 3
    assert trainer.meter.counts["discriminator/adversarial"] == 7


def test_second_update_moves_and_draws_latents_of_its_own() -> None:
    separate, joined = lazy(), lazy("schedule.discriminator.lazy=joined")
    player = separate.sides["discriminator"]
    rounds = [separate.deal(player, terms, number) for number, terms in enumerate(player.due())]
    assert torch.equal(rounds[0].reals, rounds[1].reals)
    assert not torch.equal(rounds[0].latents, rounds[1].latents)
    before = weights(separate)
    separate.move(player), joined.move(joined.sides["discriminator"])
    assert not all(torch.equal(a, b) for a, b in zip(before, weights(separate), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(weights(joined), weights(separate), strict=True))


@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_separate_updates_resume_exactly(stop: int) -> None:
    through, again = (lazy() for _ in range(2))
    for _ in range(stop):
        through.step()
    again.load_state_dict(copy.deepcopy(through.state_dict()))
    for _ in range(3):
        through.step(), again.step()
    assert differing(through, again) == []


def test_simultaneous_moves_with_updates_of_their_own_are_refused() -> None:
    with pytest.raises(UserError, match="schedule.simultaneous=true: .*lazy=joined"):
        lazy("schedule.simultaneous=true")


# what counts moves counts a move once, however many updates it takes


@pytest.mark.parametrize(
    "lines",
    [
        (),
        (SEPARATE,),
        (SEPARATE, "schedule.discriminator.moves=2", "schedule.generator.moves=3"),
        ("schedule.simultaneous=true",),
    ],
)
@pytest.mark.parametrize("further", [[], ["trick/unrolled"]])
def test_an_adaptive_probability_follows_the_real_images_seen(further: list[str], lines: tuple[str, ...]) -> None:
    options = ["trick/apa", "regularizer/r1", *further]
    settings = ["trick.apa.length=1000", "trick.apa.target=-0.999", "trick.apa.interval=2", "regularizer.r1.every=2"]
    trainer = trainer_of("points", options, *settings, *lines)
    for _ in range(12):
        trainer.step()
    assert trainer.images in (12 * BATCH, 24 * BATCH)
    trick = trainer.game.tricks["apa"]
    assert isinstance(trick, PseudoReals)
    assert float(trick.probability) == pytest.approx(trainer.images / 1000, rel=1e-5)


def test_a_pool_takes_in_one_batch_a_move() -> None:
    settings = ("trick.replay.size=1000", "regularizer.r2.every=2", SEPARATE)
    trainer = trainer_of("points", ["trick/replay", "regularizer/r2"], *settings)
    pool = trainer.game.tricks["replay"]
    assert isinstance(pool, Replay)
    for moves in range(1, 6):
        trainer.step()
        assert int(pool.filled) == moves * BATCH
    kept = pool.pool.clone()
    player = trainer.sides["discriminator"]
    shown = trainer.deal(player, player.terms, 1).fakes  # type: ignore[attr-defined]
    assert shown.shape == (BATCH, 2) and torch.equal(pool.pool, kept)


def test_terms_with_a_history_count_moves_in_which_they_are_not_due() -> None:
    options = ["regularizer/lecam", "regularizer/historical_averaging", "regularizer/r1"]
    settings = [f"regularizer.{name}.every=3" for name in ("lecam", "historical_averaging_discriminator", "r1")]
    every, lazily = (trainer_of("points", options, *lines) for lines in (settings[-1:], [*settings, SEPARATE]))
    for trainer in (every, lazily):
        for _ in range(5):
            trainer.step()
        terms = {term.name: term for term in trainer.sides["discriminator"].terms}
        lecam, history = terms["lecam"], terms["historical_averaging_discriminator"]
        assert isinstance(lecam, LeCam) and isinstance(history, HistoricalAveraging)
        assert lecam.mass == pytest.approx(1 - 0.99**5) and history.count == 5


def test_records_of_moves_and_clipping_of_updates() -> None:
    class Counter(Observer):
        def __init__(self) -> None:
            self.updates, self.moves, self.largest = 0, 0, 0.0

        def after_update(self, trainer: Trainer, player: Player) -> None:
            if player.name == "discriminator":
                self.updates += 1
                self.largest = max(self.largest, *(float(p.abs().max()) for p in player.parameters))

        def after_move(self, trainer: Trainer, player: Player, round: Round) -> None:
            self.moves += player.name == "discriminator"

    trainer, counter = lazy("regularizer.clip._target_=gan_experiments.observers.clipping.WeightClipping"), Counter()
    trainer.observers += [counter, Diagnostics(Split(torch.randn(16, 2)), 10**9, 0, BATCH)]
    for _ in range(7):
        trainer.step()
    assert (counter.updates, counter.moves, trainer.meter.counts["accuracy/train"]) == (10, 7, 7)
    assert counter.largest <= 0.01 + 1e-9
