"""A seeded share of the training samples, for experiments on little data."""

from __future__ import annotations

from dataclasses import replace

import torch

from gan_experiments import seeding
from gan_experiments.data.base import Dataset, Split, describe_content
from gan_experiments.errors import UserError


def shared(dataset: Dataset, share: float, seed: int = 0) -> Dataset:
    """The data set with only a `share` of its training samples, as large of every class; held-out samples all stay.

    `seed` draws which; a smaller share is a part of a larger one. Raises UserError for a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise UserError(f"dataset.share is {share}; expected a share of the training samples, above 0 and at most 1")
    if share == 1:
        return dataset
    chosen = share_rows(dataset.train, share, seed)
    said = f"{share:g} of the training samples, seed {seed}"
    return replace(
        dataset,
        train=part_of(dataset.train, chosen),
        spec=replace(dataset.spec, frequencies=()),
        transform=said if dataset.transform == "none" else f"{dataset.transform}; {said}",
    )


def share_rows(split: Split, share: float, seed: int) -> torch.Tensor:
    """Ascending places of a share of a split's samples, of each class its rounded share and one at least."""
    order = torch.randperm(len(split), generator=seeding.generator(seed, "share"))
    labels = torch.zeros(len(split), dtype=torch.int64) if split.labels is None else split.labels.cpu()
    shuffled = labels[order]
    places = []
    for label in labels.bincount().nonzero().flatten().tolist():
        own = order[shuffled == label]
        places.append(own[: max(round(share * len(own)), 1)])
    return torch.cat(places).sort().values


def part_of(split: Split, places: torch.Tensor) -> Split:
    """The samples of a split at ascending `places` (n,), left where they are."""
    rows = places if split.rows is None else split.rows[places]
    labels = None if split.labels is None else split.labels[places.to(split.device)]
    fingerprint = describe_content(split.fingerprint, (len(places), *split.shape), None, places)
    return Split(split.samples, labels, rows=rows, device=split.device, fingerprint=fingerprint)
