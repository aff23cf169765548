"""Tempo: rate factors, weights of the adversarial halves, moves at once, packs that must fill the batch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from gan_experiments.curves import Linear
from gan_experiments.errors import UserError
from gan_experiments.experiment import run
from gan_experiments.players import TunedOptimizer
from given import trainer_of
from tiny import TINY


def test_rate_factors_multiply_whatever_curve_the_rate_is() -> None:
    parameter = torch.nn.Parameter(torch.zeros(3))
    tuned = TunedOptimizer(torch.optim.Adam, [parameter], {"lr": Linear(0.4, 0.0)}, "here", lr_factor=0.5)
    assert tuned.lr == pytest.approx(0.2)
    tuned.set(75, 100)
    assert tuned.lr == pytest.approx(0.05)
    fixed = TunedOptimizer(torch.optim.SGD, [parameter], {"lr": 0.1}, "here", lr_factor=2.0)
    assert fixed.lr == pytest.approx(0.2)
    with pytest.raises(UserError, match="here: lr_factor=0"):
        TunedOptimizer(torch.optim.SGD, [parameter], {"lr": 0.1}, "here", lr_factor=0)


def test_ttur_is_a_ratio_of_four_of_the_schedules_own_rate() -> None:
    plain, ttur = trainer_of("points", []), trainer_of("points", ["trick/ttur"])
    rates = {name: player.tuned.lr / plain.sides[name].tuned.lr for name, player in ttur.sides.items()}
    assert rates == pytest.approx({"discriminator": 2.0, "generator": 0.5})


def test_an_adversarial_half_of_weight_zero_is_logged_and_moves_nobody() -> None:
    line = "schedule.generator.adversarial=0"
    alone = trainer_of("points", ["regularizer/feature_matching"], line)
    alone.step()
    assert {"generator/adversarial", "generator/feature_matching"} <= set(alone.meter.sums)
    with pytest.raises(UserError, match="player generator has no term with a weight at every move"):
        trainer_of("points", [], line)


def alike(some: list[torch.nn.Parameter], others: list[torch.nn.Parameter]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


def test_moves_at_once_are_against_the_others_as_they_were() -> None:
    # Adam's first step has the size of the rate, whatever the gradient, unless eps is large.
    steep = [
        f"schedule.{name}.optimizer.{key}" for name in ("discriminator", "generator") for key in ("eps=1.0", "lr=1.0")
    ]
    together = trainer_of("points", [], *steep, "schedule.simultaneous=true")
    first = trainer_of("points", [], *steep)
    second = trainer_of("points", [], *steep, "schedule.order=[generator,discriminator]")
    for trainer in (together, first, second):
        trainer.step()
    same = {
        name: [alike(together.sides[name].parameters, t.sides[name].parameters) for t in (first, second)]
        for name in ("discriminator", "generator")
    }
    assert same == {"discriminator": [True, False], "generator": [False, True]}


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match="schedule.simultaneous=true: one update a player and step; set moves=1"):
        trainer_of("points", [], "schedule.simultaneous=true", "schedule.discriminator.moves=2")
    with pytest.raises(UserError, match="batch_size=8: trick packing judges packs of 7 samples; .* such as 14"):
        trainer_of("points", ["trick/packing"], "trick.packing.size=7")


@pytest.mark.parametrize(("size", "said"), [(200, 0), (201, 1)])
def test_a_batch_larger_than_the_data_is_said(
    size: int, said: int, composed: Callable[..., DictConfig], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = {line.partition("=")[0]: line for line in (*TINY, f"schedule.batch_size={size}", "metric=none")}
    with caplog.at_level(logging.WARNING):
        run(composed(*given.values()), tmp_path / "run")
    lines = [entry.getMessage() for entry in caplog.records if "several times" in entry.getMessage()]
    assert len(lines) == said and all("set schedule.batch_size=200 or less" in line for line in lines)
