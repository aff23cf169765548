"""The symptom of a run that has gone where no training comes back from, and whose numbers went first."""

from __future__ import annotations

from typing import final

from gan_experiments.analysis.advice import Plan, either
from gan_experiments.analysis.history import Facts, History
from gan_experiments.analysis.symptom import Finding, Symptom

RECOVERED = 10.0
"""Growth of weights at which those that once exploded are back."""
FAR = 300.0
"""Logits where no loss tells anything apart: a cross-entropy's gradient ends at 104, margins and targets lie near 1."""
WRONG = 20.0
"""Logits on the wrong side by so much in the mean cost D more than it would ever pay: answering 0 is cheaper."""
SPANS = 100.0
"""A critic whose verdicts differ by this many times the distance of data has at least this slope; Wasserstein's is 1.
This is for losses that reward D for any difference, however large."""
STEEP = 1e6
"""Norm of a gradient that sums over all weights; large sums of nats begin near 1e5, and fall."""
BITS = 100.0
"""Bits a number of the data; knowing nothing costs 8, initial networks up to 30."""
ALIKE = 1e-3
"""Mean distance of samples over that of data; samples of the first weights may be as close, before the warm-up."""
UNSATURATED = 0.05
"""Share of values inside their range over that share of the data: tanh is then at its ends nearly everywhere."""
MOVED = 1.5
"""Growth of weights from which they have been trained, and too fast, before nothing reached them."""
RECORDS = 3
"""Records in a row for what may pass."""


@final
class Diverged(Symptom):
    """The run is out of all bounds: weights, gradients or logits have exploded, or G's outputs are stuck.

    Other advice is beside the point as long as that is so.
    """

    name = "diverged"

    def remedy(self, plan: Plan, finding: Finding) -> str:
        """Lower rates, of the player who went first before others', or a limit to a free critic's slope."""
        first, *others = finding.players
        free = plan.free and first == "discriminator"
        bound = plan.options("regularizer", "gradient_penalty") if free else None
        lower = ", then ".join(plan.lower(player) for player in (first, *others))
        return either(lower, bound and f"limit D's slope: {bound}")

    def find(self, history: History, facts: Facts) -> Finding | None:
        """The plainest sign there is, and who is to blame for it."""
        signs = (self.weights, self.logits, self.losses, self.gradients, self.likelihood, self.samples)
        found = next((finding for finding in (sign(history, facts) for sign in signs) if finding is not None), None)
        if found is None:
            return None
        moves = {player: history.latest(f"weights/{player}_exploded_at") for player in facts.players}
        gone = [player for _, player in sorted((move, player) for player, move in moves.items() if move is not None)]
        players = gone or list(found.players)
        return Finding(f"{found.text}: the {players[0]}'s numbers went first", found.numbers, tuple(players))

    def weights(self, history: History, facts: Facts) -> Finding | None:
        """Weights that have gone far beyond their size at the start, and are still not near it."""
        for player in facts.players:
            growth, gone = history.latest(f"weights/{player}"), history.latest(f"weights/{player}_exploded_at")
            if gone is not None and (growth is None or growth > RECOVERED):
                size = "out of bounds" if growth is None else f"{growth:.3g} times their size at the start"
                numbers = {f"weights/{player}_exploded_at": gone} if growth is None else {f"weights/{player}": growth}
                return Finding(f"the {player}'s weights are {size}", numbers, (player,))
        return None

    def logits(self, history: History, facts: Facts) -> Finding | None:
        """Verdicts far beyond what the loss tells apart, or what the data's extent allows."""
        real, fake, gap = (history.latest(f"logits/{name}") for name in ("train", "generated", "gap"))
        if facts.anchored and real is not None and fake is not None and max(abs(real), abs(fake)) > FAR:
            text = f"D's logits are {real:.3g} on training and {fake:.3g} on generated samples, out of the loss's range"
            return Finding(text, {"logits/train": real, "logits/generated": fake}, self.suspects(history))
        limit = max(FAR, SPANS * facts.span) if facts.unbounded else FAR
        if gap is not None and abs(gap) > limit:
            text = f"D's logits differ by {gap:.3g} between training and generated samples ({limit:.3g} is far already)"
            return Finding(text, {"logits/gap": gap}, self.suspects(history))
        return None

    def suspects(self, history: History) -> tuple[str, ...]:
        """G, if its weights or samples have gone further than D's weights; else D, whose verdicts they are."""
        d, g = (history.latest(f"weights/{player}") for player in ("discriminator", "generator"))
        spread = history.latest("diversity/batch") or 1.0
        further = d is None or max(g or 1.0, spread) > max(d, 2.0)
        return ("generator",) if further else ("discriminator",)

    def losses(self, history: History, facts: Facts) -> Finding | None:
        """A loss that no logits within its range would give."""
        for player in facts.players:
            value, most = history.latest(f"{player}/adversarial"), facts.worst.get(player)
            if value is not None and most is not None and abs(value) > most:
                text = f"the {player}'s loss is {value:.3g}, far out of its range"
                return Finding(text, {f"{player}/adversarial": value}, self.suspects(history))
        return None

    def gradients(self, history: History, facts: Facts) -> Finding | None:
        """Gradients that stay enormous."""
        for player in facts.players:
            norms = history.window(f"{player}/gradient_norm", RECORDS, 0)
            if norms is not None and min(norms) > STEEP:
                text = f"the norm of the {player}'s gradient is {norms[-1]:.3g}"
                return Finding(text, {f"{player}/gradient_norm": norms[-1]}, self.suspects(history))
        return None

    def likelihood(self, history: History, facts: Facts) -> Finding | None:
        """A likelihood that costs far more than knowing nothing."""
        bits = history.window("likelihood/bits_per_dim", RECORDS, 0)
        if bits is None or min(bits) < BITS:
            return None
        text = f"a number of the data costs {bits[-1]:.3g} bits, which knowing nothing would for 8"
        return Finding(text, {"likelihood/bits_per_dim": bits[-1]}, ("generator",))

    def samples(self, history: History, facts: Facts) -> Finding | None:
        """Outputs at the ends of their range, or the same for all latents, or weights that nothing reaches."""
        inside = history.window("diversity/unsaturated", RECORDS, 0)
        if inside is not None and max(inside) < UNSATURATED:
            text = f"of the samples' values {inside[-1]:.2g} times as many as of the data's lie inside their range"
            return Finding(f"{text}: G is saturated", {"diversity/unsaturated": inside[-1]}, ("generator",))
        distances = history.window("diversity/batch", RECORDS)
        if distances is not None and max(distances) < ALIKE:
            text = f"samples are the same for all latents ({distances[-1]:.2g} times as far apart as data)"
            return Finding(text, {"diversity/batch": distances[-1]}, ("generator",))
        norms, growth = history.window("generator/gradient_norm", RECORDS, 0), history.latest("weights/generator")
        moved = growth is not None and growth > MOVED  # a generator without weights to train isn't stuck
        if norms is not None and max(norms) == 0 and moved:
            return Finding("no gradient reaches G at all", {"generator/gradient_norm": 0.0}, ("generator",))
        return None
