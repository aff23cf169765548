"""Recipes, experiments that follow a publication: what their comments promise, and networks of the published sizes.

That every experiment takes two steps is tested in test_configs.py, since it holds for all of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch.nn.utils import parametrizations

from gan_experiments.assembly import build_game, build_tricks
from gan_experiments.config import build, build_number
from gan_experiments.curves import as_curve
from gan_experiments.data.base import Spec
from gan_experiments.modules import count_parameters
from gan_experiments.schema import typed
from recipes import EXPERIMENTS, Counts, counts, given_data, header, small, stand_in

RECIPES = [name for name in EXPERIMENTS if "\nParameters: " in header(name)]
PUBLISHED = [count for name in EXPERIMENTS for count in counts(name)]
LIMIT = 10_000_000
"""Parameters of networks that two steps may be taken with as they are."""


def test_recipes_are_there() -> None:
    assert len(RECIPES) >= 18


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks are built without what only concerns the values of their weights, and looks at them."""

    monkeypatch.setattr(parametrizations._SpectralNorm, "_power_method", lambda *_: None)


def players(config: DictConfig, spec: Spec, device: str) -> tuple[int, int]:
    """Trainable parameters of generator and discriminator, built on that device."""
    with torch.device(device):
        sides = build_game(typed(config), spec).sides
    generator, discriminator = (
        sum(count_parameters(network) for network in sides.get(name, ())) for name in ("generator", "discriminator")
    )
    return generator, discriminator


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda count: f"{count.experiment}-{count.generator}")
def test_networks_have_the_published_numbers_of_parameters(
    published: Counts, composed: Callable[..., DictConfig], quick: None
) -> None:
    config = composed(f"experiment={published.experiment}", *published.overrides)
    side = config.dataset.get("size", 32)
    labelled = config.dataset.get("labels", True)
    classes = tuple(map(str, range(published.classes))) if labelled else ()
    found = players(config, Spec((3, side, side), classes), "meta")
    assert found == (published.generator, published.discriminator)


@pytest.mark.parametrize("experiment", [name for name in EXPERIMENTS if not small(name)])
def test_large_experiments_say_how_they_are_made_small(
    experiment: str, composed: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise two steps of them would take minutes."""
    stand_in(monkeypatch)
    config = given_data(composed(f"experiment={experiment}"), tmp_path)
    spec = build(config.dataset, "dataset").spec
    assert max(players(config, spec, "cpu")) < LIMIT, (
        "write a line `# Small: key=value ...` into the experiment's header"
    )


@pytest.mark.parametrize("experiment", RECIPES)
def test_headers_of_recipes_say_what_was_published(experiment: str) -> None:
    """Source, counts, budget, score and differences, and what makes it small, each on a line of its own."""
    text = header(experiment)
    assert re.match(r".*\(.*(19|20)\d\d", text), "the first line names the system and its paper"
    for what in ("Parameters", "Budget", "Differences", "Small"):
        assert re.search(rf"^{what}: \S", text, re.MULTILINE), f"no line {what}"
    assert "Published" in text


STEPS = {  # as published; images = steps x moves of D x batch
    "dcgan_cifar10": 200_000, "lsgan_cifar10": 200_000, "wgan_cifar10": 100_000, "wgan_gp_cifar10": 100_000,
    "dragan_cifar10": 100_000, "sngan_cifar10": 100_000, "cgan_pd_cifar10": 100_000, "acgan_cifar10": 100_000,
    "sagan_cifar10": 100_000, "sagan_imagenet128": 1_000_000, "biggan_cifar10": 100_000, "reacgan_cifar10": 100_000,
    "biggan_diffaugment_cifar10_10pct": 125_000, "transgan_cifar10": 500_000,
}  # fmt: skip


@pytest.mark.parametrize("experiment", STEPS)
def test_lengths_are_the_published_steps(experiment: str, composed: Callable[..., DictConfig]) -> None:
    schedule = composed(f"experiment={experiment}").schedule
    assert schedule.images == STEPS[experiment] * schedule.batch_size * schedule.discriminator.moves
    assert f"{STEPS[experiment]:,} steps ({schedule.images:,} images" in header(experiment).replace("\n", " ")


@pytest.mark.parametrize(
    ("experiment", "decay", "start"),
    [("biggan_cifar10", 0.9999, 1000), ("reacgan_cifar10", 0.9999, 1000), ("progan_folder", 0.999, 0),
     ("biggan_diffaugment_cifar10_10pct", 0.9999, 1000)],
)  # fmt: skip
def test_half_lives_are_the_published_decays(
    experiment: str, decay: float, start: int, composed: Callable[..., DictConfig]
) -> None:
    schedule = composed(f"experiment={experiment}").schedule
    step = schedule.batch_size * schedule.discriminator.moves
    half_life = as_curve(build_number(schedule.ema.half_life, "half_life"))
    assert 0.5 ** (step / half_life((start + 1) * step, schedule.images)) == pytest.approx(decay, abs=1e-7)
    assert math.isclose(half_life(start * step, schedule.images), 0.0 if start else half_life(step, schedule.images))


def test_an_experiment_chooses_conditionings_and_tricks_and_the_command_line_has_the_last_word(
    composed: Callable[..., DictConfig],
) -> None:
    def chosen(*overrides: str) -> tuple[list[str], list[str]]:
        config = composed(*overrides)
        assert len(build_tricks(typed(config))) >= len(config.conditioning) - 1  # native only sets values
        return sorted(config.conditioning), sorted(config.trick)

    lean = "experiment=biggan_diffaugment_cifar10_10pct"
    assert chosen(lean) == (["batch_norm", "projection"], ["diffaugment"])
    assert chosen(lean, "~trick.diffaugment") == (["batch_norm", "projection"], [])
    assert chosen(lean, "trick=[top_k]") == (["batch_norm", "projection"], ["diffaugment", "top_k"])
    assert chosen(lean, "conditioning=none") == ([], ["diffaugment"])
    assert chosen("experiment=reacgan_cifar10") == (["data_to_data"], [])
    assert composed(lean).trick.diffaugment.policy == ["translation", "cutout"]
    assert composed(lean, "trick.diffaugment.policy=[color]").trick.diffaugment.policy == ["color"]
    unlabelled = composed("experiment=stylegan2_ada_cifar10", "conditioning=none").model
    assert not unlabelled.generator.conditional and not unlabelled.discriminator.conditional


def test_a_tenth_of_the_data(composed: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    dataset: Any = build(composed("experiment=biggan_diffaugment_cifar10_10pct").dataset, "dataset")
    assert (len(dataset.train), len(dataset.held_out), dataset.flip) == (20, 60, True)
    assert dataset.train.labels.bincount().tolist() == [2] * 10


@pytest.mark.parametrize("experiment", RECIPES)
def test_scores_are_of_as_many_samples_as_the_published_ones(
    experiment: str, composed: Callable[..., DictConfig]
) -> None:
    said = re.search(r"([\d,]+) samples(?=\s+against\s+the\s+t|\s+against\s+all|, as|\))", header(experiment))
    config = composed(f"experiment={experiment}")
    assert list(config.extractor) == ["inception"]
    if said is not None and experiment != "dragan_cifar10":  # whose only score is of other networks and a search
        assert config.evaluation.samples == int(said[1].replace(",", ""))
