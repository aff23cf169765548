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
from omegaconf import DictConfig

from gan_experiments.config import conf_dir, register
from processes import Workshop

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


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """One process for commands of all tests, which has imported everything."""
    made = Workshop(tmp_path_factory.mktemp("workshop"), WANDB_MODE="offline")
    yield made
    made.close()
