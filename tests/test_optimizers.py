"""The group `optimizer`: one word exchanges both players' optimizers, rates stay; players of other names."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from gan_experiments.assembly import build_players
from gan_experiments.config import build_settings, conf_dir
from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.game import Term
from gan_experiments.games.noise import NoiseGame
from gan_experiments.networks.mlp import MLPDiscriminator, MLPGenerator
from gan_experiments.players import TunedOptimizer
from gan_experiments.schema import typed

FOLDER = Path(conf_dir())
OPTIMIZERS = sorted(path.stem for path in (FOLDER / "optimizer").glob("*.yaml"))
CHOICES = [f"schedule={path.stem}" for path in sorted((FOLDER / "schedule").glob("*.yaml"))] + [
    f"experiment={path.stem}" for path in sorted((FOLDER / "experiment").glob("*.yaml"))
]
PLAYERS = ("discriminator", "generator")


def tuned(config: DictConfig, player: str) -> TunedOptimizer:
    where = f"schedule.{player}.optimizer"
    make, values = build_settings(config.schedule[player].optimizer, where)
    return TunedOptimizer(make, [nn.Parameter(torch.zeros(3))], values, where)


@pytest.mark.parametrize("choice", CHOICES)
def test_every_schedule_and_experiment_takes_every_optimizer_and_keeps_its_rates(
    choice: str, composed: Callable[..., DictConfig]
) -> None:
    before = composed(choice)
    OmegaConf.set_struct(before, False)
    for option in OPTIMIZERS:
        # what Hydra does with the option, without its third of a second
        after = OmegaConf.merge(before, {"schedule": OmegaConf.load(FOLDER / "optimizer" / f"{option}.yaml")})
        for player in PLAYERS:
            made, own = tuned(after, player), tuned(before, player)
            assert type(made.optimizer).__name__ == after.schedule[player].optimizer._target_.split(".")[-1]
            for images in (0, 40, 100):
                made.set(images, 100), own.set(images, 100)
                assert made.lr == own.lr


def test_the_option_is_merged_last(composed: Callable[..., DictConfig]) -> None:
    for option in OPTIMIZERS:
        plain = composed("experiment=vae")
        OmegaConf.set_struct(plain, False)
        merged = OmegaConf.merge(plain, {"schedule": OmegaConf.load(FOLDER / "optimizer" / f"{option}.yaml")})
        assert composed("experiment=vae", f"optimizer={option}").schedule == merged.schedule


def test_numbers_of_the_chosen_optimizer_are_set_by_name_and_the_replaced_ones_are_gone(
    composed: Callable[..., DictConfig],
) -> None:
    made = tuned(composed("optimizer=rmsprop", "schedule.generator.optimizer.alpha=0.9"), "generator")
    assert made.optimizer.param_groups[0]["alpha"] == 0.9 and "betas" not in made.optimizer.param_groups[0]
    kept = tuned(composed("optimizer=adamw", "schedule.generator.optimizer.betas=[0.1,0.2]"), "generator")
    assert kept.optimizer.param_groups[0]["betas"] == (0.1, 0.2)
    assert kept.optimizer.param_groups[0]["weight_decay"] == 0.01
    with pytest.raises(UserError, match="RMSprop takes no betas; it takes lr, alpha"):
        tuned(composed("optimizer=rmsprop", "schedule.generator.optimizer.betas=[0.1,0.2]"), "generator")


class Pull(Term):
    """A term for a player of any name."""

    def __call__(self, round: object) -> torch.Tensor:
        return torch.zeros(())


class Encoded(NoiseGame):
    """A game with a third side."""

    @property
    def sides(self) -> dict[str, tuple[nn.Module, ...]]:
        return {**super().sides, "encoder": (nn.Linear(2, 2),)}


def test_a_third_player_has_settings_of_its_own(composed: Callable[..., DictConfig]) -> None:
    game = Encoded(Spec((2,)), partial(MLPGenerator, latent_dim=2, hidden=(4,)), partial(MLPDiscriminator, hidden=(4,)))
    terms = [Pull("discriminator"), Pull("generator"), Pull("encoder")]
    with pytest.raises(UserError, match="Encoded has a player encoder: set schedule.players.encoder.optimizer"):
        build_players(typed(composed()), game, terms)
    own = "+schedule.players.encoder={moves: 3, optimizer: {_target_: torch.optim.SGD, lr: 0.5}}"
    players = build_players(typed(composed(own)), game, terms)
    assert [(player.name, player.moves) for player in players] == [
        ("discriminator", 1), ("generator", 1), ("encoder", 3),
    ]  # fmt: skip
    assert players[2].tuned.lr == 0.5
    with pytest.raises(UserError, match=r"schedule.players.encoder.lazy=never: use joined or separate"):
        typed(composed(own, "+schedule.players.encoder.lazy=never"))
    with pytest.raises(UserError, match="schedule.players.encoder: .*bogus"):
        typed(composed("+schedule.players.encoder.bogus=1"))
    with pytest.raises(UserError, match=r"schedule.players.encoder.optimizer.betas: SGD takes no betas"):
        build_players(typed(composed(own, "+schedule.players.encoder.optimizer.betas=[0,1]")), game, terms)
