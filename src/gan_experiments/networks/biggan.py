"""BigGAN: one embedding of the class, and a piece of the latents, for every level (Brock et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.game import Verdict
from gan_experiments.networks.attention import attend
from gan_experiments.networks.blocks import (
    Staged,
    StagedGenerator,
    batch_norm,
    check_sizes,
    image_shape,
    normalise_spectrally,
)
from gan_experiments.networks.conditional import ClassVectors, class_count
from gan_experiments.networks.heads import Headed
from gan_experiments.networks.informed import ClassesByItself, Informed
from gan_experiments.networks.resnet import DOWN as SMALLER_DOWN
from gan_experiments.networks.resnet import UP as SMALLER_UP
from gan_experiments.networks.resnet import SumPool, down_block, initialise, up_block

SMALLEST, LARGEST = 8, 512
PIECE = 20  # numbers of the latents for each level, as published at every side
UP = {**SMALLER_UP, 256: (16, 16, 8, 8, 4, 2, 1), 512: (16, 16, 8, 8, 4, 2, 1, 1)}
DOWN = {  # the last block never halves, also for 64
    **SMALLER_DOWN,
    64: ((1, 2, 4, 8, 16), 4),
    256: ((1, 2, 4, 8, 8, 16, 16), 6),
    512: ((1, 1, 2, 4, 8, 8, 16, 16), 7),
}


class SharedEmbedding(Informed):
    """One vector (n, d) for each sample's class, shared by all levels.

    Not a linear map on purpose: spectral norm of this table hurts (the authors' code leaves it out too).
    """

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        self.table = nn.Embedding(classes, dim)

    def forward(self) -> Tensor:
        """The vectors of the samples at hand."""
        vectors: Tensor = self.table(self.classes)
        return vectors


class CodedBatchNorm(nn.Module):
    """Batch norm with gain 1 + A code and shift B code, for the code (n, d) that `coding` tells it."""

    code: Tensor | None = None

    def __init__(self, channels: int, code_dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, eps, affine=False)
        self.gain = nn.Linear(code_dim, channels, bias=False)
        self.shift = nn.Linear(code_dim, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) for (n, c, h, w)."""
        assert self.code is not None
        gain, shift = (layer(self.code)[:, :, None, None].to(x.dtype) for layer in (self.gain, self.shift))
        return torch.addcmul(shift, 1 + gain, self.norm(x))


@contextmanager
def coding(level: nn.Module, code: Tensor) -> Iterator[None]:
    """Tell the norms of `level` their code (n, d) for the call made meanwhile; so levels are maps of feature maps to
    feature maps like any other, and may be wrapped."""
    norms = [module for module in level.modules() if isinstance(module, CodedBatchNorm)]
    for norm in norms:
        norm.code = code
    try:
        yield
    finally:
        for norm in norms:
            norm.code = None


def attention_side(spec: Spec, attention: bool, resolution: int | None) -> int | None:
    """Side of the feature maps with attention: by default half the data's, at most 64; None without."""
    return (resolution or min(spec.shape[-1] // 2, 64)) if attention else None


class CodedGenerator(StagedGenerator, ClassesByItself):
    """A generator whose levels after the first are told a code: of the class, of latents, or of both."""

    embedding: SharedEmbedding | None
    widths: tuple[int, ...]

    def prepare(self, spec: Spec, width: int, conditional: bool, embedding_dim: int) -> int:
        """Set `widths`, `shapes` and `embedding`; the length of what the class adds to a code."""
        _, side = image_shape(spec, type(self).__name__, SMALLEST, LARGEST)
        check_sizes(type(self).__name__, width=width, embedding_dim=embedding_dim)
        self.widths = tuple(width * multiple for multiple in UP[side])
        self.shapes = [(channels, 4 << level) for level, channels in enumerate(self.widths)]
        self.embedding = None
        if conditional:
            classes = class_count(spec, f"{type(self).__name__} with conditional=true")
            self.embedding = SharedEmbedding(classes, embedding_dim)
        return embedding_dim if conditional else 0

    def first_level(self, inputs: int) -> nn.Sequential:
        """A linear map to feature maps of side 4."""
        return nn.Sequential(nn.Linear(inputs, self.widths[0] * 16), nn.Unflatten(1, (self.widths[0], 4, 4)))

    def finish(
        self, spec: Spec, resolution: int | None, spectral_norm: bool, eps: float, init: str, zero_biases: bool
    ) -> None:
        """Put in the output and attention at `resolution`; initial weights; spectral norm of all but `embedding`."""
        last = self.widths[-1]
        self.output = nn.Sequential(
            batch_norm(eps)(last), nn.ReLU(inplace=True), nn.Conv2d(last, spec.shape[0], 3, 1, 1), nn.Tanh()
        )
        if resolution:
            attend(self, resolution)
        initialise(self, init, zero_biases)
        if spectral_norm:
            normalise_spectrally(self.levels)
            normalise_spectrally(self.output)

    def joined(self, z: Tensor) -> Tensor:
        """The class's embedding, if classes are used, and latents (n, d) side by side."""
        return z if self.embedding is None else torch.cat([self.embedding(), z], 1)


class BigGANGenerator(CodedGenerator):
    """One piece of the latents projected to 4x4, then blocks that double the side; each block's batch norms are told
    the class's embedding and one more piece (Brock et al. 2019, appendix B; "skip-z").

    Published for sides 128, 256 and 512, and in use for 32 and 64; 16 and 8 are the one for 32 with fewer blocks.
    `width` is the number of channels at the data's side; for 32 and less all levels have four times that. `latent_dim`
    must be a multiple of the number of levels; by default it is 20 a level. Without `conditional` the norms are told
    the piece of the latents alone. `upsampling` is nearest or bilinear, `norm_eps` what batch norm adds to variances;
    `init` names the initial weights, orthogonal (as published), glorot or normal, and without `zero_biases` biases
    start as torch's own. UserError when there are no classes to be `conditional` on.
    """

    def __init__(
        self,
        spec: Spec,
        latent_dim: int | None = None,
        width: int = 96,
        conditional: bool = False,
        embedding_dim: int = 128,
        attention: bool = True,
        attention_resolution: int | None = None,
        spectral_norm: bool = True,
        upsampling: str = "nearest",
        norm_eps: float = 1e-5,
        init: str = "orthogonal",
        zero_biases: bool = True,
    ) -> None:
        super().__init__()
        embedded = self.prepare(spec, width, conditional, embedding_dim)
        count = len(self.widths)
        self.latent_dim = count * PIECE if latent_dim is None else latent_dim
        if self.latent_dim % count or self.latent_dim < count:
            raise UserError(
                f"latent_dim={latent_dim}: {type(self).__name__} deals one piece of the latents to each of its {count} "
                f"levels; set a multiple of {count}, or null for {PIECE} a level"
            )
        piece = self.latent_dim // count

        def norm(channels: int) -> nn.Module:
            return CodedBatchNorm(channels, embedded + piece, norm_eps)

        blocks = [up_block(before, after, norm, upsampling) for before, after in pairwise(self.widths)]
        self.levels = nn.ModuleList([self.first_level(piece), *blocks])
        resolution = attention_side(spec, attention, attention_resolution)
        self.finish(spec, resolution, spectral_norm, norm_eps, init, zero_biases)

    def forward(self, z: Tensor) -> Tensor:
        """Images (n, c, h, w) in [-1, 1] for latents (n, latent_dim)."""
        first, *pieces = z.chunk(len(self.levels), 1)
        h = self.levels[0](first)
        for level, piece in zip(list(self.levels)[1:], pieces, strict=True):
            with coding(level, self.joined(piece)):
                h = level(h)
        images: Tensor = self.output(h)
        return images


class ProjectionDiscriminator(Headed, Staged):
    """A discriminator that adds <e_y, h> of the class y and pooled features h to its logit, if it is `conditional`
    (Miyato & Koyama 2018)."""

    vectors: ClassVectors | None

    def finish(
        self, spec: Spec, conditional: bool, resolution: int | None, spectral_norm: bool, init: str, zero_biases: bool
    ) -> None:
        """Put in the end and attention at `resolution`; initial weights, and spectral norm of all of them."""
        features = self.shapes[-1][0]
        self.pool = SumPool()
        self.vectors = None
        if conditional:
            self.vectors = ClassVectors(class_count(spec, f"{type(self).__name__} with conditional=true"), features)
        self.head = nn.Linear(features, 1)
        if resolution:
            attend(self, resolution)
        initialise(self, init, zero_biases)
        if spectral_norm:
            normalise_spectrally(self)

    def forward(self, samples: Tensor) -> Verdict:
        """Logits (n,) and the levels' outputs (n, c, h, w) for images (n, c, h, w)."""
        h, features = samples, []
        for level in self.levels:
            h = level(h)
            features.append(h)
        pooled = self.pool(h)
        logits = self.head(pooled)
        if self.vectors is not None:
            logits = logits + (self.vectors() * pooled).sum(1, keepdim=True)
        return Verdict(logits.squeeze(1), tuple(features))


class BigGANDiscriminator(ProjectionDiscriminator):
    """SNGAN's residual discriminator, wide: channels change in a block's first convolution (Brock et al. 2019,
    appendix B).

    Published for sides 128, 256 and 512, and in use for 32 and 64; 16 and 8 have the one for 32. `width` is the number
    of channels of the first block; for 32 and less all blocks have twice that. With `rectified_shortcut`, shortcuts see
    their block's input after its ReLU, as they do where that works in place. Features are the blocks' outputs, before
    any ReLU. `init` and `zero_biases` as in the generator. UserError when there are no classes to be `conditional` on.
    """

    def __init__(
        self,
        spec: Spec,
        width: int = 96,
        conditional: bool = False,
        attention: bool = True,
        attention_resolution: int | None = None,
        spectral_norm: bool = True,
        rectified_shortcut: bool = False,
        init: str = "orthogonal",
        zero_biases: bool = True,
    ) -> None:
        super().__init__()
        channels, side = image_shape(spec, type(self).__name__, SMALLEST, LARGEST)
        check_sizes(type(self).__name__, width=width)
        multiples, halvings = DOWN[side]
        self.shapes = [(width * m, side >> min(level + 1, halvings)) for level, m in enumerate(multiples)]
        befores: Sequence[int] = [channels, *(after for after, _ in self.shapes)]
        self.levels = nn.ModuleList(
            down_block(before, after, after, level < halvings, level == 0, rectified_shortcut)
            for level, (before, (after, _)) in enumerate(zip(befores, self.shapes, strict=False))
        )
        resolution = attention_side(spec, attention, attention_resolution)
        self.finish(spec, conditional, resolution, spectral_norm, init, zero_biases)
