"""TransGAN: transformers without convolutions in both networks (Jiang et al. 2021), for sides 8 to 256.

Tokens lie in maps (n, c, h, w), so that a linear map of tokens is a 1x1 convolution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.game import Verdict
from gan_experiments.networks.blocks import Staged, StagedGenerator, image_shape
from gan_experiments.networks.heads import Headed

SMALLEST, LARGEST = 8, 256
BOTTOM = 8


class TokenMap(nn.Conv2d):
    """The same linear map of every token."""

    def __init__(self, before: int, after: int, bias: bool = True) -> None:
        super().__init__(before, after, 1, bias=bias)


class TokenNorm(nn.LayerNorm):
    """Layer normalisation of every token of (n, c, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) for (n, c, h, w)."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class TokenRootMeanSquare(nn.Module):
    """Every token of (n, c, h, w) divided by its root mean square, in float32 (the published networks for 256x256)."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) for (n, c, h, w)."""
        h = x.float()
        return (h * (h.square().mean(1, keepdim=True) + 1e-8).rsqrt()).to(x.dtype)


NORMS: dict[str, Callable[[int], nn.Module]] = {"layer": TokenNorm, "pixel": TokenRootMeanSquare}


class Attention(nn.Module):
    """softmax(q k^T / sqrt(d) + b) v of several heads, b learned for each offset between two tokens (section 3.3).

    Tokens see those of their own window of `window` x `window`, all with 0, and then without b. With `noise`, what
    attends gets a normal number a token, times a learned strength that starts at 0.
    """

    def __init__(self, channels: int, heads: int, window: int, noise: bool) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.queries_keys_values = TokenMap(channels, 3 * channels, bias=False)
        self.output = TokenMap(channels, channels)
        self.strength = nn.Parameter(torch.zeros(())) if noise else None
        self.offsets: Tensor
        if window:
            self.biases = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
            nn.init.trunc_normal_(self.biases, std=0.02)
            self.register_buffer("offsets", offset_numbers(window), persistent=False)

    def windows(self, x: Tensor) -> Tensor:
        """(windows, heads, tokens, c / heads) of (n, c, h, w)."""
        n, c, h, w = x.shape
        a, b = (self.window, self.window) if self.window else (h, w)
        x = x.view(n, self.heads, c // self.heads, h // a, a, w // b, b)
        return x.permute(0, 3, 5, 1, 4, 6, 2).reshape(-1, self.heads, a * b, c // self.heads)

    def whole(self, x: Tensor, shape: torch.Size) -> Tensor:
        """The inverse of `windows`: (n, c, h, w)."""
        n, c, h, w = shape
        a, b = (self.window, self.window) if self.window else (h, w)
        x = x.view(n, h // a, w // b, self.heads, a, b, c // self.heads)
        return x.permute(0, 3, 6, 1, 4, 2, 5).reshape(shape)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) for (n, c, h, w), the softmax in float32."""
        if self.strength is not None:
            x = x + self.strength * torch.randn(len(x), 1, *x.shape[2:], device=x.device, dtype=x.dtype)
        q, k, v = (self.windows(part) for part in self.queries_keys_values(x).chunk(3, 1))
        # Written out: penalties differentiate this twice, which fused attention kernels don't offer.
        scores = (q @ k.transpose(2, 3)).float() / math.sqrt(q.shape[3])
        if self.window:
            scores = scores + self.biases[self.offsets].permute(2, 0, 1)
        seen: Tensor = self.output(self.whole(scores.softmax(3).to(v.dtype) @ v, x.shape))
        return seen


def offset_numbers(window: int) -> Tensor:
    """The number (window^2, window^2) of the offset from each token of a window to each: rows first, from 0."""
    places = torch.cartesian_prod(torch.arange(window), torch.arange(window))
    offsets = places[:, None] - places[None] + window - 1
    return offsets[..., 0] * (2 * window - 1) + offsets[..., 1]


class Block(nn.Module):
    """A transformer's encoder block, normalised before attention and before two layers `mlp_ratio` times as wide."""

    def __init__(
        self, channels: int, heads: int, mlp_ratio: int, window: int, norm: str = "layer", noise: bool = False
    ) -> None:
        super().__init__()
        hidden = mlp_ratio * channels
        self.attend = nn.Sequential(NORMS[norm](channels), Attention(channels, heads, window, noise))
        self.think = nn.Sequential(
            NORMS[norm](channels), TokenMap(channels, hidden), nn.GELU(), TokenMap(hidden, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) for (n, c, h, w)."""
        x = x + self.attend(x)
        thought: Tensor = x + self.think(x)
        return thought


class Places(nn.Module):
    """Adds a learned vector to the token of each place."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.empty(channels, side, side))
        nn.init.trunc_normal_(self.vectors, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) for (n, c, h, w)."""
        return x + self.vectors


class ClassToken(nn.Module):
    """One more token that attends to all others through a last block, and is all that remains: (n, c) of maps."""

    def __init__(self, channels: int, heads: int, mlp_ratio: int, norm: str, noise: bool) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.empty(channels, 1, 1))
        nn.init.trunc_normal_(self.token, std=0.02)
        self.block = Block(channels, heads, mlp_ratio, 0, norm, noise)
        self.norm = NORMS[norm](channels)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c) for (n, c, h, w)."""
        tokens = torch.cat([self.token.to(x.dtype).expand(len(x), -1, -1, -1), x.flatten(2).unsqueeze(3)], 2)
        found: Tensor = self.norm(self.block(tokens))
        return found[:, :, 0, 0]


class TransGANGenerator(StagedGenerator):
    """Latents to 8x8 tokens, blocks, then stages at twice the side each, and one linear map of tokens to pixels.

    The k-th stage has the k-th of `depths` blocks, the last entry serving all further ones. The first `bicubic`
    doublings interpolate and keep the width; the others shuffle four channels into four pixels. Maps of a side above
    `whole` are attended in windows of `window` (grid self-attention). Nothing bounds the images to [-1, 1]
    (as published). UserError for depths, widths and heads that don't fit.
    """

    def __init__(
        self,
        spec: Spec,
        latent_dim: int = 256,
        width: int = 1024,
        depths: Sequence[int] = (5, 4, 2),
        heads: int = 4,
        mlp_ratio: int = 4,
        norm: str = "layer",
        noise: bool = False,
        bicubic: int = 0,
        whole: int = 32,
        window: int = 16,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        image_channels, side = image_shape(spec, name, SMALLEST, LARGEST)
        self.latent_dim = latent_dim
        stages = int(math.log2(side // BOTTOM)) + 1
        widths = [width // 4 ** max(stage - bicubic, 0) for stage in range(stages)]
        self.shapes = [(channels, BOTTOM * 2**stage) for stage, channels in enumerate(widths)]
        check(name, widths, heads, norm, depths)
        self.levels = nn.ModuleList()
        for stage, (channels, size) in enumerate(self.shapes):
            blocks = [
                Block(channels, heads, mlp_ratio, window_of(name, size, whole, window), norm, noise)
                for _ in range(depths[min(stage, len(depths) - 1)])
            ]
            start = [nn.Linear(latent_dim, width * BOTTOM**2), nn.Unflatten(1, (width, BOTTOM, BOTTOM))]
            doubling = nn.Upsample(scale_factor=2, mode="bicubic") if stage <= bicubic else nn.PixelShuffle(2)
            entry = [doubling] if stage else start
            self.levels.append(nn.Sequential(*entry, Places(channels, size), *blocks))
        self.output = TokenMap(widths[-1], image_channels)
        nn.init.xavier_uniform_(self.output.weight)


class TransGANDiscriminator(Headed, Staged):
    """Tokens of patches at several scales, halved between them, and a class token's logit (section 3.1).

    The k-th scale joins linear maps of patches of side patch * 2^k, the k-th of `shares` of the width, to the pooled
    tokens before it, and has the k-th of `depths` blocks. Maps of a side above `whole` are attended in windows of
    `window`. Features are the scales' last maps. UserError for shares, depths and heads that don't fit.
    """

    def __init__(
        self,
        spec: Spec,
        width: int = 384,
        shares: Sequence[float] = (0.75, 0.25),
        depths: Sequence[int] = (3, 3),
        heads: int = 4,
        mlp_ratio: int = 4,
        patch: int = 2,
        norm: str = "layer",
        noise: bool = True,
        whole: int = 32,
        window: int = 16,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        image_channels, side = image_shape(spec, name, SMALLEST, LARGEST)
        patches = [patch * 2**scale for scale in range(len(depths))]
        if len(shares) != len(depths) or not math.isclose(sum(shares), 1):
            raise UserError(f"{name}: shares={list(shares)} must be as many as depths={list(depths)}, and add up to 1")
        if patches and side % patches[-1]:
            raise UserError(f"{name}: patches of side {patches[-1]} don't divide images of side {side}; lower patch")
        widths = [round(width * sum(shares[: scale + 1])) for scale in range(len(shares))]
        check(name, widths, heads, norm, depths)
        self.shapes = [(channels, side // size) for channels, size in zip(widths, patches, strict=True)]
        self.patches = nn.ModuleList(
            nn.Conv2d(image_channels, channels - before, size, size)
            for before, channels, size in zip([0, *widths], widths, patches, strict=False)
        )
        self.levels = nn.ModuleList(
            nn.Sequential(
                Places(channels, size),
                *(Block(channels, heads, mlp_ratio, window_of(name, size, whole, window), norm, noise)
                  for _ in range(depth)),
            )
            for (channels, size), depth in zip(self.shapes, depths, strict=True)
        )  # fmt: skip
        self.pool = ClassToken(width, heads, mlp_ratio, norm, noise)
        self.head = nn.Linear(width, 1)
        self.apply(initialise)

    def forward(self, samples: Tensor) -> Verdict:
        """Logits (n,) and the scales' maps (n, c, h, w) for images (n, c, h, w)."""
        features: list[Tensor] = []
        for cut, level in zip(self.patches, self.levels, strict=True):
            tokens = cut(samples)
            if features:
                tokens = torch.cat([F.avg_pool2d(features[-1], 2), tokens], 1)
            features.append(level(tokens))
        return Verdict(self.head(self.pool(features[-1])).squeeze(1), tuple(features))


def initialise(layer: nn.Module) -> None:
    """The discriminator's published first weights: N(0, 0.02^2) for linear maps of tokens, Xavier's for patches."""
    if isinstance(layer, TokenMap | nn.Linear):
        nn.init.trunc_normal_(layer.weight, std=0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    elif isinstance(layer, nn.Conv2d):
        nn.init.xavier_uniform_(layer.weight)


def window_of(name: str, side: int, whole: int, window: int) -> int:
    """The side of windows in maps of `side`; UserError naming the network when they don't divide it."""
    if side <= whole:
        return side
    if window < 1 or side % window:
        raise UserError(f"{name}: window={window} must divide maps of side {side}")
    return window


def check(name: str, widths: Sequence[int], heads: int, norm: str, depths: Sequence[int]) -> None:
    """UserError naming the network unless heads share each width evenly, the norm is known, and there are depths."""
    if norm not in NORMS:
        raise UserError(f"{name}: unknown norm {norm!r}; there are {', '.join(NORMS)}")
    if not depths or min(depths) < 1:
        raise UserError(f"{name}: depths={list(depths)} must be a list of numbers of blocks, each 1 or more")
    if heads < 1 or min(widths) < 1 or any(width % heads for width in widths):
        raise UserError(
            f"{name}: heads={heads} must divide the stages' widths, {', '.join(map(str, widths))}; raise the width"
        )
