"""Which classes are told for which samples: terms, diagnostics, grids, files for inference."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from conftest import Compose
from gan_experiments import seeding
from gan_experiments.data.base import Batch
from gan_experiments.experiment import run
from gan_experiments.game import Deal, Verdict
from gan_experiments.inference import load_generator
from gan_experiments.logging.logger import NoLogger
from gan_experiments.networks.conditional import EmbeddingHead, MultiHingeHead
from gan_experiments.networks.informed import Informed, informing
from gan_experiments.objectives.consistency import Consistency, LatentConsistency
from gan_experiments.observers.diagnostics import Diagnostics
from gan_experiments.observers.ema import Ema
from gan_experiments.observers.samples import SampleGrids
from test_conditioning import game, trainer_of
from tiny import TINY

LABELS = torch.tensor([0, 2, 0, 2, 2])


def listen(network: nn.Module) -> list[Tensor]:
    """The classes told at each coming call of a network."""
    heard: list[Tensor] = []

    def hear(module: nn.Module, inputs: object) -> None:
        part = next(part for part in module.modules() if isinstance(part, Informed))
        heard.append(part.classes.clone())

    network.register_forward_pre_hook(hear)
    return heard


def dealt() -> tuple[object, list[Tensor], list[Tensor]]:
    """A round on five images, and what generator and discriminator are told in it."""
    own = game()
    made, judged = listen(own.generator), listen(own.discriminator)
    batch = Batch(torch.rand(5, 1, 8, 8), LABELS)
    return own.deal(Deal(5, lambda: batch, 11, torch.device("cpu"))), made, judged


@pytest.mark.parametrize("term", [Consistency(at="fakes"), LatentConsistency()])
def test_changed_samples_keep_the_classes_asked_for(term: Consistency | LatentConsistency) -> None:
    round, made, judged = dealt()
    term(round)  # type: ignore[arg-type]
    asked = round.asked  # type: ignore[attr-defined]
    assert not torch.equal(asked, LABELS)
    assert len(judged) == 2 and all(torch.equal(told, asked) for told in (*judged, *made))


def test_changed_reals_keep_their_labels() -> None:
    round, _, judged = dealt()
    Consistency(at="reals")(round)  # type: ignore[arg-type]
    assert len(judged) == 2 and all(torch.equal(told, LABELS) for told in judged)


def test_stand_ins_of_reals_are_of_their_classes() -> None:
    round, made, _ = dealt()
    round.draw(3, seeding.generator(0, "draw"))  # type: ignore[attr-defined]
    assert torch.equal(made[0], LABELS[:3])


def test_held_out_samples_are_judged_with_their_own_labels() -> None:
    trainer = trainer_of("conditioning=[batch_norm,projection]", "runtime.threads=1")
    watch = Diagnostics(trainer.data, 100, 0, 12)
    judged = listen(trainer.game.discriminator)  # type: ignore[arg-type]
    watch.verdicts(trainer)
    labels = trainer.data.take(watch.indices(trainer, trainer.data, "held out")).labels
    assert labels is not None and torch.equal(judged[-1], labels)


def test_grids_have_a_row_a_class(tmp_path: Path) -> None:
    trainer = trainer_of("conditioning=[batch_norm,projection]", "runtime.threads=1")
    made = listen(trainer.game.generator)  # type: ignore[arg-type]
    trainer.step_count = trainer.total_steps
    SampleGrids(1, 6, tmp_path, Ema(trainer.game, 0.0), NoLogger(), 0, trainer.data).after_step(trainer)
    assert made[0].tolist() == [0, 0, 1, 1, 2, 2]


def test_the_file_for_inference_knows_how_frequent_classes_are(composed: Compose, tmp_path: Path) -> None:
    run(composed(*TINY), tmp_path / "run")
    frequencies = load_generator(tmp_path / "run").game.spec.frequencies
    assert len(frequencies) == 8 and sum(frequencies) == pytest.approx(1)


def test_the_logit_of_a_hinge_over_classes_is_the_best_real_score_minus_the_generated_one() -> None:
    head = MultiHingeHead(nn.Linear(4, 1), 3)
    scores = torch.tensor([[1.0, 4.0, 2.5], [0.0, -1.0, 3.0]])
    verdict = head.unpack(head, None, Verdict(scores))
    assert verdict.logits.tolist() == [1.5, -3.0] and verdict.heads["class_scores"] is scores
    assert [tuple(p.shape) for p in head.parameters()] == [(3, 4), (3,)]  # and no map to a logit that nobody reads


def test_embeddings_have_unit_length() -> None:
    torch.manual_seed(0)
    head = EmbeddingHead(nn.Linear(4, 1), [6], 3)
    with informing(head, LABELS):
        sample, own = head.say([7 * torch.randn(5, 6)])
    for vectors in (sample, own):
        assert torch.allclose(vectors.norm(dim=1), torch.ones(5))
    assert torch.equal(own[0], own[2]) and not torch.equal(own[0], own[1])
