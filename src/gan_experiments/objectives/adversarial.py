"""Adversarial losses: what each player minimises, from the discriminator's logits on real and on generated samples.

In the formulas r = D(x) and f = D(G(z)) are logits before any sigmoid, <.> is the batch mean and
sp(t) = log(1 + e^t). Every loss sees both sides in both moves; what it does not read is never computed.
"""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from gan_experiments.curves import Curve
from gan_experiments.errors import UserError
from gan_experiments.game import Game, Round, Verdict
from gan_experiments.objectives.base import Objective, Share
from gan_experiments.trick import Report

log = logging.getLogger(__name__)


class Contest(Protocol):
    """A real and a generated side, each judged by the discriminator when first asked for."""

    @property
    def real(self) -> Verdict:
        """Verdict on the data."""

    @property
    def fake(self) -> Verdict:
        """Verdict on the samples."""


class Loss(Objective):
    """A pair of objectives, one a player, both to be minimised.

    `needs` names what it reads off a round beyond real and fake, `remedy` how to have it; `compares_batches` says that
    it compares logits across the batch, so that both sides must keep their sizes.
    """

    players = ("discriminator", "generator")
    needs: ClassVar[tuple[str, ...]] = ()
    remedy: ClassVar[str] = ""
    compares_batches: ClassVar[bool] = False
    learns: ClassVar[bool] = False
    """Whether it keeps numbers that follow from the moves made."""
    boundary: float | None = 0.0
    """The logit of a discriminator that can't tell; None where logits have no such value."""

    def share(self, player: str, weight: float | Curve) -> Share:
        """The player's half."""
        return Adversarial(self, player, weight)

    @abstractmethod
    def discriminator(self, contest: Contest) -> Tensor:
        """What the discriminator minimises, a scalar."""

    @abstractmethod
    def generator(self, contest: Contest) -> Tensor:
        """What the generator minimises, a scalar."""

    def after_move(self, player: str, contest: Contest, report: Report) -> None:  # noqa: B027
        """Called when `player` has moved on this contest; `report` takes a name and a scalar for the log."""

    def state_dict(self) -> dict[str, Any]:
        """What this loss must remember across a resume; nothing for most."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Take back what `state_dict` gave."""


def cross_entropy(logits: Tensor, target: float) -> Tensor:
    """Mean cross-entropy of logits (n,) with the probability `target`: <t sp(-v) + (1 - t) sp(v)>."""
    if target == 1:
        return softplus(-logits).mean()
    if target == 0:
        return softplus(logits).mean()
    return target * softplus(-logits).mean() + (1 - target) * softplus(logits).mean()


class CrossEntropy(Loss):
    """D: cross-entropy of real with the target alpha and of generated with the target beta; <sp(-r)> + <sp(f)> at 1, 0.

    Its optimum is D* = (alpha p + beta q) / (p + q) for densities p of the data and q of the samples. Only the
    discriminator's targets are smoothed. beta = 0, one-sided smoothing (Salimans et al. 2016, section 3.4), keeps the
    optimum's shape; beta > 0 is warned of. Raises UserError unless 0 <= beta < alpha <= 1.
    """

    def __init__(self, real_target: float = 1.0, fake_target: float = 0.0) -> None:
        name = type(self).__name__
        if not 0 <= fake_target < real_target <= 1:
            raise UserError(
                f"{name}: real_target={real_target} and fake_target={fake_target} are probabilities of being real: "
                "they must satisfy 0 <= fake_target < real_target <= 1"
            )
        self.alpha, self.beta = real_target, fake_target
        if self.beta > 0:
            log.warning(
                "%s: fake_target=%g smooths both sides: where the data's density is near 0 the optimal discriminator "
                "then draws samples back to the model's own modes (Salimans et al. 2016, section 3.4); "
                "fake_target=0 avoids it",
                name, self.beta,
            )  # fmt: skip

    def discriminator(self, contest: Contest) -> Tensor:
        """Cross-entropy of real against generated; log 4 when D can't tell and targets are 1 and 0."""
        return cross_entropy(contest.real.logits, self.alpha) + cross_entropy(contest.fake.logits, self.beta)


class NonSaturating(CrossEntropy):
    """D: cross-entropy; G: <sp(-f)> (Goodfellow et al. 2014, section 3: maximise log D(G(z)))."""

    def generator(self, contest: Contest) -> Tensor:
        """-<log D(G(z))>; its gradient stays alive where D is sure of a fake."""
        return softplus(-contest.fake.logits).mean()


class Minimax(CrossEntropy):
    """D: cross-entropy; G: -<sp(f)> = <log(1 - D(G(z)))> (Goodfellow et al. 2014, equation 1): it saturates."""

    def generator(self, contest: Contest) -> Tensor:
        """<log(1 - D(G(z)))>; its gradient vanishes where D is sure of a fake."""
        return -softplus(contest.fake.logits).mean()


class BoundarySeeking(CrossEntropy):
    """D: cross-entropy; G: 1/2 <(f - b)^2> (Hjelm et al. 2018, boundary-seeking GAN for continuous data).

    b is the optimal logit where p = q, log (alpha + beta) / (2 - alpha - beta), the decision boundary to which samples
    are drawn from both sides: 0, D = 1/2, with the paper's targets 1 and 0, and lower where real ones are smoothed.
    """

    def __init__(self, real_target: float = 1.0, fake_target: float = 0.0) -> None:
        super().__init__(real_target, fake_target)
        self.boundary = self.b = math.log((real_target + fake_target) / (2 - real_target - fake_target))

    def generator(self, contest: Contest) -> Tensor:
        """Half the squared distance of log D(G(z)) - log(1 - D(G(z))), the logit, from the boundary."""
        return 0.5 * (contest.fake.logits - self.b).square().mean()


class LeastSquares(Loss):
    """D: 1/2 <(r - b)^2> + 1/2 <(f - a)^2>; G: 1/2 <(f - c)^2> (Mao et al. 2017, equation 2, with its 1/2)."""

    def __init__(self, fake_target: float = 0.0, real_target: float = 1.0, generator_target: float = 1.0) -> None:
        self.a, self.b, self.c = fake_target, real_target, generator_target
        self.boundary = (fake_target + real_target) / 2
        if self.a == self.b:
            raise UserError(f"LeastSquares: fake_target and real_target are both {self.a}: nothing to tell apart")

    def discriminator(self, contest: Contest) -> Tensor:
        """Half the squared distances to the targets b and a."""
        real, fake = contest.real.logits, contest.fake.logits
        return 0.5 * (real - self.b).square().mean() + 0.5 * (fake - self.a).square().mean()

    def generator(self, contest: Contest) -> Tensor:
        """Half the squared distance to the target c."""
        return 0.5 * (contest.fake.logits - self.c).square().mean()


class Hinge(Loss):
    """D: <relu(1 - r)> + <relu(1 + f)>; G: -<f> (Lim & Ye 2017, geometric GAN)."""

    def discriminator(self, contest: Contest) -> Tensor:
        """Only logits inside the margin of one count."""
        return relu(1 - contest.real.logits).mean() + relu(1 + contest.fake.logits).mean()

    def generator(self, contest: Contest) -> Tensor:
        """Minus the mean logit."""
        return -contest.fake.logits.mean()


class Wasserstein(Loss):
    """D: <f> - <r>; G: -<f> (Arjovsky et al. 2017, algorithm 1); a distance only while D is 1-Lipschitz."""

    boundary = None

    def discriminator(self, contest: Contest) -> Tensor:
        """Minus the estimated Wasserstein-1 distance (up to the Lipschitz constant)."""
        return contest.fake.logits.mean() - contest.real.logits.mean()

    def generator(self, contest: Contest) -> Tensor:
        """Minus the critic's mean on samples."""
        return -contest.fake.logits.mean()


class Adversarial(Share):
    """One player's half of an adversarial loss, over all comparisons of a round."""

    of_each_discriminator = True

    def __init__(self, loss: Loss, player: str, weight: float | Curve = 1.0) -> None:
        super().__init__(loss, player, weight)
        self.name, self.loss = "adversarial", loss
        self.needs = ("real", "fake", *loss.needs)
        self.remedy = f"{type(loss).__name__}: {loss.remedy}" if loss.remedy else ""
        halves = {"discriminator": loss.discriminator, "generator": loss.generator}
        if player not in halves:
            raise UserError(f"an adversarial loss has no half for player {player}; it has {', '.join(halves)}")
        self.half = halves[player]

    def __call__(self, round: Round) -> Tensor:
        """The loss's half on this round: the weighted sum over its comparisons."""
        found = round.comparisons(self.player)
        values = {name: self.half(one.round.contest(self.player)) for name, one in found.items()}
        if len(values) == 1:
            (one,) = found.values()
            (value,) = values.values()
            return value if one.weight == 1 else one.weight * value
        round.notes |= {f"{self.player}/{self.name}_{name}": value.detach() for name, value in values.items() if name}
        return torch.stack([found[name].weight * value for name, value in values.items()]).sum()

    def value(self, round: Round) -> Tensor:
        """As the comparisons of a round of several discriminators say already."""
        return self(round)

    def after_move(self, round: Round, report: Report) -> None:
        """Let the loss learn from the move; of several comparisons each is logged."""
        for one in round.comparisons(self.player).values():
            self.loss.after_move(self.player, one.round.contest(self.player), report)
        for name, value in round.notes.items():
            if name.startswith(f"{self.player}/{self.name}_"):
                report(name, value)

    def check(self, game: Game) -> None:
        """A loss that learns from the moves of one discriminator can't be shared by several."""
        if len(game.compared) > 1 and self.loss.learns:
            raise UserError(
                f"loss {type(self.loss).__name__} follows one discriminator, and {type(game).__name__} has "
                f"{len(game.compared)}; set loss={game.fitting_loss}"
            )

    def state_dict(self) -> dict[str, Any]:
        """The loss's state, kept by the discriminator's half."""
        return self.loss.state_dict() if self.player == "discriminator" else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        if self.player == "discriminator":
            self.loss.load_state_dict(state)
