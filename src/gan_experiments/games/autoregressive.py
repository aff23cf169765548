"""Autoregressive models of images, trained by their exact likelihood."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.game import Deal, dealt, widened
from gan_experiments.games.likelihood import LikelihoodGame, LikelihoodRound
from gan_experiments.networks.pixelcnn import PixelCNN
from gan_experiments.trick import Factory, Trick


class AutoregressiveRound(LikelihoodRound):
    """A batch and its log-likelihoods."""

    def __init__(self, game: AutoregressiveGame, deal: Deal) -> None:
        super().__init__(game, deal)
        self.model = game.generator

    @dealt
    def log_likelihood(self) -> Tensor:
        """log p(x) (n,) in nats."""
        return self.model.log_likelihood(self.reals)


class AutoregressiveGame(LikelihoodGame):
    """A network that gives each number of an image a distribution given those before it.

    Latents are N(0, I), one number for each of an image; a sample is the image whose numbers lie, in their
    distributions, where the latents lie in theirs. Raises UserError for a network that isn't one of this kind.
    """

    round_type = AutoregressiveRound
    fitting_loss = "likelihood"

    def __init__(self, spec: Spec, generator: Factory, tricks: Sequence[Trick] = ()) -> None:
        super().__init__(spec, tricks)
        network = generator(spec)
        if not isinstance(network, PixelCNN):
            raise UserError(
                f"model.generator: {type(network).__name__} is not autoregressive; set model=autoregressive"
            )
        self.generator = network

    @property
    def sides(self) -> dict[str, tuple[nn.Module, ...]]:
        """One player, one network."""
        return {"generator": (self.generator,)}

    def deal(self, deal: Deal) -> AutoregressiveRound:
        """There is nothing random but the choice of the batch."""
        return AutoregressiveRound(self, deal)

    def latents(self, n: int, generator: torch.Generator) -> Tensor:
        """N(0, I) latents (n, c h w)."""
        return torch.randn(n, self.generator.latent_dim, generator=generator, device=generator.device)

    def sample(self, latents: Tensor, classes: Tensor | None = None) -> Tensor:
        """Images number after number; never differentiable."""
        with torch.no_grad():
            return widened(self.generator.sample(latents))
