"""Coverage of a stacked set's 1,000 modes, by the base set's classifier on each channel (Metz et al. 2017; PacGAN)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from gan_experiments.data.base import Dataset
from gan_experiments.data.stacked import CHANNELS, MODES, StackedDataset
from gan_experiments.errors import UserError
from gan_experiments.locations import located
from gan_experiments.logging.score_counts import HIGHER, LOWER
from gan_experiments.metrics.base import Accumulator, Detail, QualityMetric, Reading
from gan_experiments.metrics.classifier_extractor import ClassifierExtractor, ClassifierSource
from gan_experiments.metrics.extractors import Extractor, ExtractorSource, Features
from gan_experiments.metrics.modes import divergence_reading

AT_ONCE = 256
"""Grey images that the classifier reads at once."""


@final
class StackedClassifierExtractor(Extractor):
    """The base set's classifier on each channel: 3 x 256 features, and logits (n, 1000) of the triples of classes.

    A triple's logit is the sum of its channels' logits, so probabilities are products over the channels.
    """

    def __init__(self, channel: ClassifierExtractor) -> None:
        """An extractor that reads each channel with `channel`, the classifier of grey images of ten classes."""
        super().__init__("stacked_classifier", channel.sha256, CHANNELS * channel.num_features, MODES, channel.resize)
        self.channel = channel
        self.held_out_accuracy = channel.held_out_accuracy

    def extract(self, images: Tensor) -> Features:
        """Features (n, 768) and logits (n, 1000) of uint8 images (n, 3, h, w)."""
        grey = images.flatten(0, 1).unsqueeze(1)
        parts = [self.channel.extract(grey[start : start + AT_ONCE]) for start in range(0, len(grey), AT_ONCE)]
        features = torch.cat([part.features for part in parts])
        logits = torch.cat([part.logits for part in parts if part.logits is not None])
        first, second, third = logits.view(len(images), CHANNELS, -1).unbind(1)
        triples = first[:, :, None, None] + second[:, None, :, None] + third[:, None, None, :]
        return Features(features.reshape(len(images), -1), triples.flatten(1))


@located("cache")
@dataclass(frozen=True)
class StackedClassifierSource(ExtractorSource):
    """The option extractor=stacked_classifier: what extractor=classifier is for the grey base set, on each channel."""

    cache: str
    steps: int = 2800
    seed: int = 0

    def build(self, dataset: Dataset) -> StackedClassifierExtractor:
        """The base's classifier, shipped, cached or newly trained; UserError when the data aren't stacked."""
        if not isinstance(dataset, StackedDataset):
            raise UserError(
                f"extractor stacked_classifier reads stacked sets, which data set {dataset.name} isn't; "
                "set extractor=classifier, or dataset=stacked_fashion10k"
            )
        channel = ClassifierSource(self.cache, self.steps, self.seed).build(dataset.base)
        return StackedClassifierExtractor(channel).freeze()


@final
class TripleCounts(Accumulator):
    """How many samples the classifier puts into each of the 1,000 modes."""

    counts: Tensor

    def __init__(self) -> None:
        """No samples yet."""
        super().__init__()
        self.add_state("counts", default=torch.zeros(MODES, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor) -> None:
        """Count the most probable modes of logits (n, 1000)."""
        self.counts = self.counts + torch.bincount(logits.argmax(1).to(self.device), minlength=MODES)

    def compute(self) -> Tensor:
        """Samples in each mode (1000,)."""
        return self.counts


@final
class StackedModes(QualityMetric[TripleCounts]):
    """Modes with any sample, modes with at least half their fair share, and KL(samples || uniform) in nats.

    The first, as published, also counts the classifier's errors: at an accuracy of 99.25 % a channel and 26,000 samples
    a generator of 10 modes is counted as about 223. The second hardly does. The divergence is at most ln 1000 = 6.91;
    of N samples of a perfect generator it is about 999 / 2N, which the floor shows, with the classifier's errors in it.
    """

    needs_reals = False
    fewer_samples: ClassVar[Mapping[str, str]] = {"modes_captured": LOWER, "reverse_kl": HIGHER}

    def __init__(self) -> None:
        """A metric that takes the classifier's accuracy from the extractor."""
        super().__init__(TripleCounts(), TripleCounts())
        self.accuracy = float("nan")

    def bind(self, dataset: Dataset, extractor: Extractor | None) -> None:
        """UserError unless the data are stacked and their channels are classified."""
        if not isinstance(extractor, StackedClassifierExtractor):
            remedy = "set extractor=stacked_classifier"
            if not isinstance(dataset, StackedDataset):
                remedy += " and dataset=stacked_fashion10k, stacked_fashion_mnist or stacked_mnist"
            raise UserError(f"metric stacked_modes needs the classes of a stacked set's channels; {remedy}")
        self.accuracy = extractor.held_out_accuracy

    def update(self, features: Features, real: bool) -> None:
        """Take logits (n, 1000) of generated samples; reals play no part but as the floor."""
        if features.logits is None:
            raise UserError("metric stacked_modes needs logits, but got features only")
        if not real:
            self.generated.update(features.logits)

    def compute(self) -> list[Reading]:
        """Modes with any sample, with half their share, and the divergence."""
        counts = self.generated.compute()
        n = int(counts.sum())
        details: dict[str, Detail] = {"modes": MODES, "classifier_accuracy": self.accuracy}
        uniform = torch.full((MODES,), 1 / MODES, dtype=torch.float64)
        half = {**details, "least_samples": n / (2 * MODES)}
        return [
            Reading("modes_captured", float((counts > 0).sum()), details, higher_is_better=True),
            # In integers, as the share need not be whole.
            Reading("modes_at_half_share", float((2 * MODES * counts >= n).sum()), half, higher_is_better=True),
            divergence_reading("reverse_kl", counts.cpu(), uniform, details),
        ]
