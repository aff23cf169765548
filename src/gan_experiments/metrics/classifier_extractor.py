"""The option extractor=classifier: shipped weights where they fit, else trained once on the data set's own labels."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from gan_experiments.data.base import Dataset, Split
from gan_experiments.data.caches import place_for
from gan_experiments.errors import UserError
from gan_experiments.locations import located
from gan_experiments.logging.atomic import remove_dead, write_atomic
from gan_experiments.metrics.classifier import SIDE, Classifier, accuracy, shrink, train_classifier
from gan_experiments.metrics.extractors import Extractor, ExtractorSource, Features, image_shape
from gan_experiments.metrics.order import content_order
from gan_experiments.metrics.weights_file import hash_state

CODE_VERSION = 2
"""Raised whenever the classifier or its training changes, so that cached weights of older code aren't used."""

IMAGES_LIMIT = 60_000
"""Most images the classifier is trained and tested on; larger splits are thinned out."""

log = logging.getLogger(__name__)


class ClassifierExtractor(Extractor):
    """The 256 features and the logits of a trained Classifier; sizes other than 32x32 are area-averaged."""

    def __init__(self, net: Classifier, sha256: str, held_out_accuracy: float) -> None:
        """An extractor around trained weights, with the accuracy they reach on held-out images."""
        classes = net.output.out_features
        super().__init__("classifier", sha256, net.num_features, classes, f"area to {SIDE}x{SIDE}")
        self.net = net
        self.held_out_accuracy = held_out_accuracy

    def extract(self, images: Tensor) -> Features:
        """ReLU activations (n, 256) and logits (n, classes)."""
        features = self.net.features(images.float())
        return Features(features, self.net.logits(features))


@located("cache")
@dataclass(frozen=True)
class ClassifierSource(ExtractorSource):
    """The option extractor=classifier: where no shipped weights fit, trained by `steps` batches, kept in `cache`."""

    cache: str
    steps: int = 2800
    seed: int = 0

    def build(self, dataset: Dataset) -> ClassifierExtractor:
        """Shipped weights for data with their classes and shape, else cached or newly trained ones.

        UserError when the data have no labels, or when files are broken.
        """
        image_shape("classifier", dataset)
        if not dataset.spec.classes:
            raise UserError(
                f"extractor classifier learns from labels, but data set {dataset.name} has none; "
                "set extractor=inception or extractor=efficientnet_lite0, or sort the images into one subfolder a class"
            )
        card = shipped_card(dataset)
        if card is not None:
            return load_shipped(card, dataset)
        path = place_for(Path(self.cache) / f"classifier-{self.key(dataset)}.safetensors", "extractor.classifier.cache")
        extractor = load_cached(path, dataset) if path.exists() else None
        if extractor is None:
            self.train(dataset, path)
            extractor = load_cached(path, dataset)
        if extractor is None:
            raise UserError(f"{path}: just written, but can't be read; check the disk")
        log.info("extractor classifier for %s: held-out accuracy %.4f", dataset.name, extractor.held_out_accuracy)
        return extractor

    def key(self, dataset: Dataset) -> str:
        """16 hexadecimal digits that stand for the data's content, the architecture, the training and the code."""
        parts = (dataset.fingerprint, Classifier.__name__, CODE_VERSION, SIDE, self.steps, self.seed)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def train(self, dataset: Dataset, path: Path) -> None:
        """Train on the training part, test on the held-out part, write weights and accuracy to `path` in one move."""
        log.info("training the extractor classifier on %s: once, about a minute, kept in %s", dataset.name, path)
        images, labels = gather(dataset.train)
        net = train_classifier(images, labels, len(dataset.spec.classes), steps=self.steps, seed=self.seed)
        card = {"held_out_accuracy": accuracy(net, *gather(dataset.held_out)), "data": dataset.name}
        card["sha256"] = hash_state(dict(sorted(net.state_dict().items())))
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_dead(path.parent)
        write_atomic(path, save(net.state_dict(), metadata={"card": json.dumps(card)}))


def gather(split: Split) -> tuple[Tensor, Tensor]:
    """At most 60,000 images of a split as uint8 (n, c, 32, 32) on the CPU, and their labels (n,).

    Picks and order follow from what the images hold, so that the same ones, listed otherwise, train the same network.
    """
    if split.labels is None:
        raise UserError("the classifier needs labels, but this split has none")
    keep = content_order(split, 0)[:IMAGES_LIMIT]
    images = [shrink(split.gather(rows).cpu().float()).round().to(torch.uint8) for rows in torch.split(keep, 1000)]
    return torch.cat(images), split.labels.cpu()[keep]


def shipped_card(dataset: Dataset) -> Traversable | None:
    """The description of the shipped weights whose classes and shape are those of the data, if there is one."""
    for card in sorted(assets().iterdir(), key=lambda file: file.name):
        if card.name.endswith("_classifier.json"):
            facts = json.loads(card.read_text(encoding="utf-8"))
            if (tuple(facts["shape"]), tuple(facts["classes"])) == (dataset.spec.shape, dataset.spec.classes):
                return card
    return None


def assets() -> Traversable:
    """The folder of files that the package ships."""
    return files("gan_experiments") / "assets"


def load_shipped(card: Traversable, dataset: Dataset) -> ClassifierExtractor:
    """The extractor a card describes; UserError when the weights beside it are missing or changed."""
    facts = json.loads(card.read_text(encoding="utf-8"))
    try:
        content = (assets() / facts["file"]).read_bytes()
    except OSError as error:
        raise UserError(f"{facts['file']} is missing from the package ({error}); reinstall gan-experiments") from error
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != facts["sha256"]:
        raise UserError(f"{facts['file']}: sha256 {sha256}, expected {facts['sha256']}; reinstall gan-experiments")
    return restore(content, dataset, facts["held_out_accuracy"])


def load_cached(path: Path, dataset: Dataset) -> ClassifierExtractor | None:
    """The extractor in a cache file; None, with a warning, when the file is broken."""
    try:
        with safe_open(path, framework="pt") as file:
            card = json.loads(file.metadata()["card"])
        content = path.read_bytes()
        found = hash_state(dict(sorted(load(content).items())))
        if card.get("sha256", found) != found:  # files of earlier versions have none
            raise ValueError("its weights don't match their SHA-256")
        return restore(content, dataset, card["held_out_accuracy"])
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        log.warning("%s is broken (%s) and is made anew", path, str(error).splitlines()[0])
        return None


def restore(content: bytes, dataset: Dataset, held_out_accuracy: float) -> ClassifierExtractor:
    """The frozen extractor whose weights are the safetensors file `content`."""
    # On the meta device, because drawing weights that are replaced at once would disturb the global generator.
    with torch.device("meta"):
        net = Classifier(dataset.spec.shape[0], len(dataset.spec.classes))
    net.load_state_dict(load(content), assign=True)
    net.to(memory_format=torch.channels_last)  # convolutions on CPUs are three times as fast with it
    return ClassifierExtractor(net, hashlib.sha256(content).hexdigest(), held_out_accuracy).freeze()
