"""The logit at which a loss's discriminator can't tell: what adaptive tricks and accuracies go by."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from gan_experiments.config import build, conf_dir
from gan_experiments.game import Verdict
from gan_experiments.objectives.adversarial import Loss
from gan_experiments.observers.diagnostics import limit

ALONE = {"evidence", "likelihood"}  # without a discriminator
LOSSES = sorted({path.stem for path in (Path(conf_dir()) / "loss").glob("*.yaml")} - ALONE)
NONE = {"wasserstein", "softmax", "dual_contrastive", "ebgan", "began"}


class Contest:
    """Logits of both sides, given."""

    def __init__(self, logit: torch.Tensor) -> None:
        self.real = self.fake = Verdict(logit)


@pytest.mark.parametrize("name", LOSSES)
def test_where_data_and_samples_are_alike_the_best_logit_is_the_boundary(
    name: str, composed: Callable[..., DictConfig]
) -> None:
    loss: Loss = build(composed(f"loss={name}").loss, "loss")
    if name in NONE or name.startswith("relativistic"):
        assert loss.boundary is None
        return
    assert loss.boundary is not None
    grid = torch.linspace(-3, 3, 601)
    costs = torch.stack([loss.discriminator(Contest(logit[None])) for logit in grid])
    best = costs.min()
    here = loss.discriminator(Contest(torch.tensor([loss.boundary])))
    assert here <= best + 1e-6  # hinge and total variation are flat around it


def test_without_a_boundary_the_middle_of_the_means_counts() -> None:
    assert limit(torch.tensor([5.0, 7.0]), torch.tensor([1.0, 3.0]), None) == 4
    assert limit(torch.tensor([5.0, 7.0]), torch.tensor([1.0, 3.0]), 0.5) == 0.5
