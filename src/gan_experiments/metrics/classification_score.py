"""Classification accuracy scores: what a classifier learns from generated images, and what it finds in them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.metrics.base import Accumulator, Detail, QualityMetric, Reading, joined, known, require_images
from gan_experiments.metrics.classifier import Classifier, accuracy, shrink, train_classifier
from gan_experiments.metrics.extractors import Extractor, Features
from gan_experiments.metrics.intervals import of_share
from gan_experiments.metrics.order import settled

WILSON = "Wilson's score interval over the images tested; one training, whose luck is not in it"

log = logging.getLogger(__name__)


@final
class LabelledRows(Accumulator):
    """All rows (n, ...) seen with a label (n,) each, in an order that doesn't depend on how they came."""

    rows: list[Tensor]
    labels: list[Tensor]

    def __init__(self) -> None:
        """No rows yet."""
        super().__init__()
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self.add_state("labels", default=[], dist_reduce_fx="cat")

    def update(self, rows: Tensor, labels: Tensor) -> None:
        """Keep rows (n, ...) and their labels (n,)."""
        self.rows.append(rows.to(self.device))
        self.labels.append(labels.to(self.device))

    def compute(self) -> tuple[Tensor, Tensor]:
        """All rows (n, ...) and labels (n,), at random places that follow from what they hold."""
        rows, labels = joined(self.rows), joined(self.labels)
        order = settled(rows, labels)
        return rows[order], labels[order]


@dataclass(frozen=True, eq=False)
class Images:
    """uint8 images (n, c, 32, 32) with labels (n,), on the CPU."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)


class OfReals(NamedTuple):
    """What follows from real images alone: the classifier trained on all of them, and accuracies by percentage."""

    net: Classifier
    accuracies: dict[int, float]


@final
class ClassificationScore(QualityMetric[LabelledRows]):
    """Accuracies of small classifiers trained or tested on generated images of known classes, 0 to 1, higher is better.

    `cas`: trained on generated images only, as many as training images or all there are, tested on held-out ones
    (Ravuri and Vinyals 2019; GAN-train of Shmelkov et al. 2018). Missing modes, wrong classes and poor images lower it.
    `gan_test`: trained on the training images, tested on generated ones (Shmelkov et al. 2018). Only the latter two
    lower it. `cas_augmented_p`: trained on p % of the training images, drawn class by class, and the generated ones.
    `real` is the number with training images in place of generated ones, with held-out ones for `gan_test`, and of the
    p % alone. Each classifier takes `steps` batches of 128 images of 32x32. Weakness: a generator that memorises the
    training set scores like it, and the numbers hold for this classifier and `steps` only.
    """

    needs_held_out = True
    needs_labels = True
    own_floor = True
    reads_features = False

    def __init__(self, steps: int = 300, percents: Sequence[int] = (1, 10, 100), seed: int = 0) -> None:
        """A score by that training; UserError unless steps >= 1 and different percentages are from 1 to 100."""
        if steps < 1:
            raise UserError(f"metric classification_score: steps={steps}; expected at least 1")
        if len(set(percents)) != len(percents) or not all(1 <= percent <= 100 for percent in percents):
            raise UserError(
                f"metric classification_score: percents={list(percents)}; expected different numbers from 1 to 100"
            )
        super().__init__(LabelledRows(), LabelledRows(), LabelledRows())
        self.steps = steps
        self.percents = tuple(percents)
        self.seed = seed
        self.classes = 0
        self._of_reals: OfReals | None = None

    def bind(self, dataset: Dataset, extractor: Extractor | None) -> None:
        """Take the number of classes; UserError unless the data are images with classes."""
        require_images("classification_score", dataset)
        if not dataset.spec.classes:
            raise UserError(
                f"metric classification_score needs classes, but data set {dataset.name} has none; leave it out, "
                "or sort the images into one subfolder a class"
            )
        self.classes = len(dataset.spec.classes)

    def update(self, features: Features, real: bool) -> None:
        """Take uint8 images (n, c, h, w) and their labels (n,)."""
        if real:
            self._of_reals = None
        self.keep(self.real if real else self.generated, features)

    def show_held_out(self, features: Features) -> None:
        """Take held-out uint8 images (n, c, h, w) and their labels (n,)."""
        assert self.held_out is not None
        self._of_reals = None
        self.keep(self.held_out, features)

    def keep(self, side: LabelledRows, features: Features) -> None:
        """Keep images, area-averaged to 32x32, which is all that the classifier sees of them."""
        samples = known(features.samples, "classification_score", "the images themselves")
        labels = known(features.labels, "classification_score", "the images' classes")
        side.update(shrink(samples.float()).round().to(torch.uint8), labels)

    def forget_held_out(self) -> None:
        """Drop the held-out side and what was learnt with it."""
        super().forget_held_out()
        self._of_reals = None

    def names(self) -> list[str]:
        """Both ways, and one for each share of the training images."""
        return ["cas", "gan_test", *(f"cas_augmented_{percent}" for percent in self.percents)]

    def compute(self) -> list[Reading]:
        """All readings; seven trainings the first time, four when only the generated side has changed."""
        assert self.held_out is not None
        real, generated, held_out = (images_of(side) for side in (self.real, self.generated, self.held_out))
        if min(len(real), len(generated), len(held_out)) < 1:
            raise UserError("metric classification_score needs training, generated and held-out images")
        if len(generated) > len(real):
            generated = picked(generated, self.order(generated)[: len(real)])
        if self._of_reals is None:
            self._of_reals = self.learn_reals(real, held_out)
        net, accuracies = self._of_reals
        readings = [
            self.reading("cas", self.learn("generated images", generated), held_out, accuracies[100], len(generated)),
            self.reading("gan_test", net, generated, accuracies[100], len(real)),
        ]
        for percent in self.percents:
            both = joint(self.share(real, percent), generated)
            judge = self.learn(f"{percent} % of the training images and generated ones", both)
            name = f"cas_augmented_{percent}"
            readings.append(self.reading(name, judge, held_out, accuracies[percent], len(both)))
        return readings

    def learn_reals(self, real: Images, held_out: Images) -> OfReals:
        """The classifier trained on all training images, and held-out accuracies after training on shares of them."""
        net = self.learn("training images", real)
        accuracies = {100: accuracy(net, held_out.images, held_out.labels)}
        for percent in set(self.percents) - {100}:
            part = self.learn(f"{percent} % of the training images", self.share(real, percent))
            accuracies[percent] = accuracy(part, held_out.images, held_out.labels)
        return OfReals(net, accuracies)

    def learn(self, what: str, images: Images) -> Classifier:
        """A classifier of these images; takes seconds to a minute, and says so."""
        log.info("classification score: %d steps on %d images, %s", self.steps, len(images), what)
        # Metrics are computed without gradients, and seeding a classifier must leave this device's random state alone.
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.enable_grad(), torch.random.fork_rng(devices=devices):
            return train_classifier(images.images, images.labels, self.classes, steps=self.steps, seed=self.seed)

    def reading(self, name: str, net: Classifier, tested: Images, real: float, trained: int) -> Reading:
        """The accuracy of a classifier on some images."""
        share = accuracy(net, tested.images, tested.labels)
        details: dict[str, Detail] = {
            "steps": self.steps,
            "trained_images": trained,
            "tested_images": len(tested),
            "seed": self.seed,
        }
        interval = of_share(round(share * len(tested)), len(tested))
        return Reading(name, share, details, higher_is_better=True, interval=interval, interval_from=WILSON, real=real)

    def share(self, images: Images, percent: int) -> Images:
        """So many per cent of each class, at least one image, rounded; smaller shares are parts of larger ones."""
        if percent == 100:
            return images
        order = self.order(images)
        parts = []
        for number in range(self.classes):
            rows = order[images.labels[order] == number]
            parts.append(rows[: max(1, round(len(rows) * percent / 100))])
        return picked(images, torch.cat(parts))

    def order(self, images: Images) -> Tensor:
        """The places of images in a seeded random order."""
        return torch.randperm(len(images), generator=seeding.generator(self.seed, "classification_score"))


def images_of(side: LabelledRows) -> Images:
    """The images of a side, on the CPU, where the classifier is trained."""
    images, labels = side.compute()
    return Images(images.cpu(), labels.cpu())


def picked(images: Images, rows: Tensor) -> Images:
    """The images at some rows (n,)."""
    return Images(images.images[rows], images.labels[rows])


def joint(first: Images, second: Images) -> Images:
    """Images of two sets together."""
    return Images(torch.cat([first.images, second.images]), torch.cat([first.labels, second.labels]))
