"""Whether a categorical code has become the classes of the data (InfoGAN)."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.data.base import Dataset, Split, to_bytes
from gan_experiments.errors import UserError
from gan_experiments.game import Game
from gan_experiments.games.info import InfoGame
from gan_experiments.metrics.base import Detail, Reading, require_classes
from gan_experiments.metrics.extractors import Extractor
from gan_experiments.metrics.game_metric import GameMetric
from gan_experiments.metrics.intervals import of_share
from gan_experiments.metrics.needs import require_package
from gan_experiments.modules import evaluating
from gan_experiments.runtime import Runtime, seed_networks


def best_matching(counts: Tensor) -> list[int]:
    """For each category, a row of counts (k, c), the class it stands for: the one-to-one matching with most hits; -1
    for categories that are left over."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(counts.numpy(), maximize=True)
    matched = dict(zip(rows.tolist(), columns.tolist(), strict=True))
    return [matched.get(row, -1) for row in range(len(counts))]


@final
class CodeAccuracy(GameMetric):
    """The share of samples in which a classifier finds the class that their category stands for, 0 to 1; higher is
    better, 1 / k where the code is ignored (a little above it for few samples, as the matching is chosen afterwards).

    Categories stand for classes by the one-to-one matching with most hits. code_accuracy_real is the paper's number
    (Chen et al. 2016, section 7.2): the same for Q's category of held-out samples and their own labels. `code` is the
    number of the categorical code, `samples` are drawn for it.
    """

    def __init__(self, code: int = 0, samples: int = 2000, batch_size: int = 250, seed: int = 0) -> None:
        """An accuracy of that many samples; UserError for impossible numbers."""
        if code < 0 or min(samples, batch_size) < 1:
            raise UserError(f"metric code_accuracy: {code=}, {samples=}, {batch_size=}; expected 0 or more, 1 or more")
        super().__init__("code_accuracy")
        self.code, self.samples, self.batch_size, self.seed = code, samples, batch_size, seed
        self._classifier: tuple[Extractor, Split, int] | None = None

    def bind(self, dataset: Dataset, extractor: Extractor | None) -> None:
        """UserError unless the extractor classifies the data's classes, and where there is no SciPy."""
        classes = require_classes("code_accuracy", dataset, extractor)
        require_package("metric code_accuracy", "scipy", "scipy", "evaluation")
        assert extractor is not None
        self._classifier = (extractor, dataset.held_out, classes)

    def names(self) -> list[str]:
        """Of generated and of real samples."""
        return ["", "code_accuracy_real"]

    def require(self, game: Game) -> None:
        """UserError unless the game has that categorical code."""
        codes = game.layout.categories if isinstance(game, InfoGame) else ()
        if self.code >= len(codes):
            raise UserError(
                f"metric code_accuracy reads categorical code {self.code}, but {type(game).__name__} has {len(codes)} "
                "such codes; set model=infogan, or leave the metric out"
            )

    @torch.no_grad()
    def ask(self, game: Game, runtime: Runtime) -> list[Reading]:
        """Both shares."""
        assert isinstance(game, InfoGame) and self._classifier is not None
        extractor, held_out, classes = self._classifier
        shape = (game.layout.categories[self.code], classes)
        generated = torch.zeros(shape, dtype=torch.int64)
        for start in range(0, self.samples, self.batch_size):
            random = seeding.generator(self.seed, "code accuracy", start)
            seed_networks(seeding.derive(self.seed, "code accuracy", start), runtime.device)
            latents = game.latents(min(self.batch_size, self.samples - start), random)
            with evaluating(game), runtime.autocast():
                images = game.sample(latents.to(runtime.device)).float()
            logits = extractor(to_bytes(images)).logits
            assert logits is not None
            count(generated, game.layout.read(latents).categories[self.code], logits.argmax(1))
        real = torch.zeros(shape, dtype=torch.int64)
        for start in range(0, len(held_out), self.batch_size):
            samples, labels = held_out.take(torch.arange(start, min(start + self.batch_size, len(held_out))))
            assert labels is not None
            with evaluating(game), runtime.autocast():
                guess = game.guess(game.discriminator(runtime.layout(samples)))
            count(real, guess.logits[self.code].argmax(1), labels)
        return [reading("", generated), reading("code_accuracy_real", real)]


def count(counts: Tensor, categories: Tensor, classes: Tensor) -> None:
    """Add pairs of category and class, (n,) each, to the counts (k, c)."""
    places = categories.cpu() * counts.shape[1] + classes.cpu()
    counts += places.bincount(minlength=counts.numel()).view_as(counts)


def reading(name: str, counts: Tensor) -> Reading:
    """The share of hits under the best matching, which the details tell."""
    matched = best_matching(counts)
    hits = sum(int(counts[row, column]) for row, column in enumerate(matched) if column >= 0)
    n = int(counts.sum())
    details: dict[str, Detail] = {"class_of_category": [float(column) for column in matched], "n": n}
    source = "Wilson's score interval, the matching taken as given"
    return Reading(name, hits / n, details, higher_is_better=True, interval=of_share(hits, n), interval_from=source)
