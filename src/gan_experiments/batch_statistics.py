"""Which statistics a generator's batch norms use when it is scored or drawn from, its own ones put back afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Self, final

from torch.nn.modules.batchnorm import _BatchNorm

from gan_experiments import seeding
from gan_experiments.errors import UserError
from gan_experiments.game import Game
from gan_experiments.modules import buffers_kept, evaluating
from gan_experiments.runtime import Runtime, seed_networks
from gan_experiments.schema import Config
from gan_experiments.truncation import NONE, Truncation


class Statistics(StrEnum):
    """Running averages of training; averages over batches drawn afterwards; or those of each batch itself."""

    RUNNING = "running"
    STANDING = "standing"
    BATCH = "batch"

    @classmethod
    def _missing_(cls, value: object) -> Self:
        raise UserError(f"evaluation.statistics={value}: use {', '.join(cls)}")


@final
@dataclass(frozen=True)
class BatchStatistics:
    """A choice of batch norm statistics; standing ones are averages over `batches` batches of `batch_size` latents from
    `seed` (Brock et al. 2019, 100 forward passes)."""

    kind: Statistics = Statistics.RUNNING
    batches: int = 100
    batch_size: int = 250
    seed: int = 0

    @contextmanager
    def applied(self, game: Game, runtime: Runtime, truncation: Truncation = NONE) -> Iterator[str]:
        """The game as it samples with these statistics, and their name for records, "none" without batch norms.

        All buffers are put back bit for bit. Standing statistics are those of samples with this `truncation`.
        """
        norms = sampling_norms(game, runtime)
        if not norms:
            yield "none"
            return
        arrange: dict[Statistics, Callable[[], None]] = {
            Statistics.RUNNING: lambda: None,
            Statistics.STANDING: lambda: self.stand(game, norms, runtime, truncation),
            Statistics.BATCH: lambda: forget(norms),
        }
        running = [(norm, norm.running_mean, norm.running_var) for norm in norms]
        with buffers_kept(*norms):
            try:
                arrange[self.kind]()
                yield self.kind.value
            finally:
                for norm, mean, variance in running:
                    norm.running_mean, norm.running_var = mean, variance

    def stand(self, game: Game, norms: Sequence[_BatchNorm], runtime: Runtime, truncation: Truncation) -> None:
        """Let the norms' running statistics be averages over fresh batches, which count alike."""
        momenta = [norm.momentum for norm in norms]
        try:
            with evaluating(game), runtime.autocast():
                for norm in norms:
                    norm.reset_running_stats()
                    norm.momentum, norm.training = None, True
                for k in range(self.batches):
                    generator = seeding.generator(self.seed, "standing", k)
                    latents, classes = game.latents(self.batch_size, generator), game.ask(self.batch_size, generator)
                    latents = truncation.latents(latents, generator).to(runtime.device)
                    seed_networks(seeding.derive(self.seed, "standing noise", k), runtime.device)
                    truncation.sample(game, latents, None if classes is None else classes.to(runtime.device))
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum


RUNNING = BatchStatistics()
"""Statistics as the networks have them."""


def statistics_of(settings: Config) -> BatchStatistics:
    """The statistics that a run's configuration asks for."""
    scoring = settings.evaluation
    kind = Statistics(scoring.statistics)
    return BatchStatistics(kind, scoring.standing_batches, scoring.batch_size, settings.run.seed)


def sampling_norms(game: Game, runtime: Runtime) -> list[_BatchNorm]:
    """The batch norms that samples pass through: what else a player moves with them (recognition) has its own."""
    passed: list[_BatchNorm] = []
    handles = [
        module.register_forward_pre_hook(lambda norm, inputs: passed.append(norm))
        for module in game.modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    ]
    generator = seeding.generator(0, "norms")
    latents, classes = game.latents(2, generator), game.ask(2, generator)
    try:
        if handles:
            with evaluating(game), runtime.autocast():
                game.sample(latents.to(runtime.device), None if classes is None else classes.to(runtime.device))
    finally:
        for handle in handles:
            handle.remove()
    return list(dict.fromkeys(passed))


def forget(norms: Sequence[_BatchNorm]) -> None:
    """Leave the norms without running statistics: they then use each batch's own in evaluation mode too."""
    for norm in norms:
        norm.running_mean = norm.running_var = None
