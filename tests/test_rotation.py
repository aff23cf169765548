"""Rotation: quarter turns, the loss in closed form, the published size, what it goes with, what it moves."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gan_experiments.data.base import Batch, Spec
from gan_experiments.errors import UserError
from gan_experiments.game import Deal, Verdict
from gan_experiments.games.noise import NoiseGame
from gan_experiments.modules import count_parameters
from gan_experiments.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gan_experiments.networks.mlp import MLPDiscriminator
from gan_experiments.networks.resnet import ResNetDiscriminator
from gan_experiments.objectives.rotation import Rotation, quarter_turns
from gan_experiments.tricks.conditioning import OneHot, ProjectionHead
from gan_experiments.tricks.labels import ClassHead
from gan_experiments.tricks.packing import Packing
from gan_experiments.tricks.rotation import RotationHead, Rotations
from given import game_of as stub
from given import named, trainer_of

SPEC = Spec((1, 8, 8), tuple("abc"))


def trick(made: Any, name: str) -> Any:
    return named(made, name)


def game_of(*tricks: Any) -> NoiseGame:
    torch.manual_seed(0)
    generator, discriminator = partial(DCGANGenerator, latent_dim=4, width=3), partial(DCGANDiscriminator, width=3)
    return NoiseGame(SPEC, generator, discriminator, tricks=[trick(Rotations(), "rotation"), *tricks])


def test_quarter_turns_of_a_small_image() -> None:
    image = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None]
    turned = quarter_turns(image.expand(4, 1, 2, 2), torch.arange(4))
    assert turned[:, 0].tolist() == [[[1, 2], [3, 4]], [[2, 4], [1, 3]], [[4, 3], [2, 1]], [[3, 1], [4, 2]]]
    images = torch.randn(5, 3, 6, 6)
    turns = torch.tensor([0, 1, 2, 3, 1])
    there = quarter_turns(images, turns)
    assert torch.equal(quarter_turns(there, (4 - turns) % 4), images)
    for place, k in enumerate(turns.tolist()):
        assert torch.equal(there[place], images[place].rot90(k, (1, 2)))


class Corner(nn.Module):
    """Logits by where the one bright pixel is: `sharpness` for the turn that takes it there from the top right."""

    def __init__(self, sharpness: float) -> None:
        super().__init__()
        self.sharpness = sharpness

    def forward(self, x: Tensor) -> Verdict:
        corners = torch.stack([x[:, 0, 0, -1], x[:, 0, 0, 0], x[:, 0, -1, 0], x[:, 0, -1, -1]], 1)
        return Verdict(x.flatten(1).sum(1), heads={"rotations": self.sharpness * corners})


def round_of(images: Tensor, network: nn.Module) -> Any:
    from given import Given

    class Round(Given):
        def judge(self, samples: Tensor, name: str, classes: Tensor | None = None) -> Verdict:
            self.seen.append(name)
            return network(samples)  # type: ignore[no-any-return]

    return Round(reals=images, fakes=images)


def test_loss_is_the_cross_entropy_of_the_turn_over_a_batch_of_all_turns() -> None:
    images = torch.zeros(6, 1, 4, 4)
    images[:, 0, 0, -1] = 1
    round = round_of(images, Corner(0.0))
    assert Rotation()(round).item() == pytest.approx(math.log(4)) and round.seen == ["rotated reals"]
    expected = -math.log(math.exp(2) / (math.exp(2) + 3))
    assert Rotation("fakes", "generator")(round_of(images, Corner(2.0))).item() == pytest.approx(expected)
    assert Rotation()(round_of(images, Corner(-2.0))).item() > math.log(4)


def test_the_head_adds_what_is_published_for_ssgan() -> None:
    spec = Spec((3, 32, 32))
    with torch.device("meta"):
        own, made = ResNetDiscriminator(spec), Rotations().network("discriminator", ResNetDiscriminator)(spec)
    assert (count_parameters(own), count_parameters(made)) == (1_053_825, 1_054_341)
    assert isinstance(made, RotationHead) and "parametrizations" in dict(made.further.named_children())
    plain = Rotations().network("discriminator", partial(DCGANDiscriminator, width=3))(SPEC)
    assert not list(plain.further.children())  # type: ignore[union-attr]


def test_d_and_g_are_moved_by_their_halves_and_the_logits_head_by_none() -> None:
    game = game_of()
    batch = (torch.rand(4, 1, 8, 8), None)
    for term, sides in (
        (Rotation(), {"discriminator"}),
        (Rotation("fakes", "generator"), {"discriminator", "generator"}),
    ):
        game.zero_grad()
        round = game.deal(Deal(4, lambda: Batch(*batch), 0, torch.device("cpu")))
        torch.autograd.backward(term(round))
        moved = {name for name, p in game.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
        assert {name.split(".")[0] for name in moved} == sides
        assert "discriminator.further.weight" in moved and not any(".head." in name for name in moved)


def test_turned_images_keep_their_classes() -> None:
    projection, one_hot = trick(ProjectionHead(), "projection"), trick(OneHot(), "one_hot")
    game = game_of(projection, one_hot)
    labels = torch.tensor([2, 0, 1, 1])
    told: list[list[int]] = []
    inner = next(part for part in game.discriminator.modules() if hasattr(part, "told"))
    hook = inner.register_forward_pre_hook(lambda module, inputs: told.append(module.told.tolist()))
    round = game.deal(Deal(4, lambda: Batch(torch.rand(4, 1, 8, 8), labels), 0, torch.device("cpu")))
    Rotation()(round)
    Rotation("fakes", "generator")(round)
    assert told == [labels.tolist(), round.asked.tolist()]
    hook.remove()


def test_it_goes_with_class_heads_and_not_with_packs_or_points() -> None:
    game = game_of(trick(ClassHead(), "train_with_labels"))
    heads = game.probe().heads
    assert heads["rotations"].shape == (2, 4) and heads["classes"].shape == (2, 3)
    assert {"rotations", "classes"} <= game.deals()
    packed = game_of(trick(Packing(2), "packing"))
    with pytest.raises(UserError, match="trick rotation turns single images, which trick packing judges in packs"):
        packed.tricks["rotation"].check(packed, {})
    for shape in ((2,), (1, 8, 16)):
        with pytest.raises(UserError, match="quarter turns are for square images"):
            Rotation().check(stub(Spec(shape)))
    with pytest.raises(UserError, match="needs rotations, which NoiseGame.*regularizer=.rotation. brings"):
        trainer_of(
            "images", ["regularizer/r1"], "regularizer.rotation._target_=gan_experiments.objectives.rotation.Rotation"
        )
    head = Rotations().network("discriminator", MLPDiscriminator)(SPEC)
    verdict = head(torch.zeros(2, 1, 8, 8))
    torch.testing.assert_close(verdict.heads["rotations"], head.further(verdict.features[-1]))  # type: ignore[operator]


def test_the_option_trains_both_players() -> None:
    trainer = trainer_of("images", ["regularizer/rotation"])
    terms = [term for player in trainer.players for term in player.terms]
    assert [(term.name, term.player, float(term.weight(0, 1))) for term in terms] == [
        ("adversarial", "discriminator", 1.0), ("rotation", "discriminator", 1.0),
        ("adversarial", "generator", 1.0), ("rotation_fake", "generator", 0.2),
    ]  # fmt: skip
    before = {name: value.clone() for name, value in trainer.game.named_parameters()}
    trainer.step()
    assert all(
        not torch.equal(value, before[name]) for name, value in trainer.game.named_parameters() if "further" in name
    )


def test_d_learns_turns_of_reals() -> None:
    torch.manual_seed(0)
    network = Rotations().network("discriminator", partial(DCGANDiscriminator, width=4, norm="none", init_std=None))(
        SPEC
    )
    images = torch.rand(64, 1, 8, 8) + torch.linspace(-2, 2, 8)[:, None]
    optimizer, turns = torch.optim.Adam(network.parameters(), 1e-2), torch.arange(64) % 4
    for _ in range(20):
        optimizer.zero_grad()
        loss = cross_entropy(network(quarter_turns(images, turns)).heads["rotations"], turns)
        torch.autograd.backward(loss)
        optimizer.step()
    assert loss.item() < 0.3
