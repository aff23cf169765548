"""Semi-supervised learning: a discriminator that is a classifier too, with a few labels (Salimans et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gan_experiments import seeding
from gan_experiments.data.base import Batch, Spec, Split
from gan_experiments.errors import UserError
from gan_experiments.game import Deal, Game, Verdict, dealt, judged
from gan_experiments.games.noise import NoiseGame, NoiseRound
from gan_experiments.networks.semi_supervised import adapt
from gan_experiments.runtime import seed_networks
from gan_experiments.trick import Factory, Trick
from gan_experiments.tricks.conditioning import Conditioning
from gan_experiments.tricks.few_labels import FewLabels
from gan_experiments.tricks.labels import ClassHead

UNTOLD = "this game takes no conditioning, as it keeps most labels from its networks"

ADAPTING = 500
"""Training samples from which weight-normalised layers start, as in the published code."""


class StartFromData(Trick):
    """Lets the discriminator's weight-normalised layers start with unit outputs on some training samples."""

    def prepare(self, game: Game, data: Split, seed: int) -> None:
        """Set lengths and biases; a resume loads its own over them."""
        device = next(game.parameters()).device
        seed_networks(seeding.derive(seed, self.name), device)
        rows = torch.randperm(len(data), generator=seeding.generator(seed, self.name))[:ADAPTING]
        for network in game.sides["discriminator"]:
            adapt(network, data.take(rows).samples.to(device))


class SemiSupervisedRound(NoiseRound):
    """The same, with a labelled batch beside the batch of data, of which no label is known."""

    game: SemiSupervisedGame

    @dealt
    def labelled_batch(self) -> Batch:
        """As many labelled samples, with their labels, as there are samples in the batch."""
        few, deal = self.game.few, self.deal
        return few.take(few.places(deal.batch_size, deal.random("labelled")), deal.device)

    @judged
    def taught(self) -> Verdict:
        """The discriminator on the labelled samples."""
        return self.judge(self.labelled_batch.samples, "labelled")


class SemiSupervisedGame(NoiseGame):
    """An unconditional game whose discriminator has a logit l_k a class: that for real is logsumexp(l) (Salimans et al.
    2016, section 5), and the classes of `labels_per_class` training samples a class are known.

    `labels_seed` draws which; all other labels are kept from the players. Raises UserError for data without classes.
    """

    round_type = SemiSupervisedRound

    def __init__(
        self,
        spec: Spec,
        generator: Factory,
        discriminator: Factory,
        latent: str = "uniform",
        labels_per_class: int = 10,
        labels_seed: int = 0,
        tricks: Sequence[Trick] = (),
    ) -> None:
        told = [trick.name for trick in tricks if isinstance(trick, Conditioning)]
        if told:
            raise UserError(f"conditioning {', '.join(told)}: {UNTOLD}; leave it out (conditioning=[none])")
        twice = [trick.name for trick in tricks if isinstance(trick, ClassHead)]
        if twice:
            raise UserError(f"trick {twice[0]}: this game's discriminator tells classes anyway; leave the trick out")
        head, few, start = ClassHead(), FewLabels(labels_per_class, labels_seed), StartFromData()
        head.name, few.name, start.name = "class_head", "few_labels", "start_from_data"
        super().__init__(spec, generator, discriminator, [*tricks, head, few, start], latent)
        self.few = few

    def check_classes(self) -> None:
        """UserError for networks that use classes by themselves."""
        if self.labelled or self.judges_classes:
            raise UserError(f"conditional: {UNTOLD}; set it to false in model.generator and in model.discriminator")

    def deals(self) -> frozenset[str]:
        """All but the labels of the batch."""
        return super().deals() - {"labels"}

    def deal(self, deal: Deal) -> SemiSupervisedRound:
        """Latents are drawn now, labelled samples on demand, from streams of their own."""
        return SemiSupervisedRound(self, deal)
