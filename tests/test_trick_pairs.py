"""Every pair of tricks on two games: each takes two training steps or is refused in one line when the run is built."""

from __future__ import annotations

from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from gan_experiments import runtime as machine
from gan_experiments import seeding
from gan_experiments.assembly import build_game, build_trainer
from gan_experiments.composition import check_tricks, read_option
from gan_experiments.config import build, conf_dir, plain, register, typed
from gan_experiments.data.base import Dataset, Spec, Split
from gan_experiments.errors import UserError

TRICKS = sorted(path.stem for path in (Path(conf_dir()) / "trick").glob("*.yaml") if path.stem != "none")
CLASSES = tuple("abc")
COMMON = ("metric=none", "extractor=none", "logger=none", "schedule.batch_size=12", "schedule.steps=2",
          "schedule.images=null", "runtime.precision=float32", "run.dir=unused")  # fmt: skip
GAMES = {
    "points": ("model=mlp", "model.generator.hidden=[6,6]", "model.discriminator.hidden=[6,6]",
               "model.generator.latent_dim=2", "model.generator.batch_norm=true"),
    "images": ("model=dcgan", "model.generator.width=4", "model.discriminator.width=4", "model.generator.latent_dim=3"),
}  # fmt: skip
FOLDERS = [Path(conf_dir())]


def points() -> Dataset:
    """Labelled points."""
    random = seeding.generator(0, "points")
    parts = [Split(torch.randn(n, 2, generator=random), torch.arange(n) % 3) for n in (60, 30)]
    return Dataset("points", Spec((2,), CLASSES), *parts)


def images() -> Dataset:
    """Labelled images."""
    random = seeding.generator(0, "images")
    parts = [
        Split(torch.randint(256, (n, 1, 8, 8), dtype=torch.uint8, generator=random), torch.arange(n) % 3)
        for n in (60, 30)
    ]
    return Dataset("images", Spec((1, 8, 8), CLASSES), *parts)


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
def changes(trick: str) -> dict[str, Any]:
    """What a trick's file and the files it includes set; tricks come last, so merging them is what Hydra does."""
    path = FOLDERS[0] / "trick" / f"{trick}.yaml"
    included = OmegaConf.load(path).get("defaults") or []
    merged: dict[str, Any] = {}
    for place in included:
        group, option = str(place).strip("/").split("/")
        merged = merge(merged, read_option(FOLDERS, group, option) or {})
    return merge(merged, read_option(FOLDERS, "trick", trick) or {})


def merge(one: Any, other: Any) -> Any:
    if not isinstance(one, dict) or not isinstance(other, dict):
        return other
    return {**one, **{key: merge(one.get(key), value) for key, value in other.items()}}


def attempt(*tricks: str, game: str, steps: int = 2) -> str:
    """Build a run and take its steps: empty, or why it was refused before the first step."""
    config, choices = base(game)
    for trick in tricks:
        config = merge(config, changes(trick))
    try:
        node = OmegaConf.create({**config, "dataset": {"_target_": f"{__name__}.{game}"}})
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
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer.game.parameters(), strict=True))
    assert all(p.isfinite().all() for p in trainer.game.parameters())
    trainer.meter.check()
    return ""


def test_merging_a_tricks_file_is_what_hydra_does() -> None:
    for trick in ("feature_matching", "train_with_labels", "ema", "packing"):
        composed, _ = compose_plainly(*GAMES["points"], f"trick=[{trick}]")
        assert composed == merge(base("points")[0], changes(trick)), trick


ALONE = {  # what a game of points can't have
    "points": {"ada": "images", "diffaugment": "images", "self_attention": "feature maps"},
    "images": {},
}
TOGETHER = {  # what contradicts itself, or what the other leaves no room for
    frozenset({"reference_batch_norm", "virtual_batch_norm"}): "choose one",
    frozenset({"packing", "train_with_labels"}): "choose one",
    **{frozenset({norm, batch}): "choose one" for norm in ("reference_batch_norm", "virtual_batch_norm")
       for batch in ("minibatch_discrimination", "minibatch_stddev")},
}  # fmt: skip


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("trick", TRICKS)
def test_each_trick_takes_two_steps_or_says_why_not(trick: str, game: str) -> None:
    said = attempt(trick, game=game)
    reason = ALONE[game].get(trick)
    assert (reason is None and not said) or (reason is not None and trick in said and reason in said), said


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("first", TRICKS)
def test_every_pair_takes_two_steps_or_is_refused_in_one_line(first: str, game: str) -> None:
    for one, other in combinations(TRICKS, 2):
        if one != first:
            continue
        said = attempt(one, other, game=game)
        reasons = [ALONE[game].get(one), ALONE[game].get(other), TOGETHER.get(frozenset({one, other}))]
        expected = [reason for reason in reasons if reason]
        assert bool(said) == bool(expected), f"{one} + {other}: {said}"
        assert not said or ("\n" not in said and any(reason in said for reason in expected)), said
