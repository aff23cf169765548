"""Truncation: samples of a trained generator nearer to the typical ones, better on average and less varied."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.errors import UserError
from gan_experiments.game import Game, widened
from gan_experiments.games.autoregressive import AutoregressiveGame
from gan_experiments.games.info import InfoGame
from gan_experiments.games.lapgan import LaplacianGame
from gan_experiments.games.noise import LATENTS, NoiseGame
from gan_experiments.games.style import StyleGame
from gan_experiments.games.variational import VariationalGame
from gan_experiments.metrics.needs import require_package
from gan_experiments.networks.informed import informing

BATCH, CLUSTERED = 1000, 60_000
"""Latents mapped to styles at a time, and in all before they are clustered (Mokady et al. 2022)."""


class Truncation:
    """What is done to latents and styles on their way to samples: nothing here. `name` is what records say of it."""

    name = "none"

    def latents(self, latents: Tensor, generator: torch.Generator) -> Tensor:
        """The latents to use for latents (n, d) drawn as in training; what is drawn anew comes from `generator`."""
        return latents

    def sample(self, game: Game, latents: Tensor, classes: Tensor | None) -> Tensor:
        """Samples (n, ...) for latents (n, d) and classes (n,), float32; see Game.sample."""
        return game.sample(latents, classes)


NONE = Truncation()
"""Samples as in training."""


@final
class ResampledNormal(Truncation):
    """Components of normal latents beyond +-`limit` are drawn again until they lie within (Brock et al. 2019, section
    3.1). UserError for a limit of 0 or less, and by `for_game` for latents that aren't normal."""

    def __init__(self, limit: float) -> None:
        if not limit > 0:
            raise UserError(f"truncation {limit:g}: expected a limit above 0 for normal latents, such as 0.7")
        self.limit, self.name = limit, f"latents within {limit:g}"

    @classmethod
    def for_game(cls, game: Game, limit: float) -> ResampledNormal:
        """Truncation for this game."""
        if not draws_normals(game):
            raise UserError(
                f"truncation {limit:g}: latents of this {type(game).__name__} are uniform or hold codes; "
                "it fits runs of model.latent=normal"
            )
        return cls(limit)

    def latents(self, latents: Tensor, generator: torch.Generator) -> Tensor:
        """The latents, those beyond the limit replaced, so that the others stay what they are at any limit."""
        return torch.where(latents.abs() > self.limit, truncated_normals(latents, self.limit, generator), latents)


def truncated_normals(like: Tensor, limit: float, generator: torch.Generator) -> Tensor:
    """Normal numbers on condition that they lie within +-`limit`, in the shape of `like`: what drawing again until they
    do comes to, at once and for any limit, by the inverse of their distribution function."""
    u = 2 * torch.rand(like.shape, generator=generator, device=generator.device, dtype=torch.float64) - 1
    z = math.sqrt(2) * torch.erfinv(u * math.erf(limit / math.sqrt(2)))
    # Rounded to float32 a number may exceed the limit by its last digit.
    return z.to(like).clamp(-limit, limit)


def draws_normals(game: Game) -> bool:
    """Whether all components of a game's latents are N(0, 1)."""
    if isinstance(game, LaplacianGame):
        return all(draws_normals(level) for level in game.games())
    if isinstance(game, InfoGame):
        return False
    if isinstance(game, NoiseGame):
        return game.latent is LATENTS["normal"]
    return isinstance(game, VariationalGame | AutoregressiveGame)


class StyleTruncation(Truncation):
    """Styles moved towards a centre, to centre + psi (style - centre), in the first `cutoff` layers or all (Karras et
    al. 2019, appendix B): here the mean style. UserError for psi that isn't a number from 0 on."""

    def __init__(self, psi: float, cutoff: int | None = None) -> None:
        if not 0 <= psi < math.inf:
            raise UserError(f"psi {psi:g}: expected 0 (all alike) to 1 (no truncation), or above 1 for more variety")
        if cutoff is not None and cutoff < 1:
            raise UserError(f"cutoff {cutoff}: expected a number of layers, 1 or more")
        self.psi, self.cutoff = psi, cutoff
        where = "" if cutoff is None else f" in the first {cutoff} layers"
        self.name = f"psi {psi:g} towards {self.target}{where}"

    @property
    def target(self) -> str:
        """What styles are moved to, in words."""
        return "the mean style"

    def centres_of(self, styles: Tensor, game: StyleGame) -> Tensor:
        """The centres (n, style_dim), or one for all, that these styles (n, style_dim) are moved to."""
        return game.styled.mapping.mean

    def styles(self, game: StyleGame, latents: Tensor, classes: Tensor | None) -> Tensor:
        """Truncated styles (n, layers, style_dim)."""
        styles = styles_of(game, latents, classes)
        centres = self.centres_of(styles, game)
        layers = styles.unsqueeze(1).repeat(1, game.styled.layers, 1)
        layers[:, : self.cutoff] = torch.lerp(centres, styles, self.psi).unsqueeze(1)
        return layers

    def sample(self, game: Game, latents: Tensor, classes: Tensor | None) -> Tensor:
        """Images of truncated styles."""
        styled = with_styles(game, f"psi {self.psi:g}")
        return synthesise(styled, self.styles(styled, latents, classes), classes)


@final
class ClusteredTruncation(StyleTruncation):
    """Styles moved towards the nearest of several `centres` (k, style_dim), so that kinds of images that are far from
    the mean stay apart (multi-modal truncation, Mokady et al. 2022, section 4).

    There images are clustered by a perceptual distance, here styles, and nearest is by Euclidean distance.
    """

    def __init__(self, psi: float, centres: Tensor, cutoff: int | None = None) -> None:
        self.centres = centres
        super().__init__(psi, cutoff)

    @property
    def target(self) -> str:
        """Their number."""
        return f"the nearest of {len(self.centres)} centres"

    def centres_of(self, styles: Tensor, game: StyleGame) -> Tensor:
        """Each style's nearest centre."""
        centres = self.centres.to(styles)
        return centres[torch.cdist(styles, centres).argmin(1)]


def with_styles(game: Game, what: str) -> StyleGame:
    """The game, if it has styles; UserError naming `what` for others."""
    if not isinstance(game, StyleGame):
        raise UserError(
            f"{what}: this {type(game).__name__} has no styles (model=stylegan, stylegan2 and stylegan3 have)"
            f"{'; truncation of its normal latents fits' if draws_normals(game) else ''}"
        )
    return game


def styles_of(game: StyleGame, latents: Tensor, classes: Tensor | None) -> Tensor:
    """Styles (n, style_dim) of latents (n, latent_dim), float32."""
    with informing(game.generator, classes):
        styles: Tensor = game.styled.mapping(latents)
    return styles


def synthesise(game: StyleGame, styles: Tensor, classes: Tensor | None) -> Tensor:
    """Images (n, c, h, w) for styles (n, layers, style_dim), float32."""
    with informing(game.generator, classes):
        return widened(game.styled.synthesis(styles))


@torch.no_grad()
def style_centres(game: StyleGame, k: int, generator: torch.Generator, device: torch.device, count: int) -> Tensor:
    """Centres (k, style_dim) of the styles of `count` latents, on `device`, by k-means; UserError for bad numbers.

    Latents and classes come from `generator`, a CPU one.
    """
    require_package("clusters of styles", "sklearn", "scikit-learn", "evaluation")
    if not 1 <= k <= count:
        raise UserError(f"centres {k}: expected 1 to {count:,}, the number of styles that are clustered")
    from sklearn.cluster import KMeans

    found = []
    for start in range(0, count, BATCH):
        n = min(BATCH, count - start)
        latents, asked = game.latents(n, generator).to(device), game.ask(n, generator)
        found.append(styles_of(game, latents, None if asked is None else asked.to(device)).cpu())
    state = int(torch.randint(2**31, (), generator=generator))
    fit = KMeans(k, n_init=1, random_state=state).fit(torch.cat(found).numpy())
    return torch.from_numpy(fit.cluster_centers_).to(device)


@final
@dataclass(frozen=True)
class TruncationChoice:
    """What a command asks for: a `limit` of normal latents, or `psi` of styles with a `cutoff` layer and a number of
    `centres`; None is without. UserError for two kinds at once, and for numbers out of range."""

    limit: float | None = None
    psi: float | None = None
    cutoff: int | None = None
    centres: int | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.psi is not None:
            raise UserError("--truncation shortens latents and --psi moves styles; give one")
        for name, value in (("cutoff", self.cutoff), ("centres", self.centres)):
            if value is not None and self.psi is None:
                raise UserError(f"--{name} {value} says where --psi applies; give --psi too, such as --psi 0.7")
            if value is not None and value < 1:
                raise UserError(f"--{name} {value}: must be 1 or more")

    def build(self, game: Game, device: torch.device, seed: int = 0) -> Truncation:
        """The truncation for this game, whose networks are on `device`; centres follow from `seed`."""
        if self.limit is not None:
            return ResampledNormal.for_game(game, self.limit)
        if self.psi is None:
            return NONE
        styled = with_styles(game, f"psi {self.psi:g}")
        if self.cutoff is not None and self.cutoff > styled.styled.layers:
            raise UserError(f"--cutoff {self.cutoff}: this generator has {styled.styled.layers} layers")
        if self.centres is None:
            return StyleTruncation(self.psi, self.cutoff)
        centres = style_centres(styled, self.centres, seeding.generator(seed, "centres"), device, CLUSTERED)
        return ClusteredTruncation(self.psi, centres, self.cutoff)
