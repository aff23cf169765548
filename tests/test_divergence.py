"""Runs that are out of all bounds say so, name the player whose numbers went first, and what to change."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from gan_experiments.analysis.history import Facts
from gan_experiments.errors import NonFinite, UserError
from gan_experiments.experiment import run
from gan_experiments.logging.records import read_records
from gan_experiments.logging.status import State
from gan_experiments.observers.diagnosis import is_anchored, is_unbounded
from gan_experiments.weight_growth import EXPLODED, WeightGrowth, first_to_go
from processes import Workshop, gan_train
from test_diagnosis import LOSSES, SMALL, loss_of, record, status, watched
from tiny import TINY

Compose = Callable[..., DictConfig]
D_RATE, G_RATE = (f"schedule.{player}.optimizer.lr" for player in ("discriminator", "generator"))
POINTS = (*(line for line in SMALL if line != "schedule.steps=350"), "schedule.steps=30")
IMAGES = (
    "model=dcgan", "model.generator.width=4", "model.discriminator.width=4", "metric=none", "extractor=[none]",
    "logger=none", "schedule=constant", "schedule.batch_size=8", "schedule.images=null", "schedule.steps=15",
    "log.every=40", "samples.every=1000000", "samples.count=4", "checkpoint.every=1000000",
)  # fmt: skip
SGD = "schedule.{0}.optimizer._target_=torch.optim.SGD", "~schedule.{0}.optimizer.betas"
RUNS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "D": ((*POINTS, f"{D_RATE}=10"), "discriminator", f"lower {D_RATE} (10 now)"),
    "G": ((*POINTS, f"{G_RATE}=10"), "generator", f"lower {G_RATE} (10 now)"),
    "both": ((*POINTS, f"{D_RATE}=1e3", f"{G_RATE}=1e3"), "discriminator", f"(1000 now), then lower {G_RATE}"),
    "both, G first": (
        (*POINTS, f"{D_RATE}=10", f"{G_RATE}=1e3", "schedule.order=[generator,discriminator]"),
        "generator",
        f"lower {G_RATE} (1000 now), then lower {D_RATE} (10 now)",
    ),
    "eight steps": ((*POINTS, f"{D_RATE}=10", "schedule.steps=8", "log.every=5000"), "discriminator", f"{D_RATE} (10"),
    "a factor": (
        (*POINTS, "schedule.generator.lr_factor=1e5"),
        "generator",
        f"lower {G_RATE} (0.001 now) or schedule.generator.lr_factor (100000 now)",
    ),
    "a curve": (
        (*(line for line in IMAGES if line != "schedule=constant"), "schedule=linear", f"{D_RATE}.start=20"),
        "discriminator",
        f"lower {D_RATE}.start (20 now)",
    ),
    "a free critic": (
        (*IMAGES, "loss=wasserstein", "model.discriminator.norm=none", f"{D_RATE}=5e-2"),
        "discriminator",
        "limit D's slope: regularizer=[gradient_penalty]",
    ),
    "images, D": ((*IMAGES, f"{D_RATE}=10"), "discriminator", f"lower {D_RATE} (10 now)"),
    "images, G": ((*IMAGES, f"{G_RATE}=10"), "generator", f"lower {G_RATE} (10 now)"),
    "no norms": (
        (*IMAGES, f"{G_RATE}=10", "model.generator.norm=none", "model.discriminator.norm=none"),
        "generator",
        f"lower {G_RATE} (10 now)",
    ),
    "hinge": ((*IMAGES, f"{D_RATE}=10", "loss=hinge"), "discriminator", f"lower {D_RATE} (10 now)"),
    "least squares": ((*IMAGES, f"{D_RATE}=10", "loss=least_squares"), "discriminator", f"lower {D_RATE} (10 now)"),
    "saturated at once": (
        (*IMAGES, *(line.format("generator") for line in SGD), f"{G_RATE}=1e4"),
        "generator",
        f"lower {G_RATE} (10000 now)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_a_diverging_run_says_who_went_first_and_what_to_change(
    name: str, composed: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines, player, advice = RUNS[name]
    with caplog.at_level(logging.INFO):
        run(composed(*lines), tmp_path / "run")
    (found,) = status(tmp_path / "run").diagnosis
    assert found["name"] == "diverged" and f"the {player}'s numbers went first" in found["sentence"]
    assert advice in found["sentence"], found["sentence"]
    assert status(tmp_path / "run").state is State.COMPLETED
    assert any("completed, but it diverged: " in line and advice in line for line in caplog.messages)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        run(composed(*lines), tmp_path / "run")
    assert any("is complete" in line and "but it diverged" in line for line in caplog.messages)


HEALTHY = {
    "as they are": POINTS,
    "penalised critic": (*POINTS, "loss=wasserstein", "regularizer=[gradient_penalty]"),
    "clipped critic": (*POINTS, "loss=wasserstein", "regularizer=[weight_clipping]"),
    "images": IMAGES,
    "a high rate": (*IMAGES, f"{D_RATE}=2e-2", f"{G_RATE}=2e-2"),
    "a variational autoencoder": (
        *(line for line in IMAGES if "discriminator" not in line), "model=vae", "loss=evidence", "conditioning=none",
    ),
    "points on a line": ("experiment=dirac", "logger=none", "log.parameters=false", "schedule.steps=60"),
}  # fmt: skip


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_run_has_not_diverged(name: str, composed: Compose, tmp_path: Path) -> None:
    run(composed(*HEALTHY[name]), tmp_path / "run")
    assert "diverged" not in [found["name"] for found in status(tmp_path / "run").diagnosis]
    records = [each["values"] for each in read_records(tmp_path / "run" / "metrics.jsonl") if each["kind"] == "train"]
    growths = [value for values in records for key, value in values.items() if key.startswith("weights/")]
    assert growths and max(growths) < EXPLODED / 4


# thresholds

IN_RANGE = {"logits/train": 299.0, "logits/generated": -299.0, "logits/gap": 299.0, "weights/discriminator": 40.0,
            "weights/generator": 40.0, "discriminator/gradient_norm": 9e5, "generator/gradient_norm": 9e5,
            "diversity/batch": 0.6, "diversity/unsaturated": 0.06, "likelihood/bits_per_dim": 99.0}  # fmt: skip
SIGNS: dict[str, tuple[dict[str, float], Facts, str]] = {
    "logits": ({"logits/generated": -301.0}, Facts(), "discriminator"),
    "logits, of far samples": ({"logits/train": 301.0, "diversity/batch": 300.0}, Facts(), "generator"),
    "gap": ({"logits/gap": 301.0}, Facts(anchored=False), "discriminator"),
    "a critic's gap": ({"logits/gap": -2001.0}, Facts(anchored=False, unbounded=True, span=20.0), "discriminator"),
    "loss": ({"generator/adversarial": 1.3e5}, Facts(worst={"generator": 300.0}), "discriminator"),
    "D's loss": ({"discriminator/adversarial": 41.0}, Facts(worst={"discriminator": 40.0}), "discriminator"),
    "weights": ({"weights/generator": 51.0, "weights/generator_exploded_at": 3.0}, Facts(), "generator"),
    "gradients": ({"generator/gradient_norm": 2e6}, Facts(), "discriminator"),
    "bits": ({"likelihood/bits_per_dim": 101.0}, Facts(), "generator"),
    "saturated": ({"diversity/unsaturated": 0.04}, Facts(), "generator"),
    "constant": ({"diversity/batch": 9e-4}, Facts(), "generator"),
    "unreached": ({"generator/gradient_norm": 0.0}, Facts(), "generator"),
}  # fmt: skip


@pytest.mark.parametrize("name", SIGNS)
def test_each_sign_has_its_threshold_and_its_player(name: str) -> None:
    values, known, player = SIGNS[name]
    records = [[record(400 + place, **(IN_RANGE | values))] for place in range(5)]
    (found,) = watched(*records, facts=known).active.values()
    assert found.name == "diverged" and f"the {player}'s numbers went first" in found.sentence
    assert set(found.numbers) & set(values) or name == "logits"


def test_what_is_within_bounds_or_drifts_together_is_no_divergence() -> None:
    for known, values in (
        (Facts(), {}),
        (Facts(anchored=False), {"logits/train": 5000.0, "logits/generated": 4900.0}),
        (Facts(anchored=False, unbounded=True, span=20.0), {"logits/gap": 1999.0}),
        (Facts(worst={"generator": 300.0}), {"generator/adversarial": 299.0}),
        (Facts(), {"discriminator/gradient_norm": 0.0}),
        (Facts(), {"generator/gradient_norm": 0.0, "weights/generator": 1.0}),
    ):
        assert (
            "diverged"
            not in watched(*[[record(k, **(IN_RANGE | values))] for k in range(400, 405)], facts=known).active
        )
    early = [[record(k, **(IN_RANGE | {"diversity/batch": 1e-5}))] for k in range(5)]  # networks as they were made
    assert not watched(*early, facts=Facts()).active


def test_other_advice_is_beside_the_point_then() -> None:
    collapsed = [[record(k, **(IN_RANGE | {"diversity/batch": 0.1}))] for k in range(400, 406)]
    assert list(watched(*collapsed, facts=Facts()).active) == ["collapse"]
    ruined = [[record(k, **(IN_RANGE | {"diversity/batch": 0.1, "logits/train": 1e4}))] for k in range(406, 408)]
    assert list(watched(*collapsed, *ruined, facts=Facts()).active) == ["diverged"]


@pytest.mark.parametrize("name", LOSSES)
def test_which_logits_a_loss_lets_drift_or_grow(name: str) -> None:
    loss = loss_of(name)
    if loss.needs:
        return
    drifting = name.startswith(("relativistic", "wasserstein", "softmax", "dual_contrastive"))
    growing = name in {"wasserstein", "fgan_kl", "fgan_reverse_kl", "fgan_pearson", "fgan_neyman"}
    assert is_unbounded(loss) == growing or name.startswith("fgan")
    assert is_anchored(loss) == (not drifting and not is_unbounded(loss))


# who went first


def test_weights_are_measured_against_their_start() -> None:
    weights = [torch.nn.Parameter(torch.full((4, 4), 0.5)), torch.nn.Parameter(torch.full((9,), 0.5))]
    small = [torch.nn.Parameter(torch.full((3,), 0.001))]
    growth, other = WeightGrowth(weights), WeightGrowth(small)
    with torch.no_grad():
        weights[0].mul_(10), weights[1].mul_(10), small[0].fill_(1.9)
    growth.look(600), other.look(600)
    assert growth.now.item() == pytest.approx(10) and growth.exploded is None
    assert other.now.item() == pytest.approx(47.5) and other.exploded is None  # 0.04 is the least start
    early = WeightGrowth([torch.ones(3)])
    early.parameters = [torch.full((3,), 21.0)]
    early.look(599)
    assert early.exploded == 599
    with torch.no_grad():
        weights[0].fill_(1e30), small[0].fill_(math.nan)
    other.look(700), growth.look(800), growth.look(900)
    assert (other.exploded, growth.exploded) == (700, 800)
    assert first_to_go([("generator", growth), ("discriminator", other)]) == ["discriminator", "generator"]
    again = WeightGrowth([torch.zeros(2)])
    again.load_state_dict(growth.state_dict())
    assert again.exploded == 800 and again.start == growth.start
    WeightGrowth(weights).load_state_dict({})  # as states of older versions have it


# runs that can't be continued

TINY_IN_RUINS = (*TINY, f"{G_RATE}=1e30", "schedule=constant", "schedule.images=320", "schedule.batch_size=16")


def test_a_run_that_failed_in_nan_is_not_tried_again(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = composed(*TINY_IN_RUINS)
    with pytest.raises(NonFinite) as failed:
        run(config, tmp_path / "run")
    assert f"the generator's weights went first: lower {G_RATE} (1e+30 now)" in str(failed.value)
    (tmp_path / "run-2").mkdir()
    before = (tmp_path / "run" / "status.json").read_bytes()
    monkeypatch.setattr("gan_experiments.experiment.train", lambda *_: pytest.fail("time is burnt"))
    with pytest.raises(UserError, match=re.escape(f"lower {G_RATE}")) as refused:
        run(config, tmp_path / "run")
    assert f"run.dir={tmp_path / 'run-3'}" in str(refused.value) and "\n" not in str(refused.value)
    assert len(str(refused.value)) - 3 * len(str(tmp_path)) < 500
    assert (tmp_path / "run" / "status.json").read_bytes() == before


def test_a_run_that_failed_otherwise_is_continued(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gan_experiments.trainer import Trainer

    step = Trainer.step

    def exhausted(self: Trainer) -> None:
        if self.step_count == 12:
            raise torch.OutOfMemoryError("CUDA out of memory")
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", exhausted)
        with pytest.raises(torch.OutOfMemoryError):
            run(composed(*TINY), tmp_path / "run")
    assert status(tmp_path / "run").state is State.FAILED
    run(composed(*TINY), tmp_path / "run")
    assert status(tmp_path / "run").state is State.COMPLETED


def test_the_command_says_it_in_its_last_line(workshop: Workshop, tmp_path: Path) -> None:
    command = gan_train(*TINY, "schedule=constant", "schedule.images=320", "schedule.batch_size=16", f"{D_RATE}=1e30",
                        "run.dir=run", cwd=tmp_path)  # fmt: skip
    first, second = workshop.run(command), workshop.run(command)
    for done in (first, second):
        assert done.code == 1 and "Traceback" not in done.err
        assert f"the discriminator's weights went first: lower {D_RATE} (1e+30 now)" in done.lines[-1]
    assert "run.dir=run-2" in second.lines[-1] and len(second.lines) <= 3
    ruined = gan_train(*TINY, "schedule=constant", "schedule.images=320", "schedule.batch_size=16", f"{D_RATE}=10",
                       "run.dir=ruined", cwd=tmp_path)  # fmt: skip
    done = workshop.run(ruined)
    assert done.code == 0 and "but it diverged: the discriminator's weights are" in done.err
