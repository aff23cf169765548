"""The layers of the variational discriminator bottleneck (Peng et al. 2019); its objective is a regularizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.game import Head, Verdict
from gan_experiments.networks.heads import Headed
from gan_experiments.trick import Factory, Trick

if TYPE_CHECKING:
    from gan_experiments.game import Round


@dataclass
class Noise:
    """Where the codes' noise comes from in the verdict under way; None: no noise, the mean code."""

    random: torch.Generator | None = None


class Bottleneck(Head):
    """From features h (n, d) to a Gaussian code, z ~ N(mean(h), sigma(h)^2), and from z to the logit.

    Gives one tensor (n, 1 + 2 `code`), logit, mean and log variance side by side, for `unpack` to take apart.
    """

    gives = ("code_mean", "code_log_variance")
    brought_by = "regularizer=variational_bottleneck"

    def __init__(self, in_features: int, code: int, noise: Noise) -> None:
        super().__init__()
        self.mean, self.log_variance = nn.Linear(in_features, code), nn.Linear(in_features, code)
        self.logit = nn.Linear(code, 1)
        self.noise = noise

    def forward(self, h: Tensor) -> Tensor:
        """The logit of a code, and what the code was drawn from, in float32."""
        mean, log_variance = self.mean(h).float(), self.log_variance(h).float()
        z = mean
        if self.noise.random is not None:
            epsilon = torch.randn(mean.shape, generator=self.noise.random, device=mean.device)
            z = mean + (0.5 * log_variance).exp() * epsilon
        return torch.cat([self.logit(z).float(), mean, log_variance], 1)


def unpack(network: nn.Module, inputs: Any, verdict: Verdict) -> Verdict:
    """A forward hook: the verdict whose logits are a bottleneck's (n, 1 + 2 code), with its codes among the heads."""
    width = (verdict.logits.shape[1] - 1) // 2
    logits, mean, log_variance = torch.split(verdict.logits, [1, width, width], 1)
    codes = {"code_mean": mean, "code_log_variance": log_variance}
    return Verdict(logits.squeeze(1), verdict.features, {**verdict.heads, **codes})


class VariationalBottleneck(Trick):
    """Puts a stochastic code of `code` dimensions in place of the last linear map of the discriminator's head.

    The discriminator moves on sampled codes, everybody else sees the logit of the mean code (Peng et al.
    2019). The network's forward is left as it is: what it takes for the logits carries the codes too, and a
    hook takes them apart. Raises UserError for a discriminator that doesn't end in a linear map to one logit.
    """

    rank = 15  # after layers that widen the head, before wrappers of the whole network
    players = ("discriminator",)

    def __init__(self, code: int = 256) -> None:
        super().__init__()
        if code < 1:
            raise UserError(f"code={code}: a code has 1 or more dimensions")
        self.code, self.noise = code, Noise()

    def network(self, player: str, make: Factory) -> Factory:
        """The network with its last linear map replaced."""

        def made(spec: Spec) -> nn.Module:
            network = make(spec)
            head = network.head if isinstance(network, Headed) else nn.Identity()
            layers = list(head) if isinstance(head, nn.Sequential) else [head]
            last = layers.pop()
            if not isinstance(last, nn.Linear) or last.out_features != 1:
                raise UserError(
                    f"trick {self.name} needs a discriminator that ends in a linear map to one logit, which "
                    f"{type(network).__name__} does not; model=dcgan and model=mlp have one"
                )
            bottleneck = Bottleneck(last.in_features, self.code, self.noise)
            network.head = nn.Sequential(*layers, bottleneck) if layers else bottleneck
            network.register_forward_hook(unpack)
            return network

        return made

    def view(self, round: Round, name: str, samples: Tensor) -> Tensor:
        """The samples as they are; from here on codes are drawn as this verdict asks."""
        sampling = round.deal.player == "discriminator"
        self.noise.random = round.deal.random(f"code {name}") if sampling else None
        return samples
