"""Co-training with few labels (S3GAN): which classes the discriminator is told, and what the classifier learns from."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from gan_experiments.data.base import Spec, Split
from gan_experiments.errors import UserError
from gan_experiments.games.few_labels import FewLabelsGame
from gan_experiments.modules import count_parameters
from gan_experiments.networks.biggan import BigGANDiscriminator, BigGANGenerator
from gan_experiments.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gan_experiments.networks.informed import Informed
from gan_experiments.objectives.adversarial import Adversarial, Hinge
from gan_experiments.objectives.rotation import Rotation
from gan_experiments.objectives.supervision import Supervision
from gan_experiments.players import Player, TunedOptimizer
from gan_experiments.trainer import Trainer
from gan_experiments.tricks.adaptive import PseudoReals
from gan_experiments.tricks.few_labels import balanced_rows
from gan_experiments.tricks.rotation import Rotations
from given import FLOAT32, named

SPEC = Spec((1, 8, 8), tuple("abc"))
G = partial(BigGANGenerator, width=2, conditional=True, latent_dim=4, embedding_dim=3, attention=False)
D = partial(BigGANDiscriminator, width=2, conditional=True, attention=False)


def game_of(**settings: Any) -> FewLabelsGame:
    torch.manual_seed(0)
    return FewLabelsGame(SPEC, G, D, **{"labels_per_class": 2, "labelled_share": 0.5, **settings})


def images() -> Split:
    random = torch.Generator().manual_seed(1)
    return Split(torch.randint(256, (60, *SPEC.shape), dtype=torch.uint8, generator=random), torch.arange(60) % 3)


def trainer_of(game: FewLabelsGame, data: Split) -> Trainer:
    terms = {"discriminator": [named(Supervision(), "supervision")], "generator": []}
    players = []
    for name in ("discriminator", "generator"):
        parameters = [p for module in game.sides[name] for p in module.parameters()]
        tuned = TunedOptimizer(torch.optim.Adam, parameters, {"lr": 1e-2}, name)
        players.append(Player(name, game.sides[name], tuned, [Adversarial(Hinge(), name), *terms[name]]))
    return Trainer(game, players, data, FLOAT32, 8, 10, 7)


def told(game: FewLabelsGame) -> list[list[int]]:
    """What the discriminator's projection is told, call by call."""
    calls: list[list[int]] = []
    (part,) = [part for part in game.discriminator.modules() if isinstance(part, Informed)]
    part.register_forward_pre_hook(lambda module, inputs: calls.append(module.classes.tolist()))
    return calls


def test_known_labels_come_first_and_the_classifier_says_the_others() -> None:
    game, data = game_of(), images()
    round: Any = trainer_of(game, data).deal_from(data, torch.arange(8), 0, frozenset())
    before = {name: value.clone() for name, value in game.state_dict().items()}
    calls = told(game)
    known = round.labelled_batch
    assert len(known.samples) == 4 and torch.equal(round.reals[:4], known.samples)
    assert torch.equal(round.reals[4:], data.take(torch.arange(4, 8)).samples)
    labels = round.labels
    assert all(torch.equal(value, before[name]) for name, value in game.state_dict().items())  # spectral norm's vectors
    assert torch.equal(labels[:4], known.labels) and calls == [[0] * 8] and not labels.requires_grad
    assert torch.equal(round.real.heads["classes"][4:].argmax(1), labels[4:]) and calls[1:] == [labels.tolist()]
    assert torch.equal(round.taught.heads["classes"], round.real.heads["classes"][:4]) and len(calls) == 2
    assert torch.equal(round.taught.logits, round.real.logits[:4])
    assert torch.equal(round.fake.logits, round.fake.logits) and calls[2] == round.asked.tolist()


def test_guesses_follow_the_classifier() -> None:
    game, data = game_of(), images()
    trainer = trainer_of(game, data)
    head = game.discriminator.further
    with torch.no_grad():
        head.bias[2] = 100.0  # type: ignore[union-attr, index]
    round: Any = trainer.deal_from(data, torch.arange(8), 0, frozenset())
    assert round.labels[4:].tolist() == [2] * 4


def test_the_supervised_term_teaches_classifier_and_body_by_known_labels() -> None:
    game, data = game_of(), images()
    round: Any = trainer_of(game, data).deal_from(data, torch.arange(8), 0, frozenset())
    game.requires_grad_(True)
    value = Supervision()(round)
    logits = round.real.heads["classes"]
    torch.testing.assert_close(value, cross_entropy(logits[:4], round.labelled_batch.labels))
    torch.autograd.backward(value)
    moved = {name for name, p in game.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert any("further" in name for name in moved) and any("levels.0" in name for name in moved)
    assert not any("head" in name or "vectors" in name for name in moved)


def test_no_other_label_is_seen() -> None:
    states = []
    for shift in (0, 1):
        game, data = game_of(), images()
        rows = balanced_rows(torch.arange(60) % 3, 3, 2, 0)
        assert data.labels is not None
        wrong = torch.ones(60, dtype=torch.bool).index_fill(0, rows, False)
        data.labels[wrong] = (data.labels[wrong] + shift) % 3
        trainer = trainer_of(game, data)
        game.few.rows = rows
        for _ in range(3):
            trainer.step()
        states.append(game.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_with_rotation_it_is_s3gan() -> None:
    game, data = game_of(tricks=[named(Rotations(), "rotation")]), images()  # type: ignore[arg-type]
    round: Any = trainer_of(game, data).deal_from(data, torch.arange(8), 0, frozenset())
    calls = told(game)
    Rotation()(round)
    assert calls == [[0] * 8, round.labels.tolist()]
    Rotation("fakes", "generator")(round)
    assert calls[2] == round.asked.tolist() and {"rotations", "classes"} <= set(game.probe().heads)
    plain = game_of()
    width = plain.discriminator.further.in_features  # type: ignore[union-attr]
    assert count_parameters(game.discriminator) - count_parameters(plain.discriminator) == 4 * (width + 1)  # type: ignore[operator]
    assert plain.discriminator.further.out_features == 3  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"labelled_share": 0.0}, "labelled_share=0.0: must be above 0"),
        ({"labels_per_class": 0}, "labels_per_class=0"),
        ({"tricks": [named(PseudoReals(), "apa")]}, "trick apa replaces real samples"),  # type: ignore[arg-type]
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        game_of(**settings)


def test_networks_must_use_classes() -> None:
    with pytest.raises(UserError, match="few labels is for networks that use classes: add conditioning="):
        FewLabelsGame(SPEC, partial(DCGANGenerator, width=2), partial(DCGANDiscriminator, width=2))
    assert game_of(labelled_share=0.01).labelled_count(8) == 1
