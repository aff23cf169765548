"""What a game, its terms and the batch size must agree on, seen to before the first step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn

from gan_experiments.errors import UserError
from gan_experiments.game import Game, Term
from gan_experiments.networks.heads import BatchStatistic


def check_needs(game: Game, terms: Iterable[Term]) -> None:
    """Raise a UserError naming the term when it is not for its player, or needs what the game does not deal."""
    for term in terms:
        what = f"{term.player}/{term.name} ({type(term).__name__})"
        if term.acts_on and term.player not in term.acts_on:
            others = " and ".join(term.acts_on)
            raise UserError(f"{what} is a term of {others} alone: set regularizer.{term.name}.player={term.acts_on[0]}")
        missing = sorted({*term.needs, *term.watches} - game.deals())
        if missing:
            raise UserError(
                f"{what} needs {', '.join(missing)}, which "
                f"{type(game).__name__} does not deal with these networks and data; it deals "
                f"{', '.join(sorted(game.deals()))}{'; ' + term.remedy if term.remedy else ''}"
            )
        several = sorted({*term.needs, *term.watches} & game.round_type.names_of_parts)
        if several and not term.of_each_discriminator:
            raise UserError(
                f"{what} speaks of one discriminator's {', '.join(several)}, and {type(game).__name__} has "
                f"{len(game.compared)}: {', '.join(game.compared)}; leave the term out"
            )
        term.check(game)


def check_batch(game: Game, terms: Sequence[Term], size: int) -> None:
    """Raise a UserError for a `schedule.batch_size` that can't be packed, normalised or compared as was asked."""
    where = f"schedule.batch_size={size}"
    packing = " and ".join(trick.name for trick in game.tricks.values() if trick.pack > 1)
    if size % game.pack:
        more = size + game.pack - size % game.pack
        raise UserError(f"{where}: trick {packing} judges packs of {game.pack} samples; set a multiple such as {more}")
    for term in terms:
        if size < term.smallest_batch:
            raise UserError(
                f"{where}: {term.player}/{term.name} compares samples of a batch; set {term.smallest_batch} or more"
            )
    for player, networks in game.sides.items():
        packs = size // game.pack if player == "discriminator" else size
        for module in (module for network in networks for module in network.modules()):
            if isinstance(module, nn.BatchNorm1d) and packs < 2:
                raise UserError(
                    f"{where}: batch norm of vectors in the {player} needs 2 or more of them; "
                    f"set schedule.batch_size={2 * (size // packs)}"
                )
            fitting = module.fitting_batch(packs) if isinstance(module, BatchStatistic) else packs
            if fitting != packs:
                judged = f"{packs} {'packs' if game.pack > 1 else 'samples'}"
                raise UserError(
                    f"{where}: {type(module).__name__} finds no groups to compare among {judged} that the {player} "
                    f"sees at once; set schedule.batch_size={fitting * game.pack}"
                )
