"""What a run is advised: keys of its own configuration, set to what they aren't yet."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from gan_experiments.analysis.advice import Plan
from gan_experiments.analysis.symptom import Finding
from gan_experiments.analysis.symptoms import SYMPTOMS
from gan_experiments.assembly import build_game, build_trainer
from gan_experiments.config import build, plain
from gan_experiments.curves import Constant, Cosine, Linear, Proportional, WarmUp
from gan_experiments.observers.diagnosis import facts
from gan_experiments.players import TunedOptimizer
from gan_experiments.runtime import CPU, Runtime
from gan_experiments.schema import typed

Compose = Callable[..., DictConfig]


@pytest.mark.parametrize(
    ("rate", "place", "height"),
    [
        (0.5, "", 0.5),
        (Constant(0.5), ".value", 0.5),
        (Linear(0.5, 0.0), ".start", 0.5),
        (Cosine(0.1, 0.7), ".end", 0.7),
        (Proportional(0.1, 0.3), ".limit", 0.3),
        (WarmUp(0.5, 100), ".curve", 0.5),
        (WarmUp(Linear(0.5, 0.1), 100), ".curve.start", 0.5),
    ],
)
def test_the_lever_is_the_key_that_sets_the_rate(rate: Any, place: str, height: float) -> None:
    weights = [torch.nn.Parameter(torch.zeros(1))]
    tuned = TunedOptimizer(torch.optim.Adam, weights, {"lr": rate}, "schedule.generator.optimizer")
    assert tuned.lever == f"schedule.generator.optimizer.lr{place} ({height:g} now)"
    left_out = TunedOptimizer(torch.optim.Adam, weights, {}, "schedule.generator.optimizer", lr_factor=3)
    assert left_out.lever == ("+schedule.generator.optimizer.lr (0.001 now) or schedule.generator.lr_factor (3 now)")


PLANS: dict[str, tuple[str, ...]] = {
    "default": (),
    "points": ("model=mlp", "dataset=ring", "metric=[modes]", "extractor=none"),
    "plain descent": ("experiment=dirac", "metric=none", "extractor=none"),
    "everything set": (
        "regularizer=[r1,r2,lecam,gradient_penalty]", "loss=nonsaturating", "dataset.flip=true",
        "trick=[instance_noise,ada,diffaugment,packing]", "schedule.discriminator.lr_factor=0.5",
        "schedule.generator.lr_factor=0.5", "schedule.discriminator.moves=2", "schedule.generator.moves=2",
    ),
    "by steps": ("schedule.images=null", "schedule.steps=100", "loss=minimax", "schedule=r3gan"),
    "root mean squares": ("schedule=wgan", "loss=wasserstein"),
    "one player": ("experiment=vae",),
    "recipe": ("experiment=r3gan_cifar10", "dataset=fashion10k", "metric=none", "extractor=none"),
}  # fmt: skip


def planned(config: DictConfig) -> Plan:
    """What advice knows of this run."""
    settings = typed(config)
    dataset = build(settings.dataset, "dataset")
    runtime = Runtime(CPU, "float32", False, 1, False, True)
    trainer, _ = build_trainer(settings, build_game(settings, dataset.spec), dataset, runtime)
    return facts(trainer, plain(config)).plan


def steps_of(text: str) -> list[tuple[str, str | None]]:
    """Every key in an advice, with the value that it is to be set to, if one is named."""
    found = re.findall(r"(\+?\b[a-z_0-9]+(?:\.[a-z_0-9]+)*)=(\[[\w.,]*\]|[\w.]+)", text)
    bare = re.findall(r"(?<![\w=])(\+?[a-z_]+(?:\.[a-z_0-9]+)+)(?![\w=.])", text)
    return [*found, *((key, None) for key in bare)]


@pytest.mark.parametrize("name", PLANS)
def test_advice_names_keys_of_the_run_that_are_not_set_already(name: str, composed: Compose) -> None:
    config = composed(*PLANS[name])
    plan, checked = planned(config), 0
    for symptom in SYMPTOMS:
        text = symptom.remedy(plan, Finding("", {}, tuple(plan.levers)))
        assert text and "None" not in text and not text.endswith(" "), text
        for key, value in steps_of(text):
            checked += 1
            if value is None:
                assert OmegaConf.select(config, key) is not None, (symptom.name, key)
                continue
            changed = composed(*PLANS[name], f"{key}={value}")
            assert plain(changed) != plain(config), (symptom.name, key, value)
            if key in ("regularizer", "trick"):  # nothing that was chosen is left out
                assert set(config[key] or {}) <= set(changed[key] or {}), (symptom.name, key, value)
    assert checked >= 8


def test_advice_for_points_is_not_for_images(composed: Compose) -> None:
    plan = planned(composed(*PLANS["points"]))
    texts = " ".join(symptom.remedy(plan, Finding("", {}, ("generator",))) for symptom in SYMPTOMS)
    assert "ada" not in texts and "diffaugment" not in texts and "flip" not in texts


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        (("regularizer=[r1]",), True),
        (("experiment=infogan", "dataset=fashion10k", "regularizer=[mutual_information,r1]"), False),
    ],
)
def test_a_warning_names_the_key_of_norms_where_there_is_one(
    lines: tuple[str, ...], named: bool, composed: Compose, caplog: pytest.LogCaptureFixture
) -> None:
    planned(composed(*lines, "metric=none", "extractor=none"))
    (warning,) = (line for line in caplog.messages if "slopes of different samples mix" in line)
    assert ("model.discriminator.norm=none" in warning) == named
