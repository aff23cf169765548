"""How often a discriminator that tells classes errs on held-out samples: what semi-supervised learning is judged by."""

from __future__ import annotations

from typing import final

import torch

from gan_experiments.data.base import Dataset, Split
from gan_experiments.errors import UserError
from gan_experiments.game import Game
from gan_experiments.metrics.base import Reading
from gan_experiments.metrics.extractors import Extractor
from gan_experiments.metrics.game_metric import GameMetric
from gan_experiments.metrics.intervals import of_share
from gan_experiments.modules import evaluating
from gan_experiments.networks.informed import informing
from gan_experiments.runtime import Runtime


@final
class ClassifierError(GameMetric):
    """The share of held-out samples that the discriminator's class logits put into a wrong class, 0 to 1 (Salimans et
    al. 2016, table 1, there as a count). Lower is better.

    `head` names the logits among the discriminator's heads. It is asked in evaluation mode, with its live weights: the
    moving average is of the generator alone.
    """

    def __init__(self, head: str = "classes", batch_size: int = 500) -> None:
        """An error of that head; UserError for a batch size below 1."""
        if batch_size < 1:
            raise UserError(f"metric classifier_error: batch_size={batch_size} must be 1 or more")
        super().__init__("classifier_error")
        self.head = head
        self.batch_size = batch_size
        self._split: Split | None = None

    def bind(self, dataset: Dataset, extractor: Extractor | None) -> None:
        """Take the held-out samples; UserError for data without classes."""
        if not dataset.spec.classes:
            raise UserError(
                f"metric classifier_error needs classes, but data set {dataset.name} has none; leave it out"
            )
        self._split = dataset.held_out

    def require(self, game: Game) -> None:
        """UserError unless the discriminator has that head."""
        heads = game.probe().heads
        if self.head not in heads:
            raise UserError(
                f"metric classifier_error reads the discriminator's {self.head}, but it gives "
                f"{', '.join(heads) or 'none'}; set model=semi_supervised or trick=[train_with_labels]"
            )

    @torch.no_grad()
    def ask(self, game: Game, runtime: Runtime) -> list[Reading]:
        """The share of wrong classes."""
        (network,) = game.sides["discriminator"]
        split = self._split
        assert split is not None
        wrong = 0
        for start in range(0, len(split), self.batch_size):
            samples, labels = split.take(torch.arange(start, min(start + self.batch_size, len(split))))
            assert labels is not None
            # Networks that must be told a class are told any: their class logits don't go by it.
            told = torch.zeros(len(samples), dtype=torch.int64, device=runtime.device)
            with evaluating(game), runtime.autocast(), informing(network, told):
                logits = network(runtime.layout(samples)).heads[self.head]
            wrong += int((logits.argmax(1) != labels.to(logits.device)).sum())
        interval = of_share(wrong, len(split))
        details: dict[str, int | float | str | list[float]] = {"wrong": wrong, "held_out": len(split)}
        source = "Wilson's score interval"
        return [Reading("", wrong / len(split), details, interval=interval, interval_from=source)]
