"""What tests need to try experiments without their data and at a fraction of their size, and what recipes say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from gan_experiments.config import conf_dir
from gan_experiments.data import cifar, idx, mnist
from gan_experiments.data.base import Dataset, Split
from gan_experiments.metrics.extractors import Extractor, ExtractorSource, Features

FOLDER = Path(conf_dir()) / "experiment"
EXPERIMENTS = sorted(path.stem for path in FOLDER.glob("*.yaml"))


@dataclass(frozen=True)
class Counts:
    """Trainable parameters of both players as published, with these overrides, for images of so many classes and
    channels."""

    experiment: str
    generator: int
    discriminator: int
    overrides: tuple[str, ...] = ()
    classes: int = 10
    channels: int = 3


def header(experiment: str) -> str:
    """The comment that opens an experiment, without its marks; a line break where it has one."""
    lines = (FOLDER / f"{experiment}.yaml").read_text(encoding="utf-8").splitlines()
    comment = lines[1 : next(place for place, line in enumerate(lines) if not line.startswith("#"))]
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in comment)


def small(experiment: str) -> list[str]:
    """Overrides that make an experiment's networks and images small, from its lines `Small: key=value ...`."""
    lines = re.findall(r"^Small: (.+)$", header(experiment), re.MULTILINE)
    return " ".join(lines).split()


def counts(experiment: str) -> list[Counts]:
    """What an experiment's lines `Parameters: G n, D m [for k classes] [for c channel] [with key=value ...]` say."""
    found = []
    for line in re.findall(r"^Parameters: (.+)$", header(experiment), re.MULTILINE):
        said = re.match(
            r"G ([\d,]+), D ([\d,]+)(?: for ([\d,]+) classes)?(?: for (\d) channels?)?(?: with (.+))?", line
        )
        assert said is not None, f"{experiment}: can't read its parameters: {line}"
        g, d, classes = (int((text or "10").replace(",", "")) for text in said.groups()[:3])
        found.append(Counts(experiment, g, d, tuple((said[5] or "").split()), classes, int(said[4] or 3)))
    return found


def quickly_scored(config: DictConfig) -> DictConfig:
    """The configuration with small features in place of Inception's, and metrics that make do with few samples."""
    if "inception" in config.extractor:
        config.extractor = {"inception": {"_target_": "recipes.TinySource"}}
    elif any("classifier" in name for name in config.extractor):
        config.evaluation.reals = 200
    if "kid" in config.metric:
        config.metric.kid.subset_size = 20
    if "inception_score" in config.metric:
        config.metric.inception_score.splits = min(config.metric.inception_score.splits, 2)
    return config


def given_data(config: DictConfig, tmp_path: Path) -> DictConfig:
    """The configuration with a folder of pictures, in three classes, where one is asked for."""
    if OmegaConf.is_missing(config.dataset, "path"):
        folder = tmp_path / "pictures"
        for number in range(30):
            path = folder / "abc"[number % 3] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 18), (8 * number, 255 - 8 * number, 0)).save(path)
        config.dataset.path = str(folder)
        config.dataset.held_out = 0.2
    return config


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random images in place of CIFAR-10, MNIST and Fashion-MNIST, of their shapes and classes."""
    draw = np.random.default_rng(0)

    def split(root: str, train: bool) -> Split:
        count = 200 if train else 60
        pixels = draw.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
        return Split(torch.from_numpy(pixels), torch.arange(count) % 10)

    def official(*_: Any) -> dict[str, NDArray[np.uint8]]:
        arrays = {}
        for part in idx.FILES:
            count = 200 if part.startswith("train") else 60
            images = draw.integers(0, 256, (count, 28, 28), dtype=np.uint8)
            arrays[part] = images if part.endswith("images") else (np.arange(count) % 10).astype(np.uint8)
        return arrays

    monkeypatch.setattr(cifar, "_split", split)
    monkeypatch.setattr(mnist, "official", official)


class TinyExtractor(Extractor):
    """Means over squares of a quarter of the side; the first ten pass for class logits."""

    def __init__(self, channels: int) -> None:
        super().__init__("tiny", "0" * 64, 16 * channels, 10, "none")

    def extract(self, images: torch.Tensor) -> Features:
        """16 features a channel."""
        means = torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, 4).flatten(1)
        return Features(means, means[:, :10])


class TinySource(ExtractorSource):
    """Stands in for a source of Inception's network."""

    def build(self, dataset: Dataset) -> Extractor:
        """The extractor for these images."""
        return TinyExtractor(dataset.spec.shape[0]).freeze()
