"""Training with labels: the discriminator also tells the classes of real samples apart."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gan_experiments.curves import Curve
from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.game import Game, Head, Round, Term, Verdict
from gan_experiments.networks.heads import Headed, normalised_as, replaced_by, resized
from gan_experiments.players import Player
from gan_experiments.trick import Factory, Trick


class ClassifyingDiscriminator(Head):
    """`network` with a logit l_k a class: its logit for real is logsumexp(l), the fake class's being fixed at 0
    (Salimans et al. 2016, section 5)."""

    gives = ("classes",)

    def __init__(self, network: nn.Module, classes: int) -> None:
        super().__init__()
        self.network, self.classes = network, classes

    def forward(self, samples: Tensor) -> Verdict:
        """The verdict on samples (n, ...), with class logits (n, k) in `heads["classes"]`."""
        verdict: Verdict = self.network(samples)
        classes = verdict.logits.float()
        return Verdict(classes.logsumexp(1), verdict.features, {**verdict.heads, "classes": classes})


class ClassHead(Trick):
    """Gives the discriminator's head one logit a class of the data (Salimans et al. 2016, section 5)."""

    rank = 30
    players = ("discriminator",)

    def network(self, player: str, make: Factory) -> Factory:
        """The discriminator with a wider end."""

        def classifying(spec: Spec) -> nn.Module:
            if len(spec.classes) < 2:
                raise UserError(
                    f"trick {self.name} needs labelled data of two or more classes, which this data set is not; "
                    "set dataset=fashion10k or another with labels"
                )
            network = make(spec)
            inner = next((part for part in network.modules() if isinstance(part, Headed)), None)
            if inner is None:
                raise UserError(
                    f"trick {self.name} needs a discriminator that ends in a linear head, which "
                    f"{type(network).__name__} does not; set model=dcgan or model=mlp"
                )
            layers = list(inner.head) if isinstance(inner.head, nn.Sequential) else [inner.head]
            last = layers[-1]
            if not isinstance(last, nn.Linear):
                raise UserError(f"trick {self.name} widens the discriminator's last linear map, {replaced_by(last)}")
            wider = resized(last, last.in_features, len(spec.classes))
            # With equal class logits of -log k the sum is that of a single logit of 0: undecided, as without classes.
            wider.bias = nn.Parameter(torch.full((len(spec.classes),), -math.log(len(spec.classes))))
            inner.head = nn.Sequential(*layers[:-1], normalised_as(last, wider))
            return ClassifyingDiscriminator(network, len(spec.classes))

        return classifying

    def check(self, game: Game, players: Mapping[str, Player]) -> None:
        """UserError when one verdict covers several labels."""
        if game.pack > 1:
            raise UserError(f"trick {self.name} labels single samples, which trick packing judges in packs; choose one")


class Classification(Term):
    """Cross-entropy of the real samples' classes, for the discriminator (Salimans et al. 2016, section 5)."""

    needs = ("labels", "real", "classes")
    acts_on = ("discriminator",)
    remedy = "trick=[train_with_labels] on a data set with labels gives them"

    def __init__(self, player: str = "discriminator", weight: float | Curve = 1.0, every: int = 1) -> None:
        super().__init__(player, weight, every)

    def __call__(self, round: Round) -> Tensor:
        """Mean over real samples, in nats; log k when undecided."""
        return cross_entropy(round.real.heads["classes"], round.labels)  # type: ignore[attr-defined]
