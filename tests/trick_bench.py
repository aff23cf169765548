"""Small games on which tricks are tried: configurations merged as Hydra would, runs built and stepped."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from torch import nn

from gan_experiments import runtime as machine
from gan_experiments import seeding
from gan_experiments.assembly import build_game, build_trainer
from gan_experiments.composition import check_tricks, read_option
from gan_experiments.config import build, conf_dir, plain, register
from gan_experiments.data.base import Dataset, Spec, Split
from gan_experiments.errors import UserError
from gan_experiments.schema import typed

REGULARIZERS = sorted(path.stem for path in (Path(conf_dir()) / "regularizer").glob("*.yaml") if path.stem != "none")
TRICKS = sorted(path.stem for path in (Path(conf_dir()) / "trick").glob("*.yaml") if path.stem != "none")
CLASSES = tuple("abc")
COMMON = ("metric=none", "extractor=none", "logger=none", "schedule.batch_size=12", "schedule.steps=2",
          "schedule.images=null", "runtime.precision=float32", "run.dir=unused")  # fmt: skip
GAMES = {
    "points": ("model=mlp", "model.generator.hidden=[6,6]", "model.discriminator.hidden=[6,6]",
               "model.generator.latent_dim=2", "model.generator.batch_norm=true"),
    "images": ("model=dcgan", "model.generator.width=4", "model.discriminator.width=4", "model.generator.latent_dim=3"),
}  # fmt: skip
ZOO = {  # every other model, small; a test holds it complete
    "maxout": ("model=maxout", "model.generator.hidden=[6,6]", "model.discriminator.hidden=[6]"),
    "mlp_autoencoder": ("model=mlp_autoencoder", "loss=ebgan", "model.generator.hidden=[6,6]",
                        "model.discriminator.hidden=[6]", "model.discriminator.code_dim=2"),
    "dcgan_autoencoder": ("model=dcgan_autoencoder", "loss=ebgan", "model.generator.width=4",
                          "model.discriminator.width=4", "model.discriminator.code_dim=3"),
    "dirac": ("model=dirac", "schedule=gradient_descent"),
    "linear_quadratic": ("model=linear_quadratic", "schedule=gradient_descent"),
    "tiny": ("model=tiny", "model.generator.latent_dim=3"),
    "sndcgan": ("model=sndcgan", "model.generator.width=1", "model.discriminator.width=1",
                "model.generator.latent_dim=3"),
    "resnet": ("model=resnet", "model.generator.width=2", "model.discriminator.width=2",
               "model.generator.latent_dim=3"),
    "sagan": ("model=sagan", "model.generator.width=2", "model.discriminator.width=2", "model.generator.latent_dim=3"),
    "biggan": ("model=biggan", "model.generator.width=2", "model.discriminator.width=2", "model.generator.latent_dim=4",
               "model.generator.embedding_dim=3"),
    "biggan_categories": ("model=biggan_categories", "model.generator.width=2", "model.discriminator.width=2",
                          "model.generator.latent_dim=12", "model.categories=[3]"),
    "biggan_deep": ("model=biggan_deep", "model.generator.width=2", "model.discriminator.width=2",
                    "model.generator.latent_dim=4", "model.generator.embedding_dim=3"),
    "r3gan": ("model=r3gan", "model.generator.width=8", "model.generator.groups=2", "model.generator.latent_dim=3",
              "model.discriminator.width=8", "model.discriminator.groups=2"),
    "progan": ("model=progan", "model.generator.latent_dim=3", "model.generator.channel_max=4",
               "model.discriminator.channel_max=4"),
    "stylegan": ("model=stylegan", "model.generator.latent_dim=3", "model.generator.style_dim=3",
                 "model.generator.channel_max=4", "model.discriminator.channel_max=4"),
    "stylegan2": ("model=stylegan2", "model.generator.latent_dim=3", "model.generator.style_dim=3",
                  "model.generator.channel_max=4", "model.discriminator.channel_max=4"),
    "stylegan3": ("model=stylegan3", "model.generator.latent_dim=3", "model.generator.style_dim=3",
                  "model.generator.channel_max=4", "model.generator.depth=4", "model.generator.margin=4",
                  "model.discriminator.channel_max=4", "model.discriminator.blur=2"),
    "transgan": ("model=transgan", "model.generator.width=16", "model.generator.depths=[1]",
                 "model.generator.latent_dim=3", "model.discriminator.width=16", "model.discriminator.depths=[1,1]"),
    "infogan": ("model=infogan", "regularizer=[mutual_information]", "model.generator.width=2",
                "model.generator.hidden=4", "model.generator.latent_dim=14", "model.discriminator.width=2",
                "model.discriminator.hidden=4", "model.recognition_width=3"),
    "semi_supervised": ("model=semi_supervised", "regularizer=[supervision]", "model.generator.hidden=[6,6]",
                        "model.generator.latent_dim=3", "model.discriminator.hidden=[6,6]"),
    "few_labels": ("model=few_labels", "regularizer=[supervision]", "model.generator.width=2",
                   "model.discriminator.width=2", "model.generator.latent_dim=4", "model.generator.embedding_dim=3"),
    "fastgan": ("model=fastgan", "regularizer=[reconstruction]", "model.generator.width=2",
                "model.discriminator.width=2", "model.discriminator.decoder_width=2", "model.generator.latent_dim=3"),
    "projected": ("model=projected", "model.generator.width=2", "model.generator.latent_dim=3",
                  "model.discriminator.features._target_=trick_bench.TinyFeatures", "model.discriminator.size=null",
                  "model.discriminator.width=8", "model.discriminator.mixed_width=4"),
}  # fmt: skip
APART = {  # models of other games, which refuse tricks that act on samples
    "vae": ("model=vae", "loss=evidence", "model.generator.width=4", "model.encoder.width=4",
            "model.generator.latent_dim=3"),
    "autoregressive": ("model=autoregressive", "loss=likelihood", "model.generator.width=2",
                       "model.generator.blocks=1"),
    "lapgan": ("model=lapgan", "model.coarse_generator.width=4", "model.coarse_discriminator.width=4",
               "model.generator.width=2", "model.discriminator.width=2", "model.coarse_generator.latent_dim=3"),
}  # fmt: skip
GAMES.update(ZOO)
GAMES.update(APART)
DATA = {"points": "points", "images": "larger", "maxout": "points", "mlp_autoencoder": "points",
        "dcgan_autoencoder": "images", "dirac": "line", "linear_quadratic": "line", "tiny": "images",
        "resnet": "images", "sagan": "images", "biggan": "images", "biggan_deep": "images",
        "r3gan": "images"}  # fmt: skip
DATA.update({"sndcgan": "images", "biggan_categories": "images"})
DATA.update({"fastgan": "images", "projected": "images"})
DATA.update({"stylegan3": "images", "transgan": "larger"})
DATA.update({"progan": "images", "stylegan": "images", "stylegan2": "images"})
DATA.update({"vae": "images", "autoregressive": "images", "lapgan": "larger"})
DATA.update({"infogan": "images", "semi_supervised": "images", "few_labels": "images"})
FOLDERS = [Path(conf_dir())]


class TinyFeatures(nn.Module):
    """A feature network of two maps."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 5, 3, 2, 1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Maps of 4 and 5 channels at a half and a quarter of the side."""
        fine = self.norm(self.fine(images)).relu()
        return [fine, self.coarse(fine)]


def points() -> Dataset:
    """Labelled points."""
    random = seeding.generator(0, "points")
    parts = [Split(torch.randn(n, 2, generator=random), torch.arange(n) % 3) for n in (60, 30)]
    return Dataset("points", Spec((2,), CLASSES), *parts)


def line() -> Dataset:
    """Labelled numbers."""
    parts = [Split(torch.linspace(-1, 1, n)[:, None], torch.arange(n) % 3) for n in (60, 30)]
    return Dataset("line", Spec((1,), CLASSES), *parts)


def images(side: int = 8) -> Dataset:
    """Labelled images."""
    random = seeding.generator(0, "images")
    parts = [
        Split(torch.randint(256, (n, 1, side, side), dtype=torch.uint8, generator=random), torch.arange(n) % 3)
        for n in (60, 30)
    ]
    return Dataset("images", Spec((1, side, side), CLASSES), *parts)


def larger() -> Dataset:
    """Labelled images of twice the side."""
    return images(16)


def compose_plainly(*overrides: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A composed configuration and the choices of its groups."""
    GlobalHydra.instance().clear()
    register()
    with initialize_config_dir(config_dir=conf_dir(), version_base="1.3"):
        config = compose("config", [*COMMON, *overrides], return_hydra_config=True)
    choices = dict(config.hydra.runtime.choices)
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    return plain(config), choices


@cache
def base(game: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return compose_plainly(*GAMES[game])


@cache
def changes(option: str, group: str = "trick") -> dict[str, Any]:
    """What a trick's file and the files it includes set; tricks come last, so merging them is what Hydra does."""
    path = FOLDERS[0] / group / f"{option}.yaml"
    included = OmegaConf.load(path).get("defaults") or []
    merged: dict[str, Any] = {}
    for place in included:
        merged = merge(merged, read_option(FOLDERS, *str(place).strip("/").split("/")) or {})
    return merge(merged, read_option(FOLDERS, group, option) or {})


def merge(one: Any, other: Any) -> Any:
    if not isinstance(one, dict) or not isinstance(other, dict):
        return other
    return {**one, **{key: merge(one.get(key), value) for key, value in other.items()}}


def attempt(*tricks: str, game: str, steps: int = 2, regularizers: Sequence[str] = ()) -> str:
    """Build a run and take its steps: empty, or why it was refused before the first step."""
    config, choices = base(game)
    for change in (*(changes(name, "regularizer") for name in regularizers), *map(changes, tricks)):
        config = merge(config, change)
    try:
        node = OmegaConf.create({**config, "dataset": {"_target_": f"{__name__}.{DATA[game]}"}})
        check_tricks(node, FOLDERS, choices)
        settings = typed(node)
        dataset = build(settings.dataset, "dataset")
        runtime = machine.choose(settings.runtime, dataset.spec.is_image)
        trainer, _ = build_trainer(settings, build_game(settings, dataset.spec), dataset, runtime)
    except UserError as error:
        return str(error)
    before = [p.clone() for p in trainer.game.parameters()]
    for _ in range(steps):
        trainer.step()
    assert not steps or any(not torch.equal(a, b) for a, b in zip(before, trainer.game.parameters(), strict=True))
    assert all(p.isfinite().all() for p in trainer.game.parameters())
    trainer.meter.check()
    return ""
