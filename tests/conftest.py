"""What all tests share: one thread, folders of their own, a tiny data set, and a small experiment built in-process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
os.environ.setdefault("WANDB_MODE", "offline")

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, open_dict

from gan_experiments.config import conf_dir, register

Compose = Callable[..., DictConfig]


@pytest.fixture(autouse=True)
def one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small tensors are fastest on one thread; W&B keeps its files in the test's own folder."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    for name in ("CACHE", "DATA", "CONFIG"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "wandb" / name.lower()))
    yield
    torch.set_num_threads(before)


@pytest.fixture
def composed(tmp_path: Path) -> Iterator[Compose]:
    """Compose the root configuration with overrides, as the command line does, run.dir and run.data in tmp_path."""
    register()
    GlobalHydra.instance().clear()

    def make(*overrides: str) -> DictConfig:
        own = [f"run.dir={tmp_path / 'run'}", f"run.data={tmp_path / 'data'}", "runtime.threads=1"]
        given = {override.split("=")[0] for override in overrides}
        return compose("config", [*(line for line in own if line.split("=")[0] not in given), *overrides])

    with initialize_config_dir(config_dir=conf_dir(), version_base="1.3"):
        yield make


TINY = (
    "model=mlp", "dataset=ring", "metric=[modes]", "extractor=none", "logger=none", "schedule.batch_size=16",
    "schedule.images=320", "model.generator.hidden=[8]", "model.discriminator.hidden=[8]", "model.generator.latent_dim=2",
    "log.every=64", "samples.every=160", "samples.count=9", "evaluation.every=160", "evaluation.samples=64",
    "evaluation.batch_size=32", "checkpoint.every=80", "dataset.size=200", "dataset.held_out=100",
)  # fmt: skip


@pytest.fixture
def tiny() -> tuple[str, ...]:
    """Overrides for a run of 20 steps on points that takes a fraction of a second."""
    return TINY


def without(config: DictConfig, key: str) -> DictConfig:
    """The configuration with one root key dropped."""
    with open_dict(config):
        config.pop(key)
    return config
