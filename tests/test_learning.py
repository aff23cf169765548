"""That runs learn: a cloud found in seconds by every loss, and (slow) mixtures of Gaussians and the default recipe."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from gan_experiments import seeding
from gan_experiments.data.base import Dataset, Spec, Split
from gan_experiments.experiment import run
from gan_experiments.inference import load_generator
from gan_experiments.logging.records import read_records

Compose = Callable[..., DictConfig]

MEAN, STD = torch.tensor([1.5, -1.0]), 0.5
CLOUD = (
    "model=mlp", "dataset=ring", "metric=none", "extractor=none", "logger=none", "model.generator.latent_dim=2",
    "model.generator.hidden=[32]", "model.discriminator.hidden=[32]", "schedule.images=null", "schedule.batch_size=64",
    "samples.count=9", "schedule=constant", "schedule.ema.half_life=2000", "regularizer=[r1]",
    "regularizer.r1.weight=0.1", "schedule.generator.optimizer.lr=3e-3",
    "schedule.discriminator.optimizer.lr=3e-3",
)  # fmt: skip


def cloud() -> Dataset:
    """One Gaussian, away from where an untrained generator's samples lie."""
    random = seeding.generator(0, "cloud")
    train, held_out = (MEAN + STD * torch.randn(n, 2, generator=random) for n in (5000, 1000))
    return Dataset("cloud", Spec((2,)), Split(train), Split(held_out))


@pytest.mark.parametrize("loss", ["nonsaturating", "minimax", "hinge", "least_squares", "wasserstein"])
def test_every_loss_moves_the_samples_onto_the_data(loss: str, composed: Compose, tmp_path: Path) -> None:
    config = composed(*CLOUD, f"loss={loss}", "schedule.steps=400")
    config.dataset = {"_target_": f"{__name__}.cloud"}
    run(config, tmp_path / "run")
    samples = load_generator(tmp_path / "run").sample(2000)
    assert float((samples.mean(0) - MEAN).norm()) < 0.3  # 1.8 at the start
    assert float((samples.std(0) / STD).log().abs().max()) < math.log(3)  # neither collapsed nor scattered


def scores(directory: Path) -> list[dict[str, float]]:
    """Values of all evaluations."""
    found = [record["values"] for record in read_records(directory / "metrics.jsonl") if record["kind"] == "scores"]
    return [{name: score["value"] for name, score in values.items()} for values in found]


@pytest.mark.slow
@pytest.mark.parametrize(("experiment", "modes"), [("ring", 8), ("grid", 25)])
def test_mixtures_are_found_whole(experiment: str, modes: int, composed: Compose, tmp_path: Path) -> None:
    run(composed(f"experiment={experiment}", "logger=none"), tmp_path / "run")
    last = scores(tmp_path / "run")[-1]
    assert last["modes_captured"] == modes
    assert last["high_quality_share"] > 0.88
    assert last["reverse_kl"] < 0.05


@pytest.mark.slow
def test_the_default_recipe_improves_fid_within_20_000_images(composed: Compose, tmp_path: Path) -> None:
    fids = []
    for images in (64, 20_000):
        lines = ("logger=none", "metric=[fid]", "evaluation.samples=2000", f"schedule.images={images}")
        run(composed(*lines), tmp_path / str(images))
        fids.append(scores(tmp_path / str(images))[-1]["fid"])
    untrained, trained = fids
    assert trained < 0.7 * untrained
