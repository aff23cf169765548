"""Ways of telling networks the classes of samples, put on networks that know nothing of them (group `conditioning`)."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

from torch import nn

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.networks.blocks import Staged
from gan_experiments.networks.conditional import (
    ClassifierHead,
    DiscriminativeClassifierHead,
    EmbeddingHead,
    LabelMaps,
    MultiHingeHead,
    OneHotLatents,
    OneHotPlanes,
    Projection,
    SideHead,
    TwinClassifierHead,
    class_count,
    condition_norms,
    last_linear,
    widen_first,
)
from gan_experiments.networks.informed import ClassesByItself, uses_classes
from gan_experiments.networks.initial import draw_of
from gan_experiments.trick import Factory, Trick


class Conditioning(Trick):
    """A change of one player's network that makes it use classes; the game sees that the other's uses them too."""

    rank = 16  # after layers that widen a head, before wrappers of the whole network

    def network(self, player: str, make: Factory) -> Factory:
        """The network that uses classes."""

        def conditioned(spec: Spec) -> nn.Module:
            classes = class_count(spec, f"conditioning {self.name}")
            network = make(self.widened(spec, classes))
            self.check_free(network)
            return self.condition(network, spec, classes)

        return conditioned

    def widened(self, spec: Spec, classes: int) -> Spec:
        """What the network is made for, with this way of telling it classes."""
        return spec

    def check_free(self, network: nn.Module) -> None:  # noqa: B027
        """UserError when the network uses classes already, in a way that this one would contradict."""

    @abstractmethod
    def condition(self, network: nn.Module, spec: Spec, classes: int) -> nn.Module:
        """The network with this way of using `classes` classes; UserError when it can't be put in."""


class GeneratorConditioning(Conditioning):
    """A way of telling the generator which class is asked for."""

    players = ("generator",)


class OneHot(GeneratorConditioning):
    """The one-hot vector of the class beside the latents (Mirza & Osindero 2014)."""

    rank = 17  # around the ways that change what is inside, whichever is named first

    def check_free(self, network: nn.Module) -> None:
        """UserError for generators whose latents are read in more places than a first linear map."""
        if isinstance(network, ClassesByItself):
            raise UserError(
                f"conditioning {self.name} joins a class to the latents of a first linear map, and "
                f"{type(network).__name__} reads them in its own way: set conditioning=[native], which is "
                "model.generator.conditional=true and model.discriminator.conditional=true"
            )

    def condition(self, network: nn.Module, spec: Spec, classes: int) -> nn.Module:
        """The network with a wider first linear map."""
        width = int(network.latent_dim)  # type: ignore[arg-type]
        widen_first(network, width, classes, f"conditioning {self.name}")
        return OneHotLatents(network, width, classes)


class JoinedMaps(GeneratorConditioning):
    """`maps` feature maps made of the class, joined to those of the generator's first layer."""

    def __init__(self, maps: int = 1) -> None:
        super().__init__()
        if maps < 1:
            raise UserError(f"maps={maps}: one feature map or more")
        self.maps = maps

    def condition(self, network: nn.Module, spec: Spec, classes: int) -> nn.Module:
        """The network with the maps after its first level."""
        if not isinstance(network, Staged):
            fitting = "[native]" if isinstance(network, ClassesByItself) else "[one_hot,...]"
            raise UserError(
                f"conditioning {self.name}: {type(network).__name__} has no feature maps to join; set model=dcgan, or "
                f"conditioning={fitting}"
            )
        channels, side = network.shapes[0]
        network.levels[0] = nn.Sequential(network.levels[0], LabelMaps(channels, side, classes, self.maps))
        return network


class ConditionalNorm(GeneratorConditioning):
    """Conditional batch norm in place of the generator's batch norms, but not its output's (Miyato & Koyama 2018).

    `gains` and `shifts` name how their tables are drawn (of gains less 1), None: 1 and 0; `spectral_norm` of both.
    """

    def __init__(self, gains: str | None = None, shifts: str | None = None, spectral_norm: bool = False) -> None:
        super().__init__()
        if spectral_norm and (gains is None or shifts is None):
            raise UserError(
                "spectral_norm=true: tables of 0 have no singular value; set gains and shifts to orthogonal"
            )
        self.gains, self.shifts, self.spectral_norm = gains, shifts, spectral_norm

    def condition(self, network: nn.Module, spec: Spec, classes: int) -> nn.Module:
        """The network with other norms."""
        if not condition_norms(network, classes, self.gains, self.shifts, self.spectral_norm):
            raise UserError(
                f"conditioning {self.name}: {type(network).__name__} has no batch norm to replace; set "
                "model.generator.norm=batch (dcgan) or batch_norm=true (mlp), or take one_hot or native"
            )
        return network


class DiscriminatorConditioning(Conditioning):
    """A way of letting the discriminator judge a sample with its class; one is enough."""

    players = ("discriminator",)

    def check_free(self, network: nn.Module) -> None:
        """UserError for a second way, or one beside the network's own."""
        if uses_classes(network):
            raise UserError(
                f"conditioning {self.name}: the discriminator uses classes already, by another conditioning or, with "
                "model.discriminator.conditional=true, in its own way; choose one"
            )


class Planes(DiscriminatorConditioning):
    """One plane a class joined to the sample (Mirza & Osindero 2014)."""

    rank = 49  # outermost of what changes the input's shape

    def widened(self, spec: Spec, classes: int) -> Spec:
        """Samples with planes."""
        return replace(spec, shape=(spec.shape[0] + classes, *spec.shape[1:]))

    def condition(self, network: nn.Module, spec: Spec, classes: int) -> nn.Module:
        """The wrapped network."""
        return OneHotPlanes(network, classes)


class ProjectionHead(DiscriminatorConditioning):
    """Adds the inner product of features and a vector of the class to the logit (Miyato & Koyama 2018).

    `init` names how the vectors are drawn.
    """

    def __init__(self, init: str = "glorot") -> None:
        super().__init__()
        draw_of(init)
        self.init = init

    def condition(self, network: nn.Module, spec: Spec, classes: int) -> nn.Module:
        """The network with a projection at its end."""
        inner, layers, last = last_linear(network, f"conditioning {self.name}")
        inner.head = nn.Sequential(*layers, Projection(last, classes, self.init))
        return network


class Sideways(DiscriminatorConditioning):
    """Puts a head with further outputs at the discriminator's end; what they are for is a term's business.

    `init` names how its weights are drawn, None: as torch does.
    """

    def __init__(self, init: str | None = None) -> None:
        super().__init__()
        if init is not None:
            draw_of(init)
        self.init = init

    def condition(self, network: nn.Module, spec: Spec, classes: int) -> nn.Module:
        """The network with the head, and the hook that takes its outputs apart."""
        inner, layers, last = last_linear(network, f"conditioning {self.name}")
        head = self.head(last, classes)
        inner.head = nn.Sequential(*layers, head)
        inner.register_forward_hook(head.unpack)
        return network

    @abstractmethod
    def head(self, logit: nn.Linear, classes: int) -> SideHead | MultiHingeHead:
        """The head around the map to the logit, or in its place."""


class Classifying(Sideways):
    """Further outputs that are class logits; without `bias` they are a linear map of features."""

    def __init__(self, init: str | None = None, bias: bool = True) -> None:
        super().__init__(init)
        self.bias = bias


class Classifier(Classifying):
    """A classifier of classes beside the logit (Odena et al. 2017, AC-GAN)."""

    def head(self, logit: nn.Linear, classes: int) -> SideHead:
        """k further outputs."""
        return ClassifierHead(logit, [classes], self.init, self.bias)


class TwinClassifiers(Classifying):
    """Two classifiers, one of them of generated samples only (Gong et al. 2019, TAC-GAN)."""

    def head(self, logit: nn.Linear, classes: int) -> SideHead:
        """Twice k further outputs."""
        return TwinClassifierHead(logit, [classes, classes], self.init, self.bias)


class DiscriminativeClassifier(Classifying):
    """A classifier of class and origin at once (Hou et al. 2022, ADC-GAN)."""

    def head(self, logit: nn.Linear, classes: int) -> SideHead:
        """2k further outputs."""
        return DiscriminativeClassifierHead(logit, [2 * classes], self.init, self.bias)


class MultiHingeScores(Sideways):
    """k + 1 class scores in place of the logit (Kavalerov et al. 2021, MHGAN)."""

    def head(self, logit: nn.Linear, classes: int) -> MultiHingeHead:
        """k + 1 outputs."""
        return MultiHingeHead(logit, classes + 1, self.init)


class Embeddings(Sideways):
    """An embedding of `dim` dimensions for samples and for classes (Kang & Park 2020; Kang et al. 2021)."""

    def __init__(self, dim: int = 512, init: str | None = None) -> None:
        super().__init__(init)
        if dim < 2:
            raise UserError(f"dim={dim}: an embedding on the unit sphere has 2 dimensions or more")
        self.dim = dim

    def head(self, logit: nn.Linear, classes: int) -> SideHead:
        """`dim` further outputs and a table of classes."""
        return EmbeddingHead(logit, [self.dim], classes, self.init)
