"""What a discriminator's own head reads, and further heads that read the same."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.game import Head, Verdict
from gan_experiments.modules import evaluating
from gan_experiments.networks.heads import Headed
from gan_experiments.networks.informed import informing


def headed(network: nn.Module) -> Headed | None:
    """The part of a discriminator that ends in a head, if it has one."""
    return next((part for part in network.modules() if isinstance(part, Headed)), None)


def body_output(network: nn.Module, verdict: Verdict, what: str) -> Tensor:
    """Vectors (n, d) of the last features in a verdict of `network`, pooled as for its head; flat where it has no head.

    UserError naming `what` when the verdict has no features.
    """
    if not verdict.features:
        raise UserError(
            f"{what} reads the discriminator's features, of which it has none; set model=dcgan or model=mlp"
        )
    inner, last = headed(network), verdict.features[-1]
    vectors: Tensor = last.flatten(1) if inner is None else inner.pool(last)
    return vectors


class FurtherHead(Head):
    """`network` with a head of `outputs` more, a linear map of what its own head reads, by the name the class `gives`.

    It is normalised spectrally where the network's own head is. UserError naming `what` where there are no features.
    """

    def __init__(self, network: nn.Module, spec: Spec, outputs: int, what: str) -> None:
        super().__init__()
        self.network, self.what = network, what
        like, inner = next(network.parameters()), headed(network)
        blank = torch.zeros(2, *spec.shape, device=like.device, dtype=like.dtype)
        classes = torch.zeros(2, dtype=torch.int64, device=like.device)
        with evaluating(network), informing(network, classes):
            width = body_output(network, network(blank), what).shape[1]
        self.further = nn.Linear(width, outputs)
        maps = [] if inner is None else [part for part in inner.head.modules() if isinstance(part, nn.Linear)]
        if any(parametrize.is_parametrized(part, "weight") for part in maps):
            spectral_norm(self.further, "weight")

    def forward(self, samples: Tensor) -> Verdict:
        """The network's verdict on samples (n, ...), with (n, outputs) among its heads."""
        verdict: Verdict = self.network(samples)
        said = self.further(body_output(self.network, verdict, self.what)).float()
        return verdict._replace(heads={**verdict.heads, self.gives[0]: said})
