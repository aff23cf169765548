"""PixelCNN: masked convolutions that see only the numbers of an image that come before (van den Oord et al. 2016).

Numbers are in raster order, the colours of a pixel one after the other. Features belong to colours in equal shares.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear, relu

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.networks.discretised import Categorical, Levels, LogisticMixture

Look = Callable[["MaskedConv2d", Tensor], Tensor]
"""What a layer makes of its input: everywhere at once, or at one pixel from what is known so far."""


class MaskedConv2d(nn.Conv2d):
    """A convolution of odd size that sees pixels above and to the left; of its own pixel, colours before each output's
    and, unless `first` (mask A), that colour too (mask B). Section 3.4 there."""

    mask: Tensor

    def __init__(self, in_channels: int, out_channels: int, size: int, colours: int, first: bool = False) -> None:
        super().__init__(in_channels, out_channels, size, padding=size // 2)
        before = torch.arange(in_channels) * colours // in_channels
        after = (torch.arange(out_channels) * colours // out_channels)[:, None]
        mask = torch.zeros(out_channels, in_channels, size, size)
        middle = size // 2
        mask[:, :, :middle] = 1
        mask[:, :, middle, :middle] = 1
        mask[:, :, middle, middle] = (before < after if first else before <= after).float()
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, out, h, w) for (n, in, h, w)."""
        return conv2d(x, self.weight * self.mask, self.bias, padding=self.kernel_size[0] // 2)


class Block(nn.Module):
    """Half the features, a 3x3 look around, all the features again, added to what came in (figure 5, left)."""

    def __init__(self, width: int, colours: int) -> None:
        super().__init__()
        self.narrow = MaskedConv2d(2 * width, width, 1, colours)
        self.around = MaskedConv2d(width, width, 3, colours)
        self.widen = MaskedConv2d(width, 2 * width, 1, colours)

    def forward(self, h: Tensor, look: Look) -> Tensor:
        """Features like those that came in."""
        return h + look(self.widen, relu(look(self.around, relu(look(self.narrow, relu(h))))))


class PixelCNN(nn.Module):
    """A `first` x `first` convolution to 2 `width` features, `blocks` residual blocks, two 1x1 convolutions, and for
    every number of the image the distribution of its level.

    Images are taken as `levels` grey levels: 256 are all bytes; with fewer, numbers are those of the coarser images.
    `mixtures` logistic distributions make a number's distribution (Salimans et al. 2017); 0 for one logit a level, as
    in the paper. `positions` adds a learned map to the first features (not in the paper), so that a small field of
    view knows where it is. Latents are one N(0, 1) number for each of an image: samples are a function of them.
    Raises UserError for points, and for sizes that can't be.
    """

    def __init__(
        self,
        spec: Spec,
        width: int = 32,
        blocks: int = 5,
        first: int = 7,
        levels: int = 256,
        mixtures: int = 5,
        positions: bool = True,
    ) -> None:
        super().__init__()
        if not spec.is_image:
            raise UserError(f"{type(self).__name__} models images, but the data are points: choose a GAN (model=mlp)")
        colours, height, columns = spec.shape
        if width < colours or first < 3 or first % 2 == 0 or not 2 <= levels <= 256 or min(blocks, mixtures) < 0:
            raise UserError(
                f"width={width} must be at least the {colours} colours, first={first} odd and 3 or more, "
                f"levels={levels} 2 to 256, blocks={blocks} and mixtures={mixtures} not negative"
            )
        self.shape, self.latent_dim = spec.shape, math.prod(spec.shape)
        self.levels: Levels = LogisticMixture(levels, mixtures) if mixtures else Categorical(levels)
        self.first = MaskedConv2d(colours, 2 * width, first, colours, first=True)
        self.positions = nn.Parameter(torch.zeros(2 * width, height, columns)) if positions else None
        self.blocks = nn.ModuleList(Block(width, colours) for _ in range(blocks))
        self.mix = MaskedConv2d(2 * width, 2 * width, 1, colours)
        self.last = MaskedConv2d(2 * width, colours * self.levels.parameters, 1, colours)
        assert self.last.bias is not None
        with torch.no_grad():
            self.last.bias.copy_(self.levels.start().repeat(colours))

    def forward(self, samples: Tensor) -> Tensor:
        """Parameters (n, c, h, w, k) of the numbers' distributions for images (n, c, h, w) in [-1, 1]."""
        values = self.levels.value(self.levels.nearest(samples))
        said = self.look(values, lambda layer, x: layer(x), self.positions)
        return said.view(len(said), self.shape[0], -1, *said.shape[2:]).movedim(2, -1)

    def look(self, values: Tensor, look: Look, positions: Tensor | None) -> Tensor:
        """The last layer's output, each layer being looked at by `look`."""
        h = look(self.first, values)
        h = h if positions is None else h + positions
        for block in self.blocks:
            h = block(h, look)
        return look(self.last, relu(look(self.mix, relu(h))))

    def log_likelihood(self, samples: Tensor) -> Tensor:
        """log p(x) (n,) in nats of images (n, c, h, w) at their levels; float32."""
        each = self.levels.log_likelihood(self(samples), self.levels.nearest(samples))
        return each.flatten(1).sum(1)

    def sample(self, latents: Tensor) -> Tensor:
        """Images (n, c, h, w): number after number the level where its distribution reaches Phi(latent).

        What layers have made of earlier pixels is kept, so that this costs little more than one evaluation.
        """
        uniforms = torch.special.ndtr(latents.float()).view(-1, *self.shape)
        memory = Memory(self, uniforms)
        colours, height, columns = self.shape
        for row in range(height):
            for column in range(columns):
                for colour in range(colours):
                    parameters = memory.parameters(row, column).view(len(uniforms), colours, -1)[:, colour]
                    level = self.levels.invert(parameters, uniforms[:, colour, row, column])
                    memory.write(self.levels.value(level), colour, row, column)
        return memory.images()


class Memory:
    """The inputs of all layers that look around, as far as they are known; zeros elsewhere, as around the image."""

    def __init__(self, network: PixelCNN, like: Tensor) -> None:
        self.network, self.place = network, (0, 0)
        n, _, height, columns = like.shape
        self.kept: dict[int, Tensor] = {}
        self.matrices: dict[int, Tensor] = {}
        for layer in network.modules():
            if isinstance(layer, MaskedConv2d):
                # Channels last, as the maps below are: what a layer sees at a pixel then lies in few pieces.
                self.matrices[id(layer)] = (layer.weight * layer.mask).permute(0, 2, 3, 1).flatten(1)
                border = 2 * (layer.kernel_size[0] // 2)
                if border:
                    self.kept[id(layer)] = like.new_zeros(n, height + border, columns + border, layer.in_channels)

    def parameters(self, row: int, column: int) -> Tensor:
        """What the network says (n, c k) at a pixel, given all pixels before and the colours written there so far."""
        self.place = (row, column)
        positions = self.network.positions
        at = None if positions is None else positions[:, row, column]
        return self.network.look(self.kept[id(self.network.first)], self.look, at)

    def look(self, layer: MaskedConv2d, x: Tensor) -> Tensor:
        """A layer's output (n, out) at the pixel, whose input x (n, in) is kept for later pixels; the first layer's
        input is what has been written."""
        kept, size = self.kept.get(id(layer)), layer.kernel_size[0]
        if kept is not None:
            row, column = self.place
            if layer is not self.network.first:
                kept[:, row + size // 2, column + size // 2] = x
            x = kept[:, row : row + size, column : column + size].flatten(1)
        return linear(x, self.matrices[id(layer)], layer.bias)

    def write(self, values: Tensor, colour: int, row: int, column: int) -> None:
        """Note the values (n,) of one colour of a pixel."""
        border = self.network.first.kernel_size[0] // 2
        self.kept[id(self.network.first)][:, row + border, column + border, colour] = values

    def images(self) -> Tensor:
        """The images (n, c, h, w)."""
        border = self.network.first.kernel_size[0] // 2
        whole = self.kept[id(self.network.first)][:, border:-border, border:-border]
        return whole.permute(0, 3, 1, 2).contiguous()
