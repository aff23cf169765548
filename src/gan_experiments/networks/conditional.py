"""Layers that use classes, and how they are put into networks that know nothing of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, one_hot
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrizations import spectral_norm

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.game import Head, Verdict
from gan_experiments.networks.blocks import Staged
from gan_experiments.networks.heads import Headed, normalised_as, widened
from gan_experiments.networks.informed import Classwise, Informed
from gan_experiments.networks.initial import draw_of, drawn


class ClassVectors(Informed):
    """A vector (n, d) for each sample's class: a linear map of its one-hot vector, so that what is done to linear maps
    (spectral norm, orthogonal penalties) is done to it; `init` names their first values."""

    def __init__(self, classes: int, dim: int, init: str = "glorot") -> None:
        super().__init__()
        self.table = drawn(nn.Linear(classes, dim, bias=False), init)

    def forward(self) -> Tensor:
        """The vectors of the samples at hand."""
        weight = self.table.weight
        vectors: Tensor = self.table(one_hot(self.classes, self.table.in_features).to(weight.dtype))
        return vectors


class ConditionalBatchNorm(Informed):
    """Batch norm whose gain and shift are those of each sample's class (Dumoulin et al. 2017; Miyato & Koyama 2018).

    `gains` and `shifts` name how the tables of gains, less 1, and of shifts are drawn; None: all gains are 1 and all
    shifts 0 at first, an ordinary batch norm. `normalise` divides both tables by their largest singular value.
    """

    def __init__(
        self,
        norm: _BatchNorm,
        classes: int,
        gains: str | None = None,
        shifts: str | None = None,
        normalise: bool = False,
    ) -> None:
        super().__init__()
        self.norm = type(norm)(norm.num_features, norm.eps, norm.momentum, affine=False)
        self.gain = nn.Parameter(torch.zeros(classes, norm.num_features))
        self.shift = nn.Parameter(torch.zeros(classes, norm.num_features))
        for name, init, table in (("gains", gains, self.gain), ("shifts", shifts, self.shift)):
            if init is not None:
                draw_of(init, name)(table)
        # What is normalised is the table less 1.
        self.least = 1.0 if normalise else 0.0
        self.gain.data += 1 - self.least
        if normalise:
            spectral_norm(self, "gain")
            spectral_norm(self, "shift")

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, ...) for (n, c, ...)."""
        shape = (len(x), -1, *[1] * (x.ndim - 2))
        gain, shift = (table[self.classes].view(shape).to(x.dtype) for table in (self.gain, self.shift))
        return torch.addcmul(shift, gain + self.least if self.least else gain, self.norm(x))


class OneHotLatents(Informed):
    """A generator whose latents are joined by the one-hot vector of the class (Mirza & Osindero 2014).

    Its first linear map must be wide enough already; see `widen_first`.
    """

    def __init__(self, network: nn.Module, latent_dim: int, classes: int) -> None:
        super().__init__()
        self.network, self.latent_dim, self.count = network, latent_dim, classes

    def forward(self, z: Tensor) -> Tensor:
        """Samples (n, ...) for latents (n, latent_dim)."""
        samples: Tensor = self.network(torch.cat([z, one_hot(self.classes, self.count).to(z.dtype)], 1))
        return samples


class OneHotPlanes(Informed):
    """A discriminator that sees one plane a class beside the sample, of ones for the sample's class (Mirza & Osindero
    2014; Radford et al. 2016): for points one number a class."""

    def __init__(self, network: nn.Module, classes: int) -> None:
        super().__init__()
        self.network, self.count = network, classes

    def forward(self, samples: Tensor) -> Verdict:
        """The verdict on samples (n, c, h, w) or (n, d)."""
        planes = one_hot(self.classes, self.count).to(samples.dtype)
        planes = planes.view(*planes.shape, *[1] * (samples.ndim - 2)).expand(-1, -1, *samples.shape[2:])
        verdict: Verdict = self.network(torch.cat([samples, planes], 1))
        return verdict


class LabelMaps(nn.Module):
    """Feature maps (n, c, h, w) joined by `maps` maps (h, w) of the class, and merged back to c by a 1x1 convolution.

    With the linear map that follows it is one on the joined maps; it starts with small weights on those of the class.
    """

    def __init__(self, channels: int, side: int, classes: int, maps: int) -> None:
        super().__init__()
        self.vectors = ClassVectors(classes, maps * side**2)
        self.merge = nn.Conv2d(channels + maps, channels, 1, bias=False)
        nn.init.normal_(self.merge.weight, 0.0, 0.02)
        with torch.no_grad():
            self.merge.weight[:, :channels, 0, 0] = torch.eye(channels)

    def forward(self, h: Tensor) -> Tensor:
        """Feature maps of the shape given."""
        maps = self.vectors().view(len(h), -1, *h.shape[2:]).to(h.dtype)
        merged: Tensor = self.merge(torch.cat([h, maps], 1))
        return merged


class Projection(nn.Module):
    """logit(h) + <e_y, h> (Miyato & Koyama 2018, equation 10); e is normalised spectrally when the logit's map is."""

    def __init__(self, logit: nn.Linear, classes: int, init: str = "glorot") -> None:
        super().__init__()
        self.logit = logit
        self.vectors = ClassVectors(classes, logit.in_features, init)
        normalised_as(logit, self.vectors.table)

    def forward(self, h: Tensor) -> Tensor:
        """(n, 1) for (n, d)."""
        logits: Tensor = self.logit(h) + (self.vectors() * h).sum(1, keepdim=True)
        return logits


class SideHead(Head, Classwise):
    """A discriminator's head that says more than a logit: it wraps `logit` (n, d) -> (n, 1) by further linear maps.

    Its forward gives one tensor, logit and all else side by side, which `unpack`, a hook, takes apart into heads: the
    network's own forward stays as it is.
    """

    def __init__(self, logit: nn.Linear, sizes: Sequence[int], init: str | None = None, bias: bool = True) -> None:
        super().__init__()
        self.logit, self.sizes = logit, tuple(sizes)
        self.maps = nn.ModuleList(
            normalised_as(logit, drawn(nn.Linear(logit.in_features, size, bias), init)) for size in sizes
        )

    def forward(self, h: Tensor) -> Tensor:
        """(n, 1 + sum of sizes) for (n, d), float32."""
        return torch.cat([self.logit(h).float(), *(layer(h).float() for layer in self.maps)], 1)

    def unpack(self, network: nn.Module, inputs: object, verdict: Verdict) -> Verdict:
        """The verdict with logits (n,) and the heads that this class `gives`."""
        logits, *others = torch.split(verdict.logits, [1, *self.sizes], 1)
        said = dict(zip(self.gives, self.say(others), strict=True))
        return Verdict(logits.squeeze(1), verdict.features, {**verdict.heads, **said})

    def say(self, others: Sequence[Tensor]) -> Sequence[Tensor]:
        """The heads' values, from what the linear maps gave."""
        return others


class ClassifierHead(SideHead):
    """Class logits (n, k) beside the logit (Odena et al. 2017, AC-GAN)."""

    gives = ("class_logits",)


class TwinClassifierHead(SideHead):
    """Two classifiers (n, k) beside the logit (Gong et al. 2019, TAC-GAN): of all samples, and of generated ones."""

    gives = ("class_logits", "twin_class_logits")


class DiscriminativeClassifierHead(SideHead):
    """A classifier of class and origin, (n, 2k): k real, then k generated classes (Hou et al. 2022, ADC-GAN)."""

    gives = ("class_origin_logits",)


class MultiHingeHead(Head, Classwise):
    """k + 1 class scores, the last for generated samples, in place of the map to a logit (MHGAN, Kavalerov et al.
    2021).

    The logit, for the records, is the best real class's score minus the generated one's.
    """

    gives = ("class_scores",)

    def __init__(self, logit: nn.Linear, count: int, init: str | None = None) -> None:
        super().__init__()
        self.scores = normalised_as(logit, drawn(nn.Linear(logit.in_features, count), init))

    def forward(self, h: Tensor) -> Tensor:
        """(n, k + 1) for (n, d), float32."""
        scores: Tensor = self.scores(h).float()
        return scores

    def unpack(self, network: nn.Module, inputs: object, verdict: Verdict) -> Verdict:
        """The verdict with logits (n,) and the scores; `forward` of `network` gave these in the logits' place."""
        # Headed.forward squeezes one logit; of several it leaves all.
        scores = verdict.logits
        logits = scores[:, :-1].amax(1) - scores[:, -1]
        return Verdict(logits, verdict.features, {**verdict.heads, self.gives[0]: scores})


class EmbeddingHead(SideHead):
    """An embedding (n, e) of the sample and one of its class, both of unit length (Kang & Park 2020, ContraGAN)."""

    gives = ("embedding", "class_embedding")

    def __init__(self, logit: nn.Linear, sizes: Sequence[int], classes: int, init: str | None = None) -> None:
        super().__init__(logit, sizes, init)
        self.vectors = ClassVectors(classes, sizes[0], init or "glorot")

    def say(self, others: Sequence[Tensor]) -> Sequence[Tensor]:
        """Both embeddings, normalised."""
        return normalize(others[0]), normalize(self.vectors().float())


def class_count(spec: Spec, what: str) -> int:
    """The number of classes; UserError naming `what` when there are fewer than two."""
    if len(spec.classes) < 2:
        raise UserError(
            f"{what} needs labelled data of two or more classes, which this data set is not; set dataset=fashion10k, "
            "cifar10 or another with labels"
        )
    return len(spec.classes)


def condition_norms(
    network: nn.Module, classes: int, gains: str | None = None, shifts: str | None = None, normalise: bool = False
) -> int:
    """Put conditional batch norms in place of batch norms, in a staged network those of its levels; how many."""
    inside: nn.Module = network.levels if isinstance(network, Staged) else network
    found = [
        (parent, name, child)
        for parent in list(inside.modules())
        for name, child in parent.named_children()
        if isinstance(child, _BatchNorm) and child.affine
    ]
    for parent, name, child in found:
        setattr(parent, name, ConditionalBatchNorm(child, classes, gains, shifts, normalise))
    return len(found)


def widen_first(network: nn.Module, width: int, extra: int, what: str) -> None:
    """Let the network's first linear map, of inputs (n, width), take `extra` more; UserError naming `what` without."""
    # A table of classes may happen to be as wide, but reads no latents.
    for parent in [part for part in network.modules() if not isinstance(part, Classwise)]:
        for name, child in parent.named_children():
            if isinstance(child, nn.Linear) and child.in_features == width:
                setattr(parent, name, widened(child, extra))
                return
    raise UserError(
        f"{what} joins a class to the latents of the first linear map, which {type(network).__name__} has "
        "not; model=mlp, dcgan or resnet has, and conditioning=[native] is the network's own way, if any"
    )


def last_linear(network: nn.Module, what: str) -> tuple[Headed, list[nn.Module], nn.Linear]:
    """The headed part of a discriminator, its head's layers but the last, and that last map to one logit."""
    inner = next((part for part in network.modules() if isinstance(part, Headed)), None)
    layers = [] if inner is None else list(inner.head) if isinstance(inner.head, nn.Sequential) else [inner.head]
    last = layers.pop() if layers else None
    if inner is None or not isinstance(last, nn.Linear) or last.out_features != 1:
        end = "none" if last is None else type(last).__name__
        raise UserError(
            f"{what} needs a discriminator that ends in a linear map to one logit, which {type(network).__name__} does "
            f"not (its end is {end}); model=dcgan, resnet or mlp does, and two that replace it can't be had at once"
        )
    return inner, layers, last
