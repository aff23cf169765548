"""Orders of samples that follow from what they hold and a seed alone: no number depends on how files are listed.

Samples as stored are exact, and are told apart by a 64-bit digest. Features differ in their last digits with the
batches that they came in, so their order is that along a random direction, shuffled: rounding hardly moves them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.data.base import Dataset, Split
from gan_experiments.data.share import part_of

BYTES = 2**26
"""Bytes of samples turned into whole numbers, or float64, at a time."""

WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Whole numbers that the bits of values of so many bytes are read as."""

_orders: WeakKeyDictionary[Split, dict[int, Tensor]] = WeakKeyDictionary()


def content_order(split: Split, seed: int) -> Tensor:
    """Places (n,) of a split's samples in a random order that follows from the seed and the samples with their labels.

    Equal samples of equal labels are anywhere in it, apart from each other. All samples are read once.
    """
    known = _orders.setdefault(split, {})
    if seed not in known:
        size = max(1, BYTES // split.samples[:1].nbytes)
        parts = [digests(split.raw(start, start + size)) for start in range(0, len(split), size)]
        found = torch.cat(parts).cpu()
        if split.labels is not None:
            found = digests(torch.stack([found, split.labels.cpu()], dim=1))
        known[seed] = keys(found, repeats(found), seed, "content").argsort()
    return known[seed]


def divided(data: Dataset, whole: Split, share: float) -> Dataset:
    """The data set of all its images, of which a share is held out anew: by seed and content."""
    random = content_order(whole, 0)
    count = min(max(round(share * len(whole)), 1), len(whole) - 1)
    train, held_out = (part_of(whole, part.sort().values) for part in (random[count:], random[:count]))
    return replace(data, train=train, held_out=held_out, spec=replace(data.spec, frequencies=()))


def digests(rows: Tensor) -> Tensor:
    """A number (n,), int64, of each of rows (n, ...) that is equal for rows of equal bits, and hardly ever for others.

    The sum modulo 2^64 of 64-bit words times random odd numbers (Dietzfelbinger 1996): the same on every device.
    """
    flat = (rows.detach().flatten(1) if rows.ndim > 1 else rows.detach()[:, None]).contiguous()
    if flat.element_size() == 1:
        words = torch.nn.functional.pad(flat.view(torch.uint8), (0, -flat.shape[1] % 8)).view(torch.int64)
    else:
        words = flat.view(WORDS[flat.element_size()])
    factors = odd_numbers(words.shape[1]).to(words.device)
    at_once = max(1, BYTES // (8 * max(1, words.shape[1])))
    sums = [(folded(part.long()) * factors).sum(1) for part in torch.split(words, at_once)]
    return torch.cat(sums) if sums else factors.new_empty(0)


def folded(words: Tensor) -> Tensor:
    """Words (n, k) with their upper bits added to the lower ones, one to one: those of round floats are all zeros."""
    for shift in (32, 16):
        words = words ^ ((words >> shift) & (2 ** (64 - shift) - 1))
    return words


@lru_cache(maxsize=8)
def odd_numbers(count: int) -> Tensor:
    """Random odd 64-bit numbers (count,)."""
    drawn = torch.randint(-(2**63), 2**63 - 1, (count,), generator=seeding.generator(0, "digests"))
    return drawn | 1


def repeats(found: Tensor) -> Tensor:
    """How many equal numbers stand before each of `found` (n,)."""
    order = found.argsort(stable=True)
    counts = torch.unique_consecutive(found[order], return_counts=True)[1]
    starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
    return torch.empty_like(order).scatter_(0, order, torch.arange(len(found), device=found.device) - starts)


def keys(found: Tensor, again: Tensor, seed: int, *stream: object) -> Tensor:
    """Random numbers (n,) in [0, 1), float64, that follow from digests (n,), their repetitions (n,) and a stream."""
    salt = np.uint64(seeding.derive(seed, *stream))
    first = scrambled(unsigned(found) ^ salt)
    return torch.from_numpy((scrambled(first ^ unsigned(again)) >> np.uint64(11)) * 2.0**-53)


def unsigned(numbers: Tensor) -> NDArray[np.uint64]:
    """Numbers (n,) int64 with the same bits."""
    return numbers.cpu().numpy().view(np.uint64)


def scrambled(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Each of the numbers (n,) with its bits mixed, one to one (splitmix64, Steele et al. 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class StreamKeys:
    """Random numbers of rows that come batch by batch, by their content: of equal rows each has another one."""

    def __init__(self, seed: int, *stream: object) -> None:
        """Those of that stream."""
        self.seed, self.stream = seed, stream
        self.seen: dict[int, int] = {}

    def draw(self, rows: Tensor, tags: Tensor | None = None) -> Tensor:
        """The keys (n,) in [0, 1), float64, of further rows (n, ...) with int64 tags (n, k)."""
        found = digests(rows).cpu()
        if tags is not None and tags.shape[1] > 0:
            found = digests(torch.cat([found[:, None], tags.cpu()], dim=1))
        again = []
        for number in found.tolist():
            before = self.seen.get(number, 0)
            again.append(before)
            self.seen[number] = before + 1
        return keys(found, torch.tensor(again, dtype=torch.int64), self.seed, *self.stream)


def settled(*parts: Tensor) -> Tensor:
    """Places (n,) of rows (n, ...), which may have several parts, in a shuffled order that follows from their content.

    That along one random direction, to rounding, then a fixed permutation: rows are at random places, wherever they
    came from, and equal rows of all parts change places at most.
    """
    along = torch.stack([projected(part, number) for number, part in enumerate(parts)]).sum(0)
    shuffle = torch.randperm(len(along), generator=seeding.generator(0, "settled"))
    return along.argsort(stable=True)[shuffle.to(along.device)]


def projected(rows: Tensor, number: int) -> Tensor:
    """Rows (n, ...) along the random direction of that number: (n,), float64."""
    flat = rows.flatten(1) if rows.ndim > 1 else rows[:, None]
    random = seeding.generator(0, "direction", number)
    direction = torch.randn(flat.shape[1], generator=random, dtype=torch.float64).to(rows.device)
    parts = [part.double() @ direction for part in pieces(flat)]
    return torch.cat(parts) if parts else direction.new_empty(0)


def pieces(flat: Tensor) -> Iterator[Tensor]:
    """Rows (n, d) in parts that may be turned into float64."""
    return iter(torch.split(flat, max(1, BYTES // (8 * max(1, flat.shape[1])))))
