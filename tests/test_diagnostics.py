"""What is measured of a training beside its losses: against numbers worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gan_experiments.data.base import Dataset, Spec, Split
from gan_experiments.errors import UserError
from gan_experiments.experiment import run
from gan_experiments.game import Verdict
from gan_experiments.games.noise import NoiseGame
from gan_experiments.logging.records import read_records
from gan_experiments.metrics.extractors import Extractor, Features
from gan_experiments.networks.dirac import DiracDiscriminator, ScalingGenerator
from gan_experiments.objectives.adversarial import Adversarial, LeastSquares, Loss, NonSaturating, Wasserstein
from gan_experiments.observers.diagnostics import PROBES, Diagnostics, classifier_of
from gan_experiments.players import Player, TunedOptimizer
from gan_experiments.runtime import Runtime
from gan_experiments.trainer import Trainer
from tiny import TINY

FLOAT32 = Runtime(torch.device("cpu"), "float32", False, 1, False, True)


class Given(nn.Module):
    """A generator whose samples are all `value`."""

    latent_dim = 1

    def __init__(self, spec: Spec, value: float) -> None:
        super().__init__()
        self.shape, self.value = spec.shape, nn.Parameter(torch.tensor(value))

    def forward(self, z: Tensor) -> Tensor:
        return self.value.expand(len(z), *self.shape)


class First(nn.Module):
    """A discriminator whose logit is the first number of a sample."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, samples: Tensor) -> Verdict:
        return Verdict(self.scale * samples.flatten(1)[:, 0])


def measured(
    train: Tensor,
    held_out: Tensor,
    generator: Callable[[Spec], nn.Module],
    loss: Loss | None = None,
    discriminator: Callable[[Spec], nn.Module] = lambda spec: First(),
    **options: Any,
) -> dict[str, float]:
    """The diagnostics of one step in which nobody learns."""
    game = NoiseGame(Spec(tuple(train.shape[1:])), generator, discriminator)
    players = [
        Player(name, modules, TunedOptimizer(torch.optim.SGD, [*modules[0].parameters()], {"lr": 0.0}, name),
               [Adversarial(loss or NonSaturating(), name)])
        for name, modules in game.sides.items()
    ]  # fmt: skip
    observer = Diagnostics(Split(held_out), 1, 0, len(train), **options)
    trainer = Trainer(game, players, Split(train), FLOAT32, len(train), 10, 0, [observer])
    trainer.step()
    return trainer.meter.drain()


def points(*first: float) -> Tensor:
    return torch.tensor([[value, 0.0] for value in first])


def test_overfitting_is_measured_on_the_scale_between_training_and_generated_samples() -> None:
    found = measured(points(1, 2, -1, 6), points(1, 1, -2, 0), lambda s: Given(s, -2.0))
    assert found["overfitting/r_t"] == 0.5  # three of four above 0
    assert (found["logits/train"], found["logits/held_out"], found["logits/generated"]) == (2, 0, -2)
    assert found["overfitting/r_v"] == 0.5 and found["logits/gap"] == 4
    assert (found["accuracy/held_out"], found["overfitting/accuracy"]) == (0.5, 0.25)


def test_r_t_goes_by_the_boundary_of_the_loss() -> None:
    shifted = measured(points(1, 2, 0.4, 6), points(1, 1, 1, 1), lambda s: Given(s, -2.0), LeastSquares())
    assert shifted["overfitting/r_t"] == 0.5  # a half is where least squares can't tell
    free = measured(points(1, 2, -1, 6), points(1, 1, -2, 0), lambda s: Given(s, -2.0), Wasserstein())
    assert "overfitting/r_t" not in free and free["overfitting/r_v"] == 0.5


def test_r_v_means_nothing_where_training_samples_rank_below_generated_ones() -> None:
    found = measured(points(1, 1), points(1, 1), lambda s: Given(s, 3.0))
    assert "overfitting/r_v" not in found and found["logits/gap"] == -2


def test_variety_is_the_mean_distance_of_pairs_beside_that_of_data() -> None:
    random = torch.Generator().manual_seed(0)
    train = torch.randn(PROBES, 2, generator=random)
    found = measured(train, train, lambda s: ScalingGenerator(s, 0.5), discriminator=DiracDiscriminator)
    assert found["diversity/batch"] == pytest.approx(0.5, abs=0.08)
    assert measured(train, train, lambda s: Given(s, 1.0))["diversity/batch"] == 0
    exact = measured(points(0, 3), points(0, 3), lambda s: ScalingGenerator(s, 1.0), discriminator=DiracDiscriminator)
    # two points 3 apart; two standard normal points in the plane are sqrt(pi) apart in the mean
    assert exact["diversity/batch"] == pytest.approx(math.sqrt(math.pi) / 3, rel=0.15)
    same = measured(points(1, 1), points(1, 1), lambda s: Given(s, 1.0))
    assert not any(name.startswith("diversity") for name in same)


def test_variety_is_measured_at_the_same_latents_every_time() -> None:
    train = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    game = NoiseGame(Spec((2,)), lambda s: ScalingGenerator(s, 1.0), DiracDiscriminator)
    players = [
        Player(name, modules, TunedOptimizer(torch.optim.SGD, [*modules[0].parameters()], {"lr": 0.0}, name),
               [Adversarial(NonSaturating(), name)])
        for name, modules in game.sides.items()
    ]  # fmt: skip
    trainer = Trainer(game, players, Split(train), FLOAT32, 8, 10, 0, [Diagnostics(Split(train), 1, 0, 8)])
    seen = []
    for _ in range(3):
        trainer.step()
        seen.append(trainer.meter.drain()["diversity/batch"])
    assert len(set(seen)) == 1


class Quarters(Extractor):
    """Four classes of images, by the first pixel."""

    def extract(self, images: Tensor) -> Features:
        return Features(
            images.flatten(1).float(), nn.functional.one_hot(images.flatten(1)[:, 0].long() // 64, 4).float()
        )


def test_classes_of_samples_have_an_entropy() -> None:
    images = torch.tensor([0, 64, 128, 192], dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 1, 4, 4).contiguous()
    classifier = Quarters("quarters", "", 16, 4, "none").freeze()
    found = measured(images, images, lambda s: Given(s, 0.9), classifier=classifier)
    assert (found["diversity/class_entropy"], found["diversity/classes"]) == (0, 1)
    assert found["diversity/class_entropy_real"] == pytest.approx(math.log(4))
    assert not any("class" in name for name in measured(images, images, lambda s: Given(s, 0.9)))


def test_the_classifier_is_the_extractor_of_the_datas_own_classes() -> None:
    images = Split(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]))
    two, four = (Quarters("quarters", "", 16, classes, "none") for classes in (2, 4))
    data = Dataset("two", Spec((1, 4, 4), ("a", "b")), images, images)
    assert classifier_of(data, [None, four, two]) is two and classifier_of(data, [four]) is None
    bare = Split(torch.zeros(2, 1, 4, 4, dtype=torch.uint8))
    none = Quarters("quarters", "", 16, 0, "none")
    assert classifier_of(Dataset("none", Spec((1, 4, 4)), bare, bare), [none]) is None


class Layered(nn.Module):
    """A generator of points with a spectrally normalised and a transposed layer."""

    latent_dim = 3

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 2, bias=False)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([[3.0, 0.0, 0.0], [0.0, 4.0, 0.0]]))
        spectral_norm(self.first, n_power_iterations=50)
        self.up = nn.ConvTranspose1d(1, 2, 3, bias=False)
        with torch.no_grad():
            self.up.weight.copy_(torch.tensor([[[3.0, 0.0, 0.0], [0.0, 0.0, 0.5]]]))
        self.scale = nn.Parameter(torch.ones(2))

    def forward(self, z: Tensor) -> Tensor:
        samples: Tensor = self.scale * self.first(z)
        return samples + 0 * self.up.weight.sum()


def test_singular_values_are_those_of_weights_as_they_are_applied() -> None:
    found = measured(points(1, 2), points(1, 2), lambda s: Layered(), singular_values=3)
    values = {name: value for name, value in found.items() if name.startswith("singular/")}
    # 4 is divided by itself; a transposed layer's outputs come second in its weight
    expected = {"first/0": 1.0, "first/1": 0.75, "up/0": 3.0, "up/1": 0.5}
    assert values == pytest.approx({f"singular/generator/{name}": value for name, value in expected.items()}, abs=1e-5)
    assert not any(name.startswith("singular/") for name in measured(points(1), points(1), lambda s: Layered()))


def test_a_run_records_them_when_asked(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    run(composed(*TINY, "log.singular_values=1"), tmp_path / "run")
    last = [record["values"] for record in read_records(tmp_path / "run" / "metrics.jsonl")
            if record["kind"] == "train"][-1]  # fmt: skip
    layers = ("generator/net.0", "generator/net.2", "discriminator/levels.0.0", "discriminator/head")
    assert {name for name in last if name.startswith("singular/")} == {f"singular/{layer}/0" for layer in layers}
    with pytest.raises(UserError, match=r"log\.singular_values=-1: must be 0 or more"):
        run(composed(*TINY, "log.singular_values=-1"), tmp_path / "other")
