"""The LeNet-like classifier whose features and class probabilities score images of small data sets offline."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 32
"""Height and width in pixels that every image is resized to before the first convolution."""


class Classifier(nn.Module):
    """Two 5x5 convolutions, 256 ReLU features, `classes` logits (after LeCun et al. 1998; MMD-GAN's digit features).

    Takes float images (n, channels, h, w) in [0, 255] of any size; sizes other than 32x32 are area-averaged to it.
    """

    num_features = 256

    def __init__(self, channels: int, classes: int) -> None:
        """Untrained weights for images of `channels` channels, drawn from the global generator."""
        super().__init__()
        self.convolution1 = nn.Conv2d(channels, 32, 5)
        self.convolution2 = nn.Conv2d(32, 64, 5)
        self.hidden = nn.Linear(64 * 5 * 5, self.num_features)
        self.dropout = nn.Dropout(0.5)
        self.output = nn.Linear(self.num_features, classes)

    def features(self, images: Tensor) -> Tensor:
        """The 256 ReLU activations (n, 256) of float images (n, c, h, w) in [0, 255]."""
        x = shrink(images) / 255 - 0.5
        x = F.relu(F.max_pool2d(self.convolution1(x), 2))
        x = F.relu(F.max_pool2d(self.convolution2(x), 2))
        features: Tensor = F.relu(self.hidden(x.flatten(1)))
        return features

    def logits(self, features: Tensor) -> Tensor:
        """Unnormalised log-probabilities (n, classes) of features (n, 256)."""
        logits: Tensor = self.output(self.dropout(features))
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, classes) of float images (n, c, h, w) in [0, 255]."""
        return self.logits(self.features(images))


def shrink(images: Tensor) -> Tensor:
    """Float images (n, c, h, w) area-averaged to 32x32; those of that size are returned as they are."""
    return images if images.shape[-2:] == (SIDE, SIDE) else F.interpolate(images, (SIDE, SIDE), mode="area")


def train_classifier(
    images: Tensor,
    labels: Tensor,
    classes: int,
    *,
    steps: int,
    seed: int,
    tell: Callable[[str, int, int], None] = lambda *_: None,
) -> Classifier:
    """A classifier trained with cross-entropy on uint8 images (n, c, h, w) and labels (n,), in evaluation mode.

    AdamW with one cycle of the learning rate. Repeatable on one machine; the caller's random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Classifier(images.shape[1], classes).train()
        batch = min(128, len(images))
        optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=1e-2)
        lr = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps + 1)
        order = torch.empty(0, dtype=torch.long)
        for step in range(steps):
            if len(order) < batch:
                order = torch.randperm(len(images))
            chosen, order = order[:batch], order[batch:]
            loss = F.cross_entropy(net(images[chosen].float()), labels[chosen])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            lr.step()
            tell("training the classifier", step + 1, steps)
    return net.eval()


@torch.no_grad()
def accuracy(net: Classifier, images: Tensor, labels: Tensor, batch_size: int = 500) -> float:
    """The share of uint8 images (n, c, h, w) whose most probable class is their label (n,)."""
    hits = 0
    for start in range(0, len(images), batch_size):
        guesses = net(images[start : start + batch_size].float()).argmax(1)
        hits += int((guesses == labels[start : start + batch_size]).sum())
    return hits / len(images)
