"""No network keeps a parameter that no move of its player reaches: over all models, conditionings and tricks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn
from torch.nn.utils import parametrizations

from gan_experiments import runtime as machine
from gan_experiments.assembly import build_game, build_trainer
from gan_experiments.composition import check_tricks
from gan_experiments.config import build, conf_dir
from gan_experiments.errors import UserError
from gan_experiments.game import Head, Verdict
from gan_experiments.networks.heads import Headed
from gan_experiments.schema import typed
from gan_experiments.trainer import Trainer
from trick_bench import DATA, FOLDERS, GAMES, base, changes, merge

WAYS = sorted(path.stem for path in (Path(conf_dir()) / "conditioning").glob("*.yaml") if path.stem != "none")
FOR_GENERATOR = ("batch_norm", "one_hot", "label_maps")
FOR_DISCRIMINATOR = tuple(way for way in WAYS if way not in (*FOR_GENERATOR, "native"))
ALTERING = ("minibatch_discrimination", "minibatch_stddev", "noise_injection", "packing", "reference_batch_norm",
            "self_attention", "spectral_norm", "train_with_labels", "virtual_batch_norm")  # fmt: skip
"""Tricks that put something into a network."""
NEEDED = {"biggan_categories": [("regularizer", "mutual_information")]}
"""Without the bound on their information codes are just more latents, and nothing teaches the network that reads them,
as in model=infogan."""
MOVES = 12
"""In so many moves, spread over a run, growing networks have used all they have, and each level of a pyramid moved."""

Options = list[tuple[str, str]]


def trainer_of(model: str, options: Options) -> Trainer:
    """A run of the small model with these options (group, name); UserError where they don't fit."""
    config, choices = base(model)
    for group, name in options:
        config = merge(config, changes(name, group))
    node = OmegaConf.create({**config, "dataset": {"_target_": f"trick_bench.{DATA.get(model, 'images')}"}})
    check_tricks(node, FOLDERS, choices)
    settings = typed(node)
    dataset = build(settings.dataset, "dataset")
    runtime = machine.choose(settings.runtime, dataset.spec.is_image)
    return build_trainer(settings, build_game(settings, dataset.spec), dataset, runtime)[0]


def unreached(trainer: Trainer) -> list[str]:
    """Parameters whose gradients were none or 0 in every move of their player.

    Numbers are moved off where they start, so that what starts as 0 (gates, last layers of branches) hides nothing.
    """
    torch.manual_seed(0)
    left = {name: parameter for name, parameter in trainer.game.named_parameters() if parameter.numel()}
    first = {name: parameter.data.clone() for name, parameter in left.items()}
    for move in range(MOVES):
        images = move * trainer.total // (MOVES - 1)
        for name, parameter in trainer.game.named_parameters():
            if move % (MOVES // 6) == 0:  # anew, should rectifiers of so few units all be off
                parameter.data.copy_(first[name] + 0.1 * torch.randn_like(parameter))
        trainer.game.advance(images, trainer.total)
        for player in trainer.players:
            player.tuned.set(images, trainer.total)
            for parameter in trainer.game.parameters():
                parameter.grad = None
            trainer.move(player)
            left = {name: p for name, p in left.items() if p.grad is None or not p.grad.any()}
        if not left:
            break
    return sorted(left)


def fitting(model: str) -> list[Options]:
    """Nothing, each conditioning of one player beside the first that fits the other, and each trick: those that fit."""
    ways: list[Options] = [[], [("conditioning", "native")]]
    pairs = [[(first, second) for second in FOR_DISCRIMINATOR] for first in FOR_GENERATOR]
    ways += [[("conditioning", name) for name in pair] for pair in pairs[0] + [some[0] for some in pairs[1:]]]
    ways += [[("conditioning", name) for name in pair] for pair in pairs[1]]
    ways += [[("trick", name)] for name in ALTERING]
    return ways


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which weights networks start with does not matter here; decompositions and power iterations take long."""
    method = parametrizations._SpectralNorm._power_method
    monkeypatch.setattr(
        parametrizations._SpectralNorm, "_power_method", lambda self, weight, _: method(self, weight, 1)
    )
    monkeypatch.setattr(nn.init, "orthogonal_", lambda weight, *_: nn.init.normal_(weight, 0, 0.1))


@pytest.mark.parametrize("model", sorted(GAMES))
def test_every_parameter_is_reached_by_its_players_moves(model: str) -> None:
    built, generators, found = 0, set[str](), dict[str, list[str]]()
    for options in fitting(model):
        names = [name for _, name in options]
        # The other player's ways are tried beside one of the generator's.
        if len(names) == 2 and generators - {names[0]} and names[1] != FOR_DISCRIMINATOR[0]:
            continue
        try:
            trainer = trainer_of(model, [*NEEDED.get(model, []), *options])
        except UserError:
            continue
        built += 1
        if len(names) == 2:
            generators.add(names[0])
        if left := unreached(trainer):
            found["+".join(names)] = left
    assert built and not found


class Spare(Head):
    """A head with a map that nothing reads."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.used, self.spare = nn.Linear(width, 2), nn.Linear(width, 1)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """Both, side by side."""
        return torch.cat([self.used(h), self.spare(h)], 1)


def test_what_is_not_reached_is_found() -> None:
    trainer = trainer_of("images", [])
    inner = next(part for part in trainer.game.modules() if isinstance(part, Headed))
    inner.head = Spare(inner.head.in_features)  # type: ignore[arg-type]
    inner.register_forward_hook(lambda module, inputs, out: Verdict(out.logits[:, 0] - out.logits[:, 1], out.features))
    assert [name.rpartition("head.")[2] for name in unreached(trainer)] == ["spare.bias", "spare.weight"]


def test_all_models_and_ways_are_tried() -> None:
    assert {path.stem for path in (Path(conf_dir()) / "model").glob("*.yaml")} <= {*GAMES, "mlp", "dcgan"}
    assert len(FOR_DISCRIMINATOR) >= 8 and len(fitting("images")) > 25
