"""The variational discriminator bottleneck: closed forms, whose codes are noisy, and where it fits."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.game import Verdict
from gan_experiments.networks.mlp import MLPDiscriminator
from gan_experiments.objectives.bottleneck import VariationalBottleneck as Objective
from gan_experiments.objectives.bottleneck import kl_to_standard_normal
from gan_experiments.trainer import Trainer
from gan_experiments.tricks.bottleneck import Bottleneck, Noise
from gan_experiments.tricks.bottleneck import VariationalBottleneck as Layers
from given import KINDS, Given, differing, ignored, named, trainer_of

VDB = "regularizer/variational_bottleneck"


def codes(mean: list[float], sigma: list[float]) -> Verdict:
    log_variance = torch.tensor([sigma]).square().log()
    return Verdict(torch.zeros(1), (), {"code_mean": torch.tensor([mean]), "code_log_variance": log_variance})


WIDE, PRIOR = codes([1.0, -1.0], [0.5, 2.0]), codes([0.0, 0.0], [1.0, 1.0])


def test_divergence_in_closed_form_and_by_torch() -> None:
    assert Objective().divergence(WIDE).item() == pytest.approx(2.125)
    assert Objective().divergence(PRIOR).item() == 0
    mean, log_variance = torch.randn(5, 3), torch.randn(5, 3)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, (log_variance / 2).exp()), normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance), expected)


def test_objective_is_the_excess_over_both_sides_weighted_by_beta() -> None:
    term = Objective(information=0.5, beta=2.0)
    assert term(Given(real=WIDE, fake=WIDE)).item() == pytest.approx(2 * 1.625)
    assert term(Given(real=WIDE, fake=PRIOR)).item() == pytest.approx(2 * (1.0625 - 0.5))
    assert term(Given(real=PRIOR, fake=PRIOR)).item() == pytest.approx(-1.0)


def test_beta_ascends_after_a_move_and_never_falls_below_zero() -> None:
    term = named(Objective(information=0.5, rate=1e-5, beta=0.0), "vdb")
    reported: dict[str, Any] = {}
    term(Given(real=WIDE, fake=WIDE))
    assert term.state_dict()["beta"] == 0  # a look changes nothing
    term.after_move(Given(real=WIDE, fake=WIDE), reported.__setitem__)
    assert reported["discriminator/vdb_beta"].item() == pytest.approx(1.625e-5)
    assert reported["discriminator/vdb_information"].item() == pytest.approx(2.125)
    again = Objective(information=0.5)
    again.load_state_dict(term.state_dict())
    assert again.beta.item() == pytest.approx(1.625e-5)
    for _ in range(5):
        term.after_move(Given(real=PRIOR, fake=PRIOR), ignored)
    assert term.state_dict()["beta"] == 0
    for wrong in ({"information": -1.0}, {"rate": -1.0}, {"beta": -1.0}):
        with pytest.raises(UserError, match="must not be negative"):
            Objective(**wrong)


def test_beta_is_a_constant_to_the_discriminator() -> None:
    mean = torch.tensor([[3.0]], requires_grad=True)
    verdict = Verdict(torch.zeros(1), (), {"code_mean": mean, "code_log_variance": torch.zeros(1, 1)})
    (gradient,) = torch.autograd.grad(Objective(beta=4.0)(Given(real=verdict, fake=verdict)), mean)
    assert gradient.item() == pytest.approx(12.0)  # beta d/dm (m^2 / 2)


def test_codes_are_drawn_from_what_the_head_says() -> None:
    noise = Noise()
    head = Bottleneck(2, 1, noise)
    with torch.no_grad():
        for layer, weight, bias in (
            (head.mean, 0.0, 3.0),
            (head.log_variance, 0.0, math.log(4)),
            (head.logit, 1.0, 0.0),
        ):
            nn.init.constant_(layer.weight, weight)
            nn.init.constant_(layer.bias, bias)
        assert head(torch.randn(5, 2)).tolist() == [[3.0, 3.0, pytest.approx(math.log(4))]] * 5
        noise.random = torch.Generator().manual_seed(0)
        logits = head(torch.randn(20000, 2))[:, 0]
    assert logits.mean().item() == pytest.approx(3.0, abs=0.06)
    assert logits.std().item() == pytest.approx(2.0, abs=0.05)


def made(*lines: str, kind: str = "points", options: tuple[str, ...] = ()) -> Trainer:
    return trainer_of(kind, [VDB, *options], "trick.variational_bottleneck.code=5", *lines)


@pytest.mark.parametrize("kind", KINDS)
def test_the_discriminator_moves_on_noisy_codes_and_the_generator_on_means(kind: str) -> None:
    trainer = made(kind=kind)
    network, rounds = trainer.game.discriminator, {}
    for name in ("discriminator", "generator"):
        rounds[name] = trainer.deal(trainer.sides[name], [])
        verdict = rounds[name].real
        assert verdict.logits.shape == (8,) and len(verdict.features) == len(network.levels)
        assert verdict.heads["code_mean"].shape == verdict.heads["code_log_variance"].shape == (8, 5)
        h = verdict.features[-1].flatten(1)
        torch.testing.assert_close(verdict.heads["code_mean"], network.head.mean(h))
        clean = network.head.logit(verdict.heads["code_mean"]).squeeze(1)
        assert torch.allclose(verdict.logits, clean) == (name == "generator")
    again = trainer.deal(trainer.sides["discriminator"], [])
    assert torch.equal(again.fake.logits, again.judge(again.fakes, "fakes").logits)  # one draw a move and set
    assert torch.equal(again.real.logits, rounds["discriminator"].real.logits)
    assert not torch.equal(again.judge(again.reals, "others").logits, again.real.logits)


def test_slopes_are_those_of_the_same_noisy_codes() -> None:
    trainer = made(options=("regularizer/r1",))
    player = trainer.sides["discriminator"]
    round = trainer.deal(player, player.terms)
    expected = torch.autograd.grad(round.judge(round.reals, "reals").logits.sum(), round.reals)[0]
    torch.testing.assert_close(round.slope("reals"), expected)


def test_beta_and_noise_resume_exactly() -> None:
    line = "regularizer.variational_bottleneck.rate=0.1"
    through, again = made(line), made(line)
    through.step(), through.step()
    again.load_state_dict(copy.deepcopy(through.state_dict()))
    through.step(), again.step()
    assert differing(through, again) == []
    term = next(term for term in again.sides["discriminator"].terms if isinstance(term, Objective))
    assert term.beta.item() != pytest.approx(0.1, abs=1e-9)
    assert {"discriminator/variational_bottleneck_beta", "discriminator/variational_bottleneck"} <= set(
        again.meter.sums
    )


def test_a_strong_constraint_lowers_the_information() -> None:
    ends = []
    for beta in (0.0, 30.0):
        line = (f"regularizer.variational_bottleneck.beta={beta}", "regularizer.variational_bottleneck.rate=0")
        trainer = made(*line, "schedule.discriminator.optimizer.lr=0.01")
        for _ in range(30):
            trainer.move(trainer.sides["discriminator"])
        term = next(term for term in trainer.sides["discriminator"].terms if isinstance(term, Objective))
        ends.append(term.excess(trainer.deal(trainer.sides["discriminator"], [])).item() + term.information)
    assert ends[1] < 0.2 * ends[0]


def test_the_objective_without_its_layers_is_refused() -> None:
    with pytest.raises(UserError, match=r"needs code_log_variance, code_mean.*brings the trick"):
        trainer_of("points", [VDB], "trick.variational_bottleneck=null")


def test_layers_need_a_linear_head_to_one_logit() -> None:
    class Several(MLPDiscriminator):
        def __init__(self, spec: Spec) -> None:
            super().__init__(spec, [4])
            self.head = nn.Linear(4, 3)

    layers = Layers(4)
    layers.name = "variational_bottleneck"
    for make in (Several, lambda spec: nn.Linear(2, 1)):
        with pytest.raises(UserError, match="trick variational_bottleneck needs a discriminator that ends in a linear"):
            layers.network("discriminator", make)(Spec((2,)))
    assert layers.players == ("discriminator",)
    with pytest.raises(UserError, match="code=0"):
        Layers(0)


def test_it_goes_with_layers_that_widen_the_head_and_with_packs() -> None:
    for trick in ("minibatch_discrimination", "packing", "spectral_norm"):
        trainer = trainer_of("images", [VDB, f"trick/{trick}"])
        trainer.step(), trainer.step()
        trainer.meter.check()
        verdict = trainer.deal(trainer.sides["generator"], []).real
        assert verdict.heads["code_mean"].shape == (len(verdict.logits), 256)


def test_codes_survive_substituted_weights() -> None:
    trainer = made()
    round = trainer.deal(trainer.sides["generator"], [])
    weights = {name: torch.zeros_like(w) for name, w in round.weights("discriminator").items()}
    other: Any = round.against(weights)
    assert other.real.logits.tolist() == [0.0] * 8
    excess: Tensor = Objective(information=0.0).excess(other)
    assert excess.item() == 0 and round.real.logits.abs().sum() > 0
