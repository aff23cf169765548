"""Virtual batch norm: statistics of a fixed reference batch instead of the current one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gan_experiments import seeding
from gan_experiments.data.base import Spec, Split
from gan_experiments.errors import UserError
from gan_experiments.game import Game, Verdict
from gan_experiments.networks.heads import BatchStatistic
from gan_experiments.networks.informed import uses_classes
from gan_experiments.players import Player
from gan_experiments.trick import Factory, Trick
from gan_experiments.tricks.surgery import check_players


class VirtualBatchNorm(nn.Module):
    """Normalises by the statistics of the first `reference` samples of its input and, with `own`, of each sample too.

    With `own`, sample x has mean (n m_ref + m_x) / (n + 1), and so for the mean square; the reference samples are
    normalised by their own statistics (Salimans et al. 2016, section 3.5). Nothing depends on the rest of the batch.
    """

    def __init__(self, norm: _BatchNorm, reference: int, own: bool) -> None:
        super().__init__()
        self.reference, self.own, self.eps = reference, own, norm.eps
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Tensor) -> Tensor:
        """(reference + n, c, ...) for (reference + n, c, ...); statistics in float32."""
        n, dims = self.reference, tuple(range(2, x.ndim))
        values = x.float()
        first, second = (values, values.square()) if not dims else (values.mean(dims), values.square().mean(dims))
        mean, square = first[:n].mean(0, keepdim=True), second[:n].mean(0, keepdim=True)
        rows = len(x) - n
        means, squares = mean.expand(rows, -1), square.expand(rows, -1)
        if self.own:
            means, squares = (n * means + first[n:]) / (n + 1), (n * squares + second[n:]) / (n + 1)
        means = torch.cat([mean.expand(n, -1), means])
        squares = torch.cat([square.expand(n, -1), squares])
        scale = torch.rsqrt((squares - means.square()).clamp_min(0) + self.eps)
        if self.weight is not None:
            scale = self.weight * scale
        shift = -means * scale
        if self.bias is not None:
            shift = self.bias + shift
        shape = (*means.shape, *[1] * len(dims))
        return (values * scale.view(shape) + shift.view(shape)).to(x.dtype)


class Referenced(nn.Module):
    """Runs `network` on a reference batch and the input together, and returns what it makes of the input."""

    def __init__(self, network: nn.Module, reference: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("reference", reference)
        self.reference: Tensor

    @property
    def latent_dim(self) -> int:
        """Of a generator: the length of its latents."""
        return self.reference.shape[1]

    def forward(self, inputs: Tensor) -> Tensor | Verdict:
        """Samples or a verdict for inputs (n, ...)."""
        n = len(self.reference)
        result: Tensor | Verdict = self.network(torch.cat([self.reference.to(inputs.dtype), inputs]))
        if isinstance(result, Tensor):
            return result[n:]
        heads = {name: value[n:] for name, value in result.heads.items()}
        return Verdict(result.logits[n:], tuple(level[n:] for level in result.features), heads)


class ReferenceNorm(Trick):
    """Replaces the batch norms of the players' networks by norms with a fixed reference batch of `size`.

    The discriminator's reference batch is of training data, the generator's of latents; both are saved with the game.
    With `own`, virtual batch norm (Salimans et al. 2016, section 3.5): each sample counts with the reference batch;
    without, reference batch norm: only the reference counts.
    """

    rank = 20

    def __init__(self, players: list[str], size: int = 64, own: bool = True) -> None:
        super().__init__()
        if size < 2:
            raise UserError(f"size={size}: a reference batch needs 2 or more samples")
        self.players, self.size, self.own = check_players(players), size, own

    def network(self, player: str, make: Factory) -> Factory:
        """The network on a reference batch, if it has batch norms."""

        def referenced(spec: Spec) -> nn.Module:
            network = make(spec)
            if isinstance(network, Referenced):
                raise UserError(
                    f"trick {self.name}: the {player}'s batch norms are already those of another trick "
                    "(virtual_batch_norm, reference_batch_norm); choose one"
                )
            if any(isinstance(module, BatchStatistic) for module in network.modules()):
                raise UserError(
                    f"trick {self.name} adds its reference batch to the batch that minibatch_discrimination or "
                    "minibatch_stddev compares; choose one"
                )
            if uses_classes(network):
                raise UserError(
                    f"trick {self.name}: the {player}'s reference batch would have no classes to tell; leave the "
                    "conditioning out, or the trick"
                )
            if not self.replace_norms(network):
                return network
            shape = (network.latent_dim,) if player == "generator" else spec.shape
            return Referenced(network, torch.zeros(self.size, *shape))

        return referenced

    def replace_norms(self, network: nn.Module) -> int:
        """Put virtual batch norms in place of batch norms; how many there were."""
        found = [
            (parent, name, child)
            for parent in list(network.modules())
            for name, child in parent.named_children()
            if isinstance(child, _BatchNorm)
        ]
        for parent, name, child in found:
            setattr(parent, name, VirtualBatchNorm(child, self.size, self.own))
        return len(found)

    def check(self, game: Game, players: Mapping[str, Player]) -> None:
        """There must be something to replace."""
        if not any(isinstance(module, VirtualBatchNorm) for module in game.modules()):
            raise UserError(
                f"trick {self.name}: there is no batch norm in the networks of {' and '.join(self.players)} to "
                "replace; set model.generator.norm=batch (dcgan) or model.generator.batch_norm=true (mlp)"
            )

    def prepare(self, game: Game, data: Split, seed: int) -> None:
        """Fill the reference batches."""
        for player, modules in game.sides.items():
            found = [part for module in modules for part in module.modules() if isinstance(part, Referenced)]
            for part in found if player in self.players else []:
                random = seeding.generator(seed, "reference", player)
                device, size = part.reference.device, part.reference.numel()
                if player == "generator":
                    values = game.latents(self.size, random).to(device)
                else:
                    rows = torch.randint(len(data), (size // game.spec_size,), generator=random)
                    values = data.take(rows).samples.to(device).reshape(part.reference.shape)
                part.reference.copy_(values)
