"""LAPGAN's networks (Denton et al. 2015): a generator of residuals and a discriminator for every level of a pyramid."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, one_hot

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.networks.heads import Headed
from gan_experiments.networks.informed import Informed
from gan_experiments.networks.mlp import MLPDiscriminator, MLPGenerator


def halved(images: Tensor) -> Tensor:
    """d: images (n, c, h/2, w/2), each number the mean of four."""
    return avg_pool2d(images, 2)


def doubled(images: Tensor) -> Tensor:
    """u: images (n, c, 2h, 2w), linearly interpolated."""
    return interpolate(images, scale_factor=2, mode="bilinear", align_corners=False)


def classes_of(spec: Spec, conditional: bool, network: str) -> int:
    """How many classes a network is told: none unless it is conditional; UserError where the data have fewer than 2."""
    if not conditional:
        return 0
    if len(spec.classes) < 2:
        raise UserError(f"{network}: conditional=true needs data of 2 or more classes; set it to false")
    return len(spec.classes)


class ClassCodes(Informed):
    """Puts the classes' one-hot codes (n, k) behind vectors (n, d)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.number = classes

    def forward(self, x: Tensor) -> Tensor:
        """(n, d + k)."""
        return torch.cat([x, one_hot(self.classes, self.number).to(x.dtype)], 1)


class ClassPlane(Informed):
    """Puts a map made of the class behind the channels: a linear map of its code, then ReLU (section 4)."""

    def __init__(self, classes: int, side: int) -> None:
        super().__init__()
        self.number, self.side = classes, side
        self.map = nn.Linear(classes, side * side)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c + 1, h, w)."""
        plane = torch.relu(self.map(one_hot(self.classes, self.number).to(self.map.weight.dtype)))
        return torch.cat([x, plane.view(-1, 1, self.side, self.side).to(x.dtype)], 1)


class CoarseGenerator(MLPGenerator):
    """The coarsest level's: two hidden layers of `width` ReLUs; initial weights N(0, 0.05^2), as published."""

    def __init__(
        self,
        spec: Spec,
        latent_dim: int = 100,
        width: int = 1200,
        init_std: float | None = 0.05,
        conditional: bool = False,
    ) -> None:
        classes = classes_of(spec, conditional, type(self).__name__)
        super().__init__(spec, latent_dim + classes, [width, width], init_std=init_std)
        self.latent_dim = latent_dim
        self.codes = ClassCodes(classes) if conditional else nn.Identity()

    def forward(self, z: Tensor) -> Tensor:
        """Images (n, c, h, w) for latents (n, latent_dim)."""
        return super().forward(self.codes(z))


class CoarseDiscriminator(MLPDiscriminator):
    """The coarsest level's: two hidden layers of `width` ReLUs with dropout; initial weights N(0, 0.005^2)."""

    def __init__(
        self,
        spec: Spec,
        width: int = 600,
        dropout: float = 0.5,
        init_std: float | None = 0.005,
        conditional: bool = False,
    ) -> None:
        classes = classes_of(spec, conditional, type(self).__name__)
        seen = Spec((math.prod(spec.shape) + classes,))
        super().__init__(seen, [width, width], "relu", dropout, init_std)
        if conditional:
            self.levels[0].insert(0, ClassCodes(classes))  # type: ignore[operator]


class ResidualGenerator(nn.Module):
    """What a coarse image lacks, from it and a plane of noise: convolutions of 7x7, 7x7 and 5x5, `width` wide.

    `latent_dim` is the number of pixels: one latent each. Widths and sizes are those of the published code.
    """

    def __init__(self, spec: Spec, width: int = 128, conditional: bool = False) -> None:
        super().__init__()
        channels, side, _ = spec.shape
        classes = classes_of(spec, conditional, type(self).__name__)
        self.side, self.latent_dim = side, side * side
        self.plane = ClassPlane(classes, side) if conditional else nn.Identity()
        self.net = nn.Sequential(
            nn.Conv2d(channels + 1 + conditional, width, 7, padding=3),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 7, padding=3),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, channels, 5, padding=2),
        )

    def forward(self, z: Tensor, coarse: Tensor) -> Tensor:
        """Residuals (n, c, h, w) for latents (n, h w) and doubled coarse images (n, c, h, w)."""
        noise = z.view(-1, 1, self.side, self.side).to(coarse.dtype)
        residuals: Tensor = self.net(self.plane(torch.cat([noise, coarse], 1)))
        return residuals


class ResidualDiscriminator(Headed):
    """A level's: two 5x5 convolutions without padding, the second of stride 2, dropout, a linear map.

    It sees coarse image and residual added up, as in the paper. Features are the levels after their ReLU.
    """

    def __init__(self, spec: Spec, width: int = 128, dropout: float = 0.5, conditional: bool = False) -> None:
        super().__init__()
        channels, side, _ = spec.shape
        classes = classes_of(spec, conditional, type(self).__name__)
        plane = [ClassPlane(classes, side)] if conditional else []
        inner = (side - 4 - 5) // 2 + 1
        if inner < 1:
            raise UserError(f"{type(self).__name__} takes images of side 10 or more, not {side}: set a larger coarsest")
        self.levels = nn.ModuleList(
            [
                nn.Sequential(*plane, nn.Conv2d(channels + conditional, width, 5), nn.ReLU(inplace=True)),
                nn.Sequential(nn.Conv2d(width, width, 5, 2), nn.ReLU(inplace=True)),
            ]
        )
        self.pool = nn.Sequential(nn.Flatten(), nn.Dropout(dropout))
        self.head = nn.Linear(width * inner**2, 1)
