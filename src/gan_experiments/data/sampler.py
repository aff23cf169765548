"""In which order samples are shown: an endless shuffled stream that any run can enter at any batch."""

from __future__ import annotations

import torch
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.errors import UserError


class Sampler:
    """An endless stream of shuffled epochs cut into batches, as pure functions of (seed, path, batch number).

    Every sample is shown once an epoch; a batch may straddle epochs, nothing is dropped, and resuming needs no state.
    Raises UserError when `size` (samples in the set) or `batch_size` is not positive.
    """

    def __init__(self, size: int, batch_size: int, seed: int, *path: object) -> None:
        if size < 1 or batch_size < 1:
            raise UserError(f"cannot sample batches of {batch_size} from {size} samples; both must be at least 1")
        self.size, self.batch_size, self.seed, self.path = size, batch_size, seed, path
        self._epoch, self._permutation = -1, torch.empty(0, dtype=torch.int64)

    def indices(self, position: int) -> Tensor:
        """Batch number `position` (from 0) of the stream: int64 (batch_size,)."""
        start, stop = position * self.batch_size, (position + 1) * self.batch_size
        parts = []
        for epoch in range(start // self.size, (stop - 1) // self.size + 1):
            first = epoch * self.size
            parts.append(self._shuffled(epoch)[max(start - first, 0) : min(stop - first, self.size)])
        return torch.cat(parts)

    def flips(self, position: int) -> Tensor:
        """Fair coin tosses for batch number `position`: bool (batch_size,), for mirroring."""
        toss = seeding.generator(self.seed, *self.path, "flips", position)
        return torch.randint(2, (self.batch_size,), generator=toss).bool()

    def _shuffled(self, epoch: int) -> Tensor:
        """The order of samples in `epoch`, int64 (size,); the last one asked for is kept."""
        if epoch != self._epoch:
            random = seeding.generator(self.seed, *self.path, epoch)
            self._epoch, self._permutation = epoch, torch.randperm(self.size, generator=random)
        return self._permutation
