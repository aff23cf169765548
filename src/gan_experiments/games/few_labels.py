"""A conditional game that knows few labels and guesses the others (Lucic et al. 2019, S3GAN by co-training)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gan_experiments.data.base import Batch, Spec
from gan_experiments.errors import UserError
from gan_experiments.game import Deal, Verdict, dealt, judged
from gan_experiments.games.noise import NoiseGame, NoiseRound
from gan_experiments.modules import buffers_kept
from gan_experiments.networks.bodies import FurtherHead
from gan_experiments.trick import Factory, Trick
from gan_experiments.tricks.few_labels import FewLabels


class ClassGuesses(FurtherHead):
    """Class logits (n, k) from the discriminator's features, for samples whose class nobody tells it."""

    gives = ("classes",)


class Guessing(Trick):
    """Gives the discriminator a classifier beside its logit, which no class has to be told for."""

    rank = 44  # around wrappers that replace the head
    players = ("discriminator",)

    def network(self, player: str, make: Factory) -> Factory:
        """The network with the classifier."""

        def guessing(spec: Spec) -> nn.Module:
            return ClassGuesses(make(spec), spec, len(spec.classes), "a game with few labels")

        return guessing


class FewLabelsRound(NoiseRound):
    """The same, in whose batch the first samples are labelled ones; the classes of the others are guessed."""

    game: FewLabelsGame

    @dealt
    def labelled_batch(self) -> Batch:
        """The labelled samples, a share of the batch."""
        few, deal = self.game.few, self.deal
        return few.take(few.places(self.game.labelled_count(deal.batch_size), deal.random("labelled")), deal.device)

    @dealt
    def batch(self) -> Batch:
        """Labelled samples with their labels, then samples as they come, without."""
        known, samples = self.labelled_batch, self.deal.fetch().samples
        joined = torch.cat([known.samples.to(samples.dtype), samples[len(known.samples) :]])
        return Batch(joined.contiguous(memory_format=layout_of(samples)), None)

    @dealt
    def labels(self) -> Tensor:
        """The labels known, then what the classifier makes of the other samples now."""
        samples, known = self.batch.samples, self.labelled_batch.labels
        nothing = torch.zeros(len(samples), dtype=torch.int64, device=samples.device)
        with torch.no_grad(), buffers_kept(self.game.discriminator):
            guessed = self.judge(samples, "reals", nothing).heads["classes"].argmax(1)
        return torch.cat([known, guessed[len(known) :]])

    @judged
    def taught(self) -> Verdict:
        """The discriminator on the labelled samples among the real ones."""
        n, verdict = self.game.labelled_count(self.deal.batch_size), self.real
        heads = {name: said[:n] for name, said in verdict.heads.items()}
        return Verdict(verdict.logits[:n], tuple(level[:n] for level in verdict.features), heads)


class FewLabelsGame(NoiseGame):
    """A conditional game in which `labels_per_class` training samples a class are labelled, drawn by `labels_seed`.

    They make up the share `labelled_share` of every real batch. A classifier on the discriminator's features, taught by
    them (the term Supervision), says the classes of all other real samples, by which the discriminator judges them.
    Raises UserError unless both networks use classes.
    """

    round_type = FewLabelsRound

    def __init__(
        self,
        spec: Spec,
        generator: Factory,
        discriminator: Factory,
        latent: str = "normal",
        labels_per_class: int = 10,
        labels_seed: int = 0,
        labelled_share: float = 0.25,
        tricks: Sequence[Trick] = (),
    ) -> None:
        if not 0 < labelled_share <= 1:
            raise UserError(f"labelled_share={labelled_share}: must be above 0 and at most 1")
        replacing = [trick.name for trick in tricks if type(trick).reals is not Trick.reals]
        if replacing:
            raise UserError(
                f"trick {replacing[0]} replaces real samples, by which classes are taught here; leave it out"
            )
        guessing, few = Guessing(), FewLabels(labels_per_class, labels_seed)
        guessing.name, few.name = "guessing", "few_labels"
        super().__init__(spec, generator, discriminator, tricks=[*tricks, guessing, few], latent=latent)
        self.few, self.labelled_share = few, labelled_share
        if not self.labelled:
            raise UserError(
                "a game with few labels is for networks that use classes: add conditioning=[one_hot,projection], or "
                "set model.generator.conditional and model.discriminator.conditional to true where there are such keys"
            )

    def labelled_count(self, n: int) -> int:
        """How many of `n` real samples are labelled ones: at least one."""
        return max(1, round(self.labelled_share * n))

    def deal(self, deal: Deal) -> FewLabelsRound:
        """Latents and classes are drawn now, all else on demand, from streams of its own."""
        return FewLabelsRound(self, deal)


def layout_of(samples: Tensor) -> torch.memory_format:
    """The memory format of a batch."""
    last = samples.ndim == 4 and samples.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format
