"""Objectives of classes at points with known values and gradients, against loops written out."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from gan_experiments.errors import UserError
from gan_experiments.objectives.classes import (
    AuxiliaryClassifier,
    AuxiliaryDiscriminativeClassifier,
    Contrastive2C,
    DataToDataCrossEntropy,
    MultiHinge,
    TwinAuxiliaryClassifier,
    crammer_singer,
)

LABELS, ASKED = torch.tensor([0, 1, 1]), torch.tensor([2, 0, 1])


def round_of(real: dict[str, Tensor], fake: dict[str, Tensor]) -> Any:
    return SimpleNamespace(
        real=SimpleNamespace(heads=real), fake=SimpleNamespace(heads=fake), labels=LABELS, asked=ASKED
    )


def logits(seed: int, k: int) -> Tensor:
    return torch.randn(3, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def minus_log_share(rows: Tensor, targets: Tensor) -> float:
    return -sum(math.log(row.softmax(0)[int(y)]) for row, y in zip(rows, targets, strict=True)) / len(rows)


def test_undecided_classifiers_pay_the_logarithm_of_the_classes() -> None:
    zero = {"class_logits": torch.zeros(3, 10), "twin_class_logits": torch.zeros(3, 10)}
    blank = round_of(zero, zero)
    assert AuxiliaryClassifier().generator(blank).item() == pytest.approx(2.3025851)
    assert AuxiliaryClassifier().discriminator(blank).item() == pytest.approx(2 * 2.3025851)
    assert AuxiliaryClassifier(on_fakes=False).discriminator(blank).item() == pytest.approx(2.3025851)
    assert TwinAuxiliaryClassifier().discriminator(blank).item() == pytest.approx(2 * 2.3025851)
    assert TwinAuxiliaryClassifier().generator(blank).item() == 0


def test_auxiliary_classifiers_name_real_samples_by_label_and_generated_ones_by_what_was_asked() -> None:
    real, fake, twin = logits(0, 3), logits(1, 3), logits(2, 3)
    seen = round_of({"class_logits": real}, {"class_logits": fake, "twin_class_logits": twin})
    on_real, on_fake = minus_log_share(real, LABELS), minus_log_share(fake, ASKED)
    assert AuxiliaryClassifier().discriminator(seen).item() == pytest.approx(on_real + on_fake)
    assert AuxiliaryClassifier().generator(seen).item() == pytest.approx(on_fake)
    twins = TwinAuxiliaryClassifier()
    assert twins.discriminator(seen).item() == pytest.approx(on_real + minus_log_share(twin, ASKED))
    assert twins.generator(seen).item() == pytest.approx(on_fake - minus_log_share(twin, ASKED))


def test_the_discriminative_classifier_tells_class_and_origin() -> None:
    real, fake = logits(3, 6), logits(4, 6)
    seen, objective = (
        round_of({"class_origin_logits": real}, {"class_origin_logits": fake}),
        AuxiliaryDiscriminativeClassifier(),
    )
    expected = minus_log_share(real, LABELS) + minus_log_share(fake, ASKED + 3)
    assert objective.discriminator(seen).item() == pytest.approx(expected)
    # The normaliser cancels: G's half is the mean difference of two logits.
    difference = torch.stack([row[y + 3] - row[y] for row, y in zip(fake, ASKED, strict=True)]).mean()
    assert objective.generator(seen).item() == pytest.approx(difference.item())


def test_crammer_singers_hinge_at_known_points() -> None:
    scores = torch.tensor([[2.0, 0.5, -1.0]])
    assert crammer_singer(scores, torch.tensor([1])).item() == 2.5
    assert crammer_singer(scores, torch.tensor([0])).item() == 0
    row = scores.clone().requires_grad_(True)
    crammer_singer(row, torch.tensor([2])).backward()
    assert row.grad is not None and row.grad.tolist() == [[1, 0, -1]]


def test_multi_hinge_sends_generated_samples_to_the_last_class_and_g_wants_the_one_asked() -> None:
    scores = torch.tensor([[0.0, 0.0, 0.0, 3.0]]).repeat(3, 1)
    seen = round_of({"class_scores": torch.zeros(3, 4)}, {"class_scores": scores})
    assert MultiHinge().discriminator(seen).item() == 1  # reals undecided cost 1, generated ones are known
    assert MultiHinge().generator(seen).item() == 4  # 1 - 0 + 3
    blank = round_of({"class_scores": torch.zeros(3, 4)}, {"class_scores": torch.zeros(3, 4)})
    assert MultiHinge().discriminator(blank).item() == 2 and MultiHinge().generator(blank).item() == 1


def embeddings(seed: int) -> dict[str, Tensor]:
    own = normalize(logits(seed, 5))
    table = normalize(logits(seed + 100, 5))
    return {"embedding": own, "class_embedding": table}


def test_2c_is_the_written_out_sum() -> None:
    heads, t = embeddings(5), 0.7
    l, e = heads["embedding"], heads["class_embedding"]  # noqa: E741 (the paper's letter)
    total = 0.0
    for i in range(3):
        proxy = math.exp(l[i] @ e[i] / t)
        others = {j: math.exp(l[i] @ l[j] / t) for j in range(3) if j != i}
        same = sum(value for j, value in others.items() if LABELS[j] == LABELS[i])
        total -= math.log((proxy + same) / (proxy + sum(others.values()))) / 3
    assert Contrastive2C(t).discriminator(round_of(heads, {})).item() == pytest.approx(total)
    assert Contrastive2C(t).generator(round_of({}, heads)).item() != pytest.approx(total)  # other classes


def test_d2d_ce_is_the_written_out_sum_with_margins() -> None:
    heads, t, margin = embeddings(6), 0.5, 0.4
    f, w = heads["embedding"], heads["class_embedding"]
    total = 0.0
    for i in range(3):
        positive = math.exp(min(float(f[i] @ w[i]) - margin, 0) / t)
        negatives = [
            math.exp(max(float(f[i] @ f[j]) - (1 - margin), 0) / t) for j in range(3) if LABELS[j] != LABELS[i]
        ]
        total -= math.log(positive / (positive + sum(negatives))) / 3
    assert DataToDataCrossEntropy(t, margin).discriminator(round_of(heads, {})).item() == pytest.approx(total)


def test_a_batch_of_one_class_has_no_negatives_and_costs_nothing() -> None:
    heads = embeddings(7)
    alone = SimpleNamespace(real=SimpleNamespace(heads=heads), labels=torch.zeros(3, dtype=torch.int64))
    assert DataToDataCrossEntropy().discriminator(alone).item() == pytest.approx(0, abs=1e-12)
    assert Contrastive2C(1.0).discriminator(alone).item() == pytest.approx(0, abs=1e-12)


def test_impossible_temperatures_and_margins_are_refused() -> None:
    with pytest.raises(UserError, match="temperature=0"):
        Contrastive2C(0)
    with pytest.raises(UserError, match="margin=2"):
        DataToDataCrossEntropy(margin=2)


def test_weights_belong_to_the_halves() -> None:
    terms = AuxiliaryClassifier(discriminator=0.0, generator=0.3).terms("ac")
    assert [(term.player, term.name, term.weight(0, 1), term.logged_only) for term in terms] == [
        ("discriminator", "ac", 0.0, True),
        ("generator", "ac", 0.3, False),
    ]
