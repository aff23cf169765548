"""InfoGAN's networks for digits (Chen et al. 2016, appendix C.1), on which Lucic et al. 2018 compare losses too."""

from __future__ import annotations

from torch import Tensor, nn

from gan_experiments.data.base import Spec
from gan_experiments.networks.blocks import Staged, StagedGenerator, image_shape, initialise
from gan_experiments.networks.heads import Headed

SMALLEST, LARGEST = 8, 128
SLOPE = 0.1


class InfoGANGenerator(StagedGenerator):
    """Latents through two linear maps, of `hidden` units and to 2 `width` maps of a quarter of the side, then doubled
    twice by transposed 4x4 convolutions of stride 2, to `width` maps and to the image; batch norm, ReLU, tanh."""

    def __init__(
        self, spec: Spec, latent_dim: int = 74, hidden: int = 1024, width: int = 64, init_std: float | None = 0.02
    ) -> None:
        super().__init__()
        channels, side = image_shape(spec, type(self).__name__, SMALLEST, LARGEST)
        self.latent_dim, quarter = latent_dim, side // 4
        units = 2 * width * quarter**2
        first = nn.Sequential(
            nn.Linear(latent_dim, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, units, bias=False),
            nn.BatchNorm1d(units),
            nn.ReLU(inplace=True),
            nn.Unflatten(1, (2 * width, quarter, quarter)),
        )
        second = nn.Sequential(
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.levels, self.shapes = nn.ModuleList([first, second]), [(2 * width, quarter), (width, side // 2)]
        self.output = nn.Sequential(nn.ConvTranspose2d(width, channels, 4, 2, 1), nn.Tanh())
        initialise(self, init_std)


class InfoGANDiscriminator(Headed, Staged):
    """4x4 convolutions of stride 2 to `width` and 2 `width` maps, a linear map to `hidden` units, one logit.

    Leaky ReLUs of slope 0.1, batch norm but for the first level. `shapes` are those of the two levels of maps; the
    third level is the vector (n, hidden) that InfoGAN's Q shares.
    """

    def __init__(self, spec: Spec, width: int = 64, hidden: int = 1024, init_std: float | None = 0.02) -> None:
        super().__init__()
        channels, side = image_shape(spec, type(self).__name__, SMALLEST, LARGEST)
        self.shapes = [(width, side // 2), (2 * width, side // 4)]
        self.levels = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(SLOPE, inplace=True)),
                nn.Sequential(
                    nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False),
                    nn.BatchNorm2d(2 * width),
                    nn.LeakyReLU(SLOPE, inplace=True),
                ),
                nn.Sequential(
                    nn.Flatten(),
                    nn.Linear(2 * width * (side // 4) ** 2, hidden, bias=False),
                    nn.BatchNorm1d(hidden),
                    nn.LeakyReLU(SLOPE, inplace=True),
                ),
            ]
        )
        self.head = nn.Linear(hidden, 1)
        initialise(self, init_std)


class Recognition(nn.Module):
    """Q after the shared body: (n, in_features) through `hidden` units with batch norm to (n, outputs), float32."""

    def __init__(self, in_features: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(in_features, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.Linear(hidden, outputs),
        )
        initialise(self, 0.02)

    def forward(self, h: Tensor) -> Tensor:
        """What is said of each sample."""
        said: Tensor = self.net(h)
        return said.float()
