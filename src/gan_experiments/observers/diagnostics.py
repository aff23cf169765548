"""What the discriminator makes of training, held-out and generated samples, and how steep it is there."""

from __future__ import annotations

import torch
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.data.base import Split
from gan_experiments.data.sampler import Sampler
from gan_experiments.game import Round, buffers_kept
from gan_experiments.objectives.adversarial import Adversarial
from gan_experiments.objectives.penalties import squared_norm
from gan_experiments.players import Player
from gan_experiments.trainer import Observer, Trainer


class Diagnostics(Observer):
    """D(real), D(fake) and D's accuracy on every move of the discriminator; the dearer numbers every `every` images.

    Accuracy is the share of logits on the right side of the loss's boundary or, for a loss that has none (Wasserstein,
    relativistic, energies), of the middle between the mean logits of real and generated samples. Slopes are mean norms
    of D's gradient with respect to its input, in the networks' own precision. Nothing here changes a bit of training.
    """

    def __init__(self, held_out: Split, every: int, seed: int, batch_size: int) -> None:
        self.held_out, self.every, self.seed = held_out, every, seed
        self.sampler = Sampler(len(held_out), batch_size, seed, "diagnostics")

    def after_move(self, trainer: Trainer, player: Player, round: Round) -> None:
        """Count in what this move has computed anyway."""
        if player.name != "discriminator":
            return
        for name, value in round_logits(round, boundary(trainer)).items():
            trainer.meter.add(name, value, trainer.step_count)

    def after_step(self, trainer: Trainer) -> None:
        """Judge a batch of held-out samples and measure slopes, when it is time."""
        if not (trainer.passed(self.every) or trainer.finished):
            return
        step = trainer.step_count
        seed = seeding.derive(self.seed, "diagnostics", step)
        watches = frozenset({"reals", "fakes"})
        with trainer.aside(), buffers_kept(trainer.game), trainer.runtime.autocast():
            round = trainer.deal_from(self.held_out, self.sampler.indices(step), seed, watches)
            real, fake = (round.points(name)[1]().detach() for name in ("reals", "fakes"))
            trainer.meter.add("accuracy/held_out", (real > limit(real, fake, boundary(trainer))).float().mean(), step)
            for name in ("reals", "fakes"):
                trainer.meter.add(f"slope/{name}", squared_norm(round.slope(name)).sqrt().mean(), step)


def boundary(trainer: Trainer) -> float | None:
    """The logit at which the run's adversarial loss can't tell, if it has one."""
    terms = trainer.sides["discriminator"].terms
    return next((term.loss.boundary for term in terms if isinstance(term, Adversarial)), 0.0)


def limit(real: Tensor, fake: Tensor, boundary: float | None) -> Tensor:
    """The logit above which a sample counts as taken for real, a scalar."""
    middle = (real.mean() + fake.mean()) / 2
    return middle if boundary is None else torch.full_like(middle, boundary)


@torch.no_grad()
def round_logits(round: Round, boundary: float | None) -> dict[str, Tensor]:
    """Mean probabilities and accuracies on the real and generated samples of a round."""
    real, fake = round.points("reals")[1]().detach().float(), round.points("fakes")[1]().detach().float()
    least = limit(real, fake, boundary)
    return {
        "discriminator/probability_real": real.sigmoid().mean(),
        "discriminator/probability_fake": fake.sigmoid().mean(),
        "accuracy/train": (real > least).float().mean(),
        "accuracy/generated": (fake <= least).float().mean(),
    }
