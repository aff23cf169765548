"""Mismatched pairs: real samples with wrong classes take half of the generated side of D's loss, and only of D's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import softplus

from gan_experiments.errors import UserError
from gan_experiments.objectives.adversarial import NonSaturating
from gan_experiments.tricks.mismatched import Mismatched
from test_conditioning import trainer_of
from trick_bench import attempt

LABELLED = ("conditioning=[one_hot,projection]", "regularizer=[none]")


def test_the_loss_of_d_is_algorithm_1_of_gan_cls_and_g_s_is_as_ever() -> None:
    trainer = trainer_of(*LABELLED, "trick=mismatched", "trick.mismatched.weight=0.25")
    player = trainer.sides["discriminator"]
    round: Any = trainer.deal(player, player.terms)
    (loss,) = (term for term in player.terms if term.name == "adversarial")
    with torch.no_grad():
        value = loss.value(round)
        pairs = round.comparisons("discriminator")
        wrong, labels = pairs["mismatched"].round.wrong, round.labels
        assert (wrong != labels).all() and set(wrong.tolist()) <= set(range(len(trainer.game.spec.classes)))
        real, fake = round.real.logits, round.fake.logits
        mismatched = round.judge(round.reals, "reals", wrong).logits
    expected = softplus(-real).mean() + 0.75 * softplus(fake).mean() + 0.25 * softplus(mismatched).mean()
    torch.testing.assert_close(value, expected)
    assert set(round.comparisons("generator")) == {""}
    half = NonSaturating().share("generator", 1.0)
    torch.testing.assert_close(half.value(round), softplus(-round.fake.logits).mean())
    trainer.step()
    assert "discriminator/adversarial_mismatched" in trainer.meter.sums


def test_it_needs_a_discriminator_that_is_told_classes() -> None:
    assert "trick mismatched shows real samples with wrong classes" in attempt("mismatched", game="images")
    with pytest.raises(UserError, match="weight=1.0 must lie between 0 and 1"):
        Mismatched(1.0)
